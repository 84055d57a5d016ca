// SPDX-License-Identifier: GPL-2.0-or-later
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

size_t client_text_char(const char *s)
{
	const unsigned char *u = (const unsigned char *)s;
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t code;
	size_t len, i;

	if (u[0] < 0x80)
		return u[0] >= 0x20 && u[0] != 0x7f;
	if (u[0] >= 0xc2 && u[0] <= 0xdf)
		len = 2;
	else if ((u[0] & 0xf0) == 0xe0)
		len = 3;
	else if (u[0] >= 0xf0 && u[0] <= 0xf4)
		len = 4;
	else
		return 0;
	code = u[0] & (0xff >> (len + 1));
	for (i = 1; i < len; i++) {
		if ((u[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (u[i] & 0x3f);
	}
	/* Overlong forms, C1 controls, surrogates, beyond Unicode */
	if (code < least[len] || code < 0xa0 || (code >= 0xd800 && code <= 0xdfff) ||
	    code > 0x10ffff)
		return 0;
	return len;
}

static char *escape(const char *s, bool quote)
{
	char *text = malloc(4 * strlen(s) + 3);
	char *p = text;
	size_t len;

	if (!text)
		return NULL;
	if (quote)
		*p++ = '"';
	while (*s) {
		len = client_text_char(s);
		if (!len) {
			p += sprintf(p, "\\x%02x", (unsigned char)*s++);
			continue;
		}
		if (quote && (*s == '"' || *s == '\\'))
			*p++ = '\\';
		memcpy(p, s, len);
		p += len;
		s += len;
	}
	if (quote)
		*p++ = '"';
	*p = '\0';
	return text;
}

char *client_text_quote(const char *s)
{
	return escape(s, true);
}

char *client_text_escape(const char *s)
{
	return escape(s, false);
}

void client_text_clean(char *s)
{
	size_t len;

	while (*s) {
		len = client_text_char(s);
		if (!len)
			*s = '?';
		s += len ? len : 1;
	}
}

const char *client_text_size(uint64_t bytes, char buf[CLIENT_SIZE_TEXT])
{
	const uint64_t kib = 1024, mib = 1024 * kib;

	if (bytes && bytes % mib == 0)
		snprintf(buf, CLIENT_SIZE_TEXT, "%" PRIu64 " MiB", bytes / mib);
	else if (bytes && bytes % kib == 0)
		snprintf(buf, CLIENT_SIZE_TEXT, "%" PRIu64 " KiB", bytes / kib);
	else
		snprintf(buf, CLIENT_SIZE_TEXT, "%" PRIu64 " bytes", bytes);
	return buf;
}

const char *client_text_ms(uint64_t ms, char buf[CLIENT_SIZE_TEXT])
{
	unsigned int part = (unsigned int)(ms % 1000), digits = 3;

	for (; digits && part % 10 == 0; digits--)
		part /= 10;
	if (digits)
		snprintf(buf, CLIENT_SIZE_TEXT, "%" PRIu64 ".%0*u s", ms / 1000, (int)digits, part);
	else
		snprintf(buf, CLIENT_SIZE_TEXT, "%" PRIu64 " s", ms / 1000);
	return buf;
}

/* The number at s; what follows it in *end, NULL if there is no number */
static const char *number(const char *s, uint64_t *value)
{
	char *end;

	if (!isdigit((unsigned char)*s))
		return NULL;
	errno = 0;
	*value = strtoull(s, &end, 10);
	return errno ? NULL : end;
}

bool client_text_number(const char *s, uint64_t *value)
{
	const char *end = number(s, value);

	return end && !*end;
}

bool client_text_bytes(const char *s, uint64_t *value)
{
	static const char units[] = "kMGT";
	const char *end = number(s, value);
	const char *unit;
	unsigned int shift;

	if (!end)
		return false;
	if (!*end)
		return true;
	unit = strchr(units, *end == 'K' ? 'k' : *end);
	if (!unit || end[1])
		return false;
	shift = 10 * (unsigned int)(unit - units + 1);
	if (*value > UINT64_MAX >> shift)
		return false;
	*value <<= shift;
	return true;
}

/* The digits at s, as thousandths: "5" is 500; more than three of them are too fine */
static const char *thousandths(const char *s, uint64_t *value)
{
	unsigned int i;

	*value = 0;
	for (i = 0; i < 3; i++)
		*value = 10 * *value + (isdigit((unsigned char)*s) ? (uint64_t)(*s++ - '0') : 0);
	return s;
}

bool client_text_duration(const char *s, uint64_t *ms)
{
	const char *end = number(s, ms);
	uint64_t part = 0;

	if (!end)
		return false;
	if (!strcmp(end, "ms"))
		return true;
	if (*end == '.' && isdigit((unsigned char)end[1]))
		end = thousandths(end + 1, &part);
	if ((*end && strcmp(end, "s")) || *ms > (UINT64_MAX - part) / 1000)
		return false;
	*ms = *ms * 1000 + part;
	return true;
}
