// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <jansson.h>

#include "capture.h"
#include "common/escape.h"
#include "common/log.h"

static void escaping(void **state)
{
	static const struct {
		const char *text, *form;
	} cases[] = {
		{ "", "" },
		{ "plain", "plain" },
		{ "a\"b\\c", "a\\\"b\\\\c" },
		{ "\n\r\t\b\f", "\\n\\r\\t\\b\\f" },
		{ "\x01\x1f\x7f", "\\u0001\\u001f\\u007f" },
		{ "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
		  "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80" },
		/* Cut short, longer than need be, half of a pair, past the last one, no start */
		{ "\xc3", "\\ufffd" },
		{ "\xc0\xaf", "\\ufffd\\ufffd" },
		{ "\xe0\x80\xaf", "\\ufffd\\ufffd\\ufffd" },
		{ "\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd" },
		{ "\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd" },
		{ "\x80x", "\\ufffdx" },
	};
	char out[64];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(nbd_escape_json(out, sizeof(out), cases[i].text),
				 strlen(cases[i].form));
		assert_string_equal(out, cases[i].form);
	}
}

static void no_room(void **state)
{
	char out[6];

	(void)state;
	assert_int_equal(nbd_escape_json(out, 6, "abcdefgh"), 5);
	assert_string_equal(out, "abcde");
	/* Half of a character would be worse than none */
	assert_int_equal(nbd_escape_json(out, 6, "abcd\n"), 4);
	assert_string_equal(out, "abcd");
	assert_int_equal(nbd_escape_json(out, 3, "a\xe2\x82\xac"), 1);
	assert_int_equal(nbd_escape_json(out, 1, "a"), 0);
	assert_string_equal(out, "");
}

static int reset(void **state)
{
	(void)state;
	nbd_log_set_level(LOG_INFO);
	nbd_log_set_format(NBD_LOG_TEXT);
	unsetenv("JOURNAL_STREAM");
	nbd_log_open("test");
	return 0;
}

static void levels(void **state)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	int i, k, priority = -1;

	(void)state;
	for (i = 0; i < 4; i++) {
		assert_int_equal(nbd_log_parse_level(names[i], &priority), 0);
		assert_string_equal(nbd_log_level_name(priority), names[i]);
		nbd_log_set_level(priority);
		assert_int_equal(nbd_log_level(), priority);
		capture_start();
		nbd_err("error");
		nbd_warn("warning");
		nbd_info("info");
		nbd_log_about("c", "e", LOG_DEBUG, "debug");
		capture_end();
		for (k = 0; k < 4; k++)
			assert_int_equal(!!strstr(capture_text, names[k]), k <= i);
	}
	assert_int_equal(nbd_log_parse_level("loud", &priority), -1);
	assert_int_equal(nbd_log_parse_level("", &priority), -1);
}

static void text_lines(void **state)
{
	(void)state;
	capture_start();
	nbd_log_about("1.2.3.4 port 5", "x", LOG_WARNING, "client %s", "1.2.3.4 port 5");
	assert_string_equal(capture_end(), "test: client 1.2.3.4 port 5\n");
}

static const char *member(json_t *line, const char *key)
{
	return json_string_value(json_object_get(line, key));
}

static void json_lines(void **state)
{
	enum nbd_log_format format = NBD_LOG_TEXT;
	char name[4097];
	json_t *line;

	(void)state;
	assert_int_equal(nbd_log_parse_format("xml", &format), -1);
	assert_int_equal(nbd_log_parse_format("json", &format), 0);
	nbd_log_set_format(format);
	capture_start();
	nbd_log_about("1.2.3.4 port 5", "e\"\n\xff", LOG_ERR, "cannot\t%s", "do");
	line = json_loads(capture_end(), 0, NULL);
	assert_non_null(line);
	assert_int_equal(json_object_size(line), 5);
	assert_string_equal(member(line, "level"), "error");
	assert_string_equal(member(line, "client"), "1.2.3.4 port 5");
	assert_string_equal(member(line, "export"), "e\"\n\xef\xbf\xbd");
	assert_string_equal(member(line, "message"), "cannot\tdo");
	/* 2024-01-01T00:00:00.000000Z */
	assert_int_equal(strlen(member(line, "time")), 27);
	assert_int_equal(member(line, "time")[10], 'T');
	assert_int_equal(member(line, "time")[26], 'Z');
	json_decref(line);

	capture_start();
	nbd_info("nobody");
	line = json_loads(capture_end(), 0, NULL);
	assert_non_null(line);
	assert_int_equal(json_object_size(line), 3);
	json_decref(line);

	/* The worst that can come is still one object on one line */
	memset(name, 1, sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	capture_start();
	nbd_log_about(name, name, LOG_INFO, "%s", name);
	capture_end();
	assert_ptr_equal(strchr(capture_text, '\n'), capture_text + strlen(capture_text) - 1);
	line = json_loads(capture_text, 0, NULL);
	assert_non_null(line);
	assert_int_equal(strlen(member(line, "message")), 1023);
	json_decref(line);
}

/* The journal takes a priority from each line, but only the journal may be sent it */
static void journal(void **state)
{
	char where[64];
	struct stat st;

	(void)state;
	capture_start();
	fstat(STDERR_FILENO, &st);
	snprintf(where, sizeof(where), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", where, 1);
	nbd_log_open("test");
	nbd_err("bad");
	assert_string_equal(capture_end(), "<3>test: bad\n");

	capture_start();
	setenv("JOURNAL_STREAM", "1:1", 1);
	nbd_log_open("test");
	nbd_err("bad");
	assert_string_equal(capture_end(), "test: bad\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(escaping),
		cmocka_unit_test(no_room),
		cmocka_unit_test_setup_teardown(levels, reset, reset),
		cmocka_unit_test_setup_teardown(text_lines, reset, reset),
		cmocka_unit_test_setup_teardown(json_lines, reset, reset),
		cmocka_unit_test_setup_teardown(journal, reset, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
