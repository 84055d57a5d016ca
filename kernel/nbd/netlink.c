// SPDX-License-Identifier: GPL-2.0-only
/*
 * The generic-netlink family "nbd": the mainline commands with their meaning,
 * and NBDX_CMD_GET on top.
 *
 * A CONNECT takes its time, and memory if there is no device for it yet, and no
 * handler may sleep for long: generic netlink's semaphore is held around it, and
 * with one writer waiting nobody else in the machine gets a word in.  So that one
 * is carried out by a work item, which sends the acknowledgment itself.
 */
#include <linux/capability.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/in6.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <net/genetlink.h>

#include "attributes.h"
#include "internal.h"

/* udev looks at a device that has just come: "in use" must outlast it, ms */
#define BUSY_PATIENCE		1000
#define BUSY_INTERVAL		50

/* Devices that others may snatch from us before we give up */
#define CONNECT_TRIES		100

/*
 * A device with all its links and the longest names, bytes: the largest block that
 * the page allocator does not give up on when memory is in pieces, and what fits a
 * page, in which most devices do.
 */
#define MESSAGE_MAX		(SKB_WITH_OVERHEAD(SZ_32K) - NLMSG_HDRLEN - GENL_HDRLEN)
#define MESSAGE_USUAL		GENLMSG_DEFAULT_SIZE

static struct genl_family family;

enum { NBD_GROUP_EVENTS };

static const struct genl_multicast_group groups[] = {
	[NBD_GROUP_EVENTS] = { .name = NBD_GENL_MCAST_GROUP_NAME },
};

static const struct nla_policy policy[NBDX_ATTR_MAX + 1] = {
	[NBD_ATTR_INDEX]		= { .type = NLA_U32 },
	[NBD_ATTR_SIZE_BYTES]		= { .type = NLA_U64 },
	[NBD_ATTR_BLOCK_SIZE_BYTES]	= { .type = NLA_U64 },
	[NBD_ATTR_TIMEOUT]		= { .type = NLA_U64 },
	[NBD_ATTR_SERVER_FLAGS]		= { .type = NLA_U64 },
	[NBD_ATTR_CLIENT_FLAGS]		= { .type = NLA_U64 },
	[NBD_ATTR_SOCKETS]		= { .type = NLA_NESTED },
	[NBD_ATTR_DEAD_CONN_TIMEOUT]	= { .type = NLA_U64 },
	[NBD_ATTR_DEVICE_LIST]		= { .type = NLA_NESTED },
	[NBD_ATTR_BACKEND_IDENTIFIER]	= { .type = NLA_NUL_STRING, .len = 4096 },
	[NBDX_ATTR_ADDRESSES]		= { .type = NLA_NESTED },
	[NBDX_ATTR_EXPORT]		= { .type = NLA_NUL_STRING, .len = NBD_HANDSHAKE_NAME_MAX },
	[NBDX_ATTR_LINKS]		= NLA_POLICY_RANGE(NLA_U32, 1, NBDX_MAX_LINKS),
	[NBDX_ATTR_CONNECT_TIMEOUT]	= { .type = NLA_U32 },
	[NBDX_ATTR_FLAGS]		= NLA_POLICY_MASK(NLA_U32, NBDX_FLAG_ALL),
	[NBDX_ATTR_FORCE]		= { .type = NLA_FLAG },
	[NBDX_ATTR_LINK_TIMEOUT]	= { .type = NLA_U32 },
	[NBDX_ATTR_FENCE_DELAY]		= { .type = NLA_U32 },
};

/* Mainline takes -1 for "any" too */
static bool any_device(struct genl_info *info)
{
	return nbd_attr_u32(info, NBD_ATTR_INDEX, U32_MAX) == U32_MAX;
}

/**
 * struct connect_job - a CONNECT to be carried out and answered later
 * @work: on nbd_workqueue
 * @index: of the device, -1: any that is free
 * @config: what it is to be; empty once it was taken
 * @export: what it is, if sockets are handed over
 * @socks: these; NULL where they were taken
 * @nr_socks: their number, 0 if the kernel makes the connections
 * @net: where the answer goes, reference held
 * @portid: of whoever asked
 * @header: of the message that asked
 * @answer: room for the index
 * @ack: room for the acknowledgment, with a text of ACK_TEXT_MAX
 *
 * Both are there from the beginning: whoever asked waits until they come.
 *
 * Holds a reference to the module.
 */
