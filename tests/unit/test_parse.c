// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "capture.h"
#include "common/bytes.h"
#include "common/log.h"
#include "common/parse.h"

static void uint_values(void **state)
{
	uint64_t v = 7;

	(void)state;
	assert_int_equal(nbd_parse_uint("0", 10, &v), 0);
	assert_true(v == 0);
	assert_int_equal(nbd_parse_uint("10", 10, &v), 0);
	assert_true(v == 10);
	assert_int_equal(nbd_parse_uint("18446744073709551615", UINT64_MAX, &v), 0);
	assert_true(v == UINT64_MAX);
	v = 7;
	assert_int_equal(nbd_parse_uint("11", 10, &v), -ERANGE);
	assert_int_equal(nbd_parse_uint("18446744073709551616", UINT64_MAX, &v), -ERANGE);
	assert_int_equal(nbd_parse_uint("99999999999999999999999", UINT64_MAX, &v), -ERANGE);
	assert_int_equal(nbd_parse_uint("", 10, &v), -EINVAL);
	assert_int_equal(nbd_parse_uint("-1", 10, &v), -EINVAL);
	assert_int_equal(nbd_parse_uint("+1", 10, &v), -EINVAL);
	assert_int_equal(nbd_parse_uint(" 1", 10, &v), -EINVAL);
	assert_int_equal(nbd_parse_uint("1 ", 10, &v), -EINVAL);
	assert_int_equal(nbd_parse_uint("0x1", 10, &v), -EINVAL);
	assert_int_equal(nbd_parse_uint("1k", 10, &v), -EINVAL);
	assert_true(v == 7);
}

static void size_values(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "0", 0 },
		{ "1", 1 },
		{ "4096", 4096 },
		{ "1k", 1 << 10 },
		{ "1K", 1 << 10 },
		{ "3m", 3 << 20 },
		{ "3M", 3 << 20 },
		{ "2g", 2ULL << 30 },
		{ "2G", 2ULL << 30 },
		{ "5t", 5ULL << 40 },
		{ "5T", 5ULL << 40 },
		{ "9223372036854775807", INT64_MAX },
		{ "8388607T", 8388607ULL << 40 },
	};
	uint64_t v;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_int_equal(nbd_parse_size(good[i].text, &v), 0);
		assert_true(v == good[i].bytes);
	}
	v = 7;
	assert_int_equal(nbd_parse_size("", &v), -EINVAL);
	assert_int_equal(nbd_parse_size("k", &v), -EINVAL);
	assert_int_equal(nbd_parse_size("1kb", &v), -EINVAL);
	assert_int_equal(nbd_parse_size("1x", &v), -EINVAL);
	assert_int_equal(nbd_parse_size("-1", &v), -EINVAL);
	assert_int_equal(nbd_parse_size("1.5g", &v), -EINVAL);
	assert_int_equal(nbd_parse_size("9223372036854775808", &v), -ERANGE);
	assert_int_equal(nbd_parse_size("8388608T", &v), -ERANGE);
	assert_int_equal(nbd_parse_size("18446744073709551617k", &v), -ERANGE);
	assert_true(v == 7);
}

static void bytes(void **state)
{
	uint8_t buf[9] = { 0 };

	(void)state;
	nbd_put_be16(buf + 1, 0x0102);
	assert_memory_equal(buf, "\0\1\2\0", 4);
	assert_int_equal(nbd_get_be16(buf + 1), 0x0102);
	nbd_put_be32(buf + 1, 0x01020304);
	assert_memory_equal(buf, "\0\1\2\3\4\0", 6);
	assert_int_equal(nbd_get_be32(buf + 1), 0x01020304);
	nbd_put_be64(buf + 1, 0x0102030405060708ULL);
	assert_memory_equal(buf, "\0\1\2\3\4\5\6\7\10", 9);
	assert_true(nbd_get_be64(buf + 1) == 0x0102030405060708ULL);
}

static void log_lines(void **state)
{
	char longest[4096];
	const char *text;

	(void)state;
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	nbd_log_open("prog");
	capture_start();
	nbd_err("file %s: %d", "f", 3);
	nbd_info("%s", longest);
	text = capture_end();
	assert_said(text, "prog: file f: 3\n");
	assert_said(text, "xxx\n");
}

static void log_limit(void **state)
{
	struct nbd_log_limit limit = { 0 };
	int i, n = 0;

	(void)state;
	capture_start();
	for (i = 0; i < 1000; i++)
		n += nbd_log_allowed(&limit, 100);
	assert_int_equal(n, NBD_LOG_BURST);
	assert_true(!nbd_log_allowed(&limit, 100 + NBD_LOG_WINDOW - 1));
	assert_true(nbd_log_allowed(&limit, 100 + NBD_LOG_WINDOW));
	assert_said(capture_end(), "kept back");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(uint_values), cmocka_unit_test(size_values),
		cmocka_unit_test(bytes),       cmocka_unit_test(log_lines),
		cmocka_unit_test(log_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
