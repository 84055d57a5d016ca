/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers and strings as people and scripts read them.  Strings that come from
 * a server may hold anything: they are shown quoted, control characters and
 * broken UTF-8 as \xNN.
 */
#ifndef CLIENT_TEXT_H
#define CLIENT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLIENT_SIZE_TEXT 32

/* Length of the valid, printable UTF-8 character at s, 0 if there is none */
size_t client_text_char(const char *s);

/* "s" in double quotes, escaped; malloc'ed, NULL without memory */
char *client_text_quote(const char *s);
/* As client_text_quote() without the quotes; \ and " are kept as they are */
char *client_text_escape(const char *s);
/* Replace what a terminal must not see by '?', in place */
void client_text_clean(char *s);

/* "1024 MiB": the largest binary unit up to MiB that is exact */
const char *client_text_size(uint64_t bytes, char buf[CLIENT_SIZE_TEXT]);

/* "10 s", "0.25 s" */
const char *client_text_ms(uint64_t ms, char buf[CLIENT_SIZE_TEXT]);

/* Decimal number, nothing else */
bool client_text_number(const char *s, uint64_t *value);
/* Number with an optional k, M, G or T (times 1024) */
bool client_text_bytes(const char *s, uint64_t *value);
/* "5", "5s" or "0.25": seconds, to the millisecond; "500ms"; result in ms */
bool client_text_duration(const char *s, uint64_t *ms);

#endif /* CLIENT_TEXT_H */
