// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/nospace.h"

static void first_at_once(void **state)
{
	struct srv_nospace n = { 0 };
	unsigned int kept = 99;

	(void)state;
	assert_true(srv_nospace_failed(&n, 1000, &kept));
	assert_int_equal(kept, 0);
}

static void counted(void **state)
{
	struct srv_nospace n = { 0 };
	unsigned int kept = 0, i;

	(void)state;
	assert_true(srv_nospace_failed(&n, 1000, &kept));
	for (i = 0; i < 7; i++)
		assert_false(srv_nospace_failed(&n, 1000 + SRV_NOSPACE_MS - 1, &kept));
	assert_true(srv_nospace_failed(&n, 1000 + SRV_NOSPACE_MS, &kept));
	assert_int_equal(kept, 7);
	/* and once only */
	assert_true(srv_nospace_failed(&n, 1000 + 2 * SRV_NOSPACE_MS, &kept));
	assert_int_equal(kept, 0);
}

/* When nothing fails any longer, the last ones are still told */
static void left_over(void **state)
{
	struct srv_nospace n = { 0 };
	unsigned int kept;

	(void)state;
	assert_int_equal(srv_nospace_kept(&n, 500), 0);
	assert_true(srv_nospace_failed(&n, 1000, &kept));
	assert_int_equal(srv_nospace_kept(&n, 1001), 0);
	assert_false(srv_nospace_failed(&n, 1002, &kept));
	assert_false(srv_nospace_failed(&n, 1003, &kept));
	assert_int_equal(srv_nospace_kept(&n, 2000), 2);
	assert_int_equal(srv_nospace_kept(&n, 2000), 0);
	/* That was a message too */
	assert_false(srv_nospace_failed(&n, 2000 + SRV_NOSPACE_MS - 1, &kept));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_at_once),
		cmocka_unit_test(counted),
		cmocka_unit_test(left_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
