// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/arena.h"

#define PAGE   SRV_ARENA_PAGE
#define BLOCKS 2

static struct srv_arena a;

static int setup(void **state)
{
	(void)state;
	return srv_arena_init(&a, BLOCKS * SRV_ARENA_MAX);
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(a.used, 0);
	srv_arena_destroy(&a);
	return 0;
}

static void sizes(void **state)
{
	(void)state;
	assert_int_equal(srv_arena_size(1), PAGE);
	assert_int_equal(srv_arena_size(PAGE), PAGE);
	assert_int_equal(srv_arena_size(PAGE + 1), 2 * PAGE);
	assert_int_equal(srv_arena_size(SRV_ARENA_MAX - 1), SRV_ARENA_MAX);
}

/* All of it can be had in blocks of any one size, and again when they have been put back */
static void whole(void **state)
{
	size_t len, n, i;
	uint8_t **block;

	(void)state;
	for (len = SRV_ARENA_MAX; len >= PAGE; len /= 8) {
		n = BLOCKS * SRV_ARENA_MAX / len;
		block = malloc(n * sizeof(*block));
		assert_non_null(block);
		for (i = 0; i < n; i++) {
			block[i] = srv_arena_get(&a, len);
			assert_non_null(block[i]);
			block[i][0] = block[i][len - 1] = (uint8_t)i;
		}
		assert_null(srv_arena_get(&a, 1));
		assert_int_equal(a.used, BLOCKS * SRV_ARENA_MAX);
		/* Every other one first: halves meet in both orders */
		for (i = 0; i < n; i += 2)
			srv_arena_put(&a, block[i]);
		for (i = 1; i < n; i += 2) {
			assert_int_equal(block[i][0], (uint8_t)i);
			assert_int_equal(block[i][len - 1], (uint8_t)i);
			srv_arena_put(&a, block[i]);
		}
		free(block);
	}
}

/* Blocks of random sizes never overlap, and leave one piece behind */
static void at_random(void **state)
{
	static struct {
		uint8_t *p;
		size_t len;
	} held[64];
	unsigned int i, k;

	(void)state;
	srand(1);
	for (i = 0; i < 20000; i++) {
		k = (unsigned int)rand() % 64;
		if (held[k].p) {
			assert_int_equal(held[k].p[0], k);
			assert_int_equal(held[k].p[held[k].len - 1], k);
			srv_arena_put(&a, held[k].p);
			held[k].p = NULL;
			continue;
		}
		held[k].len = 1 + ((size_t)rand() % 4096 << rand() % 11);
		held[k].p = srv_arena_get(&a, held[k].len);
		if (held[k].p)
			held[k].p[0] = held[k].p[held[k].len - 1] = (uint8_t)k;
	}
	for (k = 0; k < 64; k++) {
		if (held[k].p)
			srv_arena_put(&a, held[k].p);
	}
	whole(state);
}

static void trim(void **state)
{
	uint8_t *kept = srv_arena_get(&a, PAGE), *p = srv_arena_get(&a, 1 << 20);

	(void)state;
	memset(kept, 1, PAGE);
	memset(p, 2, 1 << 20);
	assert_true(a.warm >= (1 << 20));
	srv_arena_put(&a, p);
	srv_arena_trim(&a);
	assert_int_equal(a.warm, PAGE);
	/* What was given back is zero, what was not stays */
	assert_int_equal(p[4096], 0);
	assert_int_equal(kept[PAGE - 1], 1);
	srv_arena_put(&a, kept);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { T(sizes), T(whole), T(at_random), T(trim) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
