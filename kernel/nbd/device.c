// SPDX-License-Identifier: GPL-2.0-only
/* A device: the gendisk, from its making to its end.  connect.c has what it is connected to. */
#include <linux/major.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <net/net_namespace.h>

#include "compat.h"
#include "internal.h"

static atomic_t disks;				/* gendisks that device_free() is called for */
static DECLARE_WAIT_QUEUE_HEAD(disks_gone);

/**
 * nbd_device_open() - the block layer opens the device
 * @disk: its gendisk
 *
 * Context: open_mutex held, as by in_use() and nbd_device_abort() in connect.c.
 * Return: 0 or -ENXIO.
 */
int nbd_device_open(struct gendisk *disk)
{
	struct nbd_device *dev = disk->private_data;

	switch (READ_ONCE(dev->state)) {
	case NBDX_STATE_LIVE:
		/* By NBD_DO_IT, whose process has yet to see it */
		return READ_ONCE(dev->abort) ? -ENXIO : 0;
	case NBDX_STATE_TEARDOWN:
		return -ENXIO;
	default:
		return 0;
	}
}

/**
 * nbd_device_release() - the block layer closes the device
 * @disk: its gendisk
 *
 * The last close may be the end of a connection, or of what was set by ioctl and
 * never used: a work item sees to that.
 *
 * Context: open_mutex held.
 */
void nbd_device_release(struct gendisk *disk)
{
	struct nbd_device *dev = disk->private_data;

	if (disk_openers(disk))
		return;
	WRITE_ONCE(dev->stale, false);
	WRITE_ONCE(dev->closed, true);
	if (READ_ONCE(dev->ioctl.set))
		WRITE_ONCE(dev->ioctl_over, true);
	else if (!(READ_ONCE(dev->config.client_flags) & NBD_CFLAG_DISCONNECT_ON_CLOSE))
		return;
	/* Not here: the device's lock comes before open_mutex */
	nbd_device_hold(dev);
	if (!queue_work(nbd_teardown_workqueue, &dev->close_work))
		nbd_device_put(dev);
}

/* The last reference has gone */
static void device_free(struct gendisk *disk)
{
	struct nbd_device *dev = disk->private_data;

	nbd_config_clear(&dev->config);
	mutex_destroy(&dev->lock);
	kfree(dev);
	/* The module's end waits for readers, and so for all of this but the return */
	rcu_read_lock();
	if (atomic_dec_and_test(&disks))
		wake_up_all(&disks_gone);
	rcu_read_unlock();
}

/**
 * nbd_devices_await() - wait for the last device to be freed
 *
 * Who closes one lets go of the module before the gendisk, whose end is ours.
 */
void nbd_devices_await(void)
{
	wait_event(disks_gone, !atomic_read(&disks));
}

static const struct block_device_operations device_ops = {
	.owner		= THIS_MODULE,
	.open		= nbd_compat_open,
	.release	= nbd_compat_release,
	.ioctl		= nbd_compat_ioctl,
	.compat_ioctl	= nbd_compat_ioctl,
	.free_disk	= device_free,
};

/**
 * nbd_config_clear() - free what a configuration owns
 * @config: the configuration; empty afterwards
 */
void nbd_config_clear(struct nbd_config *config)
{
	kfree(config->addresses);
	kfree(config->export);
	kfree(config->backend);
	if (config->net)
		put_net(config->net);
	memset(config, 0, sizeof(*config));
}

/**
 * nbd_device_add() - make a device and show it
 * @index: its number
 * @prefix: of its name
 * @part_shift: log2 of its minors
 *
 * Return: the device, with one reference, or an ERR_PTR.
 */
struct nbd_device *nbd_device_add(int index, const char *prefix, unsigned int part_shift)
{
	const struct nbd_limits limits = {
		.logical = 512, .physical = 512, .optimal = 4096,
		.max_bytes = NBD_MAX_REQUEST, .max_segments = NBD_MAX_SEGMENTS,
	};
	struct nbd_device *dev;
	int err;

	dev = kzalloc(sizeof(*dev), GFP_KERNEL);
	if (!dev)
		return ERR_PTR(-ENOMEM);
	dev->index = index;
	mutex_init(&dev->lock);
	nbd_connection_init(dev);
	nbd_queue_init(&dev->queue);
	INIT_WORK(&dev->forget_work, nbd_device_forget);

	dev->tags.ops = &nbd_mq_ops;
	/* One queue: any link may send any request, and the depth is the bound */
	dev->tags.nr_hw_queues = 1;
	dev->tags.queue_depth = NBD_QUEUE_DEPTH;
	dev->tags.numa_node = NUMA_NO_NODE;
	dev->tags.cmd_size = sizeof(struct nbd_cmd);
	dev->tags.flags = BLK_MQ_F_SHOULD_MERGE | BLK_MQ_F_NO_SCHED_BY_DEFAULT;
	dev->tags.driver_data = dev;
	err = blk_mq_alloc_tag_set(&dev->tags);
	if (err)
		goto err_tags;

	dev->disk = nbd_compat_alloc_disk(&dev->tags, dev);
	if (IS_ERR(dev->disk)) {
		err = PTR_ERR(dev->disk);
		goto err_disk;
	}
	dev->disk->major = NBD_MAJOR;
	dev->disk->first_minor = index << part_shift;
	dev->disk->minors = 1 << part_shift;
	dev->disk->fops = &device_ops;
	dev->disk->private_data = dev;
	if (!part_shift)
		dev->disk->flags |= GENHD_FL_NO_PART;
	snprintf(dev->disk->disk_name, sizeof(dev->disk->disk_name), "%s%d", prefix, index);
	err = nbd_compat_set_limits(dev->disk, &limits);
	if (err)
		goto err_add;
	err = add_disk(dev->disk);
	if (err)
		goto err_add;
	atomic_inc(&disks);
	nbd_debugfs_add(dev);
	return dev;

err_add:
	put_disk(dev->disk);
err_disk:
	blk_mq_free_tag_set(&dev->tags);
err_tags:
	mutex_destroy(&dev->lock);
	kfree(dev);
	return ERR_PTR(err);
}

/**
 * nbd_device_remove() - take a device away
 * @dev: FREE, and found by nobody any longer; a reference to it is used up
 */
void nbd_device_remove(struct nbd_device *dev)
{
	nbd_debugfs_remove(dev);
	/* Its event would find no place any longer, and the removal has one of its own */
	if (cancel_work_sync(&dev->uevent_work))
		nbd_device_put(dev);
	del_gendisk(dev->disk);
	mutex_lock(&dev->lock);
	nbd_ioctl_clear(dev);
	mutex_unlock(&dev->lock);
	blk_mq_free_tag_set(&dev->tags);
	nbd_device_put(dev);
}
