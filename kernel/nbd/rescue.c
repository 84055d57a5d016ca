// SPDX-License-Identifier: GPL-2.0-only
/*
 * When memory is short, the network card's receive ring runs dry: its driver
 * refills it in softirq, from what atomic allocations may take, and others may
 * have taken all of that.  Then no acknowledgment and no reply comes in any
 * longer, and with them no memory, though the reserve is untouched.
 *
 * So whenever a link waits in vain the card is polled; and if atomic
 * allocations do fail, by ourselves, in softirq and in a memalloc_noreclaim
 * scope: what the driver refills its ring with then comes from the reserve.
 * Packets that arrive in such buffers are dropped by every socket but those
 * entitled to them.  What else receiving a packet takes is entitled meanwhile,
 * too, whoever it is for: the reserve's bound does not hold in a rescue, which
 * is limited to a few packets a queue ten times a second instead.
 *
 * Only cards are polled whose drivers are known to bear it; it does not help
 * where the driver has gone to wait for memory with its polling switched off,
 * as virtio-net does.
 */
#include <linux/gfp.h>
#include <linux/netdevice.h>
#include <linux/netpoll.h>
#include <linux/sched/mm.h>

#include "compat.h"
#include "internal.h"

#define BUDGET		64		/* packets a poll, NAPI's usual weight */
#define INTERVAL	(HZ / 20)	/* between polls, whichever link they are for */
#define STEADY		HZ		/* for so long a card's carrier must not have changed */

/**
 * struct rescue - one run over the cards that a link goes by
 * @top: the device of its route
 * @changes: of the carriers of @top and all beneath it, as counted at first
 * @entitled: the reserve is open to them
 */
struct rescue {
	struct net_device *top;
	u32 changes;
	bool entitled;
};

static int count_changes(struct net_device *dev, struct netdev_nested_priv *priv)
{
	u32 *changes = priv->data;

	*changes += atomic_read(&dev->carrier_up_count) + atomic_read(&dev->carrier_down_count);
	return 0;
}

/* How often the carrier of a device and of those beneath it came or went */
static u32 carrier_changes(struct net_device *top)
{
	u32 changes = 0;
	struct netdev_nested_priv priv = { .data = &changes };

	count_changes(top, &priv);
	netdev_walk_all_lower_dev_rcu(top, count_changes, &priv);
	return changes;
}

/*
 * Does what a driver would ask for in softirq fail?  Asked without the thread's
 * own entitlement; __GFP_NOMEMALLOC would fail earlier than a driver does.
 */
static bool memory_is_short(void)
{
	unsigned int noreclaim = current->flags & PF_MEMALLOC;
	struct page *page;

	current->flags &= ~PF_MEMALLOC;
	page = alloc_page(GFP_ATOMIC | __GFP_NOWARN);
	current->flags |= noreclaim;
	if (page)
		__free_page(page);
	return !page;
}

/*
 * Is a card's ring not to be touched?  While the card sleeps or is being reset:
 * who detaches it or takes its carrier away then waits for those who poll it.  To
 * poll an e1000e in a reset leaves its receive ring out of step for good, and a
 * watchdog that runs late may give it its carrier back in the middle of one: so
 * none is polled whose carrier has changed a short while ago.
 */
static bool must_rest(const struct rescue *run, const struct net_device *dev)
{
	return !netif_running(dev) || !netif_device_present(dev) || !netif_carrier_ok(dev) ||
	       carrier_changes(run->top) != run->changes;
}

static void poll_napi(struct napi_struct *napi, const struct rescue *run)
{
	unsigned int noreclaim;
	void *lock;
	int done;

	/* Those that must be polled on a CPU of their own, and those that only send */
	if (test_bit(NAPI_STATE_NO_BUSY_POLL, &napi->state))
		return;
	/* Somebody is at it, or the device is down */
	if (!napi_schedule_prep(napi))
		return;
	lock = netpoll_poll_lock(napi);
	/* Asked now that we are the one who polls */
	if (must_rest(run, napi->dev)) {
		napi_complete(napi);
		netpoll_poll_unlock(lock);
		return;
	}
	if (!run->entitled) {
		netpoll_poll_unlock(lock);
		__napi_schedule(napi);
		return;
	}
	noreclaim = memalloc_noreclaim_save();
	done = napi->poll(napi, BUDGET);
	memalloc_noreclaim_restore(noreclaim);
	netpoll_poll_unlock(lock);
	/* It is still ours if there was more: the usual softirq goes on with it */
	if (done >= BUDGET && list_empty(&napi->poll_list))
		__napi_schedule(napi);
}

