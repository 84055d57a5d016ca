// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a device is connected to: the way from FREE through SETUP to LIVE and
 * through TEARDOWN back.
 *
 * Whoever moves the state to SETUP or TEARDOWN, under nbd_device.lock, owns
 * the links and the configuration until it moves the state again, and works
 * without the lock: others find the state and go away.  Readers of links and
 * configuration hold the lock, and links are freed with it held.
 */
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/sched/mm.h>

#include "compat.h"
#include "internal.h"

/* Longest wait for the first outcome of a link, beyond its own time-outs, s */
#define SETUP_GRACE	5

/* Longest wait for a device to be FREE once all its requests have ended, s */
#define TEARDOWN_PATIENCE	5

/*
 * Swap, a mount or a program has the device open.  Who holds open_mutex opens
 * it right now, and may wait for I/O with it, so that we must not wait for it.
 */
static bool in_use(struct nbd_device *dev)
{
	bool ret;

	if (!mutex_trylock(&dev->disk->open_mutex))
		return true;
	ret = disk_openers(dev->disk);
	if (!ret)
		WRITE_ONCE(dev->state, NBDX_STATE_TEARDOWN);
	mutex_unlock(&dev->disk->open_mutex);
	return ret;
}

/**
 * nbd_device_abort() - end what a process in NBD_DO_IT has begun
 * @dev: the device, its lock held; in SETUP, LIVE or TEARDOWN by NBD_DO_IT
 * @openers: at most so many may have it open; that process is one of them
 *
 * Once LIVE, nobody opens it from then on: see nbd_device_open().  Who opens or
 * syncs it right now counts as a user.
 *
 * Return: whether it ends; if not, it is in use.
 */
bool nbd_device_abort(struct nbd_device *dev, unsigned int openers)
{
	bool live = dev->state == NBDX_STATE_LIVE, ret;

	lockdep_assert_held(&dev->lock);
	if (READ_ONCE(dev->abort) || dev->state == NBDX_STATE_TEARDOWN)
		return true;
	/* As in in_use().  Before it is LIVE there is nothing to lose. */
	if (live && !mutex_trylock(&dev->disk->open_mutex))
		return false;
	ret = !live || disk_openers(dev->disk) <= openers;
	if (ret)
		WRITE_ONCE(dev->abort, true);
	if (live)
		mutex_unlock(&dev->disk->open_mutex);
	if (ret)
		wake_up_all(&dev->setup);
	return ret;
}

/* Standard clients and udev rules take this file for "connected" */
static ssize_t pid_show(struct device *d, struct device_attribute *attr, char *buf)
{
	struct nbd_device *dev = dev_to_disk(d)->private_data;

	return sysfs_emit(buf, "%d\n", dev->config.pid);
}

static DEVICE_ATTR_RO(pid);

static ssize_t backend_show(struct device *d, struct device_attribute *attr, char *buf)
{
	struct nbd_device *dev = dev_to_disk(d)->private_data;
	ssize_t ret = -ENXIO;

	mutex_lock(&dev->lock);
	if (dev->config.backend)
		ret = sysfs_emit(buf, "%s\n", dev->config.backend);
	mutex_unlock(&dev->lock);
	return ret;
}

static DEVICE_ATTR_RO(backend);

/*
 * What must not come or go: whether it can be written, and whether a write that
 * was answered may still be lost with the server.
 */
#define FLAGS_SAME	(NBD_WIRE_FLAG_READ_ONLY | NBD_WIRE_FLAG_SEND_FLUSH)
/* What must not go, since it may be in use; the device asks for nothing that comes */
#define FLAGS_KEPT	(NBD_WIRE_FLAG_SEND_FUA | NBD_WIRE_FLAG_SEND_TRIM | \
			 NBD_WIRE_FLAG_SEND_WRITE_ZEROES)

/* Bytes: no request is of less; a server that tells none takes sectors */
static u32 min_block_of(const struct nbd_export *export)
{
	return max(export->min_block, 512U);
}

/* Bytes that a request may carry at most, as far as we would go */
static u32 max_payload_of(const struct nbd_export *export)
{
	return min_t(u32, export->max_payload ?: NBD_WIRE_DEF_MAX_PAYLOAD, NBD_MAX_REQUEST);
}

