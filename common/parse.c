// SPDX-License-Identifier: GPL-2.0-or-later
#include "common/parse.h"

#include <errno.h>
#include <string.h>

/* Digits from @text on; *@end is the first byte that is none */
static int digits(const char *text, uint64_t max, uint64_t *value, const char **end)
{
	uint64_t v = 0;
	int ret = 0;
	const char *p;

	for (p = text; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			ret = -ERANGE;
	}
	if (p == text)
		return -EINVAL;
	if (v > max)
		ret = -ERANGE;
	*end = p;
	*value = v;
	return ret;
}

int nbd_parse_uint(const char *text, uint64_t max, uint64_t *value)
{
	const char *end;
	uint64_t v;
	int ret;

	ret = digits(text, max, &v, &end);
	if (ret != -EINVAL && *end)
		ret = -EINVAL;
	if (!ret)
		*value = v;
	return ret;
}

int nbd_parse_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "kKmMgGtT";
	unsigned int shift = 0;
	const char *end, *unit;
	uint64_t v;
	int ret;

	ret = digits(text, INT64_MAX, &v, &end);
	if (ret == -EINVAL)
		return ret;
	if (*end) {
		unit = strchr(units, *end);
		if (!unit || end[1])
			return -EINVAL;
		shift = 10 * (1 + (unsigned int)(unit - units) / 2);
	}
	if (ret || v > (uint64_t)INT64_MAX >> shift)
		return -ERANGE;
	*bytes = v << shift;
	return 0;
}
