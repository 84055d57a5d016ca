// SPDX-License-Identifier: GPL-2.0-only
/*
 * eater: hold the free memory of the machine at a level, for tests.
 *
 *	echo LEVEL_KB SECONDS > /sys/module/eater/parameters/hold
 *
 * Once a jiffy every page above the level is taken with GFP_ATOMIC and
 * __GFP_MEMALLOC, down to nothing if need be.  With a level below what the
 * watermarks leave to others only who is entitled to the reserve gets a page.
 * After the time all is given back; nobody need be able to ask for that.
 * Meanwhile the OOM killer is told to wait, as there is nothing to win by
 * killing.
 */
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/nodemask.h>
#include <linux/oom.h>
#include <linux/sched.h>

static LIST_HEAD(eaten);
static unsigned long eaten_pages, most_pages;
static unsigned long most_free; /* found free before a bite, once the level was reached */
static struct task_struct *eater;
static unsigned long level; /* pages */
static unsigned long until; /* jiffies */
static bool holding, reached;

/* Pages set aside for atomic requests of higher order: no single page comes of them */
static unsigned long free_highatomic(struct zone *zone)
{
	unsigned long flags, n = 0;
	unsigned int order;

	spin_lock_irqsave(&zone->lock, flags);
	for (order = 0; order < ARRAY_SIZE(zone->free_area); order++) {
		struct list_head *p;

		list_for_each(p, &zone->free_area[order].free_list[MIGRATE_HIGHATOMIC])
			n += 1UL << order;
	}
	spin_unlock_irqrestore(&zone->lock, flags);
	return n;
}

static unsigned long free_pages_now(void)
{
	unsigned long n = 0, high = 0;
	int nid;

	for (nid = first_online_node; nid < MAX_NUMNODES; nid = next_online_node(nid)) {
		struct zone *zone = NODE_DATA(nid)->node_zones;
		int i;

		for (i = 0; i < MAX_NR_ZONES; i++) {
			if (!populated_zone(zone + i))
				continue;
			n += zone_page_state(zone + i, NR_FREE_PAGES);
			high += free_highatomic(zone + i);
		}
	}
	return n > high ? n - high : 0;
}

static void eat(void)
{
	unsigned long now = free_pages_now();
	unsigned long want = now > level ? now - level : 0;

	if (reached)
		most_free = max(most_free, now);
	reached = reached || !want;
	while (want--) {
		struct page *page = alloc_page(GFP_ATOMIC | __GFP_MEMALLOC | __GFP_NOWARN);

		if (!page)
			break;
		list_add(&page->lru, &eaten);
		eaten_pages++;
	}
	most_pages = max(most_pages, eaten_pages);
}

static void give_back(void)
{
	while (!list_empty(&eaten)) {
		struct page *page = list_first_entry(&eaten, struct page, lru);

		list_del(&page->lru);
		__free_page(page);
	}
	eaten_pages = 0;
}

static int run(void *unused)
{
	while (!kthread_should_stop()) {
		set_current_state(TASK_UNINTERRUPTIBLE);
		if (!READ_ONCE(holding)) {
			schedule_timeout(HZ / 10);
			continue;
		}
		schedule_timeout(1);
		if (time_before(jiffies, READ_ONCE(until))) {
			eat();
			continue;
		}
		pr_info("eater: gives back %lu kB, held %lu kB at most, never more than %lu kB free\n",
			eaten_pages << (PAGE_SHIFT - 10), most_pages << (PAGE_SHIFT - 10),
			most_free << (PAGE_SHIFT - 10));
		give_back();
		/* Who has found nothing so far is about to ask whom to kill */
		schedule_timeout_uninterruptible(HZ);
		WRITE_ONCE(holding, false);
	}
	give_back();
	return 0;
}

static int set_hold(const char *val, const struct kernel_param *kp)
{
	unsigned int kb, seconds;

	if (sscanf(val, "%u %u", &kb, &seconds) != 2 || !seconds || seconds > 600)
		return -EINVAL;
	if (READ_ONCE(holding))
		return -EBUSY;
	level = kb >> (PAGE_SHIFT - 10);
	most_pages = 0;
	most_free = 0;
	reached = false;
	until = jiffies + seconds * HZ;
	pr_info("eater: holds free memory at %u kB for %u s\n", kb, seconds);
	/* Pairs with nothing more than the loop's next look */
	WRITE_ONCE(holding, true);
	return 0;
}

static const struct kernel_param_ops hold_ops = {
	.set = set_hold,
};
module_param_cb(hold, &hold_ops, NULL, 0200);
MODULE_PARM_DESC(hold, "LEVEL_KB SECONDS: hold free memory at the level for so long");

module_param_named(held_pages, eaten_pages, ulong, 0444);
MODULE_PARM_DESC(held_pages, "pages held now");

/* Memory comes back by itself: nobody need die for it */
static int oom_notify(struct notifier_block *nb, unsigned long event, void *data)
{
	unsigned long *freed = data;

	if (READ_ONCE(holding))
		*freed += 1;
	return NOTIFY_OK;
}

static struct notifier_block oom_nb = {
	.notifier_call = oom_notify,
};

static int __init eater_init(void)
{
	int ret = register_oom_notifier(&oom_nb);

	if (ret)
		return ret;
	eater = kthread_run(run, NULL, "eater");
	if (IS_ERR(eater)) {
		unregister_oom_notifier(&oom_nb);
		return PTR_ERR(eater);
	}
	/* Late by a tick or two is late by many pages */
	sched_set_fifo(eater);
	return 0;
}

static void __exit eater_exit(void)
{
	kthread_stop(eater);
	unregister_oom_notifier(&oom_nb);
}

module_init(eater_init);
module_exit(eater_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Hold free memory at a level, for tests of nbswap");
