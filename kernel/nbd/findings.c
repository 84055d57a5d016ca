// SPDX-License-Identifier: GPL-2.0-only
/*
 * What weakens the promise that swap cannot deadlock, as far as the driver can
 * see it, and how much of the kernel's reserve a device may use.  Computed when
 * somebody asks; nothing here is on the I/O path.
 */
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/mmzone.h>
#include <linux/tcp.h>
#include <net/dst.h>
#include <net/inet_connection_sock.h>
#include <net/ipv6.h>

#include "compat.h"
#include "internal.h"

/* Assumed where no card is known, or the driver could not be asked */
#define DEFAULT_RING	256U
#define DEFAULT_PACKET	(4096U + 256U)
#define DEFAULT_MSS	1448U

/**
 * nbd_findings_note() - remember what a link's socket is like
 * @link: the link
 * @sk: its socket, connected
 *
 * Context: the link's thread.  Neither allocates nor sleeps.
 */
void nbd_findings_note(struct nbd_link *link, struct sock *sk)
{
	struct nbd_link_facts facts = {
		.family = sk->sk_family,
		.tracked = !link->adopted && !link->tracking.untrack &&
			   link->tracking.tracked_works,
	};
	struct nbd_queue *queue = &link->dev->queue;
	const struct dst_entry *dst;
	const struct net_device *dev;

	facts.sndbuf = READ_ONCE(sk->sk_sndbuf);
	facts.rcvbuf = READ_ONCE(sk->sk_rcvbuf);
	if (sk->sk_family != AF_UNIX) {
		const struct netns_ipv4 *ipv4 = &sock_net(sk)->ipv4;

		/* TCP makes those that nobody has locked as large as it may */
		if (!(sk->sk_userlocks & SOCK_SNDBUF_LOCK))
			facts.sndbuf = READ_ONCE(ipv4->sysctl_tcp_wmem[2]);
		if (!(sk->sk_userlocks & SOCK_RCVBUF_LOCK))
			facts.rcvbuf = READ_ONCE(ipv4->sysctl_tcp_rmem[2]);
		facts.mss = READ_ONCE(tcp_sk(sk)->mss_cache);
		facts.ulp = inet_csk_has_ulp(sk);
		rcu_read_lock();
		dst = rcu_dereference(sk->sk_dst_cache);
		if (dst) {
			dev = READ_ONCE(dst->dev);
			facts.ifindex = dev->ifindex;
			facts.local = dev->flags & IFF_LOOPBACK;
#ifdef CONFIG_XFRM
			facts.xfrm = dst->xfrm;
#endif
		}
		rcu_read_unlock();
	}
	spin_lock_bh(&queue->lock);
	link->facts = facts;
	spin_unlock_bh(&queue->lock);
}

/* All that the checks look at */
struct view {
	struct nbd_device *dev;
	struct nbd_link_facts facts[NBDX_MAX_LINKS];
	unsigned int nr_facts;
	bool delays;		/* a server does not say when old writes have landed */
	struct nbd_nics nics;
	u64 min_free;		/* needed, bytes */
	u32 guarantees;		/* NBDX_GUARANTEE_* */
	u64 min_zones;		/* sum of the zones' min watermarks, bytes */
};

static void look(struct nbd_device *dev, struct view *view)
{
	unsigned int i;

	lockdep_assert_held(&dev->lock);
	memset(view, 0, sizeof(*view));
	view->dev = dev;
	for (i = 0; i < NBDX_MAX_LINKS; i++) {
		if (!dev->links[i])
			continue;
		spin_lock_bh(&dev->queue.lock);
		view->facts[view->nr_facts] = dev->links[i]->facts;
		view->delays |= dev->links[i]->fence == NBDX_FENCE_DELAY;
		spin_unlock_bh(&dev->queue.lock);
		if (view->facts[view->nr_facts].ifindex)
			nbd_nics_add(&view->nics, dev->config.net,
				     view->facts[view->nr_facts].ifindex);
		view->nr_facts++;
	}
}