/**
 * nbd_device_check_export() - is this what the device is made of?
 * @dev: the device
 * @export: what a server says
 * @why: set to a clause that tells the difference
 * @len: its size
 *
 * A server that can do more than it could, as after an upgrade, will do.
 *
 * Return: 0 or -EREMCHG.
 */
int nbd_device_check_export(struct nbd_device *dev, const struct nbd_export *export, char *why,
			    size_t len)
{
	const struct nbd_export *is = &dev->export;
	u16 kept = FLAGS_KEPT;

	if (dev->config.nr_links > 1)
		kept |= NBD_WIRE_FLAG_CAN_MULTI_CONN;
	if (export->size != is->size)
		snprintf(why, len, "export has changed: its size was %llu, is %llu", is->size,
			 export->size);
	else if ((export->flags ^ is->flags) & FLAGS_SAME || is->flags & ~export->flags & kept)
		snprintf(why, len, "export has changed: its flags were 0x%x, are 0x%x", is->flags,
			 export->flags);
	else if (min_block_of(export) > min_block_of(is) ||
		 max_payload_of(export) < max_payload_of(is))
		snprintf(why, len,
			 "export has changed: block size and payload were %u and %u, are %u and %u",
			 min_block_of(is), max_payload_of(is), min_block_of(export),
			 max_payload_of(export));
	else
		return 0;
	return -EREMCHG;
}

/* Translate what was negotiated into the limits of the queue */
static int derive_limits(struct nbd_device *dev, struct nbd_limits *limits, u64 *size, char *why,
			 size_t len)
{
	const struct nbd_config *config = &dev->config;
	const struct nbd_export *export = &dev->export;
	u32 min = min_block_of(export);
	u32 block = config->block_size ?: min;
	u32 payload = max_payload_of(export);

	if (min > PAGE_SIZE) {
		snprintf(why, len, "server demands blocks of %u bytes, longer than a page of %lu",
			 min, PAGE_SIZE);
		return -EPROTONOSUPPORT;
	}
	if (block < min || block % min || !is_power_of_2(block) || block > PAGE_SIZE) {
		snprintf(why, len,
			 "block size %u: must be a power of two from the server's %u to %lu", block,
			 min, PAGE_SIZE);
		return -EINVAL;
	}
	if (payload < PAGE_SIZE) {
		snprintf(why, len, "server takes %u bytes a request at most, less than a page",
			 payload);
		return -EPROTONOSUPPORT;
	}
	*size = config->size ?: export->size;
	if (*size > export->size) {
		snprintf(why, len, "size %llu: the export has only %llu bytes", *size,
			 export->size);
		return -EINVAL;
	}
	*size = round_down(*size, block);
	if (*size > (u64)LLONG_MAX) {
		snprintf(why, len, "server claims an export of %llu bytes", export->size);
		return -EFBIG;
	}

	dev->block_size = block;
	limits->logical = block;
	limits->physical = clamp_t(u32, export->preferred_block, block, PAGE_SIZE);
	limits->max_bytes = round_down(payload, PAGE_SIZE);
	/* Read-ahead follows it: no further than one request */
	limits->optimal = clamp_t(u32, export->preferred_block, limits->physical,
				  limits->max_bytes);
	limits->max_segments = NBD_MAX_SEGMENTS;
	if (export->flags & NBD_WIRE_FLAG_SEND_TRIM)
		limits->max_trim = NBD_MAX_TRIM;
	if (export->flags & NBD_WIRE_FLAG_SEND_WRITE_ZEROES)
		limits->max_zeroes = NBD_MAX_ZEROES;
	limits->flush = export->flags & NBD_WIRE_FLAG_SEND_FLUSH;
	limits->fua = limits->flush && export->flags & NBD_WIRE_FLAG_SEND_FUA;
	limits->rotational = export->flags & NBD_WIRE_FLAG_ROTATIONAL;
	return 0;
}

