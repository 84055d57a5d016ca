/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text from strangers, in the forms in which programs read it. */
#ifndef NBD_ESCAPE_H
#define NBD_ESCAPE_H

#include <stddef.h>

/*
 * The inside of a JSON string, into @out of @size bytes, terminated.  Bytes that
 * are no UTF-8 become U+FFFD; what there is no room for is left out, in whole
 * characters.  Returns the length.
 */
size_t nbd_escape_json(char *out, size_t size, const char *text);

/* How many bytes at @text are one valid UTF-8 character; 0: none, or the end */
unsigned int nbd_utf8_len(const char *text);

#endif /* NBD_ESCAPE_H */
