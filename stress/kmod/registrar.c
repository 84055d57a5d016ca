// SPDX-License-Identifier: GPL-2.0-only
/*
 * registrar: call mem_reserve_add() of a patched kernel, for tests.
 *
 *	echo BYTES > /sys/module/registrar/parameters/add
 *
 * fails as mem_reserve_add(BYTES) does.  What is still registered when the module is
 * removed is taken back.
 */
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

#ifdef REGISTRAR_CAN
#include <net/memalloc.h>
#else
static int mem_reserve_add(long bytes)
{
	return -EOPNOTSUPP;
}
#endif

/* Each call is rounded up to pages by itself, and so must be what takes it back */
static unsigned long registered; /* pages */

static int set_add(const char *value, const struct kernel_param *param)
{
	unsigned long pages;
	long bytes;
	int err;

	err = kstrtol(value, 0, &bytes);
	if (err)
		return err;
	err = mem_reserve_add(bytes);
	if (err)
		return err;
	pages = DIV_ROUND_UP(abs(bytes), PAGE_SIZE);
	registered += bytes < 0 ? -pages : pages;
	return 0;
}

static const struct kernel_param_ops add_ops = { .set = set_add };

module_param_cb(add, &add_ops, NULL, 0200);
MODULE_PARM_DESC(add, "bytes to register, negative to take back");

static void __exit registrar_exit(void)
{
	if (registered)
		mem_reserve_add(-(long)(registered * PAGE_SIZE));
}

static int __init registrar_init(void)
{
	return 0;
}

module_init(registrar_init);
module_exit(registrar_exit);

MODULE_DESCRIPTION("Registers memory of the reserve, for tests");
MODULE_LICENSE("GPL");
