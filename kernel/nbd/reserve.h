/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How much of the kernel's memory reserve a device may use at most, and how
 * much has to be kept free (vm.min_free_kbytes) for that much to be there.
 *
 * A calculation and nothing else: it knows nothing of the kernel, so that the
 * same source is tested in userspace.  All sizes are bytes.
 */
#ifndef NBD_RESERVE_H
#define NBD_RESERVE_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include "common/kernel-types.h"
#endif

#define NBD_RESERVE_NICS	8

/*
 * What others may take meanwhile: a policy, not a derivation.  OTHERS is for
 * those who are entitled to the reserve as we are (reclaim of other devices'
 * pages, dm-crypt, a second network file system); ATOMIC is what sockets that
 * nobody reads may hold of the memory that interrupts may use, which
 * net.ipv4.udp_mem and tcp_mem bound.
 */
#define NBD_RESERVE_OTHERS	(1024U * 1024)
#define NBD_RESERVE_ATOMIC	(2 * 1024U * 1024)

/* Fragments that may wait, of IPv4 and of IPv6 each: net.ipv4.ipfrag_high_thresh */
#define NBD_RESERVE_FRAGMENTS	(4 * 1024U * 1024)

/**
 * struct nbd_reserve_nic - a network card that replies arrive through
 * @queues: receive queues in use
 * @ring: receive buffers of each
 * @packet: memory of one packet received: its buffer and the struct sk_buff
 * @entitled: the driver refills its ring from the reserve; if not, what lies
 *	      in the ring was never in the reserve
 */
struct nbd_reserve_nic {
	u32 queues;
	u32 ring;
	u32 packet;
	bool entitled;
};

/**
 * struct nbd_reserve_config - what a device's share depends on
 * @links: connections
 * @depth: requests in flight, of all links
 * @max_request: longest request, bytes of payload
 * @sndbuf: each socket's send buffer as the kernel counts it, locked
 * @rcvbuf: each socket's receive buffer as the kernel counts it, locked
 * @mss: TCP payload of a packet
 * @skb: memory of a packet to be sent beside its payload
 * @copies: sends copy the payload, rather than refer to pages of the request
 * @drains: data is taken from the socket as it arrives, rather than by a thread
 * @cpus: CPUs that may run
 * @backlog: packets that each CPU may queue before they are received: 0 unless
 *	     receive packet steering is on
 * @fragments: what fragments of packets may hold: 0 where fragments in reserve
 *	       memory are dropped
 * @nr_nics: entries of @nics in use
 * @nics: the cards
 */
struct nbd_reserve_config {
	u32 links;
	u32 depth;
	u32 max_request;
	u32 sndbuf;
	u32 rcvbuf;
	u32 mss;
	u32 skb;
	bool copies;
	bool drains;
	u32 cpus;
	u32 backlog;
	u32 fragments;
	unsigned int nr_nics;
	struct nbd_reserve_nic nics[NBD_RESERVE_NICS];
};

/**
 * struct nbd_reserve - a device's share of the reserve, by use
 * @tx: sent and not acknowledged: packets, and the payload where it is copied
 * @rx: received and not yet delivered
 * @nic: parked in rings and on its way from there
 * @misc: acknowledgements, probes, a connection being made, routes, neighbours
 * @slab: pages of slab caches of which one object may be in use
 * @fragments: of packets
 * @total: the sum, R
 */
struct nbd_reserve {
	u64 tx;
	u64 rx;
	u64 nic;
	u64 misc;
	u64 slab;
	u64 fragments;
	u64 total;
};

u64 nbd_reserve_beside(u64 reserve);
void nbd_reserve_compute(const struct nbd_reserve_config *config, struct nbd_reserve *reserve);
u64 nbd_reserve_min_free(u64 reserve, u64 highatomic, bool patched);
u64 nbd_reserve_highatomic(u64 zone, u32 block, bool rounded);

#endif /* NBD_RESERVE_H */
