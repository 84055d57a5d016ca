// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The reserve against examples worked by hand, to the byte, and its behaviour
 * where numbers are absurd.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "kernel/nbd/reserve.h"

#define KIB	 1024u
#define MIB	 (1024u * KIB)

#define SKB_6_1	 1536
#define SKB_6_12 1152

/* The mainline driver with one connection, its buffers as TCP tunes them at most */
static const struct nbd_reserve_config mainline = {
	.links = 1,
	.depth = 128,
	.max_request = 128 * KIB,
	.sndbuf = 4 * MIB,
	.rcvbuf = 6 * MIB,
	.mss = 1448,
	.copies = true,
	.drains = false,
	.cpus = 2,
	.fragments = 4 * MIB,
	.nr_nics = 1,
	.nics = { { .queues = 1, .ring = 256, .packet = 2304, .entitled = true } },
};

/* A driver with locked buffers that takes data as it arrives and owns its pages */
static const struct nbd_reserve_config pool = {
	.links = 1,
	.depth = 64,
	.max_request = 128 * KIB,
	.sndbuf = 256 * KIB,
	.rcvbuf = 256 * KIB,
	.mss = 1448,
	.copies = false,
	.drains = true,
	.cpus = 2,
	.nr_nics = 1,
	.nics = { { .queues = 1, .ring = 256, .packet = 2304, .entitled = true } },
};

/* Four connections at 10 Gb/s, a card with many queues and a page a packet */
static const struct nbd_reserve_config fast = {
	.links = 4,
	.depth = 128,
	.max_request = 128 * KIB,
	.sndbuf = 1 * MIB,
	.rcvbuf = 1 * MIB,
	.mss = 1448,
	.copies = false,
	.drains = true,
	.cpus = 8,
	.nr_nics = 1,
	.nics = { { .queues = 8, .ring = 512, .packet = 4352, .entitled = true } },
};

/* This driver's own defaults */
static const struct nbd_reserve_config ours = {
	.links = 1,
	.depth = 128,
	.max_request = 128 * KIB,
	.sndbuf = 512 * KIB,
	.rcvbuf = 512 * KIB,
	.mss = 1448,
	.copies = true,
	.drains = true,
	.cpus = 2,
	.nr_nics = 1,
	.nics = { { .queues = 1, .ring = 256, .packet = 2304, .entitled = true } },
};

static struct nbd_reserve compute(const struct nbd_reserve_config *config, uint32_t skb)
{
	struct nbd_reserve_config c = *config;
	struct nbd_reserve r;

	c.skb = skb;
	nbd_reserve_compute(&c, &r);
	assert_int_equal(r.total, r.tx + r.rx + r.nic + r.misc + r.slab + r.fragments);
	return r;
}

static void is(struct nbd_reserve r, uint64_t tx, uint64_t rx, uint64_t nic, uint64_t misc,
	       uint64_t slab, uint64_t total)
{
	assert_int_equal(r.tx, tx);
	assert_int_equal(r.rx, rx);
	assert_int_equal(r.nic, nic);
	assert_int_equal(r.misc, misc);
	assert_int_equal(r.slab, slab);
	assert_int_equal(r.total, total);
}

/* What a guest of 512 MiB and a machine of 8 GiB set aside, a hundredth and 2 MiB, or rounded */
#define H_512M_6_1  7465861u
#define H_512M_6_12 6291456u
#define H_8G_6_1    87996497u
#define H_8G_6_12   85983232u

static void min_free(uint64_t total, uint64_t highatomic, uint64_t patched, uint64_t unpatched)
{
	assert_int_equal(nbd_reserve_min_free(total, highatomic, true), patched);
	assert_int_equal(nbd_reserve_min_free(total, highatomic, false), unpatched);
}

/* 2 (R + U + A) less 8/3 (R + U): nothing once R + U is three times A */
static void test_beside(void **unused)
{
	(void)unused;
	assert_int_equal(nbd_reserve_beside(1869824), 2248704);
	assert_int_equal(nbd_reserve_beside(5 * 1024 * 1024), 0);
	assert_int_equal(nbd_reserve_beside(27239680), 0);
}

