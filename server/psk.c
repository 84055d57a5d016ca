// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/psk.h"

#include <string.h>

#include "common/log.h"

/* Hexadecimal digits; NULL: it is something else, or nothing */
static GBytes *unhex(const char *text)
{
	size_t i, len = strlen(text);
	g_autofree guint8 *out = NULL;

	if (!len || len % 2 || len > 2 * SRV_PSK_MAX)
		return NULL;
	out = g_malloc(len / 2);
	for (i = 0; i < len; i++) {
		int digit = g_ascii_xdigit_value(text[i]);

		if (digit < 0)
			return NULL;
		out[i / 2] = (guint8)(i % 2 ? out[i / 2] << 4 | digit : digit);
	}
	return g_bytes_new_take(g_steal_pointer(&out), len / 2);
}

/* A name may be given by its bytes, after a # */
static GBytes *parse_name(const char *text)
{
	if (*text == '#')
		return unhex(text + 1);
	return *text ? g_bytes_new(text, strlen(text)) : NULL;
}

/* NULL, or what is wrong with a line; the key is never a part of that */
static const char *parse_line(GHashTable *keys, char *line)
{
	char *colon = strchr(line, ':');
	g_autoptr(GBytes) name = NULL;
	g_autoptr(GBytes) key = NULL;

	if (!colon)
		return "expected NAME:KEY";
	*colon = 0;
	name = parse_name(line);
	if (!name)
		return "bad name before the colon";
	key = unhex(colon + 1);
	if (!key)
		return "expected hexadecimal digits, an even number and at most 1024, after the "
		       "colon";
	if (g_hash_table_contains(keys, name))
		return "the name has a key already";
	g_hash_table_insert(keys, g_steal_pointer(&name), g_steal_pointer(&key));
	return NULL;
}

GHashTable *srv_psk_parse(const char *text, const char *file)
{
	GHashTable *keys = g_hash_table_new_full(g_bytes_hash, g_bytes_equal,
						 (GDestroyNotify)g_bytes_unref,
						 (GDestroyNotify)g_bytes_unref);
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	const char *wrong;
	unsigned int i;

	for (i = 0; lines[i]; i++) {
		if (!*g_strchomp(lines[i]))
			continue;
		wrong = parse_line(keys, lines[i]);
		if (!wrong)
			continue;
		nbd_err("pskfile %s line %u: %s; psktool(1) writes such files", file, i + 1, wrong);
		g_hash_table_unref(keys);
		return NULL;
	}
	if (g_hash_table_size(keys))
		return keys;
	nbd_err("pskfile %s: no key; psktool(1) adds some", file);
	g_hash_table_unref(keys);
	return NULL;
}

GHashTable *srv_psk_load(const char *file)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text = NULL;
	gsize len;

	if (*file != '/') {
		nbd_err("pskfile = %s: give an absolute path", file);
		return NULL;
	}
	if (g_file_get_contents(file, &text, &len, &error)) {
		if (strlen(text) == len)
			return srv_psk_parse(text, file);
		nbd_err("pskfile = %s: a byte of it is 0; psktool(1) writes such files", file);
		return NULL;
	}
	nbd_err("pskfile = %s: cannot be read: %s", file, error->message);
	return NULL;
}
