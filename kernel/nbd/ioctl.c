// SPDX-License-Identifier: GPL-2.0-only
/*
 * The NBD_* ioctls: a process sets sockets and sizes one by one, then stays in
 * NBD_DO_IT while the device is live.  Its sockets are not made again by us,
 * and the device ends with them, as it does on the mainline driver.
 */
#include <linux/capability.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/log2.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <net/net_namespace.h>

#include "attributes.h"
#include "compat.h"
#include "internal.h"

#define DEFAULT_BLOCK	1024	/* mainline's */
#define TIMEOUT_MAX	86400	/* s, and the default, since mainline waits for ever */

static void drop_sockets(struct nbd_device *dev)
{
	unsigned int last;

	while (dev->ioctl.nr_socks) {
		last = --dev->ioctl.nr_socks;
		sockfd_put(dev->ioctl.socks[last]);
		dev->ioctl.socks[last] = NULL;
	}
}

/**
 * nbd_ioctl_clear() - forget what was set for the next NBD_DO_IT
 * @dev: the device, its lock held or seen by nobody else
 */
void nbd_ioctl_clear(struct nbd_device *dev)
{
	drop_sockets(dev);
	put_pid(dev->ioctl.owner);
	memset(&dev->ioctl, 0, sizeof(dev->ioctl));
}

/* The last close is over, though its work item may not be */
static void forget(struct nbd_device *dev)
{
	if (!READ_ONCE(dev->ioctl_over))
		return;
	WRITE_ONCE(dev->ioctl_over, false);
	nbd_ioctl_clear(dev);
}

static bool lives(struct pid *pid)
{
	struct task_struct *leader;
	bool ret;

	rcu_read_lock();
	leader = pid_task(pid, PIDTYPE_TGID);
	ret = leader && atomic_read(&leader->signal->live);
	rcu_read_unlock();
	return ret;
}

/* Whether the caller is that process, or was forked by it */
static bool descends_from(struct pid *pid)
{
	struct task_struct *task;
	bool ret = false;

	rcu_read_lock();
	/* The parent of all is its own, and has no pid */
	for (task = current; task->pid && !ret; task = rcu_dereference(task->real_parent))
		ret = task_tgid(task) == pid;
	rcu_read_unlock();
	return ret;
}

static int is_file(const void *wanted, struct file *file, unsigned int fd)
{
	return file == wanted;
}

/* As a process does whose parent has gone once all was set: daemons are made so */
static bool holds_socket(struct nbd_device *dev)
{
	unsigned int i;

	for (i = 0; i < dev->ioctl.nr_socks; i++)
		if (iterate_fd(current->files, 0, is_file, dev->ioctl.socks[i]->file))
			return true;
	return false;
}

/* What was set is for somebody else to add to and to start */
static bool is_anothers(struct nbd_device *dev)
{
	struct pid *owner = dev->ioctl.owner;

	return owner && lives(owner) && !descends_from(owner) && !holds_socket(dev);
}

/*
 * What two processes set does not make one connection.  Sockets of one that has
 * gone go, with all it set beside them, unless the caller has them too; sizes
 * without sockets stay, for it may have left the rest to a child.
 */
static int take_ownership(struct nbd_device *dev)
{
	struct pid *owner = dev->ioctl.owner;

	if (is_anothers(dev))
		return -EBUSY;
	if (owner && lives(owner))
		return 0;
	if (dev->ioctl.nr_socks && !holds_socket(dev))
		nbd_ioctl_clear(dev);
	put_pid(dev->ioctl.owner);
	dev->ioctl.owner = get_pid(task_tgid(current));
	/* For the last close, whatever it is that comes of this */
	WRITE_ONCE(dev->ioctl.set, true);
	return 0;
}

static int add_socket(struct nbd_device *dev, unsigned long fd)
{
	struct socket *sock;
	int err = 0;

	if (fd > INT_MAX)
		return -EBADF;
	sock = sockfd_lookup(fd, &err);
	if (!sock)
		return err;
	err = nbd_socket_check(sock) ?: take_ownership(dev);
	if (!err && dev->ioctl.nr_socks == NBDX_MAX_LINKS)
		err = -ENOSPC;
	if (err)
		sockfd_put(sock);
	else
		dev->ioctl.socks[dev->ioctl.nr_socks++] = sock;
	return err;
}

