// SPDX-License-Identifier: GPL-2.0-or-later
#include <string.h>

#include "server/swap.h"

bool srv_swap_is_pattern(const char *section)
{
	return strchr(section, '*');
}

bool srv_swap_matches(const char *pattern, const char *name)
{
	const char *star = strchr(pattern, '*');
	size_t before, after, len = strlen(name);

	if (!star)
		return false;
	before = (size_t)(star - pattern);
	after = strlen(star + 1);
	return len > before + after && !memcmp(name, pattern, before) &&
	       !memcmp(name + len - after, star + 1, after);
}

const char *srv_swap_bad_name(const char *name)
{
	static const char good[] = "abcdefghijklmnopqrstuvwxyz"
				   "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789._-+:@";
	size_t len = strlen(name);

	if (!len)
		return "it is empty";
	if (len > SRV_SWAP_NAME_MAX)
		return "it is longer than 200 bytes";
	if (*name == '.')
		return "it begins with a dot";
	if (strspn(name, good) != len)
		return "it has other characters than letters, digits and ._-+:@";
	if (strstr(name, ".."))
		return "it has two dots in a row";
	return NULL;
}

bool srv_swap_fits(uint64_t promised, uint64_t size, uint64_t quota)
{
	if (!quota)
		return size <= UINT64_MAX - promised;
	return promised <= quota && size <= quota - promised;
}

int64_t srv_swap_left(int64_t idle_since, uint64_t grace, int64_t now)
{
	int64_t end;

	if (grace > INT64_MAX / 1000 ||
	    __builtin_add_overflow(idle_since, (int64_t)grace * 1000, &end))
		end = INT64_MAX;
	return end > now ? end - now : 0;
}
