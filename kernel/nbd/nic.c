// SPDX-License-Identifier: GPL-2.0-only
/*
 * The network devices below a link.  How a card's driver finds memory to
 * receive into decides whether replies arrive when there is none, and no
 * interface tells it: it was read in the drivers' sources.
 */
#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <net/bonding.h>
#include <net/rtnetlink.h>

#include "compat.h"
#include "internal.h"

/* Assumed where the driver does not tell */
#define RING		256U
/* A buffer of half a page or a page, and the struct sk_buff */
#define HALF_PAGE	(2048U + 256U)
#define WHOLE_PAGE	(4096U + 256U)

/* The names that drivers of hardware and of hypervisors' devices have in sysfs */
static const struct {
	const char *name;
	enum nbd_nic_class class;
	u32 packet;
} drivers[] = {
	{ "virtio_net", NBD_NIC_BLOCKS, HALF_PAGE },
	{ "e1000", NBD_NIC_ORDINARY, HALF_PAGE },
	{ "vif", NBD_NIC_ORDINARY, WHOLE_PAGE },	/* xen-netfront */
	{ "vmxnet3", NBD_NIC_ORDINARY, HALF_PAGE },
	{ "tg3", NBD_NIC_ORDINARY, HALF_PAGE },
	{ "bnxt_en", NBD_NIC_PAGE_POOL, WHOLE_PAGE },
	{ "fec", NBD_NIC_PAGE_POOL, WHOLE_PAGE },
	{ "hns3", NBD_NIC_PAGE_POOL, WHOLE_PAGE },
	{ "mana", NBD_NIC_PAGE_POOL, WHOLE_PAGE },
	{ "mlx5_core", NBD_NIC_PAGE_POOL, WHOLE_PAGE },
	{ "mvneta", NBD_NIC_PAGE_POOL, WHOLE_PAGE },
	{ "mvpp2", NBD_NIC_PAGE_POOL, WHOLE_PAGE },
	{ "e1000e", NBD_NIC_ENTITLED, HALF_PAGE },
	{ "igb", NBD_NIC_ENTITLED, HALF_PAGE },
	{ "igc", NBD_NIC_ENTITLED, HALF_PAGE },
	{ "ixgbe", NBD_NIC_ENTITLED, HALF_PAGE },
	{ "i40e", NBD_NIC_ENTITLED, HALF_PAGE },
	{ "ice", NBD_NIC_ENTITLED, HALF_PAGE },
	{ "mlx4_core", NBD_NIC_ENTITLED, WHOLE_PAGE },
	{ "ionic", NBD_NIC_ENTITLED, WHOLE_PAGE },
	{ "funeth", NBD_NIC_ENTITLED, WHOLE_PAGE },
	{ "r8169", NBD_NIC_COPIES, HALF_PAGE },
	{ "hv_netvsc", NBD_NIC_COPIES, HALF_PAGE },
};

/* See nbd_nic_bears_polling() */
static const char *const pollable[] = { "virtio_net", "e1000", "e1000e", "igb" };

/* Virtual devices whose packets travel in other packets, or through a program */
static const char *const tunnels[] = {
	"bareudp", "dsa", "erspan", "geneve", "gre", "gretap", "gtp", "ip6erspan", "ip6gre",
	"ip6gretap", "ip6tnl", "ipip", "macsec", "ovpn", "ppp", "sit", "tun", "vti", "vti6",
	"vxlan", "wireguard", "xfrm",
};

static bool is_tunnel(const struct net_device *dev, const char *kind)
{
	unsigned int i;

	if (dev->type == ARPHRD_PPP || dev->type == ARPHRD_TUNNEL ||
	    dev->type == ARPHRD_TUNNEL6)
		return true;
	for (i = 0; i < ARRAY_SIZE(tunnels); i++)
		if (!strcmp(kind, tunnels[i]))
			return true;
	return false;
}

/*
 * With the network patches some drivers refill their rings from the reserve that do
 * not otherwise: virtio_net by a change of its own, others by one of what they
 * take their buffers from.
 */
static enum nbd_nic_class patched(const char *driver, enum nbd_nic_class class)
{
	unsigned long with;

