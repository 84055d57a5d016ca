/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pre-shared keys: a file as psktool(1) writes it, with a line NAME:KEY for each
 * client.  It is held in memory, so that no handshake waits for the disk.
 */
#ifndef SRV_PSK_H
#define SRV_PSK_H

#include <glib.h>

/* Of one key; more than any cipher makes use of */
#define SRV_PSK_MAX 512

/* Keys (GBytes) by their names (GBytes); NULL when the file is no such thing, and says why */
GHashTable *srv_psk_load(const char *file);
/* The same, of text; @file leads messages */
GHashTable *srv_psk_parse(const char *text, const char *file);

#endif /* SRV_PSK_H */
