// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a device and its links report by netlink.
 */
#include <net/netlink.h>

#include "internal.h"

/* nla_put_u64_64bit() by this shorter name */
static int put_u64(struct sk_buff *msg, int attr, u64 value, int pad)
{
	return nla_put_u64_64bit(msg, attr, value, pad);
}

static int put_counters(struct sk_buff *msg, int attr, const struct nbd_counters *c)
{
	const struct {
		int attr;
		u64 value;
	} all[] = {
		{ NBDX_COUNTER_READS, c->reads },
		{ NBDX_COUNTER_WRITES, c->writes },
		{ NBDX_COUNTER_FLUSHES, c->flushes },
		{ NBDX_COUNTER_TRIMS, c->trims },
		{ NBDX_COUNTER_ZEROES, c->zeroes },
		{ NBDX_COUNTER_READ_BYTES, c->read_bytes },
		{ NBDX_COUNTER_WRITE_BYTES, c->write_bytes },
		{ NBDX_COUNTER_ERRORS, c->errors },
		{ NBDX_COUNTER_CONNECTS, c->connects },
		{ NBDX_COUNTER_LOSSES, c->losses },
		{ NBDX_COUNTER_REPLAYS, c->replays },
		{ NBDX_COUNTER_PROTOCOL_ERRORS, c->protocol_errors },
		{ NBDX_COUNTER_TIMEOUTS, c->timeouts },
	};
	struct nlattr *nest = nla_nest_start(msg, attr);
	unsigned int i;

	BUILD_BUG_ON(ARRAY_SIZE(all) != NBDX_COUNTER_PAD - 1);
	if (!nest)
		return -EMSGSIZE;
	for (i = 0; i < ARRAY_SIZE(all); i++)
		if (put_u64(msg, all[i].attr, all[i].value, NBDX_COUNTER_PAD))
			return -EMSGSIZE;
	nla_nest_end(msg, nest);
	return 0;
}

/**
 * nbd_counters_add() - add one set of counters to another
 * @sum: the sum
 * @c: what is added
 */
void nbd_counters_add(struct nbd_counters *sum, const struct nbd_counters *c)
{
	sum->reads += c->reads;
	sum->writes += c->writes;
	sum->flushes += c->flushes;
	sum->trims += c->trims;
	sum->zeroes += c->zeroes;
	sum->read_bytes += c->read_bytes;
	sum->write_bytes += c->write_bytes;
	sum->errors += c->errors;
	sum->connects += c->connects;
	sum->losses += c->losses;
	sum->replays += c->replays;
	sum->protocol_errors += c->protocol_errors;
	sum->timeouts += c->timeouts;
}

/**
 * nbd_link_snapshot() - what a link reports, at one moment
 * @link: the link
 * @shot: set to its state
 */
void nbd_link_snapshot(struct nbd_link *link, struct nbd_link_snapshot *shot)
{
	struct nbd_queue *queue = &link->dev->queue;
	struct list_head *pos;

	memset(shot, 0, sizeof(*shot));
	spin_lock_bh(&queue->lock);
	shot->state = link->state;
	shot->since = link->since;
	shot->counters = link->counters;
	list_for_each(pos, &link->sent)
		shot->inflight++;
	shot->held = link->nr_held;
	shot->fence = link->fence;
	strscpy(shot->error, link->error, sizeof(shot->error));
	spin_unlock_bh(&queue->lock);
}

static int put_link(struct sk_buff *msg, struct nbd_link *link, struct nbd_counters *sum,
		    bool all)
{
	const struct sockaddr_storage *peer = nbd_link_peer(link);
	struct nlattr *nest = nla_nest_start(msg, NBDX_DEVICE_LINK);
	struct nbd_link_snapshot shot;

	if (!nest)
		return -EMSGSIZE;
	nbd_link_snapshot(link, &shot);
	nbd_counters_add(sum, &shot.counters);
	if (nla_put_u32(msg, NBDX_LINK_INDEX, link->index) ||
	    nla_put_u32(msg, NBDX_LINK_STATE, shot.state) ||
	    put_u64(msg, NBDX_LINK_STATE_MS, jiffies_to_msecs(jiffies - shot.since),
		    NBDX_LINK_PAD) ||
	    nla_put_u32(msg, NBDX_LINK_INFLIGHT, shot.inflight) ||
	    nla_put_u32(msg, NBDX_LINK_HELD, shot.held) ||
	    nla_put_u32(msg, NBDX_LINK_FENCE, shot.fence) ||
	    (all && shot.error[0] && nla_put_string(msg, NBDX_LINK_ERROR, shot.error)) ||
	    (all && peer && nla_put(msg, NBDX_LINK_PEER,
			     peer->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) :
							   sizeof(struct sockaddr_in), peer)) ||
	    put_counters(msg, NBDX_LINK_COUNTERS, &shot.counters))
		return -EMSGSIZE;
	nla_nest_end(msg, nest);
	return 0;
}

struct put_finding {
	struct sk_buff *msg;
	bool unsafe;
};