	if (class == NBD_NIC_BLOCKS)
		with = MEMALLOC_NET_VIRTIO_NET;
	else if (class == NBD_NIC_PAGE_POOL)
		with = MEMALLOC_NET_PAGE_POOL;
	else if (!strcmp(driver, "e1000") || !strcmp(driver, "tg3"))
		with = MEMALLOC_NET_RX_SKB;
	else
		return class;
	return nbd_compat_guarantees(with) ? NBD_NIC_ENTITLED : class;
}

static enum nbd_nic_class classify(const char *driver, u32 *packet)
{
	unsigned int i;

	*packet = WHOLE_PAGE;
	for (i = 0; i < ARRAY_SIZE(drivers); i++) {
		if (strcmp(driver, drivers[i].name))
			continue;
		*packet = drivers[i].packet;
		return patched(driver, drivers[i].class);
	}
	/* One core in many drivers, such as rk_gmac-dwmac and stmmaceth */
	if (strstr(driver, "dwmac") || strstr(driver, "stmmac") ||
	    !strcmp(driver, "intel-eth-pci"))
		return NBD_NIC_STOPS;
	return NBD_NIC_UNKNOWN;
}

/**
 * nbd_nic_bears_polling() - may a device be polled out of turn?
 * @dev: the device, registered
 *
 * Some drivers count on an interrupt before each poll, or on the CPU that it
 * came to, or free their rings while polling is possible.  Those here were read
 * with that in mind.
 *
 * Context: RCU read side.
 * Return: whether it may, and has a ring to refill.
 */
bool nbd_nic_bears_polling(const struct net_device *dev)
{
	const struct device *parent = dev->dev.parent;
	const struct device_driver *driver = parent ? READ_ONCE(parent->driver) : NULL;
	unsigned int i;

	if (!driver)
		return false;
	for (i = 0; i < ARRAY_SIZE(pollable); i++)
		if (!strcmp(driver->name, pollable[i]))
			return true;
	return false;
}

static u32 rps(const struct net_device *dev, u32 queues)
{
#ifdef CONFIG_RPS
	u32 i;

	for (i = 0; i < queues; i++)
		if (rcu_access_pointer(dev->_rx[i].rps_map))
			return NBD_NIC_RPS;
#endif
	return 0;
}

static u32 flags_of(const struct net_device *dev, const char *kind)
{
	netdev_features_t features = READ_ONCE(dev->features);
	u32 flags = 0;

	if (dev->threaded)
		flags |= NBD_NIC_THREADED;
	if (!(features & NETIF_F_SG))
		flags |= NBD_NIC_NO_SG;
	if (!(features & NETIF_F_CSUM_MASK))
		flags |= NBD_NIC_NO_CSUM;
	if (!(features & NETIF_F_ALL_TSO))
		flags |= NBD_NIC_NO_TSO;
	if (features & NETIF_F_GRO)
		flags |= NBD_NIC_GRO;
	if (netif_is_bond_master(dev) && BOND_MODE((struct bonding *)netdev_priv(dev)) ==
					 BOND_MODE_8023AD)
		flags |= NBD_NIC_LACP;
	if (is_tunnel(dev, kind))
		flags |= NBD_NIC_TUNNEL;
	if (!strcmp(kind, "veth"))
		flags |= NBD_NIC_VETH;
#if IS_ENABLED(CONFIG_CFG80211)
	if (dev->ieee80211_ptr)
		flags |= NBD_NIC_WIRELESS;
#endif
	if (list_empty(&dev->adj_list.lower))
		flags |= NBD_NIC_LOWEST;
	return flags;
}