static void test_mainline(void **unused)
{
	(void)unused;
	is(compute(&mainline, SKB_6_1), 7052288, 14747904, 737280, 114688, 393216, 27239680);
	is(compute(&mainline, SKB_6_12), 6354176, 14747904, 737280, 90112, 393216, 26516992);
	min_free(27239680, H_512M_6_1, 75435350, 95344312);
	min_free(26516992, H_512M_6_12, 73508182, 90285398);
}

static void test_own_pages(void **unused)
{
	(void)unused;
	is(compute(&pool, SKB_6_1), 215040, 409600, 737280, 114688, 393216, 1869824);
	is(compute(&pool, SKB_6_12), 161280, 409600, 737280, 90112, 393216, 1791488);
	min_free(1869824, H_512M_6_1, 10031104, 27691363);
	min_free(1791488, H_512M_6_12, 9874432, 24350720);
}

static void test_copying(void **unused)
{
	struct nbd_reserve_config copy = pool;

	(void)unused;
	copy.copies = true;
	is(compute(&copy, SKB_6_1), 542720, 409600, 737280, 114688, 393216, 2197504);
	is(compute(&copy, SKB_6_12), 488960, 409600, 737280, 90112, 393216, 2119168);
	min_free(2197504, H_512M_6_1, 10686464, 28565176);
	min_free(2119168, H_512M_6_12, 10529792, 25224534);
}

static void test_four_links(void **unused)
{
	(void)unused;
	is(compute(&fast, SKB_6_1), 2924544, 5308416, 20054016, 409600, 1572864, 30269440);
	is(compute(&fast, SKB_6_12), 2193408, 5308416, 20054016, 311296, 1572864, 29440000);
	min_free(30269440, H_8G_6_1, 83514710, 318172035);
	min_free(29440000, H_8G_6_12, 81302870, 310591488);
}

static void test_our_defaults(void **unused)
{
	struct nbd_reserve_config c = ours;

	(void)unused;
	is(compute(&c, SKB_6_1), 976896, 671744, 737280, 114688, 393216, 2893824);
	is(compute(&c, SKB_6_12), 880128, 671744, 737280, 90112, 393216, 2772480);

	/* more links, and a card that cannot refill from the reserve: its ring is not in it */
	c.links = 4;
	c.nics[0].entitled = false;
	is(compute(&c, SKB_6_1), 3907584, 2686976, 147456, 409600, 393216, 7544832);
	is(compute(&c, SKB_6_12), 3520512, 2686976, 147456, 311296, 393216, 7059456);
}

/* A request may be short of the buffer: then it is the bound */
static void test_few_small_requests(void **unused)
{
	struct nbd_reserve_config c = ours;

	(void)unused;
	c.depth = 2;
	c.max_request = 4096;
	/* 8248 bytes: six segments, and two more for the requests' ends */
	assert_int_equal(compute(&c, SKB_6_1).tx, 8 * 1536 + 8248 + 65536);
	/* three links share them: one each, the odd one rounded up */
	c.links = 3;
	assert_int_equal(compute(&c, SKB_6_1).tx, 3 * (4 * 1536 + 4124 + 65536));
}

static void test_cards_add_up(void **unused)
{
	struct nbd_reserve_config c = ours;

	(void)unused;
	c.nr_nics = 2;
	c.nics[1] = (struct nbd_reserve_nic){ 4, 1024, 4352, true };
	/* and what is on its way out of them is as large as the larger packet */
	assert_int_equal(compute(&c, SKB_6_1).nic, 737280 + 4 * (1024 + 64) * 4352);
	assert_int_equal(compute(&c, SKB_6_1).rx, 524288 + 64 * 4352);
	c.backlog = 1000;
	assert_int_equal(compute(&c, SKB_6_1).nic,
			 737280 + 4 * (1024 + 64) * 4352 + 2 * 1000 * 4352);
}