static int poll_device(struct net_device *dev, struct netdev_nested_priv *priv)
{
	const struct rescue *run = priv->data;
	struct napi_struct *napi;

	if (!nbd_nic_bears_polling(dev))
		return 0;
	list_for_each_entry_rcu(napi, &dev->napi_list, dev_list)
		poll_napi(napi, run);
	return 0;
}

/* Has no carrier changed for a while, as far as we have looked? */
static bool is_steady(struct nbd_link *link, u32 changes)
{
	unsigned long changed_at;

	if (READ_ONCE(link->carrier_changes) != changes) {
		WRITE_ONCE(link->carrier_changes, changes);
		WRITE_ONCE(link->carrier_changed_at, jiffies);
		return false;
	}
	changed_at = READ_ONCE(link->carrier_changed_at);
	return !time_in_range(jiffies, changed_at, changed_at + STEADY);
}

static void rescue(struct tasklet_struct *tasklet)
{
	struct nbd_link *link = from_tasklet(link, tasklet, rescue);
	struct net_device *dev = xchg(&link->rescue_dev, NULL);
	struct nbd_compat_net_context context;
	struct rescue run = { .top = dev, .entitled = READ_ONCE(link->short_of_memory) };
	struct netdev_nested_priv priv = { .data = &run };

	if (!dev)
		return;
	nbd_compat_net_enter(&context);
	rcu_read_lock();
	run.changes = carrier_changes(dev);
	if (is_steady(link, run.changes)) {
		/* The card may be beneath a bridge, a bond or a VLAN */
		poll_device(dev, &priv);
		netdev_walk_all_lower_dev_rcu(dev, poll_device, &priv);
	}
	rcu_read_unlock();
	nbd_compat_net_leave(&context);
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
 * nbd_rescue_start() - a handshake has come through
 * @link: the link, with a socket
 *
 * So no card on its way is being reset.
 *
 * Context: the link's thread.
 */
void nbd_rescue_start(struct nbd_link *link)
{
	struct dst_entry *dst;

	rcu_read_lock();
	dst = rcu_dereference(link->sock->sk->sk_dst_cache);
	if (dst) {
		WRITE_ONCE(link->carrier_changed_at, jiffies - 2 * STEADY);
		WRITE_ONCE(link->carrier_changes, carrier_changes(dst->dev));
	}
	rcu_read_unlock();
}

/* One poll serves all links that go by a device; two may share a place here */
static bool is_due(const struct net_device *dev)
{
	static unsigned long last[16];
	unsigned long *at = &last[(unsigned int)dev->ifindex % ARRAY_SIZE(last)];
	unsigned long then = READ_ONCE(*at), now = jiffies;

	return !time_in_range(now, then, then + INTERVAL) && cmpxchg(at, then, now) == then;
}

/**
 * nbd_rescue() - let the card that a connection goes by receive
 * @link: the link, with a socket
 *
 * Counts, too, how often memory was so short that packets may have been lost for
 * it.
 *
 * Context: the link's thread.
 */
void nbd_rescue(struct nbd_link *link)
{
	struct net_device *dev = NULL, *old;
	struct dst_entry *dst;
	bool is_short;

	if (time_in_range(jiffies, link->rescued_at, link->rescued_at + INTERVAL))
		return;
	link->rescued_at = jiffies;
	is_short = memory_is_short();
	WRITE_ONCE(link->short_of_memory, is_short);
	if (is_short)
		link->short_samples = min(link->short_samples + 1, NBD_SHORT_SAMPLES);
	else if (link->short_samples)
		link->short_samples--;
	rcu_read_lock();
	dst = rcu_dereference(link->sock->sk->sk_dst_cache);
	if (dst && is_due(dst->dev)) {
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