/* Between two questions for the size of a ring, jiffies */
#define RING_INTERVAL	(60 * HZ)

/* A ring's size, or what it was when the driver could be asked last */
static u32 ring_of(struct nbd_device *dev, const struct nbd_nic *nic)
{
	struct nbd_nic_ring *known = NULL;
	unsigned int i;
	u32 ring;

	for (i = 0; i < ARRAY_SIZE(dev->rings); i++)
		if (dev->rings[i].ifindex == nic->ifindex || !dev->rings[i].ifindex) {
			known = &dev->rings[i];
			break;
		}
	if (!known)
		return DEFAULT_RING;
	/* Anybody may read our status, and asking may wake a card up */
	if (known->ring && time_in_range(jiffies, known->asked, known->asked + RING_INTERVAL))
		return known->ring;
	ring = nbd_nic_ring(dev->config.net, nic->ifindex);
	if (ring) {
		known->ifindex = nic->ifindex;
		known->ring = ring;
		known->asked = jiffies;
	}
	return known->ring ?: DEFAULT_RING;
}

static void add_cards(const struct view *view, struct nbd_reserve_config *config)
{
	unsigned int i;

	for (i = 0; i < view->nics.n; i++) {
		const struct nbd_nic *nic = &view->nics.nic[i];
		struct nbd_reserve_nic *card = &config->nics[config->nr_nics];

		if (nic->flags & NBD_NIC_RPS)
			config->backlog = nbd_compat_max_backlog();
		/* What lies above another device receives into that one's memory */
		if (!(nic->flags & NBD_NIC_LOWEST))
			continue;
		card->queues = nic->queues;
		card->packet = nic->packet;
		/* Nobody knows what an unknown driver does: assume what costs more */
		card->entitled = nic->class == NBD_NIC_ENTITLED || nic->class == NBD_NIC_UNKNOWN;
		card->ring = card->entitled ? ring_of(view->dev, nic) : 0;
		config->nr_nics++;
	}
	if (config->nr_nics)
		return;
	config->nics[0] = (struct nbd_reserve_nic){
		.queues = 1, .ring = DEFAULT_RING, .packet = DEFAULT_PACKET, .entitled = true,
	};
	config->nr_nics = 1;
}

/* What the zones may set aside for interrupts, and their min watermarks, bytes */
static void look_at_zones(u64 *highatomic, u64 *min)
{
	int node, i;

	*highatomic = 0;
	*min = 0;
	for_each_online_node(node) {
		for (i = 0; i < MAX_NR_ZONES; i++) {
			struct zone *zone = &NODE_DATA(node)->node_zones[i];

			/* vm.min_free_kbytes is not for these */
			if (!managed_zone(zone) || is_highmem(zone))
				continue;
			*highatomic += nbd_reserve_highatomic((u64)zone_managed_pages(zone) <<
							      PAGE_SHIFT,
							      pageblock_nr_pages << PAGE_SHIFT,
							      NBD_COMPAT_HIGHATOMIC_ROUNDED);
			/* The sysctl was rounded down to whole pages in each of them */
			*min += (u64)(zone->_watermark[WMARK_MIN] + 1) << PAGE_SHIFT;
		}
	}
}

/* What a kernel has to guarantee whatever the card, and what lacks without it */
static const struct {
	unsigned long guarantee;
	const char *name;
} needed[] = {
	{ MEMALLOC_NET_BH_OFF, "bottom halves" },
	{ MEMALLOC_NET_HIGHATOMIC, "set-aside pages" },
	{ MEMALLOC_NET_TCP_SCOPE, "TCP" },
	{ MEMALLOC_NET_TCP_RETRY, "retransmission" },
	{ MEMALLOC_NET_RX_SKB, "reception" },
	{ MEMALLOC_NET_NEIGHBOUR, "neighbours" },
	{ MEMALLOC_NET_INPUT_ROUTE, "routes in" },
};

static bool kernel_entitles(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(needed); i++)
		if (!nbd_compat_guarantees(needed[i].guarantee))
			return false;
	return true;
}

