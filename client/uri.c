// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>
#include <string.h>

#include "uri.h"

bool client_uri_is(const char *word)
{
	const char *colon = strstr(word, "://");

	return colon && (!strncmp(word, "nbd", 3) || !memchr(word, ',', (size_t)(colon - word)));
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The first len bytes of s with %NN decoded; NULL: broken, or %00 */
static char *decode(const char *s, size_t len)
{
	char *text = malloc(len + 1);
	char *p = text;
	size_t i;

	if (!text)
		return NULL;
	for (i = 0; i < len; i++) {
		if (s[i] != '%') {
			*p++ = s[i];
			continue;
		}
		if (len - i < 3 || hex(s[i + 1]) < 0 || hex(s[i + 2]) < 0 ||
		    (s[i + 1] == '0' && s[i + 2] == '0')) {
			free(text);
			return NULL;
		}
		*p++ = (char)(hex(s[i + 1]) << 4 | hex(s[i + 2]));
		i += 2;
	}
	*p = '\0';
	return text;
}

/* HOST[:PORT] with [IPv6]; an address without brackets has no port */
static bool authority(const char *s, size_t len, struct client_uri *uri)
{
	const char *end = s + len;
	const char *host_end = end, *colon = NULL;

	if (memchr(s, '@', len) || !len)
		return false;
	if (*s == '[') {
		host_end = memchr(s, ']', len);
		if (!host_end)
			return false;
		host_end++;
		if (host_end < end)
			colon = host_end;
	} else {
		colon = memchr(s, ':', len);
		host_end = colon ? colon : end;
	}
	if (colon && (*colon != ':' || host_end == s))
		return false;
	uri->host = decode(s, (size_t)(host_end - s));
	if (colon && colon + 1 < end)
		uri->port = strndup(colon + 1, (size_t)(end - colon - 1));
	return uri->host;
}

/* ?socket=PATH, the one parameter there is without TLS */
static bool query(const char *s, struct client_uri *uri)
{
	if (strncmp(s, "socket=", 7) || !s[7] || strchr(s, '&'))
		return false;
	uri->unix_path = decode(s + 7, strlen(s + 7));
	return uri->unix_path;
}

static bool parse(const char *s, bool is_unix, struct client_uri *uri)
{
	size_t len = strcspn(s, "/?#");
	const char *path = s + len;
	size_t path_len = strcspn(path, "?#");
	const char *rest = path + path_len;

	if (is_unix ? len : !authority(s, len, uri))
		return false;
	if (path_len) {
		path++;
		path_len--;
	}
	uri->export = decode(path, path_len);
	if (!uri->export)
		return false;
	if (is_unix)
		return *rest == '?' && query(rest + 1, uri);
	return !*rest;
}

int client_uri_parse(const char *word, struct client_uri *uri, struct client_error *err)
{
	memset(uri, 0, sizeof(*uri));
	if (!strncmp(word, "nbds", 4))
		return client_error_set(
			err, CLIENT_USAGE,
			"'%s' asks for TLS, which this version of nbd-client does not support",
			word);
	if (!strncmp(word, "nbd://", 6) && parse(word + 6, false, uri))
		return 0;
	if (!strncmp(word, "nbd+unix://", 11) && parse(word + 11, true, uri))
		return 0;
	free(uri->host);
	free(uri->port);
	free(uri->export);
	free(uri->unix_path);
	memset(uri, 0, sizeof(*uri));
	return client_error_set(
		err, CLIENT_USAGE,
		"'%s' is no NBD URI: write nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH",
		word);
}
