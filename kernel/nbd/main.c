// SPDX-License-Identifier: GPL-2.0-only
/*
 * nbswap: network block devices that can carry swap.
 *
 * The list of devices, module parameters, and what is made once.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/idr.h>
#include <linux/major.h>
#include <linux/mempool.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <net/sock.h>

#include "internal.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static unsigned int nbds_max = 16;
module_param(nbds_max, uint, 0444);
MODULE_PARM_DESC(nbds_max, "devices made when the module is loaded; more are made on demand (default 16)");

static unsigned int max_part = 16;
module_param(max_part, uint, 0444);
MODULE_PARM_DESC(max_part, "minors of a device, for its partitions (default 16; 0: no partitions)");

static char *name_prefix = "nb";
module_param(name_prefix, charp, 0444);
MODULE_PARM_DESC(name_prefix, "what names of devices begin with (default nb; nbd as the mainline driver)");

/* From the look at the list until a device is made, and until one is gone */
static DEFINE_MUTEX(create_lock);
/* The list of devices, no more: who looks one up must not wait for memory */
static DEFINE_SPINLOCK(devices_lock);
static DEFINE_IDR(devices);
static unsigned int part_shift;

struct workqueue_struct *nbd_workqueue, *nbd_teardown_workqueue;

/* Return: the device, with the reference of the list and one for the caller */
static struct nbd_device *create(int index)
{
	int end = 1 << (MINORBITS - part_shift);
	struct nbd_device *dev;
	int ret;

	lockdep_assert_held(&create_lock);
	if (index >= end)
		return ERR_PTR(-EINVAL);
	idr_preload(GFP_KERNEL);
	spin_lock(&devices_lock);
	/* Its place, where nobody finds anything yet */
	ret = idr_alloc(&devices, NULL, max(index, 0), index < 0 ? end : index + 1, GFP_NOWAIT);
	spin_unlock(&devices_lock);
	idr_preload_end();
	if (ret < 0)
		return ERR_PTR(ret);
	index = ret;
	dev = nbd_device_add(index, name_prefix, part_shift);
	spin_lock(&devices_lock);
	if (IS_ERR(dev))
		idr_remove(&devices, index);
	else
		idr_replace(&devices, nbd_device_hold(dev), index);
	spin_unlock(&devices_lock);
	return dev;
}

static struct nbd_device *find(int index)
{
	struct nbd_device *dev;

	spin_lock(&devices_lock);
	dev = idr_find(&devices, index);
	if (dev && !dev->gone)
		nbd_device_hold(dev);
	else
		dev = NULL;
	spin_unlock(&devices_lock);
	return dev;
}

static struct nbd_device *find_free(void)
{
	struct nbd_device *dev;
	int index;

	spin_lock(&devices_lock);
	idr_for_each_entry(&devices, dev, index) {
		if (READ_ONCE(dev->state) == NBDX_STATE_FREE && !dev->gone &&
		    !disk_openers(dev->disk)) {
			nbd_device_hold(dev);
			break;
		}
	}
	spin_unlock(&devices_lock);
	return dev;
}

/**
 * nbd_device_get() - find a device
 * @index: its number
 * @create_it: make it if it is not there
 *
 * Context: process.  Waits for no memory unless the device is to be made, so
 * that a device can be found, and disconnected, when there is none.
 * Return: the device, with a reference, or an ERR_PTR.
 */
struct nbd_device *nbd_device_get(int index, bool create_it)
{
	struct nbd_device *dev;

	if (index < 0)
		return ERR_PTR(-EINVAL);
	dev = find(index);
	if (dev)
		return dev;
	if (!create_it)
		return ERR_PTR(-ENODEV);
	mutex_lock(&create_lock);
	dev = find(index) ?: create(index);
	mutex_unlock(&create_lock);
	return dev;
}

/**
 * nbd_device_get_free() - find a device that is not in use, or make one
 *
 * Return: the device, with a reference, or an ERR_PTR.  It may be in use by
 * the time the caller looks.
 */
struct nbd_device *nbd_device_get_free(void)
{
	struct nbd_device *dev = find_free();

	if (dev)
		return dev;
	mutex_lock(&create_lock);
	dev = find_free() ?: create(-1);
	mutex_unlock(&create_lock);
	return dev;
}