/*
 * Does every allocation on the way, sending and receiving, come from the reserve if
 * need be?
 */
static bool entitled(const struct view *view)
{
	unsigned int i;

	if (!view->dev->config.addresses || !kernel_entitles())
		return false;
	for (i = 0; i < view->nics.n; i++) {
		const struct nbd_nic *nic = &view->nics.nic[i];

		if (nic->flags & NBD_NIC_LOWEST && nic->class != NBD_NIC_ENTITLED &&
		    nic->class != NBD_NIC_COPIES)
			return false;
		if (nic->flags & (NBD_NIC_TUNNEL | NBD_NIC_WIRELESS))
			return false;
	}
	return view->nics.n;
}

static void reserve_of(struct view *view, struct nbd_reserve *reserve)
{
	const struct nbd_device *dev = view->dev;
	struct nbd_reserve_config config = {
		.links = max(dev->config.nr_links, 1U),
		.depth = NBD_QUEUE_DEPTH,
		.max_request = NBD_MAX_REQUEST,
		.sndbuf = SOCKET_SNDBUF,
		.rcvbuf = SOCKET_RCVBUF,
		.skb = NBD_COMPAT_SKB_OVERHEAD,
		.copies = true,
		.drains = dev->config.addresses,
		.cpus = num_online_cpus(),
		/* The packet filter's hook drops those in the reserve */
		.fragments = IS_ENABLED(CONFIG_NETFILTER) ||
			     nbd_compat_guarantees(MEMALLOC_NET_FRAGMENTS) ?
			     0 : 2 * NBD_RESERVE_FRAGMENTS,
	};
	unsigned int i;
	u64 highatomic;

	for (i = 0; i < view->nr_facts; i++) {
		config.mss = min_not_zero(config.mss, view->facts[i].mss);
		config.sndbuf = max(config.sndbuf, view->facts[i].sndbuf);
		config.rcvbuf = max(config.rcvbuf, view->facts[i].rcvbuf);
	}
	if (!config.mss)
		config.mss = DEFAULT_MSS;
	add_cards(view, &config);
	nbd_reserve_compute(&config, reserve);
	look_at_zones(&highatomic, &view->min_zones);
	if (entitled(view))
		view->guarantees |= NBDX_GUARANTEE_ENTITLED;
	/* It is kept, and packets that come in it stay with nobody else */
	if (view->guarantees & NBDX_GUARANTEE_ENTITLED && dev->registered &&
	    nbd_compat_guarantees(MEMALLOC_NET_NO_MERGE) &&
	    nbd_compat_guarantees(MEMALLOC_NET_FRAGMENTS) &&
	    nbd_compat_guarantees(MEMALLOC_NET_NO_QUEUE))
		view->guarantees |= NBDX_GUARANTEE_BOUNDED;
	view->min_free = nbd_reserve_min_free(reserve->total, highatomic,
					      view->guarantees & NBDX_GUARANTEE_ENTITLED);
}

/**
 * nbd_reserve_register() - have the kernel keep the reserve of a device
 * @dev: the device, meant for swap, its links connected
 *
 * And with it what others may use who are entitled, too.  Nothing happens where the
 * kernel cannot: then it is for vm.min_free_kbytes.
 *
 * Context: process, the device's lock held.
 */
void nbd_reserve_register(struct nbd_device *dev)
{
	struct nbd_reserve reserve;
	struct view view;
	long bytes;

	look(dev, &view);
	reserve_of(&view, &reserve);
	/* Half of what is entitled would make the other half no safer */
	if (!(view.guarantees & NBDX_GUARANTEE_ENTITLED) ||
	    !nbd_compat_guarantees(MEMALLOC_NET_RESERVE))
		return;
	bytes = min_t(u64, reserve.total + NBD_RESERVE_OTHERS, LONG_MAX);
	if (!mem_reserve_add(bytes))
		dev->registered = bytes;
	else
		pr_warn("%s: the kernel cannot keep %ld kB for it: is the machine too small?\n",
			dev->disk->disk_name, bytes >> 10);
}