struct connect_job {
	struct work_struct work;
	int index;
	struct nbd_config config;
	struct nbd_export export;
	struct socket *socks[NBDX_MAX_LINKS];
	unsigned int nr_socks;
	struct net *net;
	u32 portid;
	struct nlmsghdr header;
	struct sk_buff *answer;
	struct sk_buff *ack;
};

#define ACK_TEXT_MAX	300

static struct sk_buff *index_message(void)
{
	return genlmsg_new(nla_total_size(sizeof(u32)), GFP_KERNEL);
}

/* The index of the device, in a message that is used up. Return: 0 or -errno. */
static int answer_index(struct sk_buff *msg, struct net *net, u32 portid, u32 seq, int index)
{
	void *head;

	head = genlmsg_put(msg, portid, seq, &family, 0, NBD_CMD_CONNECT);
	if (!head || nla_put_u32(msg, NBD_ATTR_INDEX, index)) {
		nlmsg_free(msg);
		return -EMSGSIZE;
	}
	genlmsg_end(msg, head);
	return genlmsg_unicast(net, msg, portid);
}

/* What netlink_ack() would have sent */
static void acknowledge(struct connect_job *job, int err, const char *text)
{
	struct sk_buff *msg = job->ack;
	struct nlmsgerr *body;
	struct nlmsghdr *head;

	if (!err && !(job->header.nlmsg_flags & NLM_F_ACK))
		return;
	job->ack = NULL;
	head = nlmsg_put(msg, job->portid, job->header.nlmsg_seq, NLMSG_ERROR, sizeof(*body),
			 NLM_F_CAPPED | (err ? NLM_F_ACK_TLVS : 0));
	if (!head) {
		nlmsg_free(msg);
		return;
	}
	body = nlmsg_data(head);
	body->error = err;
	body->msg = job->header;
	/* There is room for it */
	if (err)
		nla_put_string(msg, NLMSGERR_ATTR_MSG, text);
	nlmsg_end(msg, head);
	genlmsg_unicast(job->net, msg, job->portid);
}

static void free_job(struct connect_job *job)
{
	nbd_attr_put_sockets(job->socks, job->nr_socks);
	nlmsg_free(job->answer);
	nlmsg_free(job->ack);
	nbd_config_clear(&job->config);
	kfree(job);
}

/* Return: 0 or -errno, -EBUSY if somebody has it open for longer than udev would */
static int disconnect_patiently(struct nbd_device *dev, bool force, u64 connection)
{
	int waited, err;

	for (waited = 0;; waited += BUSY_INTERVAL) {
		err = nbd_device_disconnect(dev, force, connection);
		if (err != -EBUSY || waited >= BUSY_PATIENCE)
			return err;
		if (msleep_interruptible(BUSY_INTERVAL))
			return err;
	}
}

static void run_connect(struct work_struct *work)
{
	struct connect_job *job = container_of(work, struct connect_job, work);
	char why[256], text[ACK_TEXT_MAX];
	struct nbd_device *dev;
	int err, sent, tries;
	u64 connection;

	for (tries = 1;; tries++) {
		dev = job->index < 0 ? nbd_device_get_free() : nbd_device_get(job->index, true);
		if (IS_ERR(dev))
			break;
		err = nbd_device_connect(dev, &job->config, job->nr_socks ? &job->export : NULL,
					 job->nr_socks ? job->socks : NULL, &connection, why,
					 sizeof(why));
		/* Somebody else was given the same one and was faster, or took it away */
		if (err != -EBUSY || !job->config.net || tries == CONNECT_TRIES ||
		    (job->index >= 0 && !READ_ONCE(dev->gone)))
			break;
		nbd_device_put(dev);
	}
	if (IS_ERR(dev)) {
		snprintf(text, sizeof(text), PTR_ERR(dev) == -EINVAL ? "there is no such device" :
			 "cannot make the device: error %ld", -PTR_ERR(dev));
		acknowledge(job, PTR_ERR(dev), text);
	} else if (err) {
		snprintf(text, sizeof(text), "%s: %s", dev->disk->disk_name, why);
		acknowledge(job, err, text);
	} else {
		/* "udevadm settle" after the answer is to find the event in the queue */
		flush_work(&dev->uevent_work);
		sent = answer_index(job->answer, job->net, job->portid, job->header.nlmsg_seq,
				    dev->index);
		job->answer = NULL;
		/* Who asked has gone, and nobody knows of the device */
		if (sent == -ECONNREFUSED) {
			pr_info("%s: nobody waits for the connection any longer\n",
				dev->disk->disk_name);
			disconnect_patiently(dev, false, connection);
		}
		acknowledge(job, 0, "");
	}
	if (!IS_ERR(dev))
		nbd_device_put(dev);
	put_net(job->net);
	free_job(job);
	module_put(THIS_MODULE);
}

