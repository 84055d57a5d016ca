// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/address.h"

#include <netinet/in.h>
#include <string.h>

const uint8_t *srv_address_bytes(const struct sockaddr *addr, int *family)
{
	const struct sockaddr_in6 *in6 = (const void *)addr;

	*family = addr->sa_family;
	if (addr->sa_family == AF_INET)
		return (const void *)&((const struct sockaddr_in *)(const void *)addr)->sin_addr;
	if (addr->sa_family != AF_INET6)
		return NULL;
	if (!IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
		return in6->sin6_addr.s6_addr;
	*family = AF_INET;
	return in6->sin6_addr.s6_addr + 12;
}

struct srv_address srv_address_of(const struct sockaddr *addr)
{
	struct srv_address a = { 0 };
	const uint8_t *bytes;
	int family;

	bytes = srv_address_bytes(addr, &family);
	if (bytes) {
		a.kind = family == AF_INET ? 4 : 6;
		memcpy(a.bytes, bytes, a.kind == 4 ? 4 : sizeof(a.bytes));
	}
	return a;
}

bool srv_address_same(const struct srv_address *a, const struct srv_address *b)
{
	return a->kind == b->kind && !memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

static guint hash(gconstpointer key)
{
	const struct srv_address *a = key;
	uint64_t n;

	memcpy(&n, a->bytes, sizeof(n));
	/* Whoever chooses addresses so that they collide has that many of them */
	return (guint)((n ^ a->kind) * 0x9e3779b97f4a7c15u >> 32);
}

static gboolean same(gconstpointer a, gconstpointer b)
{
	return srv_address_same(a, b);
}

GHashTable *srv_shares_new(void)
{
	return g_hash_table_new_full(hash, same, NULL, g_free);
}

struct srv_share *srv_share_get(GHashTable *shares, const struct srv_address *address)
{
	struct srv_share *share = g_hash_table_lookup(shares, address);

	if (!share) {
		share = g_new0(struct srv_share, 1);
		share->address = *address;
		srv_list_init(&share->waiting);
		srv_list_init(&share->crowded);
		g_hash_table_insert(shares, &share->address, share);
	}
	share->users++;
	return share;
}

void srv_share_put(GHashTable *shares, struct srv_share *share)
{
	if (!--share->users)
		g_hash_table_remove(shares, &share->address);
}
