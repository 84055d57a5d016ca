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
MODULE_PARM_DESC(oom_patience, "seconds without a write that ends well after which the OOM killer is no longer held back (default 600; 0: never hold it back)");

/* How long one call waits for a write to finish */
#define OOM_PAUSE	(HZ / 10)
/* Calls this far apart belong to different shortages */
#define OOM_RUN		(2 * HZ)
/* A write that has finished so lately has given memory that nobody has seen yet */
#define OOM_RECENT	HZ
#define OOM_PATIENCE_MAX 86400U	/* s */

static atomic_t writes = ATOMIC_INIT(0);	/* of all devices, not finished */
static unsigned long progress;			/* jiffies of the last that ended well */
static unsigned long swapped;			/* the same of swap-outs alone */
static unsigned long failed;			/* the same of the last that did not */

/**
 * nbd_oom_write_started() - a write is the driver's now
 *
 * Context: any.
 */
void nbd_oom_write_started(void)
{
	unsigned long then = READ_ONCE(failed);

	/* The first of many; one more right after one that has failed promises nothing */
	if (!atomic_read(&writes) && !time_in_range(jiffies, then, then + OOM_RUN))
		WRITE_ONCE(progress, jiffies);
	/* Pairs with memory_comes() */
	smp_mb__before_atomic();
	atomic_inc(&writes);
}

/**
 * nbd_oom_write_done() - a write has ended
 * @ok: well: a page can be had for it
 * @swap: it was a swap-out
 *
 * Context: any.
 */
void nbd_oom_write_done(bool ok, bool swap)
{
	if (!ok)
		WRITE_ONCE(failed, jiffies);
	else
		WRITE_ONCE(progress, jiffies);
	if (ok && swap)
		WRITE_ONCE(swapped, jiffies);
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
	unsigned long then;

	/* A task that is to die gives more than we can */
	if (fatal_signal_pending(current) || current->flags & PF_EXITING)
		return NOTIFY_OK;
	if (!time_in_range(jiffies, last, last + OOM_RUN))
		began = jiffies;
	last = jiffies;
	if (!patience || !memory_comes(patience))
		return NOTIFY_OK;
	/* For this shortage, if not for others: what is written is no swap-out, or swap is full */
	then = READ_ONCE(swapped);
	if (time_after(jiffies, began + patience) &&
	    (get_nr_swap_pages() <= 0 || !time_in_range(jiffies, then, then + patience)))
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
	swapped = progress;
	failed = jiffies - 2 * OOM_RUN;
	return register_oom_notifier(&oom_nb);
}

/**
 * nbd_oom_unregister() - the opposite
 */
void nbd_oom_unregister(void)
{
	unregister_oom_notifier(&oom_nb);
}
