// SPDX-License-Identifier: GPL-2.0-or-later
/* Strings of a server on a terminal, sizes, numbers, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/error.h"
#include "client/text.h"

static void test_quote(void **state)
{
	static const struct {
		const char *in, *quoted, *escaped;
	} cases[] = {
		{ "", "\"\"", "" },
		{ "swap", "\"swap\"", "swap" },
		{ "a \"b\" \\", "\"a \\\"b\\\" \\\\\"", "a \"b\" \\" },
		{ "gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\"", "gr\xc3\xbc\xc3\x9f" },
		{ "\033[2J", "\"\\x1b[2J\"", "\\x1b[2J" },
		{ "a\nb\x7f", "\"a\\x0ab\\x7f\"", "a\\x0ab\\x7f" },
		{ "\xff\xfe", "\"\\xff\\xfe\"", "\\xff\\xfe" },
		{ "\xc0\x80", "\"\\xc0\\x80\"", "\\xc0\\x80" }, /* overlong NUL */
		{ "\xe0\x80\x80", "\"\\xe0\\x80\\x80\"", "\\xe0\\x80\\x80" },
		{ "\xc2\x9b", "\"\\xc2\\x9b\"", "\\xc2\\x9b" },		      /* C1 control */
		{ "\xed\xa0\x80", "\"\\xed\\xa0\\x80\"", "\\xed\\xa0\\x80" }, /* surrogate */
		{ "\xf4\x90\x80\x80", "\"\\xf4\\x90\\x80\\x80\"", "\\xf4\\x90\\x80\\x80" },
		{ "\xf0\x9f\x90\xa7", "\"\xf0\x9f\x90\xa7\"", "\xf0\x9f\x90\xa7" },
		{ "\xe2\x82", "\"\\xe2\\x82\"", "\\xe2\\x82" }, /* cut off */
	};
	size_t i;
	char *s;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		s = client_text_quote(cases[i].in);
		assert_string_equal(s, cases[i].quoted);
		free(s);
		s = client_text_escape(cases[i].in);
		assert_string_equal(s, cases[i].escaped);
		free(s);
	}
}

static void test_clean(void **state)
{
	char s[] = "a\033[1m\xc3\xbc\xff\r\n";

	(void)state;
	client_text_clean(s);
	assert_string_equal(s, "a?[1m\xc3\xbc???");
}

static void test_size(void **state)
{
	char buf[CLIENT_SIZE_TEXT];

	(void)state;
	assert_string_equal(client_text_size(0, buf), "0 bytes");
	assert_string_equal(client_text_size(1023, buf), "1023 bytes");
	assert_string_equal(client_text_size(1024, buf), "1 KiB");
	assert_string_equal(client_text_size(1 << 20, buf), "1 MiB");
	assert_string_equal(client_text_size((1 << 20) + 512, buf), "1049088 bytes");
	assert_string_equal(client_text_size(1ULL << 40, buf), "1048576 MiB");
	assert_string_equal(client_text_size(UINT64_MAX, buf), "18446744073709551615 bytes");
}

static void test_numbers(void **state)
{
	char text[CLIENT_SIZE_TEXT];
	uint64_t n;

	(void)state;
	assert_true(client_text_number("0", &n) && n == 0);
	assert_true(client_text_number("18446744073709551615", &n) && n == UINT64_MAX);
	assert_false(client_text_number("18446744073709551616", &n));
	assert_false(client_text_number("", &n));
	assert_false(client_text_number("-1", &n));
	assert_false(client_text_number(" 1", &n));
	assert_false(client_text_number("1 ", &n));
	assert_true(client_text_bytes("2k", &n) && n == 2048);
	assert_true(client_text_bytes("2K", &n) && n == 2048);
	assert_true(client_text_bytes("3M", &n) && n == 3 << 20);
	assert_true(client_text_bytes("1T", &n) && n == 1ULL << 40);
	assert_false(client_text_bytes("16777216T", &n));
	assert_false(client_text_bytes("1kk", &n));
	assert_false(client_text_bytes("1x", &n));
	assert_true(client_text_duration("3", &n) && n == 3000);
	assert_true(client_text_duration("3s", &n) && n == 3000);
	assert_true(client_text_duration("3ms", &n) && n == 3);
	assert_true(client_text_duration("0.5", &n) && n == 500);
	assert_true(client_text_duration("1.25s", &n) && n == 1250);
	assert_true(client_text_duration("2.007", &n) && n == 2007);
	assert_false(client_text_duration("3m", &n));
	assert_false(client_text_duration("1.", &n));
	assert_false(client_text_duration(".5", &n));
	assert_false(client_text_duration("1.2345", &n));
	assert_false(client_text_duration("1.5ms", &n));
	assert_false(client_text_duration("1.-5", &n));
	assert_false(client_text_duration("18446744073709551.616", &n));
	assert_true(client_text_duration("18446744073709551.615", &n) && n == UINT64_MAX);
	assert_string_equal(client_text_ms(0, text), "0 s");
	assert_string_equal(client_text_ms(10000, text), "10 s");
	assert_string_equal(client_text_ms(250, text), "0.25 s");
	assert_string_equal(client_text_ms(1007, text), "1.007 s");
	assert_false(client_text_duration("18446744073709551615s", &n));
}

static void test_error(void **state)
{
	struct client_error err;

	(void)state;
	assert_int_equal(client_error_set(&err, CLIENT_BUSY, "%s is %d", "x", 5), -1);
	assert_int_equal(err.code, CLIENT_BUSY);
	assert_string_equal(err.text, "x is 5");
	assert_int_equal(client_error_prefix(&err, "file:3"), -1);
	assert_string_equal(err.text, "file:3: x is 5");
	assert_int_equal(err.code, CLIENT_BUSY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quote), cmocka_unit_test(test_clean),
		cmocka_unit_test(test_size),  cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
