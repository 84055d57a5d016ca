// SPDX-License-Identifier: GPL-2.0-only
/*
 * The next hop of a link: the route to it, and its entry in the neighbour table.
 *
 * What the kernel looks up or asks for again while it sends, it does in softirq
 * or with bottom halves disabled, where nothing entitles it to the reserve.  An
 * entry that expires while memory is short is not found again, and TCP learns
 * nothing of what became of its segments.  So the link's thread, which is
 * entitled, renews the route, and while swap depends on the device it keeps the
 * entry of the next hop permanent: such an entry is neither asked for again nor
 * collected.
 *
 * Nor does the kernel notice any longer that the next hop has got another
 * hardware address.  That is ours to do.  IPv4: we listen to ARP, and ask by
 * ourselves while a link is stalled.  Our question also tells the next hop where
 * we are, should the kernel have been unable to answer its own.  IPv6: while a
 * link is stalled the entry goes back to neighbour discovery for a while.
 *
 * Links that share a next hop share a struct nbd_hop.  neigh_update() may send
 * what was waiting for the address, so it is never called with the lock held:
 * who wants to change an entry sets @busy first, and everybody else leaves the
 * entry alone until it is reset.  A hop that has lost its last user meanwhile is
 * retired by who was busy.  Hence no permanent entry of ours outlives its links.
 */
#include <linux/etherdevice.h>
#include <linux/if_arp.h>
#include <linux/inetdevice.h>
#include <linux/netdevice.h>
#include <net/arp.h>
#include <net/dst.h>
#include <net/inet_connection_sock.h>
#include <net/neighbour.h>
#include <net/route.h>
#include <net/tcp.h>

#include "internal.h"

/* Next hops of all links together; a link beyond them has its own unpinned */
#define MAX_HOPS	16
/* Between two ARP requests for one next hop */
#define ASK_INTERVAL	HZ
/* How long a link is called stalled before neighbour discovery gets its entry back */
#define ND_PATIENCE	HZ
/* A stalled link says so four times a second and more */
#define STALL_LASTS	HZ
/* How long that has to find it: three probes by unicast, three by multicast */
#define ND_TIME		(8 * HZ)

/**
 * struct nbd_hop - a next hop in use, all of it under hops_lock
 * @users: links that it belongs to; a hop without users that is not busy is free
 * @busy: its entry is being changed, without the lock
 * @pinned: the entry is permanent because we made it so
 * @managed: and was NTF_MANAGED before
 * @known: @hardware is valid
 * @probing: the entry is with neighbour discovery, since @asked
 * @net: namespace, with @ifindex, @family and @address its identity
 * @ifindex: of the device
 * @family: of the neighbour table, AF_INET or AF_INET6
 * @address: of the next hop
 * @neigh: the entry, with a reference that keeps it from being collected; NULL
 *	   while its device is down
 * @hardware: hardware address that was right last
 * @moves: how often it has changed
 * @asked: jiffies of the last ARP request, or when @probing began
 * @stall_ends: until these jiffies a link of it counts as stalled
 */
struct nbd_hop {
	unsigned int users;
	bool busy;
	bool pinned;
	bool managed;
	bool known;
	bool probing;
	struct net *net;
	int ifindex;
	int family;
	struct in6_addr address;
	struct neighbour *neigh;
	u8 hardware[MAX_ADDR_LEN];
	unsigned int moves;
	unsigned long asked;
	unsigned long stall_ends;
};

/* ARP for IPv4 over Ethernet */
struct arp_message {
	struct arphdr head;
	u8 sender_hw[ETH_ALEN];
	__be32 sender;
	u8 target_hw[ETH_ALEN];
	__be32 target;
} __packed;

static DEFINE_SPINLOCK(hops_lock);	/* hops; BH; innermost */
static struct nbd_hop hops[MAX_HOPS];
static unsigned int hops_used;		/* highest in use, plus one; never shrinks */