/* Connected by whoever asks: the kernel cannot make them again */
static int take_sockets(struct genl_info *info, struct connect_job *job)
{
	unsigned int n;
	int err;

	err = nbd_attr_sockets(info, job->socks, &n);
	if (err)
		return err;
	job->nr_socks = n;
	job->config.nr_links = n;
	job->config.connect_timeout = 1;	/* nothing is left to connect */
	job->export.flags = nbd_attr_u64(info, NBD_ATTR_SERVER_FLAGS, 0);
	job->export.size = job->config.size;
	return 0;
}

/* Return: -EINTR, by which netlink sends no acknowledgment of its own */
static int connect_later(struct genl_info *info)
{
	u32 index = nbd_attr_u32(info, NBD_ATTR_INDEX, U32_MAX);
	struct connect_job *job;
	int err;

	if (index > INT_MAX && !any_device(info)) {
		nbd_attr_say(info, "there is no device %u", index);
		return -EINVAL;
	}
	job = kzalloc(sizeof(*job), GFP_KERNEL);
	if (!job)
		return -ENOMEM;
	job->answer = index_message();
	job->ack = nlmsg_new(sizeof(struct nlmsgerr) + nla_total_size(ACK_TEXT_MAX), GFP_KERNEL);
	err = -ENOMEM;
	if (!job->answer || !job->ack)
		goto err_job;
	err = nbd_attr_config(info, &job->config);
	if (!err && info->attrs[NBD_ATTR_SOCKETS])
		err = take_sockets(info, job);
	if (err)
		goto err_job;
	if (!try_module_get(THIS_MODULE)) {
		err = -ENODEV;
		goto err_job;
	}
	INIT_WORK(&job->work, run_connect);
	job->index = any_device(info) ? -1 : (int)index;
	job->net = get_net(genl_info_net(info));
	job->portid = info->snd_portid;
	job->header = *info->nlhdr;
	queue_work(nbd_workqueue, &job->work);
	return -EINTR;

err_job:
	free_job(job);
	return err;
}

static bool admin(struct sk_buff *skb, struct genl_info *info)
{
	if (netlink_capable(skb, CAP_SYS_ADMIN))
		return true;
	/* A text of its own: nbd_attr_say() is for those who may do something */
	NL_SET_ERR_MSG(info->extack, "only the administrator (CAP_SYS_ADMIN) may change devices");
	return false;
}

static struct nbd_device *find_device(struct genl_info *info)
{
	u32 index = nbd_attr_u32(info, NBD_ATTR_INDEX, U32_MAX);
	struct nbd_device *dev = nbd_device_get(index > INT_MAX ? -1 : (int)index, false);

	if (IS_ERR(dev))
		NL_SET_ERR_MSG(info->extack, "there is no such device");
	return dev;
}

static int nbd_connect(struct sk_buff *skb, struct genl_info *info)
{
	if (!admin(skb, info))
		return -EPERM;
	if (!info->attrs[NBD_ATTR_SOCKETS] == !info->attrs[NBDX_ATTR_ADDRESSES]) {
		nbd_attr_say(info, "either sockets or addresses must be given");
		return -EINVAL;
	}
	if (info->attrs[NBD_ATTR_SOCKETS] && !info->attrs[NBD_ATTR_SIZE_BYTES]) {
		nbd_attr_say(info, "sockets need the size of the export");
		return -EINVAL;
	}
	return connect_later(info);
}