static int set_block_size(struct nbd_device *dev, unsigned long size)
{
	int err;

	/* 0 is the default, as on mainline */
	if (size && (size < 512 || size > PAGE_SIZE || !is_power_of_2(size)))
		return -EINVAL;
	err = take_ownership(dev);
	if (!err)
		dev->ioctl.block_size = size;
	return err;
}

static int set_size_blocks(struct nbd_device *dev, unsigned long blocks)
{
	int err;

	/* No block is larger: what they are may be forgotten with their owner */
	if (blocks > U64_MAX / PAGE_SIZE)
		return -EOVERFLOW;
	err = take_ownership(dev);
	if (!err)
		dev->ioctl.size = (u64)blocks * (dev->ioctl.block_size ?: DEFAULT_BLOCK);
	return err;
}

/* Move what was set into a configuration.  Under the lock. */
static int take_config(struct nbd_device *dev, struct nbd_config *config,
		       struct nbd_export *export, struct socket **socks)
{
	if (dev->in_do_it || dev->state != NBDX_STATE_FREE || is_anothers(dev))
		return -EBUSY;
	if (!dev->ioctl.nr_socks || !dev->ioctl.size)
		return -EINVAL;
	config->net = get_net(sock_net(dev->ioctl.socks[0]->sk));
	config->nr_links = dev->ioctl.nr_socks;
	config->do_it = true;
	config->connect_timeout = 1;	/* nothing is left to connect */
	config->timeout = dev->ioctl.timeout ?: TIMEOUT_MAX;
	config->link_timeout = NBD_LINK_TIMEOUT_DEFAULT;
	/* Another socket may take over what the server of this one still has */
	config->fence_delay = NBD_FENCE_DELAY_DEFAULT;
	config->block_size = dev->ioctl.block_size ?: DEFAULT_BLOCK;
	config->pid = task_pid_nr(current);
	export->size = dev->ioctl.size;
	/* NBD_WIRE_FLAG_HAS_FLAGS is a server's to say, and programs here leave it out */
	export->flags = dev->ioctl.flags;
	memcpy(socks, dev->ioctl.socks, sizeof(dev->ioctl.socks));
	dev->ioctl.nr_socks = 0;
	nbd_ioctl_clear(dev);
	dev->in_do_it = true;
	return 0;
}

static bool ended(struct nbd_device *dev)
{
	bool ret;

	spin_lock_bh(&dev->queue.lock);
	ret = dev->abort || !dev->ready;
	spin_unlock_bh(&dev->queue.lock);
	return ret;
}

static int do_it(struct nbd_device *dev)
{
	struct socket *socks[NBDX_MAX_LINKS] = { };
	struct nbd_config config = { };
	struct nbd_export export = { };
	unsigned int i;
	char why[256];
	bool taken;
	int err;

	/* Before the lock, for which handlers wait */
	config.export = kstrdup("", GFP_KERNEL);
	if (!config.export)
		return -ENOMEM;
	mutex_lock(&dev->lock);
	forget(dev);
	err = take_config(dev, &config, &export, socks);
	mutex_unlock(&dev->lock);
	if (err) {
		nbd_config_clear(&config);
		return err;
	}

	err = nbd_device_connect(dev, &config, &export, socks, NULL, why, sizeof(why));
	taken = !config.net;
	nbd_config_clear(&config);
	for (i = 0; i < NBDX_MAX_LINKS; i++)
		if (socks[i])
			sockfd_put(socks[i]);
	if (err) {
		pr_err("%s: NBD_DO_IT: %s\n", dev->disk->disk_name, why);
		if (!taken) {
			mutex_lock(&dev->lock);
			dev->in_do_it = false;
			mutex_unlock(&dev->lock);
		}
		return err;
	}

	err = wait_event_interruptible(dev->setup, ended(dev));
	mutex_lock(&dev->lock);
	/* Nobody else takes a device down that is in NBD_DO_IT */
	WRITE_ONCE(dev->state, NBDX_STATE_TEARDOWN);
	mutex_unlock(&dev->lock);
	nbd_device_teardown(dev);
	/* Not to be called again, with what somebody else has set by then */
	return err ? -EINTR : 0;
}