/**
 * nbd_reserve_unregister() - the opposite, if it was registered
 * @dev: the device, its links gone
 *
 * Context: process, the device's lock held.
 */
void nbd_reserve_unregister(struct nbd_device *dev)
{
	lockdep_assert_held(&dev->lock);
	if (dev->registered)
		mem_reserve_add(-dev->registered);
	dev->registered = 0;
}

/**
 * nbd_reserve_of_device() - what a device may use of the reserve at most
 * @dev: the device, not FREE, its lock held
 * @reserve: set to the result
 * @min_free: set to what vm.min_free_kbytes has to be for it alone, bytes; if the
 *	      kernel keeps its reserve, beside that
 * @guarantees: set to NBDX_GUARANTEE_*
 *
 * Context: process.
 */
void nbd_reserve_of_device(struct nbd_device *dev, struct nbd_reserve *reserve, u64 *min_free,
			   u32 *guarantees)
{
	struct view view;

	look(dev, &view);
	reserve_of(&view, reserve);
	*min_free = dev->registered ? nbd_reserve_beside(reserve->total) : view.min_free;
	*guarantees = view.guarantees;
}

/*
 * A check writes why it applies and returns true.  Those of the second kind
 * look at one network device.
 */
typedef bool (*check_device_fn)(const struct view *view, char *text, size_t len);
typedef bool (*check_nic_fn)(const struct nbd_nic *nic, char *text, size_t len);

static bool any_fact(const struct view *view, bool (*is)(const struct nbd_link_facts *facts))
{
	unsigned int i;

	for (i = 0; i < view->nr_facts; i++)
		if (is(&view->facts[i]))
			return true;
	return false;
}

static bool is_unix(const struct nbd_link_facts *facts)
{
	return facts->family == AF_UNIX;
}

static bool is_local(const struct nbd_link_facts *facts)
{
	return facts->local;
}

static bool is_tracked(const struct nbd_link_facts *facts)
{
	return facts->tracked;
}

static bool is_xfrm(const struct nbd_link_facts *facts)
{
	return facts->xfrm;
}

static bool is_ulp(const struct nbd_link_facts *facts)
{
	return facts->ulp;
}

static bool check_unix(const struct view *view, char *text, size_t len)
{
	if (!any_fact(view, is_unix))
		return false;
	snprintf(text, len,
		 "it is fed through a Unix socket: the process at the other end needs the memory it is to provide");
	return true;
}

static bool check_handed_over(const struct view *view, char *text, size_t len)
{
	if (view->dev->config.addresses)
		return false;
	snprintf(text, len,
		 "its sockets were handed over: the kernel cannot connect again by itself");
	return true;
}

static bool check_dead_conn(const struct view *view, char *text, size_t len)
{
	unsigned long timeout = READ_ONCE(view->dev->config.dead_conn_timeout);

	if (!timeout)
		return false;
	snprintf(text, len,
		 "requests fail when there has been no connection for dead_conn_timeout, %lu s: what is swapped out is then lost",
		 timeout);
	return true;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;

	if (address->ss_family == AF_INET)
		return ipv4_is_loopback(in->sin_addr.s_addr);
	return ipv6_addr_loopback(&in6->sin6_addr) ||
	       (ipv6_addr_v4mapped(&in6->sin6_addr) &&
		ipv4_is_loopback(in6->sin6_addr.s6_addr32[3]));
}

static bool check_local(const struct view *view, char *text, size_t len)
{
	const struct nbd_config *config = &view->dev->config;
	bool local = any_fact(view, is_local);
	unsigned int i;

	for (i = 0; config->addresses && i < config->nr_addresses; i++)
		local |= is_loopback(&config->addresses[i]);
	if (!local)
		return false;
	snprintf(text, len, "its server is this machine and needs the memory it is to provide");
	return true;
}

static bool check_ulp(const struct view *view, char *text, size_t len)
{
	if (!any_fact(view, is_ulp))
		return false;
	snprintf(text, len,
		 "TLS sits between it and TCP: it allocates for each record and breaks the connection when it cannot");
	return true;
}

