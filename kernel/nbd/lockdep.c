// SPDX-License-Identifier: GPL-2.0-only
/*
 * The rule that nothing may wait for memory beneath a lock that writing a page
 * out needs, told to lockdep in advance: each of our locks is taken once as if
 * by reclaim.  From then on the first GFP_KERNEL allocation beneath one of them
 * is reported as the deadlock that it is, whether memory is short or not.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <net/sock.h>

#include "internal.h"

/*
 * Lockdep rightly does not count an allocation in a noreclaim scope: that one
 * never enters reclaim.  Here it must, whoever calls.
 */
static unsigned int reclaim_enter(void)
{
	unsigned int noreclaim = current->flags & PF_MEMALLOC;

	current->flags &= ~PF_MEMALLOC;
	fs_reclaim_acquire(GFP_KERNEL);
	return noreclaim;
}

static void reclaim_leave(unsigned int noreclaim)
{
	fs_reclaim_release(GFP_KERNEL);
	current->flags |= noreclaim;
}

/**
 * nbd_lockdep_prime() - the locks of a device's queue
 */
void nbd_lockdep_prime(void)
{
	struct nbd_queue *queue = kzalloc(sizeof(*queue), GFP_KERNEL);
	unsigned int noreclaim;

	if (!queue)
		return;
	nbd_queue_init(queue);
	noreclaim = reclaim_enter();
	spin_lock_bh(&queue->lock);
	spin_unlock_bh(&queue->lock);
	reclaim_leave(noreclaim);
	kfree(queue);
}

/**
 * nbd_lockdep_prime_socket() - the locks of a link's socket
 * @sk: the socket, new, its lock classes set
 *
 * Context: process; may sleep.
 */
void nbd_lockdep_prime_socket(struct sock *sk)
{
	unsigned int noreclaim = reclaim_enter();

	/* Both halves: the spinlock and what lockdep takes for a sleeping lock */
	lock_sock(sk);
	release_sock(sk);
	reclaim_leave(noreclaim);
}