static bool is_next_hop(const struct nbd_hop *hop, const struct neighbour *neigh)
{
	return hop->net == dev_net(neigh->dev) && hop->ifindex == neigh->dev->ifindex &&
	       hop->family == neigh->tbl->family &&
	       !memcmp(&hop->address, neigh->primary_key, neigh->tbl->key_len);
}

/* Where the administrator or nature has settled the question, leave it alone */
static bool can_pin(const struct neighbour *neigh)
{
	const struct net_device *dev = neigh->dev;

	if (dev->flags & (IFF_LOOPBACK | IFF_NOARP | IFF_POINTOPOINT) || !dev->addr_len ||
	    READ_ONCE(neigh->nud_state) & NUD_NOARP)
		return false;
	/* We read ARP ourselves, in the one form that matters */
	return neigh->tbl->family != AF_INET || dev->type == ARPHRD_ETHER;
}

static u32 update_flags(const struct neighbour *neigh)
{
	u32 flags = NEIGH_UPDATE_F_ADMIN | NEIGH_UPDATE_F_OVERRIDE;

	/* An administrative update drops what it does not mention */
	if (neigh->flags & NTF_EXT_LEARNED)
		flags |= NEIGH_UPDATE_F_EXT_LEARNED;
	return flags;
}

/*
 * neigh_update() by a link's thread.  All that it allocates for an entry that was
 * valid is a message to whoever listens, which must not wait there in memory of the
 * reserve; one that was not may have packets to send.
 */
static int update(struct neighbour *neigh, const u8 *hardware, u8 state, u32 flags)
{
	unsigned int noreclaim = current->flags & PF_MEMALLOC;
	int err;

	if (READ_ONCE(neigh->nud_state) & NUD_VALID)
		current->flags &= ~PF_MEMALLOC;
	err = neigh_update(neigh, hardware, state, flags, 0);
	current->flags |= noreclaim;
	return err;
}

/* Give the entry back to the kernel in the state from which it is revalidated */
static void unpin(struct neighbour *neigh, u8 state, bool managed)
{
	u32 flags = update_flags(neigh);

	if (!(READ_ONCE(neigh->nud_state) & NUD_PERMANENT))
		return;
	update(neigh, NULL, state, flags);
	if (managed)
		update(neigh, NULL, 0, flags | NEIGH_UPDATE_F_MANAGED);
}

/* Begin to change an entry. Return: the entry with a reference, or NULL. */
static struct neighbour *get_busy(struct nbd_hop *hop)
{
	lockdep_assert_held(&hops_lock);
	if (hop->busy || !hop->neigh)
		return NULL;
	hop->busy = true;
	neigh_hold(hop->neigh);
	return hop->neigh;
}

/*
 * End of it, and of the hop if it was left by its last user.  Somebody may use
 * it again by the time it is retired: the entry is then new to it.
 */
static void end_busy(struct nbd_hop *hop)
{
	struct neighbour *neigh;
	bool pinned, managed;

	spin_lock_bh(&hops_lock);
	if (hop->users) {
		hop->busy = false;
		spin_unlock_bh(&hops_lock);
		return;
	}
	neigh = hop->neigh;
	pinned = hop->pinned;
	managed = hop->managed;
	hop->neigh = NULL;
	hop->pinned = false;
	hop->known = false;
	spin_unlock_bh(&hops_lock);

	if (neigh) {
		if (pinned)
			unpin(neigh, NUD_STALE, managed);
		neigh_release(neigh);
	}

	spin_lock_bh(&hops_lock);
	hop->busy = false;
	spin_unlock_bh(&hops_lock);
}

static void put_hop(struct nbd_hop *hop)
{
	bool retire;

	spin_lock_bh(&hops_lock);
	retire = !--hop->users && !hop->busy;
	if (retire)
		hop->busy = true;
	spin_unlock_bh(&hops_lock);
	if (retire)
		end_busy(hop);
}

/* The hop that an entry belongs to, or a free one made so */
static struct nbd_hop *get_hop(const struct neighbour *neigh)
{
	struct nbd_hop *hop, *unused = NULL;

