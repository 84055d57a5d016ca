// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/nbd-wire.h"
#include "server/stats.h"

static struct srv_stats stats;

static int setup(void **state)
{
	(void)state;
	srv_stats_init(&stats);
	stats.n_loops = 2;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	srv_stats_destroy(&stats);
	return 0;
}

static void buckets(void **state)
{
	static const struct {
		uint64_t ns;
		unsigned int bucket;
	} cases[] = {
		{ 0, 0 },	    { 1, 0 },	     { 1000, 0 },	  { 1001, 1 },
		{ 2000, 1 },	    { 2001, 2 },     { 4000, 2 },	  { 4001, 3 },
		{ 1024000, 10 },    { 1024001, 11 }, { 33554432000, 25 }, { 33554432001, 26 },
		{ UINT64_MAX, 26 },
	};
	unsigned int i;
	uint64_t us;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(srv_bucket(cases[i].ns), cases[i].bucket);
	/* Every bucket ends where the next one begins, and its end is in it */
	for (i = 0; i < SRV_BUCKETS - 1; i++) {
		us = srv_bucket_us(i);
		assert_int_equal(us, 1ull << i);
		assert_int_equal(srv_bucket(us * 1000), i);
		assert_int_equal(srv_bucket(us * 1000 + 1), i + 1);
	}
	assert_int_equal(srv_bucket_us(SRV_BUCKETS - 1), 0);
}

static void commands(void **state)
{
	unsigned int type, seen[SRV_COMMANDS] = { 0 };

	(void)state;
	for (type = 0; type < 10; type++)
		seen[srv_command((uint16_t)type)]++;
	/* DISC is no request, 8 and 9 are not known: each of the others has its own */
	for (type = 0; type < SRV_COMMANDS; type++)
		assert_int_equal(seen[type], type == SRV_OTHER ? 3 : 1);
	assert_string_equal(srv_command_name(srv_command(NBD_WIRE_CMD_WRITE_ZEROES)),
			    "write-zeroes");
	assert_string_equal(srv_command_name(srv_command(NBD_WIRE_CMD_BLOCK_STATUS)),
			    "block-status");
	assert_string_equal(srv_command_name(srv_command(77)), "other");
}

static void counting(void **state)
{
	struct srv_counters client = { 0 };
	struct srv_shard *shard[2];
	struct srv_counted *a, *b;
	struct srv_latency latency;
	struct srv_sums sums = { 0 };

	(void)state;
	a = srv_stats_use(&stats, "x", 0, &shard[0]);
	b = srv_stats_use(&stats, "x", 1, &shard[1]);
	assert_non_null(a);
	assert_ptr_equal(a, b);
	assert_ptr_not_equal(shard[0], shard[1]);
	/* One of them in each loop, and one that is not answered */
	srv_count_begin(&client, shard[0]);
	srv_count_begin(&client, shard[1]);
	srv_count_begin(&client, shard[1]);
	srv_counted_add(&stats, a, &sums);
	assert_int_equal(sums.in_flight, 3);
	assert_int_equal(sums.requests[SRV_READ], 0);
	srv_count_answer(&client, shard[0], SRV_READ, 512, false, 1500);
	srv_count_answer(&client, shard[1], SRV_READ, 4096, true, 3000000);
	srv_count_drop(&client, shard[1]);

	memset(&sums, 0, sizeof(sums));
	srv_counted_add(&stats, a, &sums);
	assert_int_equal(sums.requests[SRV_READ], 2);
	assert_int_equal(sums.bytes[SRV_READ], 512);
	assert_int_equal(sums.errors[SRV_READ], 1);
	assert_int_equal(sums.requests[SRV_WRITE], 0);
	assert_int_equal(sums.dropped, 1);
	assert_int_equal(sums.in_flight, 0);
	memset(&sums, 0, sizeof(sums));
	srv_counters_add(&client, &sums);
	assert_int_equal(sums.requests[SRV_READ], 2);
	assert_int_equal(sums.dropped, 1);
	assert_int_equal(sums.in_flight, 0);

	srv_counted_latency(&stats, a, SRV_READ, &latency);
	assert_int_equal(latency.count, 2);
	assert_int_equal(latency.sum_ns, 3001500);
	assert_int_equal(latency.bucket[1], 1);
	assert_int_equal(latency.bucket[12], 1);
	srv_counted_latency(&stats, a, SRV_WRITE, &latency);
	assert_int_equal(latency.count, 0);
	srv_stats_leave(&stats, a);
	srv_stats_leave(&stats, a);
}

/* Without a place among the exports the client's own counters still go on */
static void uncounted(void **state)
{
	struct srv_counters client = { 0 };
	struct srv_sums sums = { 0 };

	(void)state;
	srv_count_begin(&client, NULL);
	srv_count_begin(&client, NULL);
	srv_count_answer(&client, NULL, SRV_FLUSH, 0, false, 1);
	srv_count_drop(&client, NULL);
	srv_counters_add(&client, &sums);
	assert_int_equal(sums.requests[SRV_FLUSH], 1);
	assert_int_equal(sums.dropped, 1);
	assert_int_equal(sums.in_flight, 0);
	srv_stats_leave(&stats, NULL);
}

static void in_order(void **state)
{
	static const char *const names[] = { "b", "a", "c" };
	struct srv_counted *at = NULL;
	struct srv_shard *shard;
	unsigned int i, clients;

	(void)state;
	for (i = 0; i < 3; i++)
		assert_non_null(srv_stats_use(&stats, names[i], 0, &shard));
	assert_non_null(srv_stats_use(&stats, "a", 1, &shard));
	for (i = 0; i < 3; i++) {
		at = srv_stats_next(&stats, at, &clients);
		assert_string_equal(at->name, names[i]);
		assert_int_equal(clients, i == 1 ? 2 : 1);
	}
	assert_null(srv_stats_next(&stats, at, &clients));
}

/* What nobody uses makes room, but not while somebody uses it, or looks at it */
static void bounded(void **state)
{
	struct srv_counted *first, *second, *at, *more;
	struct srv_shard *shard;
	unsigned int i, clients;
	char name[16];

	(void)state;
	first = srv_stats_use(&stats, "first", 0, &shard);
	second = srv_stats_use(&stats, "second", 0, &shard);
	for (i = 2; i < SRV_MAX_COUNTED; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_non_null(srv_stats_use(&stats, name, 0, &shard));
	}
	assert_null(srv_stats_use(&stats, "more", 0, &shard));
	assert_null(shard);
	srv_stats_leave(&stats, first);
	srv_stats_leave(&stats, second);
	at = srv_stats_next(&stats, NULL, &clients);
	assert_ptr_equal(at, first);
	assert_int_equal(clients, 0);
	more = srv_stats_use(&stats, "more", 0, &shard);
	assert_non_null(more);
	assert_non_null(shard);
	assert_int_equal(stats.n, SRV_MAX_COUNTED);
	assert_string_equal(at->name, "first");
	assert_string_equal(at->next->name, "2");
	srv_stats_put(&stats, at);
	/* A client that comes back goes on where it was */
	assert_ptr_equal(srv_stats_use(&stats, "first", 0, &shard), first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buckets),
		cmocka_unit_test(commands),
		cmocka_unit_test_setup_teardown(counting, setup, teardown),
		cmocka_unit_test_setup_teardown(uncounted, setup, teardown),
		cmocka_unit_test_setup_teardown(in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(bounded, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