static bool check_xfrm(const struct view *view, char *text, size_t len)
{
	if (!any_fact(view, is_xfrm))
		return false;
	snprintf(text, len,
		 "IPsec transforms its packets, and needs memory that may not come from the reserve for each");
	return true;
}

static bool check_tracked(const struct view *view, char *text, size_t len)
{
	if (!any_fact(view, is_tracked))
		return false;
	snprintf(text, len,
		 "a firewall here drops its packets unless conntrack follows them: a new connection then needs memory that may not come from the reserve");
	return true;
}

static bool check_no_fence(const struct view *view, char *text, size_t len)
{
	if (!view->delays || READ_ONCE(view->dev->config.fence_delay))
		return false;
	snprintf(text, len,
		 "the server knows no sessions and fence_delay is 0: after a reconnect an old write may land on top of a newer one");
	return true;
}

static bool check_fence_delay(const struct view *view, char *text, size_t len)
{
	unsigned int ms = READ_ONCE(view->dev->config.fence_delay);

	if (!view->delays || !ms)
		return false;
	snprintf(text, len,
		 "the server knows no sessions: that no old write lands on top of a newer one after a reconnect rests on a wait of %u ms",
		 ms);
	return true;
}

static bool check_kernel(const struct view *view, char *text, size_t len)
{
	const char *separator = " ";
	unsigned int i;
	int n;

	if (kernel_entitles())
		return false;
	n = scnprintf(text, len,
		      "this kernel does not open the reserve to all that swap over TCP allocates:");
	for (i = 0; i < ARRAY_SIZE(needed); i++) {
		if (nbd_compat_guarantees(needed[i].guarantee))
			continue;
		n += scnprintf(text + n, len - n, "%s%s", separator, needed[i].name);
		separator = ", ";
	}
	return true;
}

static bool check_min_free(const struct view *view, char *text, size_t len)
{
	if (view->min_zones >= view->min_free)
		return false;
	snprintf(text, len,
		 "vm.min_free_kbytes keeps %llu kB free, and this device alone needs %llu: sending and receiving may find no memory",
		 view->min_zones >> 10, (view->min_free + 1023) >> 10);
	return true;
}

static bool check_tunnel(const struct nbd_nic *nic, char *text, size_t len)
{
	if (!(nic->flags & NBD_NIC_TUNNEL))
		return false;
	snprintf(text, len,
		 "%s (%s): packets travel in others, whose making needs memory that may not come from the reserve, and those that arrive in it are dropped",
		 nic->name, nic->driver);
	return true;
}

static bool check_wireless(const struct nbd_nic *nic, char *text, size_t len)
{
	if (!(nic->flags & NBD_NIC_WIRELESS))
		return false;
	snprintf(text, len,
		 "%s is wireless: it stays connected only as long as a process answers the access point",
		 nic->name);
	return true;
}

static bool check_veth(const struct nbd_nic *nic, char *text, size_t len)
{
	if (!(nic->flags & NBD_NIC_VETH))
		return false;
	snprintf(text, len,
		 "%s leads into a container: a server there needs the memory it is to provide",
		 nic->name);
	return true;
}

static bool check_blocks(const struct nbd_nic *nic, char *text, size_t len)
{
	if (nic->class != NBD_NIC_BLOCKS)
		return false;
	snprintf(text, len,
		 "%s (%s): when it finds no memory to receive into it stops receiving and waits for reclaim, which waits for what is to be received",
		 nic->name, nic->driver);
	return true;
}

static bool check_stops(const struct nbd_nic *nic, char *text, size_t len)
{
	if (nic->class != NBD_NIC_STOPS)
		return false;
	snprintf(text, len,
		 "%s (%s): its receive ring is never filled again once it has run empty for want of memory",
		 nic->name, nic->driver);
	return true;
}

static bool check_page_pool(const struct nbd_nic *nic, char *text, size_t len)
{
	if (nic->class != NBD_NIC_PAGE_POOL)
		return false;
	snprintf(text, len,
		 "%s (%s): receives into pages of a pool that never takes any from the reserve: packets are lost while only the reserve is left",
		 nic->name, nic->driver);
	return true;
}

