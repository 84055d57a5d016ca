/* SPDX-License-Identifier: GPL-2.0-or-later */
/* NBD URIs: nbd://HOST[:PORT]/EXPORT and nbd+unix:///EXPORT?socket=PATH. */
#ifndef CLIENT_URI_H
#define CLIENT_URI_H

#include <stdbool.h>

#include "error.h"

struct client_uri {
	char *host;   /* NULL with unix_path */
	char *port;   /* digits, NULL: not given */
	char *export; /* never NULL */
	char *unix_path;
};

/* Is it meant to be one? */
bool client_uri_is(const char *word);

/* The strings are malloc'ed and all NULL after an error */
int client_uri_parse(const char *word, struct client_uri *uri, struct client_error *err);

#endif /* CLIENT_URI_H */