	lockdep_assert_held(&hops_lock);
	for (hop = hops; hop < hops + MAX_HOPS; hop++) {
		bool taken = hop->users || hop->busy;

		if (taken && is_next_hop(hop, neigh)) {
			hop->users++;
			return hop;
		}
		if (!taken && !unused)
			unused = hop;
	}
	if (!unused)
		return NULL;

	memset(unused, 0, sizeof(*unused));
	unused->users = 1;
	unused->net = dev_net(neigh->dev);
	unused->ifindex = neigh->dev->ifindex;
	unused->family = neigh->tbl->family;
	memcpy(&unused->address, neigh->primary_key, neigh->tbl->key_len);
	unused->asked = jiffies - 2 * ND_TIME;
	unused->stall_ends = jiffies;
	WRITE_ONCE(hops_used, max_t(unsigned int, hops_used, unused - hops + 1));
	return unused;
}

/*
 * Make the entry the link's. Return: the entry it replaces, or the same one,
 * whose reference is to be dropped.
 */
static struct neighbour *use_entry(struct nbd_hop *hop, struct neighbour *neigh)
{
	struct neighbour *old = hop->neigh;

	lockdep_assert_held(&hops_lock);
	if (old == neigh || hop->busy)
		return neigh;
	/* A device that leaves has told so already: see device_event() */
	if (neigh->dev->reg_state != NETREG_REGISTERED || !(neigh->dev->flags & IFF_UP))
		return neigh;
	hop->neigh = neigh;
	hop->pinned = false;
	hop->managed = false;
	hop->probing = false;
	return old;
}

/* The next hop of the link is that of its route: follow it */
static void follow_route(struct nbd_link *link, struct neighbour *neigh)
{
	struct nbd_hop *hop, *old = link->neighbour.hop;
	struct neighbour *drop;

	spin_lock_bh(&hops_lock);
	if (old && is_next_hop(old, neigh)) {
		drop = use_entry(old, neigh);
		old = NULL;
	} else {
		hop = get_hop(neigh);
		link->neighbour.hop = hop;
		link->neighbour.moves = hop ? hop->moves : 0;
		drop = hop ? use_entry(hop, neigh) : neigh;
		if (!hop)
			pr_warn_once("nbd: more than %u next hops: %s has one that is not kept\n",
				     MAX_HOPS, link->dev->disk->disk_name);
	}
	spin_unlock_bh(&hops_lock);
	if (old)
		put_hop(old);
	if (drop)
		neigh_release(drop);
}

/*
 * The entry of the next hop, with a reference, by a route that is made anew if
 * it has become invalid.  Both may allocate: here, in the thread, from the
 * reserve.
 */
static struct neighbour *find_entry(struct sock *sk)
{
	struct neighbour *neigh;
	struct dst_entry *dst;
	const void *peer;

	lock_sock(sk);
	if (sk->sk_state != TCP_CLOSE)
		inet_csk(sk)->icsk_af_ops->rebuild_header(sk);
	dst = sk_dst_get(sk);
	release_sock(sk);
	if (!dst)
		return NULL;

	peer = &inet_sk(sk)->inet_daddr;
#if IS_ENABLED(CONFIG_IPV6)
	if (dst->ops->family == AF_INET6)
		peer = &sk->sk_v6_daddr;
#endif
	neigh = dst_neigh_lookup(dst, peer);
	dst_release(dst);
	return neigh;
}

static bool same_hardware(const struct nbd_hop *hop, const struct neighbour *neigh)
{
	u8 now[MAX_ADDR_LEN];

	neigh_ha_snapshot(now, neigh, neigh->dev);
	return !memcmp(now, hop->hardware, neigh->dev->addr_len);
}