static int say_finding(const struct nbd_finding *finding, void *disk_name)
{
	if (finding->severity == NBDX_SEVERITY_UNSAFE)
		pr_warn("%s: not safe for swap: %s\n", (char *)disk_name, finding->text);
	else if (finding->severity == NBDX_SEVERITY_WARNING)
		pr_warn("%s: swap may stall: %s\n", (char *)disk_name, finding->text);
	return 0;
}

static void say_live(struct nbd_device *dev)
{
	lockdep_assert_held(&dev->lock);
	if (dev->config.addresses)
		pr_info("%s: connected to %pISpc, %llu bytes, %u link(s)\n", dev->disk->disk_name,
			nbd_link_peer(dev->links[0]), (u64)get_capacity(dev->disk) << SECTOR_SHIFT,
			dev->config.nr_links);
	else
		pr_info("%s: connected, %llu bytes, %u socket(s)\n", dev->disk->disk_name,
			(u64)get_capacity(dev->disk) << SECTOR_SHIFT, dev->config.nr_links);
	if (dev->config.flags & NBDX_FLAG_SWAP)
		nbd_findings_visit(dev, true, say_finding, dev->disk->disk_name);
}

/*
 * By these scripts and nbd-client -c know that the device is connected.  Without
 * the lock, for which handlers wait, and also because removal waits for readers
 * that take it.
 */
static int add_files(struct nbd_device *dev)
{
	int err;

	err = device_create_file(disk_to_dev(dev->disk), &dev_attr_pid);
	dev->pid_file = !err;
	if (!err && dev->config.backend) {
		err = device_create_file(disk_to_dev(dev->disk), &dev_attr_backend);
		dev->backend_file = !err;
	}
	return err;
}

static void remove_files(struct nbd_device *dev)
{
	if (dev->pid_file)
		device_remove_file(disk_to_dev(dev->disk), &dev_attr_pid);
	dev->pid_file = false;
	if (dev->backend_file)
		device_remove_file(disk_to_dev(dev->disk), &dev_attr_backend);
	dev->backend_file = false;
}

/* It is LIVE, or has been and was taken down again, which tells the world as well */
static void uevent_work(struct work_struct *work)
{
	struct nbd_device *dev = container_of(work, struct nbd_device, uevent_work);

	kobject_uevent(&disk_to_dev(dev->disk)->kobj, KOBJ_CHANGE);
	nbd_device_put(dev);
}

/* Show the device to the world: from here on requests come */
static int go_live(struct nbd_device *dev, char *why, size_t len)
{
	struct gendisk *disk = dev->disk;
	struct nbd_limits limits = { };
	u64 size;
	int err;

	err = derive_limits(dev, &limits, &size, why, len);
	if (err)
		return err;
	/* Freezes the queue, in which nothing is: it has been dead until now */
	err = nbd_compat_set_limits(disk, &limits);
	if (err) {
		snprintf(why, len, "block layer refuses the limits of the export");
		return err;
	}
	dev->read_only = dev->export.flags & NBD_WIRE_FLAG_READ_ONLY ||
			 dev->config.flags & NBDX_FLAG_READ_ONLY;
	set_disk_ro(disk, dev->read_only);
	/* Here, since a change of the I/O scheduler brings it back */
	nbd_compat_no_throttling(disk);

	/*
	 * A partition that was open at the last disconnect is there still, and would
	 * lead into this export.  No capacity yet: nothing is read.
	 */
	mutex_lock(&disk->open_mutex);
	err = bdev_disk_changed(disk, false);
	mutex_unlock(&disk->open_mutex);
	if (err) {
		snprintf(why, len, "cannot drop the partitions of its last connection: error %d",
			 -err);
		return err;
	}

	err = add_files(dev);
	if (err) {
		snprintf(why, len, "cannot make its files in sysfs: error %d", -err);
		return err;
	}

	/* No memory under this one: who takes a device down to get some waits for it */
	mutex_lock(&dev->lock);
	if (dev->abort) {
		mutex_unlock(&dev->lock);
		snprintf(why, len, "connect was interrupted");
		return -ECANCELED;
	}
	/* Before the first page goes out */
	if (dev->config.flags & NBDX_FLAG_SWAP)
		nbd_reserve_register(dev);
	/* Pairs with nbd_queue_kick() */
	smp_store_release(&dev->nr_links, dev->config.nr_links);
	/* Who closed it before now had no use of this connection */
	WRITE_ONCE(dev->closed, false);
	spin_lock_bh(&dev->queue.lock);
	WRITE_ONCE(dev->state, NBDX_STATE_LIVE);
	dev->queue.dead = false;
	dev->down_since = jiffies;
	spin_unlock_bh(&dev->queue.lock);
	/* The bit last: who opens it in between reads no partitions, and leaves that to the next */
	set_capacity(disk, size >> SECTOR_SHIFT);
	if (disk->minors > 1)
		set_bit(GD_NEED_PART_SCAN, &disk->state);
	say_live(dev);
	/*
	 * Not here: it takes memory, and NBD_DO_IT is to be there for whoever ends
	 * it.  Nor behind connects.
	 */
	if (!queue_work(system_unbound_wq, &nbd_device_hold(dev)->uevent_work))
		nbd_device_put(dev);
	mutex_unlock(&dev->lock);
	return 0;
}

