// SPDX-License-Identifier: GPL-2.0-only
/*
 * The NBD_* ioctls: a process sets sockets and sizes one by one, then stays in
 * NBD_DO_IT while the device is live.  Its sockets are not made again by us,
 * and the device ends with them, as it does on the mainline driver.
 */
#include <linux/capability.h>
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
#define DEFAULT_TIMEOUT	30	/* s */

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

/*
 * What two processes set does not make one connection.  Before there are sockets it
 * is anybody's, and so is NBD_DO_IT: the process that sets things may fork for it.
 */
static bool is_anothers(struct nbd_device *dev)
{
	return dev->ioctl.nr_socks && dev->ioctl.owner != task_tgid(current) &&
	       lives(dev->ioctl.owner);
}

/* Instead of one that has gone, whose sockets go as well */
static void take_ownership(struct nbd_device *dev)
{
	if (dev->ioctl.owner == task_tgid(current))
		return;
	drop_sockets(dev);
	put_pid(dev->ioctl.owner);
	dev->ioctl.owner = get_pid(task_tgid(current));
}

static int add_socket(struct nbd_device *dev, int fd)
{
	struct socket *sock;
	int err = 0;

	if (dev->state != NBDX_STATE_FREE)
		return -EBUSY;
	sock = sockfd_lookup(fd, &err);
	if (!sock)
		return err;
	err = nbd_socket_check(sock);
	if (err) {
		sockfd_put(sock);
		return err;
	}
	take_ownership(dev);
	if (dev->ioctl.nr_socks == NBDX_MAX_LINKS) {
		sockfd_put(sock);
		return -ENOSPC;
	}
	dev->ioctl.socks[dev->ioctl.nr_socks++] = sock;
	return 0;
}

static int set_block_size(struct nbd_device *dev, unsigned long size)
{
	if (size < 512 || size > PAGE_SIZE || !is_power_of_2(size))
		return -EINVAL;
	dev->ioctl.block_size = size;
	return 0;
}

static int set_size_blocks(struct nbd_device *dev, unsigned long blocks)
{
	u64 size;

	if (check_mul_overflow((u64)blocks, (u64)(dev->ioctl.block_size ?: DEFAULT_BLOCK), &size))
		return -EOVERFLOW;
	dev->ioctl.size = size;
	return 0;
}

/* Move what was set into a configuration.  Under the lock. */
static int take_config(struct nbd_device *dev, struct nbd_config *config,
		       struct nbd_export *export, struct socket **socks)
{
	if (!dev->ioctl.nr_socks || !dev->ioctl.size)
		return -EINVAL;
	config->net = get_net(sock_net(dev->ioctl.socks[0]->sk));
	config->nr_links = dev->ioctl.nr_socks;
	config->do_it = true;
	config->connect_timeout = 1;	/* nothing is left to connect */
	config->timeout = dev->ioctl.timeout ?: DEFAULT_TIMEOUT;
	config->link_timeout = NBD_LINK_TIMEOUT_DEFAULT;
	/* Another socket may take over what the server of this one still has */
	config->fence_delay = NBD_FENCE_DELAY_DEFAULT;
	config->block_size = dev->ioctl.block_size ?: DEFAULT_BLOCK;
	config->pid = task_pid_nr(current);
	export->size = dev->ioctl.size;
	export->flags = dev->ioctl.flags & NBD_WIRE_FLAG_HAS_FLAGS ? dev->ioctl.flags : 0;
	memcpy(socks, dev->ioctl.socks, sizeof(dev->ioctl.socks));
	dev->ioctl.nr_socks = 0;
	/* Now, and not when it ends: what is set by then may be another's */
	nbd_ioctl_clear(dev);
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
	int err;

	/* Before the lock, for which handlers wait */
	config.export = kstrdup("", GFP_KERNEL);
	if (!config.export)
		return -ENOMEM;
	mutex_lock(&dev->lock);
	err = dev->state == NBDX_STATE_FREE ? take_config(dev, &config, &export, socks) : -EBUSY;
	mutex_unlock(&dev->lock);
	if (err) {
		nbd_config_clear(&config);
		return err;
	}

	err = nbd_device_connect(dev, &config, &export, socks, NULL, why, sizeof(why));
	nbd_config_clear(&config);
	for (i = 0; i < NBDX_MAX_LINKS; i++)
		if (socks[i])
			sockfd_put(socks[i]);
	if (err) {
		pr_err("%s: NBD_DO_IT: %s\n", dev->disk->disk_name, why);
	} else {
		err = wait_event_interruptible(dev->setup, ended(dev));
		mutex_lock(&dev->lock);
		/* Nobody else takes a device down that is in NBD_DO_IT */
		WRITE_ONCE(dev->state, NBDX_STATE_TEARDOWN);
		nbd_ioctl_clear(dev);
		mutex_unlock(&dev->lock);
		nbd_device_teardown(dev);
	}
	return err;
}

/* The caller has the device open, and so has the process in NBD_DO_IT */
static int end_it(struct nbd_device *dev)
{
	if (dev->state == NBDX_STATE_FREE)
		return 0;
	if (!dev->config.do_it)
		return -EBUSY;
	if (disk_openers(dev->disk) > 2)
		return -EBUSY;
	WRITE_ONCE(dev->abort, true);
	wake_up_all(&dev->setup);
	return 0;
}

/* What belongs to whoever has set sockets */
static int set_ioctl(struct nbd_device *dev, unsigned int cmd, unsigned long arg)
{
	if (is_anothers(dev))
		return -EBUSY;
	/* For the last close, whatever it is that this sets */
	WRITE_ONCE(dev->ioctl.set, true);
	switch (cmd) {
	case NBD_SET_SOCK:
		return add_socket(dev, arg);
	case NBD_SET_BLKSIZE:
		return set_block_size(dev, arg);
	case NBD_SET_SIZE:
		dev->ioctl.size = arg;
		return 0;
	case NBD_SET_SIZE_BLOCKS:
		return set_size_blocks(dev, arg);
	case NBD_SET_TIMEOUT:
		dev->ioctl.timeout = min(arg, 86400UL);
		return 0;
	case NBD_SET_FLAGS:
		dev->ioctl.flags = arg;
		return 0;
	case NBD_CLEAR_SOCK:
		/* Clients call it between setting sizes and sockets, too */
		drop_sockets(dev);
		return end_it(dev);
	default:
		return -ENOTTY;
	}
}

static int locked_ioctl(struct nbd_device *dev, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case NBD_DISCONNECT:
		return dev->state == NBDX_STATE_FREE ? -EINVAL : end_it(dev);
	case NBD_CLEAR_QUE:
	case NBD_PRINT_DEBUG:
		return 0;	/* as mainline: nothing since long */
	default:
		return set_ioctl(dev, cmd, arg);
	}
}

/**
 * nbd_ioctl() - the NBD_* ioctls
 * @dev: the device
 * @cmd: NBD_*
 * @arg: its argument
 *
 * Return: 0 or -errno.
 */
int nbd_ioctl(struct nbd_device *dev, unsigned int cmd, unsigned long arg)
{
	int ret;

	if (_IOC_TYPE(cmd) != 0xab)
		return -ENOTTY;
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (cmd == NBD_DO_IT)
		return do_it(dev);

	mutex_lock(&dev->lock);
	ret = locked_ioctl(dev, cmd, arg);
	mutex_unlock(&dev->lock);
	return ret;
}
