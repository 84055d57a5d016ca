// SPDX-License-Identifier: GPL-2.0-only
/*
 * While swap-outs are on their way memory is on its way: tell the OOM killer
 * to wait, for as long as our patience lasts.  Without this a server that is
 * away for a few seconds costs processes though nothing is lost.
 */
#include <linux/atomic.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/notifier.h>
#include <linux/oom.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>

#include "internal.h"

static unsigned int oom_patience = 600;
module_param(oom_patience, uint, 0644);
MODULE_PARM_DESC(oom_patience, "seconds without a finished write after which the OOM killer is no longer held back (default 600; 0: never hold it back)");

/* How long one call waits for a write to finish */
#define OOM_PAUSE	(HZ / 10)
/* Calls this far apart belong to different shortages */
#define OOM_RUN		(2 * HZ)
/* A write that has finished so lately has given memory that nobody has seen yet */
#define OOM_RECENT	HZ
#define OOM_PATIENCE_MAX 86400U	/* s */

static atomic_t writes = ATOMIC_INIT(0);	/* of all devices, not finished */
static unsigned long progress;			/* jiffies of the last that finished */

/**
 * nbd_oom_write_started() - a write is the driver's now
 *
 * Context: any.
 */
void nbd_oom_write_started(void)
{
	if (atomic_inc_return(&writes) == 1)
		WRITE_ONCE(progress, jiffies);
}

/**
 * nbd_oom_write_done() - a write has finished, well or not
 *
 * Context: any.
 */
void nbd_oom_write_done(void)
{
	WRITE_ONCE(progress, jiffies);
	/* Pairs with memory_comes() */
	smp_mb__before_atomic();
	atomic_dec(&writes);
}

/* Is memory on its way, or was it a moment ago? */
static bool memory_comes(unsigned long patience)
{
	/* In this order: a write that is done has left its time behind */
	int n = atomic_read_acquire(&writes);
	unsigned long then = READ_ONCE(progress);

	if (n)
		return !time_after(jiffies, then + patience);
	return time_in_range(jiffies, then, then + OOM_RECENT);
}

/* Calls come one at a time, under the allocator's oom_lock */
static int oom_notify(struct notifier_block *nb, unsigned long event, void *data)
{
	static unsigned long began, last;	/* of this run of calls, jiffies */
	unsigned long patience = min(READ_ONCE(oom_patience), OOM_PATIENCE_MAX) * HZ;
	unsigned long *freed = data;

	/* A task that is to die gives more than we can */
	if (fatal_signal_pending(current) || current->flags & PF_EXITING)
		return NOTIFY_OK;
	if (time_after(jiffies, last + OOM_RUN))
		began = jiffies;
	last = jiffies;
	if (!patience || !memory_comes(patience))
		return NOTIFY_OK;
	/* Writes that are no swap-outs free nothing when swap is full */
	if (get_nr_swap_pages() <= 0 && time_after(jiffies, began + patience))
		return NOTIFY_OK;
	schedule_timeout_uninterruptible(OOM_PAUSE);
	last = jiffies;
	/* Not zero is all that counts: the allocator tries again */
	*freed += 1;
	return NOTIFY_OK;
}

static struct notifier_block oom_nb = {
	.notifier_call = oom_notify,
};

/**
 * nbd_oom_register() - begin to hold the OOM killer back
 *
 * Return: 0 or -errno.
 */
int nbd_oom_register(void)
{
	/* Not just now */
	progress = jiffies - 2 * OOM_RECENT;
	return register_oom_notifier(&oom_nb);
}

/**
 * nbd_oom_unregister() - the opposite
 */
void nbd_oom_unregister(void)
{
	unregister_oom_notifier(&oom_nb);
}
