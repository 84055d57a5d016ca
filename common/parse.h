/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers as people type them. */
#ifndef NBD_PARSE_H
#define NBD_PARSE_H

#include <stdint.h>

/* Decimal digits and nothing else, at most @max.  Returns 0, -EINVAL or -ERANGE. */
int nbd_parse_uint(const char *text, uint64_t max, uint64_t *value);

/*
 * A number of bytes: decimal digits, then at most one of k K m M g G t T for
 * powers of 1024.  At most INT64_MAX, what a file offset can hold.
 * Returns 0, -EINVAL or -ERANGE.
 */
int nbd_parse_size(const char *text, uint64_t *bytes);

#endif /* NBD_PARSE_H */