/* The caller has the device open, and so has the process in NBD_DO_IT */
static int end_it(struct nbd_device *dev)
{
	/* On its way, and not yet to be stopped */
	if (dev->state == NBDX_STATE_FREE)
		return dev->in_do_it ? -EBUSY : 0;
	if (!dev->config.do_it)
		return -EBUSY;
	return nbd_device_abort(dev, 2) ? 0 : -EBUSY;
}

/* Clients call it between setting sizes and sockets, too */
static int clear_sock(struct nbd_device *dev)
{
	if (dev->ioctl.nr_socks) {
		if (is_anothers(dev))
			return -EBUSY;
		if (lives(dev->ioctl.owner) || holds_socket(dev))
			drop_sockets(dev);
		else
			nbd_ioctl_clear(dev);
	}
	return end_it(dev);
}

static int set_ioctl(struct nbd_device *dev, unsigned int cmd, unsigned long arg)
{
	int err;

	/* All of it is for the next connection */
	if (dev->in_do_it || dev->state != NBDX_STATE_FREE)
		return -EBUSY;
	if (is_anothers(dev))
		return -EBUSY;
	/* Who gives what cannot be used does not own the rest by that */
	switch (cmd) {
	case NBD_SET_SOCK:
		return add_socket(dev, arg);
	case NBD_SET_BLKSIZE:
		return set_block_size(dev, arg);
	case NBD_SET_SIZE_BLOCKS:
		return set_size_blocks(dev, arg);
	}
	err = take_ownership(dev);
	if (err)
		return err;
	switch (cmd) {
	case NBD_SET_SIZE:
		dev->ioctl.size = arg;
		return 0;
	case NBD_SET_TIMEOUT:
		dev->ioctl.timeout = min(arg, (unsigned long)TIMEOUT_MAX);
		return 0;
	default:
		dev->ioctl.flags = arg;
		return 0;
	}
}

static int locked_ioctl(struct nbd_device *dev, unsigned int cmd, unsigned long arg)
{
	forget(dev);
	switch (cmd) {
	case NBD_SET_SOCK:
	case NBD_SET_BLKSIZE:
	case NBD_SET_SIZE:
	case NBD_SET_SIZE_BLOCKS:
	case NBD_SET_TIMEOUT:
	case NBD_SET_FLAGS:
		return set_ioctl(dev, cmd, arg);
	case NBD_CLEAR_SOCK:
		return clear_sock(dev);
	case NBD_DISCONNECT:
		return dev->state == NBDX_STATE_FREE && !dev->in_do_it ? -EINVAL : end_it(dev);
	case NBD_CLEAR_QUE:
	case NBD_PRINT_DEBUG:
		return 0;	/* as mainline: nothing since long */
	default:
		return -ENOTTY;
	}
}

/**
 * nbd_ioctl() - the NBD_* ioctls
 * @bdev: the device or a partition of it
 * @cmd: NBD_*
 * @arg: its argument
 *
 * Return: 0, -EINVAL on a partition, or another -errno.
 */
int nbd_ioctl(struct block_device *bdev, unsigned int cmd, unsigned long arg)
{
	struct nbd_device *dev = bdev->bd_disk->private_data;
	int ret;

	if (_IOC_TYPE(cmd) != 0xab)
		return -ENOTTY;
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	/* On 6.1 all that have it open count as one, mounts among them */
	if (bdev_is_partition(bdev))
		return -EINVAL;
	if (cmd == NBD_DO_IT)
		return do_it(dev);

	mutex_lock(&dev->lock);
	ret = locked_ioctl(dev, cmd, arg);
	mutex_unlock(&dev->lock);
	return ret;
}
