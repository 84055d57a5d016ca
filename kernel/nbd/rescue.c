// SPDX-License-Identifier: GPL-2.0-only
/*
 * When memory is short, the network card's receive ring runs dry: its driver
 * refills it in softirq, from what atomic allocations may take, and others may
 * have taken all of that.  Then no acknowledgment and no reply comes in any
 * longer, and with them no memory, though the reserve is untouched.
 *
 * So whenever a link waits in vain we poll the card ourselves, as busy polling
 * does, but in softirq and in a memalloc_noreclaim scope: what the driver
 * refills the ring with then may come from the reserve.  It is bounded by the
 * ring, and packets that arrive in such a buffer are dropped by every socket
 * but those entitled to it.
 *
 * It does not help where the driver has gone to wait for memory with its
 * polling switched off, as virtio-net does.
 */
#include <linux/netdevice.h>
#include <linux/netpoll.h>
#include <linux/sched/mm.h>

#include "compat.h"
#include "internal.h"

#define BUDGET	64	/* packets a poll, NAPI's usual weight */

static void poll_napi(struct napi_struct *napi)
{
	void *lock;
	int done;

	/* Somebody is at it, or the device is down */
	if (!napi_schedule_prep(napi))
		return;
	lock = netpoll_poll_lock(napi);
	done = napi->poll(napi, BUDGET);
	netpoll_poll_unlock(lock);
	/* It is still ours if there was more: the usual softirq goes on with it */
	if (done >= BUDGET)
		__napi_schedule(napi);
}

static int poll_device(struct net_device *dev, struct netdev_nested_priv *priv)
{
	struct napi_struct *napi;

	list_for_each_entry_rcu(napi, &dev->napi_list, dev_list)
		poll_napi(napi);
	return 0;
}

static void rescue(struct tasklet_struct *tasklet)
{
	struct nbd_link *link = from_tasklet(link, tasklet, rescue);
	struct net_device *dev = xchg(&link->rescue_dev, NULL);
	struct netdev_nested_priv priv = { };
	struct nbd_compat_net_context context;
	unsigned int noreclaim;

	if (!dev)
		return;
	noreclaim = memalloc_noreclaim_save();
	nbd_compat_net_enter(&context);
	rcu_read_lock();
	/* The card may be beneath a bridge, a bond or a VLAN */
	poll_device(dev, &priv);
	netdev_walk_all_lower_dev_rcu(dev, poll_device, &priv);
	rcu_read_unlock();
	nbd_compat_net_leave(&context);
	memalloc_noreclaim_restore(noreclaim);
	dev_put(dev);
}

/**
 * nbd_rescue_init() - before the first nbd_rescue()
 * @link: the link
 */
void nbd_rescue_init(struct nbd_link *link)
{
	tasklet_setup(&link->rescue, rescue);
}

/**
 * nbd_rescue() - let the card that a connection goes by receive
 * @link: the link, with a socket
 *
 * Context: the link's thread.  Allocates nothing itself.
 */
void nbd_rescue(struct nbd_link *link)
{
	struct net_device *dev = NULL, *old;
	struct dst_entry *dst;

	rcu_read_lock();
	dst = rcu_dereference(link->sock->sk->sk_dst_cache);
	if (dst) {
		dev = dst->dev;
		dev_hold(dev);
	}
	rcu_read_unlock();
	if (!dev)
		return;
	/* Should the last one not have been served yet */
	old = xchg(&link->rescue_dev, dev);
	if (old)
		dev_put(old);
	/* Runs when bottom halves are enabled again, on top of this thread */
	local_bh_disable();
	tasklet_schedule(&link->rescue);
	local_bh_enable();
}

/**
 * nbd_rescue_exit() - after the last
 * @link: the link
 */
void nbd_rescue_exit(struct nbd_link *link)
{
	struct net_device *dev;

	tasklet_kill(&link->rescue);
	dev = xchg(&link->rescue_dev, NULL);
	if (dev)
		dev_put(dev);
}
