// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hooks of the packet filter, in every network namespace with a device.
 *
 * Fragments that arrive in memory of the reserve are dropped before anything
 * collects them: up to 8 MB of them would lie there for 30 s, before anybody
 * knows for whom.  TCP never sends fragments.
 *
 * Packets of our own connections are not tracked: conntrack allocates an entry
 * for each connection, from ordinary memory, and drops the packet when there is
 * none.  A firewall that accepts what belongs to a tracked connection and nothing
 * else drops ours then, so a connection that is not answered is tried again
 * tracked; which of the two has worked is remembered.
 */
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <linux/slab.h>
#include <linux/tcp.h>
#include <linux/workqueue.h>
#include <net/inet6_hashtables.h>
#include <net/inet_hashtables.h>
#include <net/ip.h>
#include <net/ipv6.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/tcp.h>

#include "internal.h"

static bool untrack = true;
module_param(untrack, bool, 0644);
MODULE_PARM_DESC(untrack,
		 "keep new connections out of conntrack, where a firewall allows it (default Y)");

/*
 * Hooks switch static keys, which rewrites kernel text and interrupts every CPU:
 * they stay for a while when the last device goes, as another may come.
 */
#define LINGER	(10 * HZ)

/* A namespace with hooks, reference held, and the devices in it */
struct nbd_netfilter {
	struct list_head node;
	struct net *net;
	unsigned int devices;
};

static DEFINE_MUTEX(netfilters_lock);	/* the list; control only */
static LIST_HEAD(netfilters);

/* Fragments out of the reserve */
static unsigned int drop_fragment_v4(void *priv, struct sk_buff *skb,
				     const struct nf_hook_state *state)
{
	return skb_pfmemalloc(skb) && ip_is_fragment(ip_hdr(skb)) ? NF_DROP : NF_ACCEPT;
}

#if IS_ENABLED(CONFIG_IPV6)
static unsigned int drop_fragment_v6(void *priv, struct sk_buff *skb,
				     const struct nf_hook_state *state)
{
	unsigned int offset = 0;

	if (!skb_pfmemalloc(skb))
		return NF_ACCEPT;
	return ipv6_find_hdr(skb, &offset, NEXTHDR_FRAGMENT, NULL, NULL) == NEXTHDR_FRAGMENT ?
	       NF_DROP : NF_ACCEPT;
}
#endif

#if IS_ENABLED(CONFIG_NF_CONNTRACK)
static void mark_untracked(struct sk_buff *skb)
{
	nf_ct_set(skb, NULL, IP_CT_UNTRACKED);
}

/* Has somebody decided already? */
static bool is_marked(const struct sk_buff *skb)
{
	return skb_get_nfct(skb);
}
#else
static void mark_untracked(struct sk_buff *skb)
{
}

static bool is_marked(const struct sk_buff *skb)
{
	return true;
}
#endif

/* TCP's own packet, and not that of a tunnel around it, which has its socket, too? */
static bool is_of(const struct sk_buff *skb, const struct nf_hook_state *state, struct sock *sk)
{
	u8 protocol = state->pf == NFPROTO_IPV4 ? ip_hdr(skb)->protocol : ipv6_hdr(skb)->nexthdr;

	return protocol == IPPROTO_TCP && tcp_hdr(skb)->source == inet_sk(sk)->inet_sport &&
	       tcp_hdr(skb)->dest == inet_sk(sk)->inet_dport;
}

static unsigned int untrack_out(void *priv, struct sk_buff *skb,
				const struct nf_hook_state *state)
{
	struct sock *sk = skb->sk;

	if (sk && !is_marked(skb) && nbd_socket_is_untracked(sk) && is_of(skb, state, sk))
		mark_untracked(skb);
	return NF_ACCEPT;
}

