// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fails one allocation of the driver: the Nth that is made beneath its text, by
 * whatever task, softirq or worker, or by kthreadd, which makes its threads.
 *
 * The kernel's own /proc/PID/fail-nth is of no use here: a CONNECT is carried
 * out by a work item and by threads that do not exist yet, and its filter by
 * stack trace does not exist on x86-64.  So the two functions that the allocators
 * ask whether to fail (CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC) are probed.
 *
 * Load it before the driver: it learns of the driver when that is loaded.
 *
 * /sys/module/failnth/parameters:
 *   nth     0: none fails; N: the Nth from now does.  Writing it begins anew
 *   seen    allocations since
 *   failed  1: the Nth came and has failed
 *   site    who called for it, beneath whom in the driver
 *   quiet   1: the console is not told
 */
#include <linux/atomic.h>
#include <linux/gfp.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/stacktrace.h>
#include <linux/string.h>

#define TARGET "nbd"
#define DEPTH  64

static struct module *target;
static atomic_t seen = ATOMIC_INIT(0);
static unsigned int nth;
static bool armed;
static bool failed;
static bool quiet;
static char site[160];

module_param(quiet, bool, 0644);
module_param(failed, bool, 0444);
module_param_string(site, site, sizeof(site), 0444);

static int nth_set(const char *val, const struct kernel_param *kp)
{
	unsigned int n;
	int err = kstrtouint(val, 0, &n);

	if (err)
		return err;
	WRITE_ONCE(armed, false);
	nth = n;
	failed = false;
	site[0] = '\0';
	atomic_set(&seen, 0);
	/* With the counters as they are now */
	smp_store_release(&armed, true);
	return 0;
}

static const struct kernel_param_ops nth_ops = {
	.set = nth_set,
	.get = param_get_uint,
};

module_param_cb(nth, &nth_ops, &nth, 0644);

static int seen_get(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%d\n", atomic_read(&seen));
}

static const struct kernel_param_ops seen_ops = {
	.get = seen_get,
};

module_param_cb(seen, &seen_ops, NULL, 0444);

/* What the debug kernel allocates about an allocation is not the driver's */
static bool is_bookkeeping(const char *name)
{
	return strstr(name, "kmemleak") || strstr(name, "debug_object") ||
	       strstr(name, "stack_depot") || strstr(name, "kasan") || strstr(name, "ref_tracker");
}

/*
 * The driver's innermost frame, its index, or -1.  For kthreadd there is none,
 * and the outermost one stands for it.
 */
static int find_owner(const unsigned long *entries, unsigned int n)
{
	struct module *mod = READ_ONCE(target);
	char name[KSYM_SYMBOL_LEN];
	unsigned int i;

	if (!mod)
		return -1;
	for (i = 0; i < n && !within_module(entries[i], mod); i++)
		;
	if (i == n) {
		/* A probe may look like an NMI, so in_task() tells nothing */
		if (!(current->flags & PF_KTHREAD) || strcmp(current->comm, "kthreadd"))
			return -1;
		i = n - 1;
	}
	for (n = 0; n < i; n++) {
		snprintf(name, sizeof(name), "%ps", (void *)entries[n]);
		if (is_bookkeeping(name))
			return -1;
	}
	return i;
}

/* Return: 0 to go on to on_return(), 1 to leave this call alone */
static int consider(gfp_t gfp, const char *what)
{
	unsigned long entries[DEPTH];
	int owner;

	/* Pairs with nth_set() */
	if (!smp_load_acquire(&armed) || gfp & __GFP_NOFAIL)
		return 1;
	owner = find_owner(entries, stack_trace_save(entries, DEPTH, 0));
	if (owner < 0 || atomic_inc_return(&seen) != nth)
		return 1;
	snprintf(site, sizeof(site), "%s %ps < %pS", what, (void *)entries[max(owner - 1, 0)],
		 (void *)entries[owner]);
	failed = true;
	if (!quiet)
		pr_info("failnth: %u: %s\n", nth, site);
	return 0;
}

/* int should_failslab(struct kmem_cache *s, gfp_t gfpflags) */
static int on_slab(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	return consider(regs_get_kernel_argument(regs, 1), "slab");
}

static int on_slab_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	regs_set_return_value(regs, -ENOMEM);
	return 0;
}

/* bool should_fail_alloc_page(gfp_t gfp_mask, unsigned int order) */
static int on_page(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	return consider(regs_get_kernel_argument(regs, 0), "page");
}

static int on_page_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	regs_set_return_value(regs, true);
	return 0;
}

static struct kretprobe slab_probe = {
	.kp.symbol_name = "should_failslab",
	.entry_handler = on_slab,
	.handler = on_slab_return,
	.maxactive = 64,
};

static struct kretprobe page_probe = {
	.kp.symbol_name = "should_fail_alloc_page",
	.entry_handler = on_page,
	.handler = on_page_return,
	.maxactive = 64,
};

static int module_event(struct notifier_block *nb, unsigned long event, void *data)
{
	struct module *mod = data;

	if (strcmp(mod->name, TARGET))
		return NOTIFY_DONE;
	if (event == MODULE_STATE_COMING)
		WRITE_ONCE(target, mod);
	else if (event == MODULE_STATE_GOING)
		WRITE_ONCE(target, NULL);
	return NOTIFY_DONE;
}

static struct notifier_block module_notifier = {
	.notifier_call = module_event,
};

static int __init failnth_init(void)
{
	int err = register_kretprobe(&slab_probe);

	if (err)
		goto err_slab;
	err = register_kretprobe(&page_probe);
	if (err)
		goto err_page;
	err = register_module_notifier(&module_notifier);
	if (err)
		goto err_notifier;
	return 0;

err_notifier:
	unregister_kretprobe(&page_probe);
err_page:
	unregister_kretprobe(&slab_probe);
err_slab:
	pr_err("failnth: cannot probe the allocators: error %d\n", err);
	return err;
}

static void __exit failnth_exit(void)
{
	unregister_module_notifier(&module_notifier);
	unregister_kretprobe(&page_probe);
	unregister_kretprobe(&slab_probe);
}

module_init(failnth_init);
module_exit(failnth_exit);

MODULE_DESCRIPTION("Fails the Nth allocation of nbd.ko, for tests");
MODULE_LICENSE("GPL");