static int put_finding(const struct nbd_finding *finding, void *arg)
{
	struct put_finding *put = arg;
	struct nlattr *nest;

	/* The most severe come first */
	if (finding->severity == NBDX_SEVERITY_UNSAFE && !put->unsafe) {
		put->unsafe = true;
		if (nla_put_string(put->msg, NBDX_DEVICE_WHY, finding->text))
			return -EMSGSIZE;
	}
	nest = nla_nest_start(put->msg, NBDX_DEVICE_FINDING);
	if (!nest || nla_put_string(put->msg, NBDX_FINDING_ID, finding->id) ||
	    nla_put_u32(put->msg, NBDX_FINDING_SEVERITY, finding->severity) ||
	    nla_put_string(put->msg, NBDX_FINDING_TEXT, finding->text) ||
	    (finding->subject &&
	     nla_put_string(put->msg, NBDX_FINDING_SUBJECT, finding->subject)))
		return -EMSGSIZE;
	nla_nest_end(put->msg, nest);
	return 0;
}

/* Is it safe for swap, what weakens that, and what does it need for it? */
static int put_safety(struct sk_buff *msg, struct nbd_device *dev)
{
	struct put_finding put = { .msg = msg };
	struct nbd_reserve reserve;
	u32 guarantees;
	u64 min_free;

	nbd_reserve_of_device(dev, &reserve, &min_free, &guarantees);
	if (put_u64(msg, NBDX_DEVICE_RESERVE, reserve.total, NBDX_DEVICE_PAD) ||
	    put_u64(msg, NBDX_DEVICE_MIN_FREE, min_free, NBDX_DEVICE_PAD) ||
	    nla_put_u32(msg, NBDX_DEVICE_GUARANTEES, guarantees) ||
	    put_u64(msg, NBDX_DEVICE_REGISTERED, dev->registered, NBDX_DEVICE_PAD) ||
	    nbd_findings_visit(dev, false, put_finding, &put) ||
	    nla_put_u8(msg, NBDX_DEVICE_SWAP_SAFE, !put.unsafe))
		return -EMSGSIZE;
	return 0;
}

static int put_config(struct sk_buff *msg, struct nbd_device *dev, bool all)
{
	const struct nbd_config *config = &dev->config;

	return (all && nla_put_string(msg, NBDX_DEVICE_EXPORT, config->export ?: "")) ||
	       put_u64(msg, NBDX_DEVICE_SIZE, (u64)get_capacity(dev->disk) << SECTOR_SHIFT,
		       NBDX_DEVICE_PAD) ||
	       nla_put_u32(msg, NBDX_DEVICE_BLOCK_SIZE, dev->block_size) ||
	       nla_put_u32(msg, NBDX_DEVICE_OPT_BLOCK_SIZE, dev->export.preferred_block) ||
	       nla_put_u32(msg, NBDX_DEVICE_MAX_PAYLOAD, dev->export.max_payload) ||
	       nla_put_u32(msg, NBDX_DEVICE_SERVER_FLAGS, dev->export.flags) ||
	       nla_put_u32(msg, NBDX_DEVICE_FLAGS, config->flags) ||
	       nla_put_u8(msg, NBDX_DEVICE_MANAGED, !!config->addresses) ||
	       nla_put_u32(msg, NBDX_DEVICE_PID, config->pid) ||
	       put_u64(msg, NBDX_DEVICE_TIMEOUT, config->timeout, NBDX_DEVICE_PAD) ||
	       put_u64(msg, NBDX_DEVICE_DEAD_CONN_TIMEOUT, config->dead_conn_timeout,
		       NBDX_DEVICE_PAD) ||
	       nla_put_u32(msg, NBDX_DEVICE_LINK_TIMEOUT, config->link_timeout) ||
	       nla_put_u32(msg, NBDX_DEVICE_FENCE_DELAY, config->fence_delay) ||
	       (all && config->backend &&
		nla_put_string(msg, NBDX_DEVICE_BACKEND, config->backend)) ?
		-EMSGSIZE : 0;
}

static int put_links(struct sk_buff *msg, struct nbd_device *dev, bool all)
{
	struct nbd_counters sum = { };
	unsigned int i;

	for (i = 0; i < NBDX_MAX_LINKS; i++)
		if (dev->links[i] && put_link(msg, dev->links[i], &sum, all))
			return -EMSGSIZE;
	return put_counters(msg, NBDX_DEVICE_COUNTERS, &sum);
}

/**
 * nbd_status_fill() - put NBDX_ATTR_DEVICE
 * @msg: the message
 * @dev: the device
 * @all: also what not everybody need know: names, addresses and what servers say
 *
 * Return: 0 or -EMSGSIZE.
 */
int nbd_status_fill(struct sk_buff *msg, struct nbd_device *dev, bool all)
{
	struct nlattr *nest = nla_nest_start(msg, NBDX_ATTR_DEVICE);
	int err = 0;

	if (!nest)
		return -EMSGSIZE;
	mutex_lock(&dev->lock);
	if (nla_put_u32(msg, NBDX_DEVICE_INDEX, dev->index) ||
	    nla_put_string(msg, NBDX_DEVICE_NAME, dev->disk->disk_name) ||
	    nla_put_u32(msg, NBDX_DEVICE_STATE, dev->state) ||
	    nla_put_u32(msg, NBDX_DEVICE_OPENERS, disk_openers(dev->disk)) ||
	    nla_put_u32(msg, NBDX_DEVICE_QUEUED, READ_ONCE(dev->queue.queued)) ||
	    nla_put_u32(msg, NBDX_DEVICE_INFLIGHT, READ_ONCE(dev->queue.inflight)))
		err = -EMSGSIZE;
	if (!err && dev->state != NBDX_STATE_FREE)
		err = put_config(msg, dev, all) ?: put_safety(msg, dev) ?:
		      put_links(msg, dev, all);
	mutex_unlock(&dev->lock);
	if (err)
		return err;
	nla_nest_end(msg, nest);
	return 0;
}