/* Return: 0, or 1 when there is no room for more: callers of the walk end it then. */
static int add(struct nbd_nics *nics, struct net_device *dev, u32 flags)
{
	const struct rtnl_link_ops *ops = dev->rtnl_link_ops;
	const char *kind = ops && ops->kind ? ops->kind : "";
	const struct device *parent = dev->dev.parent;
	const struct device_driver *driver;
	struct nbd_nic *nic;
	unsigned int i;

	for (i = 0; i < nics->n; i++) {
		if (nics->nic[i].ifindex == dev->ifindex) {
			nics->nic[i].flags |= flags;
			return 0;
		}
	}
	if (nics->n == ARRAY_SIZE(nics->nic))
		return 1;
	nic = &nics->nic[nics->n++];
	memset(nic, 0, sizeof(*nic));
	nic->ifindex = dev->ifindex;
	strscpy(nic->name, dev->name, sizeof(nic->name));
	nic->queues = READ_ONCE(dev->real_num_rx_queues);
	nic->flags = flags | flags_of(dev, kind) | rps(dev, nic->queues);

	driver = parent ? READ_ONCE(parent->driver) : NULL;
	if (driver) {
		strscpy(nic->driver, driver->name, sizeof(nic->driver));
		nic->class = classify(nic->driver, &nic->packet);
	} else {
		strscpy(nic->driver, kind, sizeof(nic->driver));
		nic->class = NBD_NIC_VIRTUAL;
		nic->packet = HALF_PAGE;
	}
	return 0;
}

/**
 * struct way - one walk down from a device
 * @nics: what was found
 * @guests: count ports that guests and containers have on a bridge, too
 * @ends: lowest devices that were found
 */
struct way {
	struct nbd_nics *nics;
	bool guests;
	unsigned int ends;
};

static int add_lower(struct net_device *dev, struct netdev_nested_priv *priv)
{
	const char *kind = dev->rtnl_link_ops && dev->rtnl_link_ops->kind ?
			   dev->rtnl_link_ops->kind : "";
	struct way *way = priv->data;

	if (!way->guests && netif_is_bridge_port(dev) &&
	    (!strcmp(kind, "tun") || !strcmp(kind, "veth")))
		return 0;
	way->ends += list_empty(&dev->adj_list.lower);
	return add(way->nics, dev, 0);
}

/**
 * nbd_nics_add() - add a device and every one below it, such as a bond's
 * @nics: what was found so far
 * @net: the name space
 * @ifindex: of the device; one that is gone is left out
 *
 * Context: any, sleeps for nothing.
 */
void nbd_nics_add(struct nbd_nics *nics, struct net *net, int ifindex)
{
	struct way way = { .nics = nics };
	struct netdev_nested_priv priv = { .data = &way };
	struct net_device *dev;

	/*
	 * A device that is registered now keeps its driver until this section has
	 * ended: unregistering waits for it, and the driver goes afterwards.
	 */
	rcu_read_lock();
	dev = dev_get_by_index_rcu(net, ifindex);
	if (dev && READ_ONCE(dev->reg_state) == NETREG_REGISTERED) {
		add(nics, dev, NBD_NIC_ROUTE);
		/*
		 * What guests and containers of this machine have on the same bridge is
		 * not our way, unless there is no other.
		 */
		netdev_walk_all_lower_dev_rcu(dev, add_lower, &priv);
		way.guests = true;
		if (!way.ends)
			netdev_walk_all_lower_dev_rcu(dev, add_lower, &priv);
	}
	rcu_read_unlock();
}

/**
 * nbd_nic_ring() - receive buffers of each queue of a card
 * @net: the name space
 * @ifindex: of the card
 *
 * Context: process.  Does not wait for the lock that drivers are asked under:
 * whoever has it may wait for memory.
 * Return: how many, or 0 if it could not be asked now.
 */
u32 nbd_nic_ring(struct net *net, int ifindex)
{
	struct kernel_ethtool_ringparam kernel_ring = { };
	struct ethtool_ringparam ring = { };
	const struct ethtool_ops *ops;
	struct net_device *dev;
	u32 ret = 0;

	if (!rtnl_trylock())
		return 0;
	dev = __dev_get_by_index(net, ifindex);
	ops = dev && netif_device_present(dev) ? dev->ethtool_ops : NULL;
	if (ops && ops->get_ringparam && (!ops->begin || !ops->begin(dev))) {
		ops->get_ringparam(dev, &ring, &kernel_ring, NULL);
		if (ops->complete)
			ops->complete(dev);
		ret = ring.rx_pending;
	}
	if (dev && !ret)
		ret = RING;
	rtnl_unlock();
	return ret;
}