static int outcome_of(struct nbd_link *link)
{
	int outcome;

	spin_lock_bh(&link->dev->queue.lock);
	outcome = link->outcome;
	spin_unlock_bh(&link->dev->queue.lock);
	return outcome;
}

static int await_outcome(struct nbd_device *dev, struct nbd_link *link, char *why, size_t len)
{
	unsigned long ms = (unsigned long)dev->config.connect_timeout *
			   max(dev->config.nr_addresses, 1U) + SETUP_GRACE * MSEC_PER_SEC;
	int err;

	wait_event_idle_timeout(dev->setup,
				outcome_of(link) != -EINPROGRESS || READ_ONCE(dev->abort),
				msecs_to_jiffies(ms));
	err = READ_ONCE(dev->abort) ? -ECANCELED : outcome_of(link);
	if (err == -EINPROGRESS)
		err = -ETIMEDOUT;
	if (!err)
		return 0;

	spin_lock_bh(&dev->queue.lock);
	if (err == -ECANCELED)
		snprintf(why, len, "connect was interrupted");
	else if (dev->config.addresses)
		snprintf(why, len, "%pISpc: %s", nbd_link_peer(link),
			 link->error[0] ? link->error : "no answer in time");
	else
		snprintf(why, len, "socket cannot be used, error %d", -err);
	spin_unlock_bh(&dev->queue.lock);
	return err;
}

static int start_link(struct nbd_device *dev, unsigned int index, struct socket **socks)
{
	struct nbd_link *link = nbd_link_create(dev, index, socks ? socks[index] : NULL);

	if (IS_ERR(link))
		return PTR_ERR(link);
	if (socks)
		socks[index] = NULL;	/* its reference is the link's now */
	mutex_lock(&dev->lock);
	dev->links[index] = link;
	mutex_unlock(&dev->lock);
	return 0;
}

/* The first link tells what the export is; the others must find the same */
static int start_links(struct nbd_device *dev, struct socket **socks, char *why, size_t len)
{
	unsigned int i;
	int err;

	err = start_link(dev, 0, socks);
	if (!err)
		err = await_outcome(dev, dev->links[0], why, len);
	if (err)
		return err;
	if (dev->config.nr_links > 1 && !(dev->export.flags & NBD_WIRE_FLAG_CAN_MULTI_CONN)) {
		snprintf(why, len, "server does not allow several connections to this export");
		return -EOPNOTSUPP;
	}
	for (i = 1; i < dev->config.nr_links; i++) {
		err = start_link(dev, i, socks);
		if (err)
			return err;
	}
	for (i = 1; i < dev->config.nr_links; i++) {
		err = await_outcome(dev, dev->links[i], why, len);
		if (err)
			return err;
	}
	return 0;
}

static void free_links(struct nbd_device *dev)
{
	struct nbd_link *links[NBDX_MAX_LINKS];
	unsigned int i;

	/* A thread may wake any other link: all stop before the first is freed */
	for (i = 0; i < NBDX_MAX_LINKS; i++)
		if (dev->links[i])
			nbd_link_stop(dev->links[i]);
	mutex_lock(&dev->lock);
	memcpy(links, dev->links, sizeof(links));
	memset(dev->links, 0, sizeof(dev->links));
	mutex_unlock(&dev->lock);
	for (i = 0; i < NBDX_MAX_LINKS; i++)
		if (links[i])
			nbd_link_free(links[i]);
}

