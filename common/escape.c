// SPDX-License-Identifier: GPL-2.0-or-later
#include "common/escape.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

unsigned int nbd_utf8_len(const char *text)
{
	const uint8_t *p = (const uint8_t *)text;
	unsigned int n, i;
	uint32_t c;

	if (!*p)
		return 0;
	if (*p < 0x80)
		return 1;
	n = *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;
	if (*p < 0xc2 || *p > 0xf4)
		return 0;
	c = *p & (0x7fu >> n);
	for (i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	/* Longer than need be, half of a pair, or past the last one */
	if ((n == 3 && c < 0x800) || (n == 4 && c < 0x10000) || (c >= 0xd800 && c < 0xe000) ||
	    c > 0x10ffff)
		return 0;
	return n;
}

/* One character as it goes into the string, terminated; how many bytes of @text it is */
static unsigned int escape(const char *text, char *form, size_t size)
{
	unsigned int n = nbd_utf8_len(text);
	static const char plain[] = "\"\\\b\f\n\r\t", code[] = "\"\\bfnrt";
	const char *at;

	if (!n) {
		snprintf(form, size, "\\ufffd");
		return 1;
	}
	at = n == 1 ? strchr(plain, *text) : NULL;
	if (at)
		snprintf(form, size, "\\%c", code[at - plain]);
	else if ((uint8_t)*text < 0x20 || *text == 0x7f)
		snprintf(form, size, "\\u%04x", (unsigned int)*text);
	else
		snprintf(form, size, "%.*s", (int)n, text);
	return n;
}

size_t nbd_escape_json(char *out, size_t size, const char *text)
{
	size_t len = 0, n;
	char form[8];

	while (*text) {
		text += escape(text, form, sizeof(form));
		n = strlen(form);
		if (len + n >= size)
			break;
		memcpy(out + len, form, n);
		len += n;
	}
	out[len] = 0;
	return len;
}