static int nbd_disconnect(struct sk_buff *skb, struct genl_info *info)
{
	bool force = info->attrs[NBDX_ATTR_FORCE];
	struct nbd_device *dev;
	int err;

	if (!admin(skb, info))
		return -EPERM;
	dev = find_device(info);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	err = disconnect_patiently(dev, force, 0);
	if (err == -EBUSY)
		nbd_attr_say(info, "%s is in use", dev->disk->disk_name);
	if (err == -EINPROGRESS)
		nbd_attr_say(info, "%s is still being taken down", dev->disk->disk_name);
	if (err == -ENOTCONN || err == -EINPROGRESS)
		err = 0;	/* as mainline: that is what was asked for */
	nbd_device_put(dev);
	return err;
}

/* Give new sockets to links that have lost theirs; say what became of each */
static int hand_over(struct genl_info *info, struct nbd_device *dev)
{
	struct socket *socks[NBDX_MAX_LINKS] = { };
	unsigned int n, i;
	int err, ret = 0;

	err = nbd_attr_sockets(info, socks, &n);
	if (err)
		return err;
	for (i = 0; i < n && ret >= 0; i++) {
		ret = nbd_device_hand_over(dev, socks[i]);
		if (ret < 0)
			break;
		socks[i] = NULL;
		pr_info("%s: link %d has a new socket\n", dev->disk->disk_name, ret);
	}
	nbd_attr_put_sockets(socks, n);
	if (ret == -ENOSPC)
		nbd_attr_say(info, "%s: %u of %u sockets taken: no other link is without one",
			     dev->disk->disk_name, i, n);
	else if (ret == -EINVAL)
		nbd_attr_say(info, "%s makes its own connections", dev->disk->disk_name);
	else if (ret == -ENOTCONN)
		nbd_attr_say(info, "%s is not connected", dev->disk->disk_name);
	return min(ret, 0);
}

static int nbd_reconfigure(struct sk_buff *skb, struct genl_info *info)
{
	unsigned int link_timeout, fence_delay;
	u64 timeout, dead;
	struct nbd_device *dev;
	int err = 0;

	if (!admin(skb, info))
		return -EPERM;
	dev = find_device(info);
	if (IS_ERR(dev))
		return PTR_ERR(dev);

	mutex_lock(&dev->lock);
	timeout = nbd_attr_u64(info, NBD_ATTR_TIMEOUT, dev->config.timeout);
	dead = nbd_attr_u64(info, NBD_ATTR_DEAD_CONN_TIMEOUT, dev->config.dead_conn_timeout);
	link_timeout = dev->config.link_timeout;
	fence_delay = dev->config.fence_delay;
	if (dev->state != NBDX_STATE_LIVE) {
		nbd_attr_say(info, "%s is not connected", dev->disk->disk_name);
		err = -ENOTCONN;
	} else if (info->attrs[NBD_ATTR_SIZE_BYTES] &&
		   nbd_attr_u64(info, NBD_ATTR_SIZE_BYTES, 0) != dev->export.size) {
		nbd_attr_say(info, "%s: the size of a connected device does not change",
			     dev->disk->disk_name);
		err = -EINVAL;
	} else {
		err = nbd_attr_timeouts(info, &timeout, &dead) ?:
		      nbd_attr_recovery(info, &link_timeout, &fence_delay);
	}
	if (!err) {
		WRITE_ONCE(dev->config.timeout, timeout);
		WRITE_ONCE(dev->config.dead_conn_timeout, dead);
		WRITE_ONCE(dev->config.link_timeout, link_timeout);
		WRITE_ONCE(dev->config.fence_delay, fence_delay);
		if (info->attrs[NBD_ATTR_CLIENT_FLAGS])
			WRITE_ONCE(dev->config.client_flags,
				   nbd_attr_u64(info, NBD_ATTR_CLIENT_FLAGS, 0) &
				   (NBD_CFLAG_DESTROY_ON_DISCONNECT |
				    NBD_CFLAG_DISCONNECT_ON_CLOSE));
	}
	mutex_unlock(&dev->lock);

	if (!err && info->attrs[NBD_ATTR_SOCKETS])
		err = hand_over(info, dev);
	nbd_device_put(dev);
	return err;
}

