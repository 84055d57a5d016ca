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
static char sysctl[64], state[64];
static const struct client_reserve where = { .sysctl = sysctl, .state = state };

static void set(unsigned long kb)
{
	FILE *f = fopen(sysctl, "w");

	assert_non_null(f);
	fprintf(f, "%lu\n", kb);
	fclose(f);
}

static unsigned long get(void)
{
	FILE *f = fopen(sysctl, "r");
	unsigned long kb = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu", &kb), 1);
	fclose(f);
	return kb;
}

static void hold(int index, unsigned int links, unsigned long from, unsigned long to)
{
	unsigned long a = 0, b = 0;

	assert_int_equal(client_reserve_hold(&where, index, links, &a, &b), 0);
	assert_int_equal(a, from);
	assert_int_equal(b, to);
	assert_int_equal(get(), to);
}

static void test_need_grows_with_links(void **unused)
{
	(void)unused;
	assert_int_equal(client_reserve_need(1), 8192);
	assert_int_equal(client_reserve_need(4), 8192 + 3 * 2048);
}

static void test_raise_and_put_back(void **unused)
{
	(void)unused;
	set(1400);
	hold(0, 1, 1400, 8192);
	assert_int_equal(client_reserve_drop(&where, 0), 0);
	assert_int_equal(get(), 1400);
}

static void test_devices_add_up(void **unused)
{
	(void)unused;
	set(1400);
	hold(0, 1, 1400, 8192);
	hold(3, 2, 8192, 8192 + 10240);
	hold(3, 2, 18432, 18432); /* once more is no more */
	assert_int_equal(client_reserve_drop(&where, 0), 0);
	assert_int_equal(get(), 10240);
	assert_int_equal(client_reserve_drop(&where, 3), 0);
	assert_int_equal(get(), 1400);
}

static void test_enough_is_left_alone(void **unused)
{
	(void)unused;
	set(65536);
	hold(0, 1, 65536, 65536);
	assert_int_equal(client_reserve_drop(&where, 0), 0);
	assert_int_equal(get(), 65536);
}

static void test_the_administrators_word_stands(void **unused)
{
	(void)unused;
	set(1400);
	hold(0, 1, 1400, 8192);
	set(20000);
	assert_int_equal(client_reserve_drop(&where, 0), 0);
	assert_int_equal(get(), 20000);
	/* and it is where the next device begins */
	hold(1, 1, 20000, 20000);
	assert_int_equal(client_reserve_drop(&where, 1), 0);
	assert_int_equal(get(), 20000);
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
	const struct client_reserve nowhere = { .sysctl = "/nonexistent", .state = state };
	unsigned long a, b;

	(void)unused;
	assert_int_equal(client_reserve_hold(&nowhere, 0, 1, &a, &b), -1);
	assert_int_equal(errno, ENOENT);
}

static int set_up(void **unused)
{
	(void)unused;
	if (!mkdtemp(top))
		return -1;
	snprintf(sysctl, sizeof(sysctl), "%s/min_free_kbytes", top);
	snprintf(state, sizeof(state), "%s/state", top);
	return 0;
}

static int tear_down(void **unused)
{
	(void)unused;
	unlink(sysctl);
	rmdir(state);
	return rmdir(top);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dropping_what_was_not_held),
		cmocka_unit_test(test_need_grows_with_links),
		cmocka_unit_test(test_raise_and_put_back),
		cmocka_unit_test(test_devices_add_up),
		cmocka_unit_test(test_enough_is_left_alone),
		cmocka_unit_test(test_the_administrators_word_stands),
		cmocka_unit_test(test_no_sysctl),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