/* The links and, with them gone, every request that is left */
static void release_links(struct nbd_device *dev)
{
	nbd_queue_fail(dev);
	free_links(dev);
	nbd_queue_fail(dev);
}

/* SETUP or TEARDOWN to FREE: everything else that nbd_device_connect() took */
static void release(struct nbd_device *dev)
{
	nbd_memalloc_put();
	nbd_netfilter_del(dev->config.net);
	mutex_lock(&dev->lock);
	nbd_reserve_unregister(dev);
	/* The next one may be of another name space, with other cards */
	memset(dev->rings, 0, sizeof(dev->rings));
	if (dev->config.do_it)
		dev->in_do_it = false;
	nbd_config_clear(&dev->config);
	dev->export_known = false;
	memset(&dev->export, 0, sizeof(dev->export));
	/* Before anybody is told: the module can be unloaded then.  It waits for our callers. */
	module_put(THIS_MODULE);
	WRITE_ONCE(dev->state, NBDX_STATE_FREE);
	mutex_unlock(&dev->lock);
	wake_up_all(&dev->setup);
}

/* Not at once: it waits for memory, and others may wait for our caller */
static void forget_later(struct nbd_device *dev)
{
	if (!queue_work(nbd_workqueue, &nbd_device_hold(dev)->forget_work))
		nbd_device_put(dev);
}

/* With a reference to the module on success */
static int may_connect(struct nbd_device *dev, char *why, size_t len)
{
	lockdep_assert_held(&dev->lock);
	if (dev->state == NBDX_STATE_TEARDOWN) {
		snprintf(why, len, "device is still being disconnected");
		return -EBUSY;
	}
	if (dev->state != NBDX_STATE_FREE) {
		snprintf(why, len, "device is connected already");
		return -EBUSY;
	}
	if (dev->gone) {
		snprintf(why, len, "device has just been removed");
		return -EBUSY;
	}
	/* What its users still have in their caches belongs to another export */
	if (READ_ONCE(dev->stale)) {
		snprintf(why, len, "device was disconnected by force and is still in use");
		return -EBUSY;
	}
	/* Fails while the module is being unloaded */
	if (!try_module_get(THIS_MODULE)) {
		snprintf(why, len, "driver is being unloaded");
		return -ENODEV;
	}
	return 0;
}

/**
 * nbd_device_connect() - FREE to LIVE
 * @dev: the device
 * @config: what it is to be; emptied, unless the device could not be had
 * @export: what it is, for sockets handed over; NULL: the handshake tells
 * @socks: @config.nr_links sockets handed over, or NULL; those that were taken
 *	   are set to NULL
 * @connection: set to what names the connection for nbd_device_disconnect(), or NULL
 * @why: set to a clause when it fails
 * @len: its size
 *
 * Context: process; sleeps for as long as the first attempt at the addresses
 * takes.
 * Return: 0, -EBUSY if the device is not free, or another -errno.
 */
int nbd_device_connect(struct nbd_device *dev, struct nbd_config *config,
		       const struct nbd_export *export, struct socket **socks, u64 *connection,
		       char *why, size_t len)
{
	bool again;
	int err;

	why[0] = '\0';
	err = nbd_netfilter_add(config->net);
	if (err) {
		snprintf(why, len, "packet filter takes no hooks, error %d", -err);
		return err;
	}
	mutex_lock(&dev->lock);
	err = may_connect(dev, why, len);
	if (err) {
		mutex_unlock(&dev->lock);
		nbd_netfilter_del(config->net);
		return err;
	}
	WRITE_ONCE(dev->connection, dev->connection + 1);
	WRITE_ONCE(dev->abort, false);
	/* Pairs with over() */
	smp_store_release(&dev->state, NBDX_STATE_SETUP);
	if (connection)
		*connection = dev->connection;
	dev->config = *config;
	memset(config, 0, sizeof(*config));
	dev->ready = 0;
	get_random_bytes(dev->session, sizeof(dev->session));
	if (export) {
		dev->export = *export;
		dev->export_known = true;
	}
	mutex_unlock(&dev->lock);
	nbd_memalloc_get();

	err = start_links(dev, socks, why, len);
	if (!err)
		err = go_live(dev, why, len);
	if (err) {
		if (!why[0])
			snprintf(why, len, "error %d", -err);
		release_links(dev);
		remove_files(dev);
		/* It has only put off the removal that an earlier one asked for */
		again = dev->forget && dev->forget + 1 == dev->connection;
		dev->forget += again;
		release(dev);
		if (again)
			forget_later(dev);
	}
	return err;
}