static int put_item(struct sk_buff *msg, struct nbd_device *dev)
{
	struct nlattr *item = nla_nest_start_noflag(msg, NBD_DEVICE_ITEM);
	unsigned int state = READ_ONCE(dev->state);

	if (!item || nla_put_u32(msg, NBD_DEVICE_INDEX, dev->index) ||
	    nla_put_u8(msg, NBD_DEVICE_CONNECTED,
		       state == NBDX_STATE_LIVE || state == NBDX_STATE_TEARDOWN))
		return -EMSGSIZE;
	nla_nest_end(msg, item);
	return 0;
}

static int put_items(struct sk_buff *msg, struct genl_info *info)
{
	struct nbd_device *dev;
	int index = 0, err = 0;

	if (info->attrs[NBD_ATTR_INDEX]) {
		dev = find_device(info);
		if (IS_ERR(dev))
			return PTR_ERR(dev);
		err = put_item(msg, dev);
		nbd_device_put(dev);
		return err;
	}
	for (; !err && (dev = nbd_device_get_next(&index)); index++) {
		err = put_item(msg, dev);
		nbd_device_put(dev);
	}
	return err;
}

typedef int fill_fn(struct sk_buff *msg, struct sk_buff *skb, struct genl_info *info);

/* Mainline's STATUS: index and whether it is configured */
static int fill_items(struct sk_buff *msg, struct sk_buff *skb, struct genl_info *info)
{
	struct nlattr *list = nla_nest_start_noflag(msg, NBD_ATTR_DEVICE_LIST);
	int err;

	if (!list)
		return -EMSGSIZE;
	err = put_items(msg, info);
	if (!err)
		nla_nest_end(msg, list);
	return err;
}

static int fill_device(struct sk_buff *msg, struct sk_buff *skb, struct genl_info *info)
{
	struct nbd_device *dev = find_device(info);
	int err;

	if (IS_ERR(dev))
		return PTR_ERR(dev);
	err = nbd_status_fill(msg, dev, netlink_capable(skb, CAP_SYS_ADMIN));
	nbd_device_put(dev);
	return err;
}

/* Reply with what @fill puts into a message, a small one if that will do */
static int reply(struct sk_buff *skb, struct genl_info *info, u8 cmd, fill_fn *fill)
{
	size_t size = MESSAGE_USUAL;
	struct sk_buff *msg;
	void *head;
	int err;

	for (;;) {
		msg = genlmsg_new(size, GFP_KERNEL);
		if (!msg)
			return -ENOMEM;
		head = genlmsg_put_reply(msg, info, &family, 0, cmd);
		err = head ? fill(msg, skb, info) : -EMSGSIZE;
		if (!err)
			break;
		nlmsg_free(msg);
		if (err != -EMSGSIZE || size == MESSAGE_MAX)
			return err;
		size = MESSAGE_MAX;
	}
	genlmsg_end(msg, head);
	return genlmsg_reply(msg, info);
}

static int nbd_status(struct sk_buff *skb, struct genl_info *info)
{
	return reply(skb, info, NBD_CMD_STATUS, fill_items);
}

static int nbd_get(struct sk_buff *skb, struct genl_info *info)
{
	return reply(skb, info, NBDX_CMD_GET, fill_device);
}

/* A device does not fit the page that netlink begins a dump with */
static int nbd_dump_start(struct netlink_callback *cb)
{
	cb->min_dump_alloc = MESSAGE_MAX;
	return 0;
}

