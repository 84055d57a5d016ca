// SPDX-License-Identifier: GPL-2.0-only
/*
 * What TCP does for our sockets by itself, from its timers and when an
 * acknowledgment arrives, it does in softirq, without the entitlement of the
 * link's thread: a retransmission that has to be split, a route or a neighbour
 * that has to be made anew would fail as soon as memory is short, and with it
 * the connection that is to bring memory back.
 *
 * The allocator honours PF_MEMALLOC in softirq, softirq entry clears the
 * interrupted task's and its exit puts it back.  So the functions that TCP is
 * to call are wrapped, for our sockets alone, in a memalloc_noreclaim scope.
 * What runs in task context with bottom halves disabled stays without: there
 * the allocator does not look at the flag.
 */
#include <linux/mutex.h>
#include <linux/sched/mm.h>
#include <net/inet_connection_sock.h>
#include <net/tcp.h>

#include "compat.h"
#include "internal.h"

/* TCP's own, the same for every socket of a family; set before they are used */
static struct {
	void (*retransmit)(struct timer_list *timer);
	void (*delack)(struct timer_list *timer);
	void (*keepalive)(struct timer_list *timer);
	const struct inet_connection_sock_af_ops *ops[2];
} original;

static struct inet_connection_sock_af_ops ops[2];	/* IPv4, IPv6; ours */
static DEFINE_MUTEX(original_lock);			/* filling both in */

static void retransmit(struct timer_list *timer)
{
	unsigned int noreclaim = memalloc_noreclaim_save();

	original.retransmit(timer);
	memalloc_noreclaim_restore(noreclaim);
}

static void delack(struct timer_list *timer)
{
	unsigned int noreclaim = memalloc_noreclaim_save();

	original.delack(timer);
	memalloc_noreclaim_restore(noreclaim);
}

static void keepalive(struct timer_list *timer)
{
	unsigned int noreclaim = memalloc_noreclaim_save();

	original.keepalive(timer);
	memalloc_noreclaim_restore(noreclaim);
}

static int queue_xmit(struct sock *sk, struct sk_buff *skb, struct flowi *fl)
{
	unsigned int noreclaim = memalloc_noreclaim_save();
	int ret;

	ret = original.ops[sk->sk_family == AF_INET6]->queue_xmit(sk, skb, fl);
	memalloc_noreclaim_restore(noreclaim);
	return ret;
}

static void learn(struct sock *sk)
{
	struct inet_connection_sock *icsk = inet_csk(sk);
	unsigned int six = sk->sk_family == AF_INET6;

	mutex_lock(&original_lock);
	if (!original.retransmit) {
		original.retransmit = nbd_compat_retransmit_timer(sk)->function;
		original.delack = nbd_compat_delack_timer(sk)->function;
		original.keepalive = sk->sk_timer.function;
	}
	if (!original.ops[six]) {
		original.ops[six] = icsk->icsk_af_ops;
		ops[six] = *icsk->icsk_af_ops;
		ops[six].queue_xmit = queue_xmit;
	}
	mutex_unlock(&original_lock);
}

/**
 * nbd_entitle() - let TCP use the reserve for a socket whenever it works for it
 * @sk: a TCP socket of our own that has not been connected yet
 *
 * Context: process.
 */
void nbd_entitle(struct sock *sk)
{
	learn(sk);
	lock_sock(sk);
	nbd_compat_retransmit_timer(sk)->function = retransmit;
	nbd_compat_delack_timer(sk)->function = delack;
	sk->sk_timer.function = keepalive;
	inet_csk(sk)->icsk_af_ops = &ops[sk->sk_family == AF_INET6];
	release_sock(sk);
}

/**
 * nbd_disentitle() - the opposite
 * @sk: the socket, closed: no timer of it is pending
 *
 * One that is running still may be on its way out of our functions: module
 * exit waits for it.
 *
 * Context: process.
 */
void nbd_disentitle(struct sock *sk)
{
	unsigned int six = sk->sk_family == AF_INET6;

	lock_sock(sk);
	nbd_compat_retransmit_timer(sk)->function = original.retransmit;
	nbd_compat_delack_timer(sk)->function = original.delack;
	sk->sk_timer.function = original.keepalive;
	/* An IPv4 address in IPv6 clothes has made TCP change them */
	if (inet_csk(sk)->icsk_af_ops == &ops[six])
		inet_csk(sk)->icsk_af_ops = original.ops[six];
	release_sock(sk);
}
