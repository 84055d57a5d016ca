// SPDX-License-Identifier: GPL-2.0-only
/*
 * fragments: let fragments arrive, in memory of the reserve or not, for tests.
 *
 *	echo VERSION RESERVE COUNT DEVICE > /sys/module/fragments/parameters/receive
 *
 * COUNT first fragments of as many datagrams of IP version 4 or 6 to this
 * machine, marked pfmemalloc if RESERVE is 1, are received by DEVICE.
 */
#include <linux/etherdevice.h>
#include <linux/inetdevice.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <net/addrconf.h>
#include <net/ip.h>
#include <net/ipv6.h>
#include <net/net_namespace.h>

#define PAYLOAD 64

/* From a neighbour that there need not be */
static void fill_v4(struct sk_buff *skb, __be32 to, unsigned int number)
{
	struct iphdr *ip = skb_put_zero(skb, sizeof(*ip));

	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = htons(sizeof(*ip) + PAYLOAD);
	ip->id = htons(number);
	ip->frag_off = htons(IP_MF);
	ip->ttl = 64;
	ip->protocol = IPPROTO_UDP;
	ip->saddr = to ^ htonl(0x40);
	ip->daddr = to;
	ip_send_check(ip);
	skb->protocol = htons(ETH_P_IP);
}

static void fill_v6(struct sk_buff *skb, const struct in6_addr *to, unsigned int number)
{
	struct ipv6hdr *ip = skb_put_zero(skb, sizeof(*ip));
	struct frag_hdr *frag = skb_put_zero(skb, sizeof(*frag));

	ip->version = 6;
	ip->payload_len = htons(sizeof(*frag) + PAYLOAD);
	ip->nexthdr = NEXTHDR_FRAGMENT;
	ip->hop_limit = 64;
	ip->saddr = *to;
	ip->saddr.s6_addr[15] ^= 0x40;
	ip->daddr = *to;
	frag->nexthdr = IPPROTO_UDP;
	frag->frag_off = htons(IP6_MF);
	frag->identification = htonl(number);
	skb->protocol = htons(ETH_P_IPV6);
}

static int receive(struct net_device *dev, unsigned int version, bool reserve, unsigned int number)
{
	struct sk_buff *skb = alloc_skb(256, GFP_KERNEL);
	struct in6_addr to;

	if (!skb)
		return -ENOMEM;
	skb_reserve(skb, NET_SKB_PAD);
	skb->dev = dev;
	skb->pkt_type = PACKET_HOST;
	skb_reset_mac_header(skb);
	if (version == 4) {
		fill_v4(skb, inet_select_addr(dev, 0, RT_SCOPE_UNIVERSE), number);
	} else {
		if (ipv6_dev_get_saddr(dev_net(dev), dev, &in6addr_any, 0, &to)) {
			kfree_skb(skb);
			return -EADDRNOTAVAIL;
		}
		fill_v6(skb, &to, number);
	}
	skb_put_zero(skb, PAYLOAD);
	skb->pfmemalloc = reserve;
	local_bh_disable();
	netif_receive_skb(skb);
	local_bh_enable();
	return 0;
}

static int set_receive(const char *val, const struct kernel_param *kp)
{
	unsigned int version, reserve, count, i;
	struct net_device *dev;
	char name[IFNAMSIZ];
	int err = 0;

	if (sscanf(val, "%u %u %u %15s", &version, &reserve, &count, name) != 4 ||
	    (version != 4 && version != 6) || count > 10000)
		return -EINVAL;
	dev = dev_get_by_name(&init_net, name);
	if (!dev)
		return -ENODEV;
	for (i = 0; i < count && !err; i++)
		err = receive(dev, version, reserve, i);
	dev_put(dev);
	return err;
}

static const struct kernel_param_ops receive_ops = {
	.set = set_receive,
};
module_param_cb(receive, &receive_ops, NULL, 0200);
MODULE_PARM_DESC(receive, "VERSION RESERVE COUNT DEVICE: so many first fragments arrive");

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Let fragments arrive, for tests of nbswap");