/*
 * The first half of a teardown: every request that is left fails.  Waits for our
 * own threads only, so that it takes bounded time whatever the server does, and
 * however short memory is.
 */
static void cut(struct nbd_device *dev)
{
	struct gendisk *disk = dev->disk;

	spin_lock_bh(&dev->queue.lock);
	dev->queue.dead = true;
	spin_unlock_bh(&dev->queue.lock);
	WRITE_ONCE(dev->nr_links, 0);
	/* Let every queue_rq() end that may have seen the links */
	blk_mq_quiesce_queue(disk->queue);
	blk_mq_unquiesce_queue(disk->queue);

	release_links(dev);
	pr_info("%s: disconnected\n", disk->disk_name);
}

/*
 * The second half, TEARDOWN to FREE.  Waits for locks of sysfs and of the block
 * layer, and who holds these may wait for memory, and so for another device that
 * is to be taken down next.
 */
static void clear_away(struct nbd_device *dev)
{
	struct gendisk *disk = dev->disk;
	bool destroy = dev->config.client_flags & NBD_CFLAG_DESTROY_ON_DISCONNECT;
	unsigned int noio = memalloc_noio_save();

	remove_files(dev);
	mutex_lock(&disk->open_mutex);
	/* The process in NBD_DO_IT has it open by right */
	WRITE_ONCE(dev->stale, disk_openers(disk) > dev->config.do_it);
	/* Partitions go, unless somebody has one open in spite of all */
	if (bdev_disk_changed(disk, true)) {
		set_capacity(disk, 0);
		kobject_uevent(&disk_to_dev(disk)->kobj, KOBJ_CHANGE);
	}
	mutex_unlock(&disk->open_mutex);
	if (destroy)
		dev->forget = dev->connection;
	release(dev);
	memalloc_noio_restore(noio);
	if (destroy)
		forget_later(dev);
}

static void teardown_work(struct work_struct *work)
{
	struct nbd_device *dev = container_of(work, struct nbd_device, teardown_work);

	clear_away(dev);
	nbd_device_put(dev);
}

/**
 * nbd_device_teardown() - TEARDOWN to FREE
 * @dev: the device, which the caller has moved to TEARDOWN
 *
 * Context: process, and none for which others wait: see clear_away().
 */
void nbd_device_teardown(struct nbd_device *dev)
{
	cut(dev);
	clear_away(dev);
}

static bool over(struct nbd_device *dev, u64 connection)
{
	/* Pairs with nbd_device_connect(): who sees its SETUP sees its number */
	return smp_load_acquire(&dev->state) == NBDX_STATE_FREE ||
	       READ_ONCE(dev->connection) != connection;
}

/* Its requests have ended, or are about to: the rest is worth a wait, but no long one */
static int await_end(struct nbd_device *dev, u64 connection)
{
	long left = wait_event_killable_timeout(dev->setup, over(dev, connection),
						TEARDOWN_PATIENCE * HZ);

	if (left < 0)
		return left;
	return left ? 0 : -EINPROGRESS;
}

/**
 * nbd_device_disconnect() - LIVE to FREE, or a connect given up
 * @dev: the device
 * @force: although it is open
 * @connection: which one, as nbd_device_connect() has said; 0: whichever it has
 *
 * Context: process.  Takes bounded time.
 * Return: 0, -ENOTCONN if it is FREE or has another connection, -EBUSY if it is in
 * use, -EINPROGRESS if it is being taken down and not FREE yet, as when memory is
 * very short, -ERESTARTSYS if the caller was killed while it waited for that.
 */