static bool check_ordinary(const struct nbd_nic *nic, char *text, size_t len)
{
	if (nic->class != NBD_NIC_ORDINARY)
		return false;
	snprintf(text, len,
		 "%s (%s): its receive buffers never come from the reserve: packets are lost while only the reserve is left",
		 nic->name, nic->driver);
	return true;
}

static bool check_heads(const struct nbd_nic *nic, char *text, size_t len)
{
	if (nic->class != NBD_NIC_ENTITLED && nic->class != NBD_NIC_COPIES)
		return false;
	if (nbd_compat_guarantees(MEMALLOC_NET_RX_SKB))
		return false;
	snprintf(text, len,
		 "%s (%s): receives into the reserve, but for the struct sk_buff of each packet, which min_free_kbytes must leave room for",
		 nic->name, nic->driver);
	return true;
}

static bool check_unknown(const struct nbd_nic *nic, char *text, size_t len)
{
	if (nic->class != NBD_NIC_UNKNOWN)
		return false;
	snprintf(text, len,
		 "%s (%s): nobody has looked how this driver receives when memory is short",
		 nic->name, nic->driver);
	return true;
}

static bool check_offload(const struct nbd_nic *nic, char *text, size_t len)
{
	/* Those above others pass on what these can do */
	if (!(nic->flags & NBD_NIC_ROUTE) ||
	    !(nic->flags & (NBD_NIC_NO_SG | NBD_NIC_NO_CSUM | NBD_NIC_NO_TSO)))
		return false;
	/* Then from the reserve, whoever sends */
	if (nbd_compat_guarantees(MEMALLOC_NET_BH_OFF) &&
	    nbd_compat_guarantees(MEMALLOC_NET_TCP_SCOPE))
		return false;
	snprintf(text, len,
		 "%s does without%s%s%s: packets to be sent are copied or cut with memory that may not come from the reserve",
		 nic->name, nic->flags & NBD_NIC_NO_SG ? " scatter-gather" : "",
		 nic->flags & NBD_NIC_NO_CSUM ? " checksum-offload" : "",
		 nic->flags & NBD_NIC_NO_TSO ? " segmentation-offload" : "");
	return true;
}

static bool check_threaded(const struct nbd_nic *nic, char *text, size_t len)
{
	if (!(nic->flags & NBD_NIC_THREADED) || nbd_compat_guarantees(MEMALLOC_NET_BH_OFF))
		return false;
	snprintf(text, len,
		 "%s is polled by threads, where the kernel does not let packets in the reserve be answered from the reserve",
		 nic->name);
	return true;
}

static bool check_lacp(const struct nbd_nic *nic, char *text, size_t len)
{
	if (!(nic->flags & NBD_NIC_LACP) || nbd_compat_guarantees(MEMALLOC_NET_PROTOCOLS))
		return false;
	snprintf(text, len,
		 "%s is an 802.3ad bond: LACP packets that arrive in the reserve are dropped, and the bond loses its ports",
		 nic->name);
	return true;
}

static bool check_gro(const struct nbd_nic *nic, char *text, size_t len)
{
	if (!(nic->flags & NBD_NIC_LOWEST) || !(nic->flags & NBD_NIC_GRO) ||
	    nic->class == NBD_NIC_VIRTUAL || nbd_compat_guarantees(MEMALLOC_NET_NO_MERGE))
		return false;
	snprintf(text, len,
		 "%s merges packets (GRO): memory of the reserve may end up in the sockets of others and stay there",
		 nic->name);
	return true;
}