/**
 * nbd_device_get_next() - the first device from a number on
 * @index: where to begin; set to the number found
 *
 * Return: the device, with a reference, or NULL.
 */
struct nbd_device *nbd_device_get_next(int *index)
{
	struct nbd_device *dev;

	spin_lock(&devices_lock);
	for (; (dev = idr_get_next(&devices, index)); ++*index) {
		if (!dev->gone) {
			nbd_device_hold(dev);
			break;
		}
	}
	spin_unlock(&devices_lock);
	return dev;
}

/**
 * nbd_device_forget() - remove a device, unless it is in use again
 * @work: its forget_work, which has a reference to it
 */
void nbd_device_forget(struct work_struct *work)
{
	struct nbd_device *dev = container_of(work, struct nbd_device, forget_work);
	bool gone;

	/* Its number is not given to another before the last trace is gone */
	mutex_lock(&create_lock);
	mutex_lock(&dev->lock);
	spin_lock(&devices_lock);
	gone = dev->state == NBDX_STATE_FREE && !dev->gone && dev->forget == dev->connection;
	if (gone)
		WRITE_ONCE(dev->gone, true);
	spin_unlock(&devices_lock);
	mutex_unlock(&dev->lock);
	if (gone) {
		nbd_device_remove(dev);
		spin_lock(&devices_lock);
		idr_remove(&devices, dev->index);
		spin_unlock(&devices_lock);
	}
	mutex_unlock(&create_lock);
	nbd_device_put(dev);
}

/*
 * The static key by which the network card's driver, too, takes memory from
 * the reserve.  Switching it rewrites kernel text and interrupts every CPU, so
 * it is not switched off the moment the last device goes: another may come.
 */
#define MEMALLOC_LINGER	(10 * HZ)

static DEFINE_MUTEX(memalloc_lock);	/* both below; alone */
static unsigned int memalloc_users;
static bool memalloc_on;

/*
 * The block layer keeps two bios for times without memory, for all file
 * systems and swap together, so that swap-out would go two pages at a time.
 * While we have a device it keeps as many as a queue can carry.
 */
#define BIOS_KEPT	64

static int bios_before;		/* 0: not raised; memalloc_lock */

static void keep_bios(void)
{
	int before = fs_bio_set.bio_pool.min_nr;

	if (bios_before || before >= BIOS_KEPT)
		return;
	if (mempool_resize(&fs_bio_set.bio_pool, BIOS_KEPT))
		pr_warn("nbd: no memory for %d spare bios: swap may be slow when memory is short\n",
			BIOS_KEPT);
	else
		bios_before = before;
}

static void drop_bios(void)
{
	if (bios_before)
		mempool_resize(&fs_bio_set.bio_pool, bios_before);
	bios_before = 0;
}

static void memalloc_expire(struct work_struct *work)
{
	mutex_lock(&memalloc_lock);
	if (memalloc_on && !memalloc_users) {
		static_branch_dec(&memalloc_socks_key);
		memalloc_on = false;
		drop_bios();
	}
	mutex_unlock(&memalloc_lock);
}

static DECLARE_DELAYED_WORK(memalloc_work, memalloc_expire);

/**
 * nbd_memalloc_get() - a device is being configured
 *
 * Context: process, and never where I/O may wait: the CPU hotplug lock is taken.
 */
void nbd_memalloc_get(void)
{
	mutex_lock(&memalloc_lock);
	memalloc_users++;
	if (!memalloc_on)
		static_branch_inc(&memalloc_socks_key);
	memalloc_on = true;
	keep_bios();
	mutex_unlock(&memalloc_lock);
}

/**
 * nbd_memalloc_put() - it has no sockets any longer
 *
 * Context: as nbd_memalloc_get().
 */
void nbd_memalloc_put(void)
{
	mutex_lock(&memalloc_lock);
	if (!--memalloc_users)
		mod_delayed_work(nbd_workqueue, &memalloc_work, MEMALLOC_LINGER);
	mutex_unlock(&memalloc_lock);
}

static void remove_all(void)
{
	struct nbd_device *dev;
	int index;

	idr_for_each_entry(&devices, dev, index) {
		idr_remove(&devices, index);
		nbd_device_remove(dev);
	}
	idr_destroy(&devices);
}

