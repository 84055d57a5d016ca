// SPDX-License-Identifier: GPL-2.0-only
/*
 * The reserve: a bound for what a device can hold of the memory below the
 * kernel's watermarks, and from it vm.min_free_kbytes.
 *
 * Line numbers would age; the names below are those of functions and constants
 * of Linux 6.1 and 6.12 that the figures come from.
 */
#ifdef __KERNEL__
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/overflow.h>
#endif

#include "reserve.h"

#define KIB	1024U

/*
 * Charged to a socket for a packet without payload, its truesize: struct
 * sk_buff and skb_shared_info, each rounded to cache lines, and the smallest
 * head.  The least that one costs, so that most of them fit into a buffer.
 */
#define TRUESIZE_EMPTY	896U
/* sk_page_frag() and the packet being filled: a block of 32 KiB each may be half used */
#define PAGE_FRAGS	(64U * KIB)
/* Packets that one poll of a card takes before it hands them on: NAPI_POLL_WEIGHT */
#define NAPI_BATCH	64U
/* Beyond both buffers, tcp_add_backlog() admits this much for a socket in use */
#define BACKLOG_EXTRA	(64U * KIB)
/* A link's acknowledgements, probes, SYN and RST that wait in the card or queueing discipline */
#define CONTROL_PACKETS	64U
/* A route, a neighbour and the packets that ask for its address */
#define ROUTE		(16U * KIB)
/*
 * Slab caches on the way (clones, heads, sk_buffs, kmalloc-1k, radix tree nodes,
 * routes and neighbours), of which each CPU may have a block of order 3 of
 * which others hold all but one object
 */
#define SLAB_CACHES	6U
#define SLAB_BLOCK	(32U * KIB)

/* Sums and products stay at the largest number: too much is asked for, not too little */
static u64 add(u64 a, u64 b)
{
	u64 sum;

	return check_add_overflow(a, b, &sum) ? U64_MAX : sum;
}

static u64 mul(u64 a, u64 b)
{
	u64 product;

	return check_mul_overflow(a, b, &product) ? U64_MAX : product;
}

static u64 div_up(u64 a, u32 b)
{
	return div_u64(add(a, b - 1), b);
}

/*
 * Payload that one link has queued: no more than its share of the requests,
 * each with a header, and no more than its send buffer.
 */
static u64 queued(const struct nbd_reserve_config *c)
{
	u64 requests = div_up(c->depth, c->links);
	u64 bytes = mul(requests, (u64)c->max_request + 28);

	return min_t(u64, bytes, c->sndbuf);
}

/*
 * Packets of that payload: of one segment each, as loss in the end makes them,
 * and each request may begin a new one; but the buffer admits no more than it
 * has room for by truesize.
 */
static u64 tx(const struct nbd_reserve_config *c)
{
	u64 bytes = queued(c);
	u64 by_payload = add(div_up(bytes, c->mss), div_up(c->depth, c->links));
	u64 by_buffer = div_u64((u64)c->sndbuf + PAGE_FRAGS, c->mss + TRUESIZE_EMPTY) + 1;
	u64 sum = mul(min(by_payload, by_buffer), c->skb);

	return c->copies ? add(sum, add(bytes, PAGE_FRAGS)) : sum;
}

/* Memory of the largest packet of any card */
static u32 packet(const struct nbd_reserve_config *c)
{
	unsigned int i;
	u32 most = 0;

	for (i = 0; i < c->nr_nics; i++)
		most = max(most, c->nics[i].packet);
	return most;
}

/*
 * A drained socket holds what arrived out of order, and the batch at hand.  A
 * thread may find a full buffer, and the backlog full that gathers while it
 * has the socket.
 */
static u64 rx(const struct nbd_reserve_config *c)
{
	if (c->drains)
		return add(c->rcvbuf, (u64)NAPI_BATCH * packet(c));
	return add(2 * (u64)c->rcvbuf + c->sndbuf / 2 + BACKLOG_EXTRA, packet(c));
}

/*
 * A flood to other sockets empties a ring into ordinary memory, and it is
 * refilled from the reserve: all of it may lie there.
 */
static u64 nic(const struct nbd_reserve_config *c)
{
	u64 sum = mul(mul(c->cpus, c->backlog), packet(c));
	unsigned int i;

	for (i = 0; i < c->nr_nics; i++) {
		const struct nbd_reserve_nic *n = &c->nics[i];
		u64 packets = NAPI_BATCH + (n->entitled ? (u64)n->ring : 0);

		sum = add(sum, mul(mul(n->queues, packets), n->packet));
	}
	return sum;
}