int nbd_device_disconnect(struct nbd_device *dev, bool force, u64 connection)
{
	int err = 0;

	mutex_lock(&dev->lock);
	if (connection && connection != dev->connection) {
		mutex_unlock(&dev->lock);
		return -ENOTCONN;
	}
	connection = dev->connection;
	switch (dev->state) {
	case NBDX_STATE_FREE:
		err = -ENOTCONN;
		break;
	case NBDX_STATE_SETUP:
		WRITE_ONCE(dev->abort, true);
		wake_up_all(&dev->setup);
		break;
	case NBDX_STATE_TEARDOWN:
		mutex_unlock(&dev->lock);
		return await_end(dev, connection);
	case NBDX_STATE_LIVE:
		if (dev->config.do_it) {
			/* The process in NBD_DO_IT has it open and takes it down */
			if (force) {
				WRITE_ONCE(dev->abort, true);
				wake_up_all(&dev->setup);
			} else if (!nbd_device_abort(dev, 1)) {
				err = -EBUSY;
				break;
			}
			mutex_unlock(&dev->lock);
			return await_end(dev, connection);
		}
		if (force)
			WRITE_ONCE(dev->state, NBDX_STATE_TEARDOWN);
		else if (in_use(dev))
			err = -EBUSY;
		if (err)
			break;
		mutex_unlock(&dev->lock);
		cut(dev);
		if (!queue_work(nbd_teardown_workqueue, &nbd_device_hold(dev)->teardown_work))
			nbd_device_put(dev);
		return await_end(dev, connection);
	}
	mutex_unlock(&dev->lock);
	return err;
}

/**
 * nbd_device_hand_over() - a new socket for a link whose own has broken
 * @dev: the device
 * @sock: the socket; its reference passes to the link on success
 *
 * Return: index of the link, -EINVAL if the device makes its own connections,
 * -ENOTCONN if it is not live, -ENOSPC if every link has a socket.
 */
int nbd_device_hand_over(struct nbd_device *dev, struct socket *sock)
{
	int ret = -ENOSPC;
	unsigned int i;

	mutex_lock(&dev->lock);
	if (dev->state != NBDX_STATE_LIVE) {
		ret = -ENOTCONN;
	} else if (dev->config.addresses) {
		ret = -EINVAL;
	} else {
		for (i = 0; i < dev->config.nr_links && ret < 0; i++) {
			struct nbd_link *link = dev->links[i];
			bool taken;

			/* Its thread leaves this state before it takes the socket away */
			spin_lock_bh(&dev->queue.lock);
			taken = link->state == NBDX_LS_DOWN &&
				!cmpxchg(&link->handover, NULL, sock);
			spin_unlock_bh(&dev->queue.lock);
			if (!taken)
				continue;
			nbd_link_wake(link, NBD_EVENT_HANDOVER);
			ret = i;
		}
	}
	mutex_unlock(&dev->lock);
	return ret;
}

static void close_work(struct work_struct *work)
{
	struct nbd_device *dev = container_of(work, struct nbd_device, close_work);
	bool down;

	/* Whoever closed it has it to the end of that, and would pass for a user */
	mutex_lock(&dev->disk->open_mutex);
	mutex_unlock(&dev->disk->open_mutex);
	mutex_lock(&dev->lock);
	/* What a process left that went away before NBD_DO_IT */
	if (!disk_openers(dev->disk))
		nbd_ioctl_clear(dev);
	/* Not a connection made since: the close was not of that */
	down = READ_ONCE(dev->closed) && dev->state == NBDX_STATE_LIVE &&
	       dev->config.client_flags & NBD_CFLAG_DISCONNECT_ON_CLOSE && !in_use(dev);
	mutex_unlock(&dev->lock);
	if (down)
		nbd_device_teardown(dev);
	nbd_device_put(dev);
}

/**
 * nbd_connection_init() - make a device fit to be connected
 * @dev: the device, FREE
 */
void nbd_connection_init(struct nbd_device *dev)
{
	init_waitqueue_head(&dev->setup);
	INIT_WORK(&dev->close_work, close_work);
	INIT_WORK(&dev->teardown_work, teardown_work);
	INIT_WORK(&dev->uevent_work, uevent_work);
}