/* Whatever is missing is made on demand, and with one in use it is too late to fail */
static void __init add_all(void)
{
	struct nbd_device *dev;
	unsigned int i;

	for (i = 0; i < nbds_max; i++) {
		dev = nbd_device_get(i, true);
		if (IS_ERR(dev)) {
			pr_warn("nbd: only %u of %u devices made, error %ld: more are made on demand\n",
				i, nbds_max, PTR_ERR(dev));
			return;
		}
		nbd_device_put(dev);
	}
}

static int __init check_parameters(void)
{
	if (max_part)
		part_shift = fls(max_part - 1);
	if (max_part > DISK_MAX_PARTS) {
		pr_err("nbd: max_part=%u: at most %d\n", max_part, DISK_MAX_PARTS);
		return -EINVAL;
	}
	if (nbds_max > 1U << (MINORBITS - part_shift)) {
		pr_err("nbd: nbds_max=%u: at most %u with max_part=%u\n", nbds_max,
		       1U << (MINORBITS - part_shift), max_part);
		return -EINVAL;
	}
	if (!name_prefix[0] || strlen(name_prefix) > 16 || strpbrk(name_prefix, "/!")) {
		pr_err("nbd: name_prefix=%s: 1 to 16 characters without / and !\n", name_prefix);
		return -EINVAL;
	}
	return 0;
}

static int __init nbd_init(void)
{
	int err;

	BUILD_BUG_ON(sizeof(struct nbd_wire_request) != NBD_WIRE_REQUEST_LEN);
	BUILD_BUG_ON(sizeof(struct nbd_wire_reply) != NBD_WIRE_SIMPLE_REPLY_LEN);

	err = check_parameters();
	if (err)
		return err;
	nbd_lockdep_prime();
	err = -ENOMEM;
	/* Connects and removals only: never on the I/O or recovery path */
	nbd_workqueue = alloc_workqueue("nbd-control", WQ_UNBOUND, 0);
	if (!nbd_workqueue)
		return err;
	/*
	 * Not behind connects, which take as long as their servers; and without
	 * memory for another worker, since it gives back what a device has
	 */
	nbd_teardown_workqueue = alloc_workqueue("nbd-teardown", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!nbd_teardown_workqueue)
		goto err_teardown;
	err = register_blkdev(NBD_MAJOR, "nbd");
	if (err) {
		pr_err("nbd: block major %d is taken: is another nbd driver loaded?\n", NBD_MAJOR);
		goto err_blkdev;
	}
	err = nbd_oom_register();
	if (err)
		goto err_oom;
	err = nbd_neighbour_init();
	if (err)
		goto err_neighbour;
	nbd_debugfs_init();
	/* From here on somebody may have a device, and nothing fails */
	err = nbd_netlink_register();
	if (err)
		goto err_netlink;
	add_all();
	return 0;

err_netlink:
	nbd_debugfs_exit();
	nbd_neighbour_exit();
err_neighbour:
	nbd_oom_unregister();
err_oom:
	unregister_blkdev(NBD_MAJOR, "nbd");
err_blkdev:
	destroy_workqueue(nbd_teardown_workqueue);
err_teardown:
	destroy_workqueue(nbd_workqueue);
	return err;
}

/* No device is configured or open: each holds the module if it is */
static void __exit nbd_exit(void)
{
	nbd_netlink_unregister();
	/* First, as it queues work on the other */
	destroy_workqueue(nbd_teardown_workqueue);
	cancel_delayed_work_sync(&memalloc_work);
	memalloc_expire(NULL);
	nbd_netfilter_exit();
	destroy_workqueue(nbd_workqueue);
	remove_all();
	nbd_devices_await();
	nbd_debugfs_exit();
	nbd_neighbour_exit();
	nbd_oom_unregister();
	unregister_blkdev(NBD_MAJOR, "nbd");
	/* A socket's callback may still be on its way out of our text */
	synchronize_net();
}

module_init(nbd_init);
module_exit(nbd_exit);

MODULE_DESCRIPTION("Network block device that can carry swap");
MODULE_LICENSE("GPL");
MODULE_ALIAS_BLOCKDEV_MAJOR(NBD_MAJOR);
MODULE_ALIAS("net-pf-16-proto-16-family-nbd");
