// SPDX-License-Identifier: GPL-2.0-or-later
/* Tables for people, and the command line of nbd-server ctl. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "capture.h"
#include "server/ctl.h"

static void units(void **state)
{
	char text[SRV_CTL_TEXT];

	(void)state;
	assert_string_equal(srv_ctl_bytes(text, 0), "0 B");
	assert_string_equal(srv_ctl_bytes(text, 1023), "1023 B");
	assert_string_equal(srv_ctl_bytes(text, 1024), "1.0 KiB");
	assert_string_equal(srv_ctl_bytes(text, 1536), "1.5 KiB");
	assert_string_equal(srv_ctl_bytes(text, 1048575), "1.0 MiB");
	assert_string_equal(srv_ctl_bytes(text, 18446744073709551615.0), "16.0 EiB");
	assert_string_equal(srv_ctl_us(text, 0), "0 us");
	assert_string_equal(srv_ctl_us(text, 1.25), "1.2 us");
	assert_string_equal(srv_ctl_us(text, 999), "999 us");
	assert_string_equal(srv_ctl_us(text, 1500), "1.5 ms");
	assert_string_equal(srv_ctl_us(text, 33554432), "33.6 s");
	assert_string_equal(srv_ctl_age(text, -1), "0 s");
	assert_string_equal(srv_ctl_age(text, 119), "119 s");
	assert_string_equal(srv_ctl_age(text, 120), "2 min");
	assert_string_equal(srv_ctl_age(text, 7200), "2 h");
	assert_string_equal(srv_ctl_age(text, 86400 * 3), "3 d");
}

static char *shown;
static size_t shown_len;
static FILE *out;

static void begin(void)
{
	free(shown);
	shown = NULL;
	out = open_memstream(&shown, &shown_len);
	assert_non_null(out);
}

static const char *end(void)
{
	assert_int_equal(fclose(out), 0);
	return shown;
}

static json_t *json(const char *text)
{
	json_t *value = json_loads(text, 0, NULL);

	assert_non_null(value);
	return value;
}

static const char counters[] =
	"[{\"name\":\"a\",\"commands\":{\"read\":{\"requests\":12345,\"errors\":0,\"bytes\":2048}}},"
	"{\"name\":\"\",\"commands\":{\"write\":{\"requests\":1,\"errors\":1,\"bytes\":0}}},"
	"{\"name\":\"h\xc3\xa9\\n\",\"commands\":{}}]";

static void tables(void **state)
{
	json_t *exports = json(counters);

	(void)state;
	begin();
	srv_ctl_show_counters(out, exports, NULL, 0);
	assert_string_equal(end(), "EXPORT  COMMAND  REQUESTS  ERRORS    BYTES\n"
				   "a       read        12345       0  2.0 KiB\n"
				   "''      write           1       1      0 B\n");
	json_decref(exports);
}

static void rates(void **state)
{
	json_t *exports = json(counters);
	json_t *before = json("[{\"name\":\"a\",\"commands\":{\"read\":"
			      "{\"requests\":12325,\"errors\":0,\"bytes\":0}}}]");

	(void)state;
	begin();
	srv_ctl_show_counters(out, exports, before, 2);
	assert_string_equal(end(),
			    "EXPORT  COMMAND  REQUESTS  ERRORS    BYTES  REQUESTS/S  BYTES/S\n"
			    "a       read        12345       0  2.0 KiB        10.0  1.0 KiB\n"
			    "''      write           1       1      0 B         0.5      0 B\n");
	json_decref(exports);
	json_decref(before);
}

static void clients(void **state)
{
	json_t *list = json(
		"[{\"id\":2,\"peer\":\"::1 port 7\",\"export\":\"\xe2\x82\xac\\u001b[2J\","
		"\"state\":\"serving\",\"since\":1000.0,\"in_flight\":3,"
		"\"session\":{\"id\":\"0123456789abcdef\",\"link\":1},\"commands\":{"
		"\"read\":{\"requests\":5,\"bytes\":1048576,\"errors\":1},"
		"\"write\":{\"requests\":6,\"bytes\":512,\"errors\":1}}},"
		"{\"id\":1,\"peer\":\"1.2.3.4 port 5\",\"export\":null,\"state\":\"handshake\","
		"\"since\":1059.0,\"in_flight\":0,\"session\":null,\"commands\":{}}]");

	(void)state;
	begin();
	srv_ctl_show_clients(out, list, 1060);
	/* The oldest first; what a name does to a terminal is no matter of its owner's */
	assert_string_equal(
		end(),
		"ID  CLIENT          EXPORT  STATE      CONNECTED  IN FLIGHT  REQUESTS  ERRORS     "
		"READ  WRITTEN  SESSION\n"
		" 1  1.2.3.4 port 5  -       handshake        1 s          0         0       0      "
		"0 B      0 B  -\n"
		" 2  ::1 port 7      \xe2\x82\xac?[2J   serving         60 s          3        11  "
		"     2  1.0 MiB    512 B  01234567/1\n");
	json_decref(list);
}

