// SPDX-License-Identifier: GPL-2.0-or-later
/* vm.min_free_kbytes, raised and put back, in files of our own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "client/reserve.h"

static char top[] = "/tmp/nbd-reserve-XXXXXX";
static char sysctl[64], boost[64], state[64], meminfo[64];
static const struct client_reserve where = {
	.sysctl = sysctl,
	.boost = boost,
	.state = state,
	.meminfo = meminfo,
};

static void set_in(const char *file, unsigned long n)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	fprintf(f, "%lu\n", n);
	fclose(f);
}

static unsigned long get_from(const char *file)
{
	FILE *f = fopen(file, "r");
	unsigned long n = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu", &n), 1);
	fclose(f);
	return n;
}

static void set(unsigned long kb)
{
	set_in(sysctl, kb);
}

static unsigned long get(void)
{
	return get_from(sysctl);
}

static void have(unsigned long total)
{
	FILE *f = fopen(meminfo, "w");

	assert_non_null(f);
	fprintf(f, "MemTotal:   %lu kB\nMemFree:  7 kB\n", total);
	fclose(f);
}

static const struct client_reserve_share small = { 1000, 9000 }, large = { 3000, 20000 };

static void hold(int index, const struct client_reserve_share *share, unsigned long from,
		 unsigned long to)
{
	struct client_reserve_change change;

	assert_int_equal(client_reserve_hold(&where, index, share, &change), 0);
	assert_int_equal(change.from, from);
	assert_int_equal(change.to, to);
	assert_int_equal(get(), to);
}

static void test_shares(void **unused)
{
	struct client_reserve_share share = client_reserve_share(2893824, 23263750, 0, 4);

	(void)unused;
	assert_int_equal(share.reserve, 2826);
	assert_int_equal(share.min_free, 22719); /* rounded up */
	/* a driver that does not tell */
	share = client_reserve_share(0, 0, 0, 1);
	assert_int_equal(share.min_free, 8192);
	share = client_reserve_share(0, 0, 0, 4);
	assert_int_equal(share.min_free, 8192 + 3 * 2048);
	assert_int_equal(share.reserve, share.min_free * 3 / 8);
	/* the kernel keeps it itself: what is left may be nothing */
	share = client_reserve_share(2893824, 1500000, 3942400, 1);
	assert_int_equal(share.reserve, 0);
	assert_int_equal(share.min_free, 1465);
	share = client_reserve_share(2893824, 0, 3942400, 1);
	assert_int_equal(share.min_free, 0);
}

static void test_sum(void **unused)
{
	const struct client_reserve_share two[] = { small, large },
					  three[] = { small, large, small };
	const struct client_reserve_share tiny = { 10, 100 }, kept[] = { { 0, 0 }, { 0, 1465 } };

	(void)unused;
	assert_int_equal(client_reserve_sum(NULL, 0), 0);
	assert_int_equal(client_reserve_sum(&small, 1), 9000);
	/* 20000 and 8/3 of 1000, rounded up; the other way round it would be less */
	assert_int_equal(client_reserve_sum(two, 2), 22667);
	assert_int_equal(client_reserve_sum(three, 3), 20000 + 5334);
	/* never less than what it once was */
	assert_int_equal(client_reserve_sum(&tiny, 1), 8192);
	/* but for what the kernel keeps, where the rest counts, and counts once */
	assert_int_equal(client_reserve_sum(kept, 2), 1465);
	assert_int_equal(client_reserve_sum(kept, 1), 0);
}

static void test_raise_and_put_back(void **unused)
{
	(void)unused;
	set(1400);
	hold(0, &small, 1400, 9000);
	assert_int_equal(client_reserve_drop(&where, 0), 0);
	assert_int_equal(get(), 1400);
}

static void test_devices_add_up(void **unused)
{
	(void)unused;
	set(1400);
	hold(0, &small, 1400, 9000);
	hold(3, &large, 9000, 22667);
	hold(3, &large, 22667, 22667); /* once more is no more */
	assert_int_equal(client_reserve_drop(&where, 0), 0);
	assert_int_equal(get(), 20000);
	assert_int_equal(client_reserve_drop(&where, 3), 0);
	assert_int_equal(get(), 1400);
}