/* Make it permanent, with what is known if the kernel does not know it itself */
static void pin(struct nbd_hop *hop, struct neighbour *neigh)
{
	bool valid = READ_ONCE(neigh->nud_state) & NUD_VALID;
	bool managed = neigh->flags & NTF_MANAGED;

	if (!valid && !hop->known) {
		/* Nothing may have been sent yet that would make it look */
		neigh_event_send(neigh, NULL);
		return;
	}
	if (update(neigh, valid ? NULL : hop->hardware, NUD_PERMANENT, update_flags(neigh)))
		return;		/* removed meanwhile */

	spin_lock_bh(&hops_lock);
	/* Its device may have gone */
	hop->pinned = hop->neigh == neigh;
	/* The flag goes when it is pinned, which may be again and again */
	hop->managed |= managed;
	hop->probing = false;
	hop->moves += hop->known && !same_hardware(hop, neigh);
	neigh_ha_snapshot(hop->hardware, neigh, neigh->dev);
	hop->known = true;
	spin_unlock_bh(&hops_lock);
}

/* Is the hardware address right still?  The answer comes to arp_receive(). */
static void ask_arp(struct nbd_hop *hop, struct neighbour *neigh)
{
	__be32 target = *(__be32 *)neigh->primary_key;
	struct net_device *dev = neigh->dev;
	__be32 source;

	if (time_in_range(jiffies, hop->asked, hop->asked + ASK_INTERVAL))
		return;
	hop->asked = jiffies;
	source = inet_select_addr(dev, target, RT_SCOPE_LINK);
	if (source)
		arp_send(ARPOP_REQUEST, ETH_P_ARP, target, dev, source, NULL, dev->dev_addr, NULL);
}

/*
 * Neighbour discovery may find out that the next hop has moved only if the entry
 * is its own.  It goes on using the address meanwhile, for a while.
 */
static void ask_nd(struct nbd_hop *hop, struct neighbour *neigh)
{
	if (time_in_range(jiffies, hop->asked, hop->asked + 2 * ND_TIME))
		return;
	hop->asked = jiffies;
	unpin(neigh, NUD_PROBE, false);
	spin_lock_bh(&hops_lock);
	hop->pinned = false;
	hop->probing = true;
	spin_unlock_bh(&hops_lock);
}

/* With the hop busy: what only who is busy writes is read without the lock */
static void look_after(struct nbd_hop *hop, struct neighbour *neigh, unsigned long stalled)
{
	u8 state = READ_ONCE(neigh->nud_state);

	if (state & NUD_PERMANENT) {
		/* The administrator's, by now if not from the beginning */
		if (hop->pinned && !same_hardware(hop, neigh)) {
			spin_lock_bh(&hops_lock);
			hop->pinned = false;
			spin_unlock_bh(&hops_lock);
		}
		if (!hop->pinned)
			return;
		if (hop->family == AF_INET6 && stalled >= ND_PATIENCE)
			ask_nd(hop, neigh);
	} else if (hop->probing && !(state & NUD_REACHABLE) &&
		   time_before(jiffies, hop->asked + ND_TIME)) {
		if (!(state & NUD_VALID))
			neigh_event_send(neigh, NULL);
	} else {
		pin(hop, neigh);
	}
	if (hop->family == AF_INET && stalled)
		ask_arp(hop, neigh);
}

/* How long the link has been stalled; attempts to connect count as one stall */
static unsigned long stall_time(struct nbd_neighbour *nb, struct sock *sk, bool stalled)
{
	if (stalled && !nb->stalled)
		nb->since = jiffies;
	if (stalled || READ_ONCE(sk->sk_state) == TCP_ESTABLISHED)
		nb->stalled = stalled;
	return stalled ? max(jiffies - nb->since, 1UL) : 0;
}

/*
 * What was sent to where the next hop is no longer is lost, and TCP, which has
 * waited longer each time, is not to wait until it finds that out.
 */
static void retransmit_if_moved(struct nbd_neighbour *nb, struct sock *sk, bool stalled)
{
	unsigned int moves = READ_ONCE(nb->hop->moves);

	/* One seen too early is for later, when TCP has waited */
	if (moves == nb->moves || !stalled)
		return;
	nb->moves = moves;
	lock_sock(sk);
	if (sk->sk_state != TCP_CLOSE && inet_csk(sk)->icsk_pending == ICSK_TIME_RETRANS)
		inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, 1, TCP_RTO_MAX);
	release_sock(sk);
}