static void bars(void **state)
{
	json_t *exports = json("[{\"name\":\"a\",\"bounds_us\":[1,2,4],\"commands\":{\"read\":"
			       "{\"requests\":101,\"total_us\":202.0,\"buckets\":[0,100,0,1]}}}]");
	json_t *none = json("[]");

	(void)state;
	begin();
	srv_ctl_show_latency(out, exports);
	assert_string_equal(end(),
			    "export a, read: 101 requests, mean 2 us, half <= 2 us, 99% <= 2 us\n"
			    "  <=     2 us          100  ########################################\n"
			    "  <=     4 us            0\n"
			    "   >     4 us            1  #\n");
	begin();
	srv_ctl_show_latency(out, none);
	assert_string_equal(end(), "no request yet\n");
	json_decref(exports);
	json_decref(none);
}

static void status(void **state)
{
	json_t *s = json("{\"version\":\"1.2\",\"pid\":5,\"uptime\":130.5,\"stopping\":false,"
			 "\"exports\":2,\"clients\":3,\"clients_total\":9,\"fencing\":0,"
			 "\"refused\":{\"max_clients\":7,\"maxconnections\":0,\"maxperaddress\":2},"
			 "\"requests\":11,\"errors\":1,\"in_flight\":2,\"dropped\":4,"
			 "\"bytes_read\":4096,\"bytes_written\":0,\"loops\":2,\"io\":\"uring\","
			 "\"log_level\":\"info\"}");

	(void)state;
	begin();
	srv_ctl_show_status(out, s);
	assert_string_equal(end(),
			    "nbd-server 1.2, process 5, up 2 min\n"
			    "exports      2 configured\n"
			    "clients      3 now, 9 since the start\n"
			    "refused      7 for max_clients, 2 for maxperaddress\n"
			    "requests     11 answered, 1 with an error; 2 in flight, 4 dropped\n"
			    "data         4.0 KiB read, 0 B written\n"
			    "event loops  2, disk I/O by io_uring\n"
			    "log level    info\n");
	json_decref(s);
}

static int run(const char *a, const char *b, const char *c, const char *d)
{
	const char *argv[] = { "ctl", a, b, c, d, NULL };
	int argc = 0, ret;

	while (argv[argc])
		argc++;
	capture_start();
	ret = srv_ctl(argc, (char **)argv);
	capture_end();
	return ret;
}

static void usage(void **state)
{
	(void)state;
	assert_int_equal(run(NULL, NULL, NULL, NULL), SRV_CTL_USAGE);
	assert_said(capture_text, "give a command");
	assert_int_equal(run("sing", NULL, NULL, NULL), SRV_CTL_USAGE);
	assert_said(capture_text, "ctl sing: no such command");
	assert_int_equal(run("status", "now", NULL, NULL), SRV_CTL_USAGE);
	assert_said(capture_text, "now is too much");
	assert_int_equal(run("log-level", "debug", "x", NULL), SRV_CTL_USAGE);
	assert_int_equal(run("status", "--watch", "0", NULL), SRV_CTL_USAGE);
	assert_said(capture_text, "--watch 0: expected");
	assert_int_equal(run("log-level", "debug", "--watch", "1"), SRV_CTL_USAGE);
	assert_int_equal(run("status", "--socket", NULL, NULL), SRV_CTL_USAGE);
	assert_said(capture_text, "--socket: the option needs a value");
	assert_int_equal(run("status", "--nonsense", NULL, NULL), SRV_CTL_USAGE);
	assert_said(capture_text, "--nonsense: no such option");
	assert_int_equal(run("status", "--socket", "/nonexistent/x", NULL), SRV_CTL_NO_SERVER);
	assert_said(capture_text, "no server answers on /nonexistent/x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(units),   cmocka_unit_test(tables), cmocka_unit_test(rates),
		cmocka_unit_test(clients), cmocka_unit_test(bars),   cmocka_unit_test(status),
		cmocka_unit_test(usage),
	};
	int ret = cmocka_run_group_tests(tests, NULL, NULL);

	free(shown);
	return ret;
}