static void test_no_card_known(void **unused)
{
	struct nbd_reserve_config c = ours;

	(void)unused;
	c.nr_nics = 0;
	assert_int_equal(compute(&c, SKB_6_1).nic, 0);
	assert_int_equal(compute(&c, SKB_6_1).rx, 524288);
}

/* Nothing wraps around: too much is asked for, never too little */
static void test_absurd_numbers(void **unused)
{
	struct nbd_reserve_config c = ours;
	unsigned int i;
	struct nbd_reserve r;

	(void)unused;
	c.links = c.depth = c.max_request = c.sndbuf = c.rcvbuf = UINT32_MAX;
	c.skb = c.cpus = c.backlog = c.fragments = UINT32_MAX;
	c.mss = 1;
	c.nr_nics = NBD_RESERVE_NICS;
	for (i = 0; i < c.nr_nics; i++)
		c.nics[i] = (struct nbd_reserve_nic){ UINT32_MAX, UINT32_MAX, UINT32_MAX, true };
	nbd_reserve_compute(&c, &r);
	assert_true(r.total == UINT64_MAX);
	assert_true(r.nic == UINT64_MAX);
	assert_true(nbd_reserve_min_free(UINT64_MAX, 0, true) >= UINT64_MAX / 3);
	assert_true(nbd_reserve_min_free(UINT64_MAX, UINT64_MAX, false) >= UINT64_MAX / 3);
}

/* With nothing set aside it is the swap-outs that must begin */
static void test_which_rule_binds(void **unused)
{
	(void)unused;
	/* 2 (R + 3 MiB) beats 8/3 (R + 1 MiB) below R = 5 MiB */
	assert_int_equal(nbd_reserve_min_free(2 * MIB, 0, false), 10 * MIB);
	assert_int_equal(nbd_reserve_min_free(5 * MIB, 0, false), 16 * MIB);
	assert_int_equal(nbd_reserve_min_free(8 * MIB, 0, false), 24 * MIB);
	assert_int_equal(nbd_reserve_min_free(8 * MIB, 3 * MIB, false), 32 * MIB);
	assert_int_equal(nbd_reserve_min_free(8 * MIB, 3 * MIB, true), 24 * MIB);
	/* rounded up: a byte short is short */
	assert_int_equal(nbd_reserve_min_free(8 * MIB + 1, 0, true), 24 * MIB + 3);
}

/*
 * Before Linux 6.8 blocks are set aside until there are a hundredth and one
 * block of them, so that the last may stand over.
 */
static void test_blocks_set_aside(void **unused)
{
	(void)unused;
	assert_int_equal(nbd_reserve_highatomic(16 * MIB, 2 * MIB, false), 4 * MIB);
	assert_int_equal(nbd_reserve_highatomic(512 * MIB, 2 * MIB, false), 8 * MIB);
	assert_int_equal(nbd_reserve_highatomic(800 * MIB, 2 * MIB, false), 10 * MIB);
	assert_int_equal(nbd_reserve_highatomic(0, 2 * MIB, false), 2 * MIB);

	assert_int_equal(nbd_reserve_highatomic(16 * MIB, 2 * MIB, true), 0);
	assert_int_equal(nbd_reserve_highatomic(199 * MIB, 2 * MIB, true), 0);
	assert_int_equal(nbd_reserve_highatomic(200 * MIB, 2 * MIB, true), 2 * MIB);
	assert_int_equal(nbd_reserve_highatomic(512 * MIB, 2 * MIB, true), H_512M_6_12);
	assert_int_equal(nbd_reserve_highatomic(8192ull * MIB, 2 * MIB, true), H_8G_6_12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_beside),
		cmocka_unit_test(test_mainline),
		cmocka_unit_test(test_own_pages),
		cmocka_unit_test(test_copying),
		cmocka_unit_test(test_four_links),
		cmocka_unit_test(test_our_defaults),
		cmocka_unit_test(test_few_small_requests),
		cmocka_unit_test(test_cards_add_up),
		cmocka_unit_test(test_no_card_known),
		cmocka_unit_test(test_absurd_numbers),
		cmocka_unit_test(test_which_rule_binds),
		cmocka_unit_test(test_blocks_set_aside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
