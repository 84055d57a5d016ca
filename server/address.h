/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who a client is, as far as its address tells, and what all connections from
 * there may have together.
 */
#ifndef SRV_ADDRESS_H
#define SRV_ADDRESS_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "server/list.h"

/*
 * An IPv4 address or an IPv6 network of 64 bits, which is the least that one
 * machine has for itself.  All zeroes: a client on a Unix socket, who has none.
 */
struct srv_address {
	uint8_t kind; /* 4, 6 or 0 */
	uint8_t bytes[8];
};

/* The bytes of a socket's address; an IPv4 client may come through an IPv6 socket */
const uint8_t *srv_address_bytes(const struct sockaddr *addr, int *family);

struct srv_address srv_address_of(const struct sockaddr *addr);
bool srv_address_same(const struct srv_address *a, const struct srv_address *b);

/*
 * What the connections from one address, as far as they belong to one loop, hold
 * together of its memory.  It lives as long as there are any; the loop's own.
 */
struct srv_share {
	struct srv_address address;
	unsigned int users;
	size_t memory;
	struct srv_list waiting; /* connections, by their link crowded, in the order they came */
	struct srv_list crowded; /* on the loop's list of this name while anybody waits */
};

/* By address */
GHashTable *srv_shares_new(void);
/* One more user of the share of an address */
struct srv_share *srv_share_get(GHashTable *shares, const struct srv_address *address);
void srv_share_put(GHashTable *shares, struct srv_share *share);

#endif /* SRV_ADDRESS_H */