/* The socket of a packet that comes, found with a reference, is ours? */
static void untrack_for(struct sk_buff *skb, struct sock *sk)
{
	if (!sk)
		return;
	if (nbd_socket_is_untracked(sk))
		mark_untracked(skb);
	sock_gen_put(sk);
}

/*
 * This early nobody has looked at the TCP header.  Ports are all that we need,
 * and a packet too short for them is no concern of ours.
 */
static unsigned int untrack_in_v4(void *priv, struct sk_buff *skb,
				  const struct nf_hook_state *state)
{
	const struct iphdr *ip = ip_hdr(skb);
	const struct tcphdr *tcp;
	struct tcphdr buf;

	if (ip->protocol != IPPROTO_TCP || ip_is_fragment(ip) || is_marked(skb))
		return NF_ACCEPT;
	tcp = skb_header_pointer(skb, skb_network_offset(skb) + ip_hdrlen(skb), sizeof(buf), &buf);
	if (tcp)
		untrack_for(skb, __inet_lookup_established(state->net,
							   state->net->ipv4.tcp_death_row.hashinfo,
							   ip->saddr, tcp->source, ip->daddr,
							   ntohs(tcp->dest), state->in->ifindex,
							   0));
	return NF_ACCEPT;
}

#if IS_ENABLED(CONFIG_IPV6)
/* No server has a reason to put headers before that of TCP */
static unsigned int untrack_in_v6(void *priv, struct sk_buff *skb,
				  const struct nf_hook_state *state)
{
	const struct ipv6hdr *ip = ipv6_hdr(skb);
	const struct tcphdr *tcp;
	struct tcphdr buf;

	if (ip->nexthdr != IPPROTO_TCP || is_marked(skb))
		return NF_ACCEPT;
	tcp = skb_header_pointer(skb, skb_network_offset(skb) + sizeof(*ip), sizeof(buf), &buf);
	if (tcp)
		untrack_for(skb, __inet6_lookup_established(state->net,
							    state->net->ipv4.tcp_death_row.hashinfo,
							    &ip->saddr, tcp->source, &ip->daddr,
							    ntohs(tcp->dest), state->in->ifindex,
							    0));
	return NF_ACCEPT;
}
#endif

static const struct nf_hook_ops hooks[] = {
	{
		.hook		= drop_fragment_v4,
		.pf		= NFPROTO_IPV4,
		.hooknum	= NF_INET_PRE_ROUTING,
		.priority	= NF_IP_PRI_CONNTRACK_DEFRAG - 1,
	}, {
		.hook		= untrack_in_v4,
		.pf		= NFPROTO_IPV4,
		.hooknum	= NF_INET_PRE_ROUTING,
		.priority	= NF_IP_PRI_RAW,
	}, {
		.hook		= untrack_out,
		.pf		= NFPROTO_IPV4,
		.hooknum	= NF_INET_LOCAL_OUT,
		.priority	= NF_IP_PRI_RAW,
	},
#if IS_ENABLED(CONFIG_IPV6)
	{
		.hook		= drop_fragment_v6,
		.pf		= NFPROTO_IPV6,
		.hooknum	= NF_INET_PRE_ROUTING,
		.priority	= NF_IP6_PRI_CONNTRACK_DEFRAG - 1,
	}, {
		.hook		= untrack_in_v6,
		.pf		= NFPROTO_IPV6,
		.hooknum	= NF_INET_PRE_ROUTING,
		.priority	= NF_IP6_PRI_RAW,
	}, {
		.hook		= untrack_out,
		.pf		= NFPROTO_IPV6,
		.hooknum	= NF_INET_LOCAL_OUT,
		.priority	= NF_IP6_PRI_RAW,
	},
#endif
};

static struct nbd_netfilter *find(const struct net *net)
{
	struct nbd_netfilter *nf;

	lockdep_assert_held(&netfilters_lock);
	list_for_each_entry(nf, &netfilters, node) {
		if (nf->net == net)
			return nf;
	}
	return NULL;
}