static int nbd_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	bool all = netlink_capable(cb->skb, CAP_SYS_ADMIN);
	int index = cb->args[0], err = 0;
	struct nbd_device *dev;
	void *head;

	for (; !err && (dev = nbd_device_get_next(&index)); index++) {
		if (READ_ONCE(dev->state) == NBDX_STATE_FREE) {
			nbd_device_put(dev);
			continue;
		}
		head = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &family,
				   NLM_F_MULTI, NBDX_CMD_GET);
		err = head ? nbd_status_fill(skb, dev, all) : -EMSGSIZE;
		nbd_device_put(dev);
		if (err) {
			if (head)
				genlmsg_cancel(skb, head);
			break;
		}
		genlmsg_end(skb, head);
	}
	cb->args[0] = index;
	/* A device that does not fit behind others comes first next time */
	return skb->len ? (int)skb->len : err;
}

static const struct genl_ops ops[] = {
	{
		.cmd		= NBD_CMD_CONNECT,
		.validate	= GENL_DONT_VALIDATE_STRICT | GENL_DONT_VALIDATE_DUMP,
		.doit		= nbd_connect,
	},
	{
		.cmd		= NBD_CMD_DISCONNECT,
		.validate	= GENL_DONT_VALIDATE_STRICT | GENL_DONT_VALIDATE_DUMP,
		.doit		= nbd_disconnect,
	},
	{
		.cmd		= NBD_CMD_RECONFIGURE,
		.validate	= GENL_DONT_VALIDATE_STRICT | GENL_DONT_VALIDATE_DUMP,
		.doit		= nbd_reconfigure,
	},
	{
		.cmd		= NBD_CMD_STATUS,
		.validate	= GENL_DONT_VALIDATE_STRICT | GENL_DONT_VALIDATE_DUMP,
		.doit		= nbd_status,
	},
	{
		.cmd		= NBDX_CMD_GET,
		.doit		= nbd_get,
		.start		= nbd_dump_start,
		.dumpit		= nbd_dump,
	},
};

static struct genl_family family __ro_after_init = {
	.name		= NBD_GENL_FAMILY_NAME,
	.version	= NBD_GENL_VERSION,
	.maxattr	= NBDX_ATTR_MAX,
	.policy		= policy,
	.netnsok	= true,
	.parallel_ops	= true,
	.module		= THIS_MODULE,
	.ops		= ops,
	.n_ops		= ARRAY_SIZE(ops),
	.resv_start_op	= NBD_CMD_STATUS + 1,
	.mcgrps		= groups,
	.n_mcgrps	= ARRAY_SIZE(groups),
};

/**
 * nbd_netlink_prepare_notice() - a LINK_DEAD message, made while there is memory
 * @dev: the device
 * @gfp: how to allocate
 *
 * Return: the message, or NULL.
 */
struct sk_buff *nbd_netlink_prepare_notice(struct nbd_device *dev, gfp_t gfp)
{
	struct sk_buff *msg = genlmsg_new(nla_total_size(sizeof(u32)), gfp);
	void *head;

	if (!msg)
		return NULL;
	head = genlmsg_put(msg, 0, 0, &family, 0, NBD_CMD_LINK_DEAD);
	if (!head || nla_put_u32(msg, NBD_ATTR_INDEX, dev->index)) {
		nlmsg_free(msg);
		return NULL;
	}
	genlmsg_end(msg, head);
	return msg;
}

/**
 * nbd_netlink_notify() - tell whoever listens that a link is lost
 * @dev: the device
 * @notice: from nbd_netlink_prepare_notice(), used up; may be NULL
 *
 * Best effort: recovery depends on nobody who listens.
 */
void nbd_netlink_notify(struct nbd_device *dev, struct sk_buff *notice)
{
	if (notice)
		/* Nor do its copies, which wait for those who listen, come from the reserve */
		genlmsg_multicast_netns(&family, dev->config.net, notice, 0, NBD_GROUP_EVENTS,
					GFP_NOWAIT | __GFP_NOMEMALLOC | __GFP_NOWARN);
}

/**
 * nbd_netlink_register() - show the family
 *
 * Return: 0 or -errno.
 */
int nbd_netlink_register(void)
{
	return genl_register_family(&family);
}

/**
 * nbd_netlink_unregister() - take it away; no handler runs afterwards
 */
void nbd_netlink_unregister(void)
{
	genl_unregister_family(&family);
}