/**
 * nbd_reserve_compute() - what a device may use of the reserve at most
 * @config: the device and what lies below it; @links and @mss are not 0
 * @reserve: set to the result, bytes
 *
 * The largest occupancy, since every part is bounded by construction: sockets
 * have locked buffers, requests are preallocated, replies are taken at once.
 *
 *	B    = min(sndbuf, depth/links * (max_request + 28))
 *	n    = min(B/mss + depth/links, (sndbuf + 64K)/(mss + 896) + 1)
 *	TX   = n*skb + (copies ? B + 64K : 0)				a link
 *	RX   = drains ? rcvbuf + 64*packet
 *		      : 2*rcvbuf + sndbuf/2 + 64K + packet		a link
 *	NIC  = sum over cards of queues*((entitled ? ring : 0) + 64)*packet
 *	       + cpus*backlog*packet
 *	MISC = links*64*skb + 16K
 *	SLAB = 6*cpus*32K
 *	R    = links*(TX + RX) + NIC + MISC + SLAB + fragments
 */
void nbd_reserve_compute(const struct nbd_reserve_config *config, struct nbd_reserve *reserve)
{
	reserve->tx = mul(config->links, tx(config));
	reserve->rx = mul(config->links, rx(config));
	reserve->nic = nic(config);
	reserve->misc = add(mul(config->links, (u64)CONTROL_PACKETS * config->skb), ROUTE);
	reserve->slab = mul(config->cpus, SLAB_CACHES * SLAB_BLOCK);
	reserve->fragments = config->fragments;
	reserve->total = add(add(add(reserve->tx, reserve->rx), add(reserve->nic, reserve->misc)),
			     add(reserve->slab, reserve->fragments));
}

/**
 * nbd_reserve_min_free() - what vm.min_free_kbytes must be
 * @reserve: R of all devices, bytes
 * @highatomic: memory in page blocks set aside for interrupts, bytes: see
 *		nbd_reserve_highatomic()
 * @patched: the kernel serves every packet's allocation from the reserve, and
 *	     those who are entitled also from blocks set aside for interrupts
 *
 * Let m be the sum of the zones' min watermarks.  Allocations in interrupts
 * (GFP_ATOMIC) leave 3/8 of m alone, and blocks set aside for them count as
 * free although the entitled cannot use them; add_to_swap() needs a page above
 * m/2; so, with U for other entitled and A for what unread sockets hold,
 *
 *	A   entitled memory is there		m >= 8/3 (R + U)
 *	A'  the same, without blocks set aside	m >= 8/3 (R + U + H)
 *	B   interrupts still get memory when	m >= 8/5 (R + U + A)
 *	    everything is in use,		m >= 8/3 H
 *	C   new swap-outs can begin		m >= 2 (R + U + A)
 *
 * A patched kernel needs A and C; any other A', B and C, since part of what
 * receiving needs is only ever asked for as GFP_ATOMIC.
 *
 * Return: bytes.
 */
u64 nbd_reserve_min_free(u64 reserve, u64 highatomic, bool patched)
{
	u64 ours = add(reserve, NBD_RESERVE_OTHERS);
	u64 all = add(ours, NBD_RESERVE_ATOMIC);
	u64 c = mul(2, all);
	u64 a, b;

	if (patched)
		return max(div_up(mul(8, ours), 3), c);
	a = div_up(mul(8, add(ours, highatomic)), 3);
	b = max(div_up(mul(8, all), 5), div_up(mul(8, highatomic), 3));
	return max3(a, b, c);
}

/**
 * nbd_reserve_beside() - vm.min_free_kbytes for a reserve that is registered
 * @reserve: R of all devices, bytes
 *
 * The kernel has raised the watermarks by 8/3 (R + U), which is A above.  What C
 * needs beyond that is left.
 *
 * Return: bytes.
 */
u64 nbd_reserve_beside(u64 reserve)
{
	u64 registered = div_up(mul(8, add(reserve, NBD_RESERVE_OTHERS)), 3);

	return nbd_reserve_min_free(reserve, 0, true) - registered;
}

/**
 * nbd_reserve_highatomic() - what a zone may set aside for interrupts
 * @zone: memory that the zone manages, bytes
 * @block: size of a page block, bytes
 * @rounded: since Linux 6.8 it is a hundredth rounded up to blocks, and nothing
 *	     if a hundredth is less than one; before, blocks are set aside until
 *	     they are a hundredth and one block
 *
 * See reserve_highatomic_pageblock().
 *
 * Return: bytes.
 */
u64 nbd_reserve_highatomic(u64 zone, u32 block, bool rounded)
{
	u64 hundredth = div_u64(zone, 100);
	u64 blocks = div_up(hundredth, block);

	if (rounded)
		return hundredth < block ? 0 : blocks * block;
	return (blocks + 1) * block;
}