static void test_never_more_than_a_quarter(void **unused)
{
	struct client_reserve_change change;

	(void)unused;
	set(1400);
	have(60000);
	assert_int_equal(client_reserve_hold(&where, 0, &large, &change), 0);
	assert_int_equal(change.to, 15000);
	assert_int_equal(change.need, 20000);
	assert_int_equal(get(), 15000);
	assert_int_equal(client_reserve_drop(&where, 0), 0);
	assert_int_equal(get(), 1400);
	have(1000000);
}

static void test_enough_is_left_alone(void **unused)
{
	(void)unused;
	set(65536);
	hold(0, &small, 65536, 65536);
	assert_int_equal(client_reserve_drop(&where, 0), 0);
	assert_int_equal(get(), 65536);
}

static void test_the_administrators_word_stands(void **unused)
{
	(void)unused;
	set(1400);
	hold(0, &small, 1400, 9000);
	set(20000);
	assert_int_equal(client_reserve_drop(&where, 0), 0);
	assert_int_equal(get(), 20000);
	/* and it is where the next device begins */
	hold(1, &small, 20000, 20000);
	assert_int_equal(client_reserve_drop(&where, 1), 0);
	assert_int_equal(get(), 20000);
}

static void test_no_boost_while_a_device_is_there(void **unused)
{
	(void)unused;
	set(1400);
	set_in(boost, 15000);
	hold(0, &small, 1400, 9000);
	assert_int_equal(get_from(boost), 0);
	hold(1, &small, 9000, 11667);
	assert_int_equal(client_reserve_drop(&where, 0), 0);
	assert_int_equal(get_from(boost), 0);
	assert_int_equal(client_reserve_drop(&where, 1), 0);
	assert_int_equal(get_from(boost), 15000);
	/* also where min_free is enough */
	set(65536);
	hold(0, &small, 65536, 65536);
	assert_int_equal(get_from(boost), 0);
	assert_int_equal(client_reserve_drop(&where, 0), 0);
	assert_int_equal(get_from(boost), 15000);
	/* what the administrator sets meanwhile stands */
	hold(0, &small, 65536, 65536);
	set_in(boost, 300);
	assert_int_equal(client_reserve_drop(&where, 0), 0);
	assert_int_equal(get_from(boost), 300);
	/* none before, none after */
	set_in(boost, 0);
	hold(0, &small, 65536, 65536);
	assert_int_equal(client_reserve_drop(&where, 0), 0);
	assert_int_equal(get_from(boost), 0);
	unlink(boost);
}

static void test_dropping_what_was_not_held(void **unused)
{
	(void)unused;
	set(1400);
	assert_int_equal(client_reserve_drop(&where, 7), 0);
	assert_int_equal(get(), 1400);
}

static void test_no_sysctl(void **unused)
{
	const struct client_reserve nowhere = { .sysctl = "/nonexistent",
						.boost = boost,
						.state = state };
	struct client_reserve_change change;

	(void)unused;
	assert_int_equal(client_reserve_hold(&nowhere, 0, &large, &change), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(change.need, 20000);
}

static int set_up(void **unused)
{
	(void)unused;
	if (!mkdtemp(top))
		return -1;
	snprintf(sysctl, sizeof(sysctl), "%s/min_free_kbytes", top);
	snprintf(boost, sizeof(boost), "%s/watermark_boost_factor", top);
	snprintf(state, sizeof(state), "%s/state", top);
	snprintf(meminfo, sizeof(meminfo), "%s/meminfo", top);
	have(1000000);
	return 0;
}

static int tear_down(void **unused)
{
	(void)unused;
	unlink(sysctl);
	unlink(meminfo);
	rmdir(state);
	return rmdir(top);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dropping_what_was_not_held),
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_sum),
		cmocka_unit_test(test_raise_and_put_back),
		cmocka_unit_test(test_devices_add_up),
		cmocka_unit_test(test_never_more_than_a_quarter),
		cmocka_unit_test(test_enough_is_left_alone),
		cmocka_unit_test(test_the_administrators_word_stands),
		cmocka_unit_test(test_no_boost_while_a_device_is_there),
		cmocka_unit_test(test_no_sysctl),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