/**
 * nbd_neighbour_watch() - keep a link's next hop reachable
 * @link: the link
 * @sk: its socket, connected or connecting
 * @stalled: nothing has been acknowledged, or the connect not been answered,
 *	     for a second
 *
 * To be called once a second, and every 100 ms while the link is stalled.
 *
 * Context: the link's thread, in its memalloc_noreclaim scope, with bottom
 * halves enabled: the reserve is ours in no other way.
 */
void nbd_neighbour_watch(struct nbd_link *link, struct sock *sk, bool stalled)
{
	struct neighbour *neigh;
	unsigned long stall;
	struct nbd_hop *hop;

	if (sk->sk_family != AF_INET && sk->sk_family != AF_INET6)
		return;
	stall = stall_time(&link->neighbour, sk, stalled);
	neigh = find_entry(sk);
	if (!neigh)
		return;
	if (!(link->dev->config.flags & NBDX_FLAG_SWAP) || !can_pin(neigh)) {
		neigh_release(neigh);
		nbd_neighbour_release(link);
		return;
	}
	follow_route(link, neigh);
	hop = link->neighbour.hop;
	if (!hop)
		return;

	spin_lock_bh(&hops_lock);
	if (stalled)
		hop->stall_ends = jiffies + STALL_LASTS;
	neigh = get_busy(hop);
	spin_unlock_bh(&hops_lock);
	if (!neigh)
		return;		/* by the next time it is not */
	look_after(hop, neigh, stall);
	end_busy(hop);
	neigh_release(neigh);
	retransmit_if_moved(&link->neighbour, sk, stalled);
}

/**
 * nbd_neighbour_release() - a link has no next hop any longer
 * @link: the link
 *
 * The kernel has the entry back, unless another link needs it.
 *
 * Context: the link's thread, or nobody uses the link any longer.
 */
void nbd_neighbour_release(struct nbd_link *link)
{
	struct nbd_hop *hop = link->neighbour.hop;

	link->neighbour.hop = NULL;
	if (hop)
		put_hop(hop);
}

/*
 * May a message change what we believe?  Never more than the kernel would let
 * it, see arp_process(); and a mere question for our address only when there is
 * reason to doubt what we have.
 */
static bool is_credible(const struct arp_message *arp, struct net_device *dev,
			const struct neighbour *neigh, bool to_us, bool stalled)
{
	struct in_device *in_dev = __in_dev_get_rcu(dev);
	struct net *net = dev_net(dev);
	bool reply = arp->head.ar_op == htons(ARPOP_REPLY);

	if (!in_dev)
		return false;
	if (arp->sender == arp->target) {
		if (IN_DEV_ORCONF(in_dev, DROP_GRATUITOUS_ARP))
			return false;
		if (reply && !ether_addr_equal(arp->target_hw, arp->sender_hw))
			return false;
		return inet_addr_type_dev_table(net, dev, arp->sender) == RTN_UNICAST;
	}
	if (inet_addr_type_dev_table(net, dev, arp->target) != RTN_LOCAL)
		return false;
	if (!reply)
		return stalled;
	/* Of several that answer the first is right */
	return to_us && time_after(jiffies, neigh->updated + NEIGH_VAR(neigh->parms, LOCKTIME));
}

static struct nbd_hop *find_arp(struct net_device *dev, const struct arp_message *arp)
{
	struct nbd_hop *hop;

	lockdep_assert_held(&hops_lock);
	for (hop = hops; hop < hops + READ_ONCE(hops_used); hop++) {
		if (hop->pinned && hop->family == AF_INET && hop->neigh->dev == dev &&
		    !memcmp(&hop->address, &arp->sender, sizeof(arp->sender)))
			return hop;
	}
	return NULL;
}