static const struct {
	const char *id;
	u32 severity;
	check_device_fn device;
	check_nic_fn nic;
	bool later;	/* true of every device until the client has had its turn */
} checks[] = {
	{ .id = "handed-over", .severity = NBDX_SEVERITY_UNSAFE, .device = check_handed_over },
	{ .id = "unix-socket", .severity = NBDX_SEVERITY_UNSAFE, .device = check_unix },
	{ .id = "server-local", .severity = NBDX_SEVERITY_UNSAFE, .device = check_local },
	{ .id = "dead-conn-timeout", .severity = NBDX_SEVERITY_UNSAFE, .device = check_dead_conn },
	{ .id = "tls", .severity = NBDX_SEVERITY_UNSAFE, .device = check_ulp },
	{ .id = "ipsec", .severity = NBDX_SEVERITY_UNSAFE, .device = check_xfrm },
	{ .id = "tunnel", .severity = NBDX_SEVERITY_UNSAFE, .nic = check_tunnel },
	{ .id = "nic-wireless", .severity = NBDX_SEVERITY_UNSAFE, .nic = check_wireless },
	{ .id = "container", .severity = NBDX_SEVERITY_WARNING, .nic = check_veth },
	{ .id = "nic-virtio", .severity = NBDX_SEVERITY_WARNING, .nic = check_blocks },
	{ .id = "nic-stmmac", .severity = NBDX_SEVERITY_WARNING, .nic = check_stops },
	{ .id = "nic-page-pool", .severity = NBDX_SEVERITY_WARNING, .nic = check_page_pool },
	{ .id = "nic-ordinary", .severity = NBDX_SEVERITY_WARNING, .nic = check_ordinary },
	{ .id = "nic-offload", .severity = NBDX_SEVERITY_WARNING, .nic = check_offload },
	{ .id = "napi-threaded", .severity = NBDX_SEVERITY_WARNING, .nic = check_threaded },
	{ .id = "bond-lacp", .severity = NBDX_SEVERITY_WARNING, .nic = check_lacp },
	{ .id = "conntrack", .severity = NBDX_SEVERITY_WARNING, .device = check_tracked },
	{ .id = "no-fence", .severity = NBDX_SEVERITY_WARNING, .device = check_no_fence },
	{ .id = "min-free", .severity = NBDX_SEVERITY_WARNING, .device = check_min_free,
	  .later = true },
	{ .id = "kernel", .severity = NBDX_SEVERITY_NOTE, .device = check_kernel },
	{ .id = "fence-delay", .severity = NBDX_SEVERITY_NOTE, .device = check_fence_delay },
	{ .id = "nic-heads", .severity = NBDX_SEVERITY_NOTE, .nic = check_heads },
	{ .id = "nic-unknown", .severity = NBDX_SEVERITY_NOTE, .nic = check_unknown },
	{ .id = "nic-gro", .severity = NBDX_SEVERITY_NOTE, .nic = check_gro },
};

/**
 * nbd_findings_visit() - tell what weakens the promise for a device
 * @dev: the device, not FREE, its lock held
 * @first: it has just been connected: leave out what the client is about to
 *	   mend, which is vm.min_free_kbytes
 * @say: called for each finding, most severe first; ends the visit if it
 *	 returns other than 0
 * @arg: passed on to it
 *
 * Context: process.  Allocates nothing.
 * Return: what the last call of @say did, or 0.
 */
int nbd_findings_visit(struct nbd_device *dev, bool first,
		       int (*say)(const struct nbd_finding *finding, void *arg), void *arg)
{
	struct nbd_finding finding;
	struct nbd_reserve reserve;
	struct view view;
	unsigned int i, j;
	int ret = 0;

	look(dev, &view);
	reserve_of(&view, &reserve);
	for (i = 0; i < ARRAY_SIZE(checks) && !ret; i++) {
		finding.id = checks[i].id;
		finding.severity = checks[i].severity;
		finding.subject = NULL;
		if (first && checks[i].later)
			continue;
		if (checks[i].device) {
			if (checks[i].device(&view, finding.text, sizeof(finding.text)))
				ret = say(&finding, arg);
			continue;
		}
		for (j = 0; j < view.nics.n && !ret; j++) {
			finding.subject = view.nics.nic[j].name;
			if (checks[i].nic(&view.nics.nic[j], finding.text, sizeof(finding.text)))
				ret = say(&finding, arg);
		}
	}
	return ret;
}
