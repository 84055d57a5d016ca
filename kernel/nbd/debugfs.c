// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/nbd/DEVICE/status: for the eye; programs use netlink.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "internal.h"

static struct dentry *root;

static const char *const device_states[] = {
	[NBDX_STATE_FREE]	= "free",
	[NBDX_STATE_SETUP]	= "setup",
	[NBDX_STATE_LIVE]	= "live",
	[NBDX_STATE_TEARDOWN]	= "teardown",
};

static const char *const link_states[] = {
	[NBDX_LS_DOWN]		= "down",
	[NBDX_LS_CONNECTING]	= "connecting",
	[NBDX_LS_NEGOTIATING]	= "negotiating",
	[NBDX_LS_READY]		= "ready",
	[NBDX_LS_LOST]		= "lost",
	[NBDX_LS_STOPPED]	= "stopped",
};

static void show_link(struct seq_file *m, struct nbd_link *link)
{
	const struct sockaddr_storage *peer = nbd_link_peer(link);
	struct nbd_link_snapshot shot;
	struct nbd_counters *c = &shot.counters;

	nbd_link_snapshot(link, &shot);
	seq_printf(m, "link %u: %s for %u ms", link->index, link_states[shot.state],
		   jiffies_to_msecs(jiffies - shot.since));
	if (peer)
		seq_printf(m, ", peer %pISpc", peer);
	if (shot.error[0])
		seq_printf(m, ", %s", shot.error);
	seq_printf(m, "\n  in flight %u, held %u\n", shot.inflight, shot.held);
	seq_printf(m, "  answered reads %llu (%llu bytes) writes %llu (%llu bytes) flushes %llu trims %llu zeroes %llu errors %llu\n",
		   c->reads, c->read_bytes, c->writes, c->write_bytes, c->flushes, c->trims,
		   c->zeroes, c->errors);
	seq_printf(m, "  connects %llu losses %llu replays %llu timeouts %llu protocol errors %llu\n",
		   c->connects, c->losses, c->replays, c->timeouts, c->protocol_errors);
}

static int status_show(struct seq_file *m, void *data)
{
	struct nbd_device *dev = m->private;
	unsigned int i;

	mutex_lock(&dev->lock);
	seq_printf(m, "%s: %s\n", dev->disk->disk_name, device_states[dev->state]);
	if (dev->state != NBDX_STATE_FREE) {
		seq_printf(m, "export '%s' flags 0x%x\n", dev->config.export, dev->export.flags);
		seq_printf(m, "waiting %u in flight %u\n", READ_ONCE(dev->queue.queued),
			   READ_ONCE(dev->queue.inflight));
		for (i = 0; i < NBDX_MAX_LINKS; i++)
			if (dev->links[i])
				show_link(m, dev->links[i]);
	}
	mutex_unlock(&dev->lock);
	return 0;
}

DEFINE_SHOW_ATTRIBUTE(status);

/**
 * nbd_debugfs_add() - show a device
 * @dev: the device
 */
void nbd_debugfs_add(struct nbd_device *dev)
{
	dev->debugfs = debugfs_create_dir(dev->disk->disk_name, root);
	debugfs_create_file("status", 0400, dev->debugfs, dev, &status_fops);
}

/**
 * nbd_debugfs_remove() - show it no longer
 * @dev: the device
 */
void nbd_debugfs_remove(struct nbd_device *dev)
{
	debugfs_remove_recursive(dev->debugfs);
}

/**
 * nbd_debugfs_init() - make the directory
 */
void nbd_debugfs_init(void)
{
	root = debugfs_create_dir("nbd", NULL);
}

/**
 * nbd_debugfs_exit() - remove it
 */
void nbd_debugfs_exit(void)
{
	debugfs_remove_recursive(root);
}