/* The next hop, or somebody in its name, tells where it is */
static void hear(struct net_device *dev, const struct arp_message *arp, bool to_us)
{
	struct neighbour *neigh = NULL;
	struct nbd_hop *hop;
	bool stalled = false;

	spin_lock_bh(&hops_lock);
	hop = find_arp(dev, arp);
	if (hop && !ether_addr_equal(hop->hardware, arp->sender_hw)) {
		stalled = time_in_range_open(jiffies, hop->stall_ends - STALL_LASTS,
					     hop->stall_ends);
		neigh = get_busy(hop);
	}
	spin_unlock_bh(&hops_lock);
	if (!neigh)
		return;

	if (is_credible(arp, dev, neigh, to_us, stalled) &&
	    !neigh_update(neigh, arp->sender_hw, NUD_PERMANENT, update_flags(neigh), 0)) {
		spin_lock_bh(&hops_lock);
		ether_addr_copy(hop->hardware, arp->sender_hw);
		hop->moves++;
		spin_unlock_bh(&hops_lock);
		pr_info_ratelimited("nbd: next hop %pI4 on %s has moved to %pM\n", &arp->sender,
				    dev->name, arp->sender_hw);
	}
	end_busy(hop);
	neigh_release(neigh);
}

/*
 * Shares every ARP message with the kernel's own receiver: it must neither be
 * changed nor kept.
 */
static int arp_receive(struct sk_buff *skb, struct net_device *dev, struct packet_type *type,
		       struct net_device *orig_dev)
{
	struct arp_message buf;
	const struct arp_message *arp;

	if (!READ_ONCE(hops_used) || dev->type != ARPHRD_ETHER || dev->flags & IFF_NOARP ||
	    skb->pkt_type == PACKET_OTHERHOST || skb->pkt_type == PACKET_LOOPBACK)
		goto out;
	arp = skb_header_pointer(skb, 0, sizeof(buf), &buf);
	if (!arp || arp->head.ar_hln != ETH_ALEN || arp->head.ar_pln != sizeof(__be32) ||
	    arp->head.ar_pro != htons(ETH_P_IP) ||
	    (arp->head.ar_hrd != htons(ARPHRD_ETHER) && arp->head.ar_hrd != htons(ARPHRD_IEEE802)))
		goto out;
	if (arp->head.ar_op != htons(ARPOP_REPLY) && arp->head.ar_op != htons(ARPOP_REQUEST))
		goto out;
	if (!is_valid_ether_addr(arp->sender_hw) || ether_addr_equal(arp->sender_hw, dev->dev_addr))
		goto out;
	hear(dev, arp, skb->pkt_type == PACKET_HOST);
out:
	consume_skb(skb);
	return NET_RX_SUCCESS;
}

static struct packet_type arp_packets = {
	.type = cpu_to_be16(ETH_P_ARP),
	.func = arp_receive,
};

/* An entry refers to its device: let go of it, lest the device can never leave */
static int device_event(struct notifier_block *block, unsigned long event, void *info)
{
	struct net_device *dev = netdev_notifier_info_to_dev(info);
	struct nbd_hop *hop;

	if (event != NETDEV_DOWN && event != NETDEV_UNREGISTER)
		return NOTIFY_DONE;
	for (hop = hops; hop < hops + MAX_HOPS; hop++) {
		struct neighbour *neigh = NULL;

		spin_lock_bh(&hops_lock);
		if (hop->neigh && hop->neigh->dev == dev) {
			/* The kernel removes it, permanent or not; the address we keep */
			neigh = hop->neigh;
			hop->neigh = NULL;
			hop->pinned = false;
		}
		spin_unlock_bh(&hops_lock);
		if (neigh)
			neigh_release(neigh);
	}
	return NOTIFY_DONE;
}

static struct notifier_block device_notifier = {
	.notifier_call = device_event,
};

/**
 * nbd_neighbour_init() - listen to ARP and to devices that go
 *
 * For as long as the module is there: to stop listening takes a grace period,
 * which is no thing to wait for when a link moves.
 *
 * Return: 0 or -errno.
 */
int nbd_neighbour_init(void)
{
	int err = register_netdevice_notifier(&device_notifier);

	if (!err)
		dev_add_pack(&arp_packets);
	return err;
}

/**
 * nbd_neighbour_exit() - the opposite
 *
 * Context: process, no links are left.
 */
void nbd_neighbour_exit(void)
{
	dev_remove_pack(&arp_packets);
	unregister_netdevice_notifier(&device_notifier);
}
