// SPDX-License-Identifier: GPL-2.0-or-later
/* nbdtab: fields, options, what the command line overrides, what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/nbdtab.h"

/* Read text for the command line "nbd-client DEVICE [option [value]]" */
static int read_tab(const char *text, const char *device, const char *option, const char *value,
		    struct client_args *args, struct client_error *err)
{
	char *argv[] = { "nbd-client", (char *)device, (char *)option, (char *)value, NULL };
	FILE *file = fmemopen((char *)text, strlen(text), "r");
	int ret;

	memset(err, 0, sizeof(*err));
	assert_int_equal(client_args_parse(option ? value ? 4 : 3 : 2, argv, args, err), 0);
	assert_int_equal(args->command, CLIENT_CONNECT_TAB);
	ret = client_nbdtab_read(file, "tab", args, err);
	fclose(file);
	return ret;
}

static const char tab[] =
	"# a comment\n"
	"\n"
	"  \t \n"
	"nbd0\tserver  swapexport  swap,persist  # and another\n"
	"nb1 10.0.0.1,[::1]:7 data\n"
	"nbd2 /run/s x unix,port=2000,bs=4096,timeout=5,dead-timeout=6,conns=3,no_optgo,"
	"link-timeout=2.5,fence-delay=0,spread\n"
	"/dev/nbd3 h a\\040b _local=1,_x,frob=2,size=1M,readonly,connect-timeout=500ms,identifier=me\n"
	"nbd4 h \"\" preinit,size=1M\n"
	"nbd5 h \\134x\\077";

static void test_plain(void **state)
{
	struct client_args args;
	struct client_error err;

	(void)state;
	assert_int_equal(read_tab(tab, "nbd0", NULL, NULL, &args, &err), 0);
	assert_string_equal(args.host, "server");
	assert_string_equal(args.export, "swapexport");
	assert_true(args.swap && args.persist);
	assert_int_equal(args.nwarnings, 0);
	client_args_free(&args);

	/* both spellings of a device mean it */
	assert_int_equal(read_tab(tab, "/dev/nbd1", NULL, NULL, &args, &err), 0);
	assert_string_equal(args.host, "10.0.0.1,[::1]:7");
	assert_string_equal(args.export, "data");
	client_args_free(&args);

	assert_int_equal(read_tab(tab, "nb4", NULL, NULL, &args, &err), 0);
	assert_string_equal(args.export, "");
	assert_true(args.preinit);
	client_args_free(&args);

	assert_int_equal(read_tab(tab, "nb5", NULL, NULL, &args, &err), 0);
	assert_string_equal(args.export, "\\x?");
	client_args_free(&args);
}

static void test_options(void **state)
{
	struct client_args args;
	struct client_error err;

	(void)state;
	assert_int_equal(read_tab(tab, "nbd2", NULL, NULL, &args, &err), 0);
	assert_null(args.host);
	assert_string_equal(args.unix_path, "/run/s");
	assert_int_equal(args.port, 2000);
	assert_int_equal(args.block_size, 4096);
	assert_int_equal(args.timeout, 5);
	assert_int_equal(args.dead_timeout, 6);
	assert_int_equal(args.link_timeout, 2500);
	assert_int_equal(args.fence_delay, 0);
	assert_true(args.spread);
	assert_int_equal(args.links, 3);
	assert_true(args.no_go);
	client_args_free(&args);

	assert_int_equal(read_tab(tab, "nb3", NULL, NULL, &args, &err), 0);
	assert_string_equal(args.export, "a b");
	assert_int_equal(args.size, 1 << 20);
	assert_int_equal(args.connect_timeout, 500);
	assert_string_equal(args.identifier, "me");
	assert_true(args.read_only);
	/* of the unknown option, but not of those with an underscore */
	assert_int_equal(args.nwarnings, 1);
	assert_non_null(strstr(args.warnings[0], "'frob'"));
	client_args_free(&args);
}

static void test_command_line_wins(void **state)
{
	struct client_args args;
	struct client_error err;

	(void)state;
	assert_int_equal(read_tab(tab, "nbd2", "-timeout", "9", &args, &err), 0);
	assert_int_equal(args.timeout, 9);
	assert_int_equal(args.dead_timeout, 6);
	client_args_free(&args);
	assert_int_equal(read_tab(tab, "nbd0", "-N", "other", &args, &err), 0);
	assert_string_equal(args.export, "other");
	client_args_free(&args);
}

static void test_bad(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "nbd1 h e\n", "has no line for nbd0" },
		{ "nbd0\n", "tab:1: a line needs device, host and export" },
		{ "\nnbd0 h\n", "tab:2: a line needs" },
		{ "nbd0 h e a b\n", "more than four fields" },
		{ "nbd0 h e bs\n", "'bs' takes a value" },
		{ "nbd0 h e swap=1\n", "'swap' takes no value" },
		{ "nbd0 h e bs=1\n", "no value for -block-size" },
		{ "nbd0 h e port=x\n", "'x' is no port" },
		{ "nbd0 h e port\n", "is no port" },
		{ "nbd0 h e conns=17\n", "no value for -connections" },
		{ "nbd0 h e tls\n", "no TLS" },
		{ "nbd0 h e certfile=x\n", "no TLS" },
		{ "nbd0 h e sdp\n", "not supported" },
		{ "nbd0 h e preinit\n", "needs 'size=BYTES'" },
	};
	struct client_args args;
	struct client_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (!read_tab(cases[i].text, "nbd0", NULL, NULL, &args, &err))
			fail_msg("'%s' is taken", cases[i].text);
		if (!strstr(err.text, cases[i].says))
			fail_msg("'%s' says: %s", cases[i].text, err.text);
		assert_int_equal(err.code, CLIENT_USAGE);
		client_args_free(&args);
	}
}

static void test_no_file(void **state)
{
	char *argv[] = { "nbd-client", "nbd0", NULL };
	struct client_args args;
	struct client_error err;

	(void)state;
	setenv("NBDTAB", "/nonexistent/nbdtab", 1);
	assert_int_equal(client_args_parse(2, argv, &args, &err), 0);
	assert_int_equal(client_nbdtab_load(&args, &err), -1);
	assert_int_equal(err.code, CLIENT_USAGE);
	assert_non_null(strstr(err.text, "/nonexistent/nbdtab"));
	client_args_free(&args);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_command_line_wins),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_no_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