static void remove_idle(struct work_struct *work)
{
	struct nbd_netfilter *nf, *next;

	mutex_lock(&netfilters_lock);
	list_for_each_entry_safe(nf, next, &netfilters, node) {
		if (nf->devices)
			continue;
		nf_unregister_net_hooks(nf->net, hooks, ARRAY_SIZE(hooks));
		list_del(&nf->node);
		put_net(nf->net);
		kfree(nf);
	}
	mutex_unlock(&netfilters_lock);
}

static DECLARE_DELAYED_WORK(idle_work, remove_idle);

/**
 * nbd_netfilter_add() - a device in a network namespace is being configured
 * @net: the namespace; the device holds it until nbd_netfilter_del()
 *
 * Context: process, never on the I/O path.
 * Return: 0 or -errno.
 */
int nbd_netfilter_add(struct net *net)
{
	struct nbd_netfilter *nf;
	int err = 0;

	mutex_lock(&netfilters_lock);
	nf = find(net);
	if (!nf) {
		nf = kzalloc(sizeof(*nf), GFP_KERNEL);
		err = nf ? nf_register_net_hooks(net, hooks, ARRAY_SIZE(hooks)) : -ENOMEM;
		if (err) {
			kfree(nf);
			goto out;
		}
		nf->net = get_net(net);
		list_add(&nf->node, &netfilters);
	}
	nf->devices++;
out:
	mutex_unlock(&netfilters_lock);
	return err;
}

/**
 * nbd_netfilter_del() - it is configured no longer
 * @net: the namespace
 *
 * Context: process, never on the I/O path.
 */
void nbd_netfilter_del(struct net *net)
{
	struct nbd_netfilter *nf;

	mutex_lock(&netfilters_lock);
	nf = find(net);
	if (nf && !--nf->devices)
		/* A pending one stays: nobody's hooks linger for others */
		queue_delayed_work(nbd_workqueue, &idle_work, LINGER);
	mutex_unlock(&netfilters_lock);
}

/**
 * nbd_netfilter_exit() - remove every hook
 *
 * Context: process, no device is configured.
 */
void nbd_netfilter_exit(void)
{
	cancel_delayed_work_sync(&idle_work);
	remove_idle(NULL);
}

/**
 * nbd_netfilter_begin() - is a connection about to be made to be tracked?
 * @link: the link, before the first packet; decides for its socket
 *
 * As it has worked before, and now and then the other way when nobody answers.
 * Untracked is preferred: conntrack may be out of memory.
 *
 * Context: the link's thread.
 * Return: if it is not answered it is worth trying again at once, the other way:
 * neither has worked yet.
 */
bool nbd_netfilter_begin(struct nbd_link *link)
{
	struct nbd_tracking *t = &link->tracking;
	/* A server that is away answers neither */
	bool other = t->untracked_works ? t->vain % 4 == 3 : t->vain & 1;

	t->untrack = READ_ONCE(untrack) && (t->untracked_works || !t->tracked_works) != other;
	return t->untrack && !t->tracked_works && !t->untracked_works;
}

/**
 * nbd_netfilter_end() - it was answered, or not
 * @link: the link
 * @answered: the server has accepted the connection
 *
 * Context: the link's thread.
 */
void nbd_netfilter_end(struct nbd_link *link, bool answered)
{
	struct nbd_tracking *t = &link->tracking;

	if (!READ_ONCE(untrack))
		return;
	if (!answered) {
		t->vain++;
		return;
	}
	if (t->untrack) {
		t->untracked_works = true;
	} else {
		if (t->vain && !t->tracked_works && !t->untracked_works)
			pr_warn_once("%s: a firewall drops what is not tracked: accept \"ct state untracked\" to and from the server, for tracking needs memory that may not be there\n",
				     link->dev->disk->disk_name);
		t->tracked_works = true;
	}
	t->vain = 0;
}
