// SPDX-License-Identifier: GPL-2.0-or-later
/* The command line: what the reference client takes, what is ours, what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/args.h"
#include "client/options.h"

#define MAX_ARGV 24

struct line {
	char text[512];
	char *argv[MAX_ARGV];
	int argc;
};

/* Split at blanks, '' is an empty word; argv[0] is the program */
static void split(const char *text, struct line *line)
{
	char *save, *word;

	snprintf(line->text, sizeof(line->text), "nbd-client %s", text);
	line->argc = 0;
	for (word = strtok_r(line->text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		assert_true(line->argc < MAX_ARGV - 1);
		if (!strcmp(word, "''"))
			word[0] = '\0';
		line->argv[line->argc++] = word;
	}
	line->argv[line->argc] = NULL;
}

static int parse(const char *text, struct client_args *args, struct client_error *err)
{
	struct line line;

	split(text, &line);
	memset(err, 0, sizeof(*err));
	return client_args_parse(line.argc, line.argv, args, err);
}

static void same(const char *is, const char *should)
{
	if (should)
		assert_non_null(is);
	else
		assert_null(is);
	if (should)
		assert_string_equal(is, should);
}

struct good {
	const char *line;
	struct client_args want; /* of unnamed fields the default */
};

#define GOOD(l, ...)                                                                        \
	{                                                                                   \
		l,                                                                          \
		{                                                                           \
			.links = 1, .connect_timeout = 10000, .timeout = CLIENT_NOT_GIVEN,  \
			.dead_timeout = CLIENT_NOT_GIVEN, .link_timeout = CLIENT_NOT_GIVEN, \
			.fence_delay = CLIENT_NOT_GIVEN, __VA_ARGS__                        \
		}                                                                           \
	}
#define H .host = "h", .device = "nbd0"

#pragma GCC diagnostic ignored "-Woverride-init"

static const struct good good[] = {
	/* forms */
	GOOD("h nbd0", H),
	GOOD("h 2000 nbd0", H, .port = 2000),
	GOOD("h /dev/nb7", .host = "h", .device = "/dev/nb7"),
	GOOD("a,b:1,[::1]:2 nbd0", .host = "a,b:1,[::1]:2", .device = "nbd0"),
	GOOD("nbd0", .command = CLIENT_CONNECT_TAB, .device = "nbd0"),
	GOOD("/dev/nbd0 -swap", .command = CLIENT_CONNECT_TAB, .device = "/dev/nbd0", .swap = true),
	GOOD("-d nbd0", .command = CLIENT_DISCONNECT, .device = "nbd0"),
	GOOD("-disconnect /dev/nb0 -force", .command = CLIENT_DISCONNECT, .device = "/dev/nb0",
	     .force = true),
	GOOD("-d nbd0 -L", .command = CLIENT_DISCONNECT, .device = "nbd0", .no_netlink = true),
	GOOD("-c nbd0", .command = CLIENT_CHECK, .device = "nbd0"),
	GOOD("--check=/dev/nbd0p1", .command = CLIENT_CHECK, .device = "/dev/nbd0p1"),
	GOOD("-l h", .command = CLIENT_LIST, .host = "h"),
	GOOD("h -l", .command = CLIENT_LIST, .host = "h"),
	GOOD("--list h 2000", .command = CLIENT_LIST, .host = "h", .port = 2000),
	GOOD("-l -u /s", .command = CLIENT_LIST, .unix_path = "/s"),
	GOOD("list h", .command = CLIENT_LIST, .host = "h", .details = true),
	GOOD("list h 1 --json", .command = CLIENT_LIST, .host = "h", .port = 1, .details = true,
	     .json = true),
	GOOD("status", .command = CLIENT_STATUS, .details = true),
	GOOD("status --json nb3", .command = CLIENT_STATUS, .device = "nb3", .details = true,
	     .json = true),
	GOOD("-h", .command = CLIENT_HELP),
	GOOD("--help", .command = CLIENT_HELP),
	GOOD("-V", .command = CLIENT_VERSION),
	GOOD("--version", .command = CLIENT_VERSION),
	GOOD("-c nbd0 --help", .command = CLIENT_HELP, .device = "nbd0"),
	GOOD("-u /s nbd0", .unix_path = "/s", .device = "nbd0"),
	GOOD("nbd0 -unix /s", .unix_path = "/s", .device = "nbd0"),
	GOOD("nbd://h nbd0", H, .export = ""),
	GOOD("nbd://h:5/e%20x nbd0", H, .export = "e x", .port = 5),
	GOOD("nbd://[::1]:5/e nbd0", .host = "[::1]", .device = "nbd0", .export = "e", .port = 5),
	GOOD("nbd+unix:///e?socket=/s nbd0", .unix_path = "/s", .device = "nbd0", .export = "e"),
	/* every option, both names, one dash or two, joined values, prefixes */
	GOOD("-N e h nbd0", H, .export = "e"),
	GOOD("-name e h nbd0", H, .export = "e"),
	GOOD("--name=e h nbd0", H, .export = "e"),
	GOOD("-Ne h nbd0", H, .export = "e"),
	GOOD("-N '' h nbd0", H, .export = ""),
	GOOD("-b 4096 h nbd0", H, .block_size = 4096),
	GOOD("-block-size 4k h nbd0", H, .block_size = 4096),
	GOOD("h nbd0 -bl 512", H, .block_size = 512),
	GOOD("-B 1048576 h nbd0", H, .size = 1048576),
	GOOD("-size 1G h nbd0", H, .size = 1 << 30),
	GOOD("-C 4 h nbd0", H, .links = 4),
	GOOD("-C4 h nbd0", H, .links = 4),
	GOOD("-connections 16 h nbd0", H, .links = 16),
	GOOD("-conn 2 h nbd0", H, .links = 2),
	GOOD("-connect 2 h nbd0", H, .links = 2),
	GOOD("-co 2 h nbd0", H, .links = 2),
	GOOD("-connect-timeout 500ms h nbd0", H, .connect_timeout = 500),
	GOOD("--connect-t=5 h nbd0", H, .connect_timeout = 5000),
	GOOD("-connect-timeout 0.25 h nbd0", H, .connect_timeout = 250),
	GOOD("-link-timeout 2.5 h nbd0", H, .link_timeout = 2500),
	GOOD("-fence-delay 0 h nbd0", H, .fence_delay = 0),
	GOOD("-fence-delay 500ms -spread h nbd0", H, .fence_delay = 500, .spread = true),
	GOOD("-t 9 h nbd0", H, .timeout = 9),
	GOOD("-dead-conn-timeout 8 h nbd0", H, .dead_timeout = 8),
	GOOD("-li h", .command = CLIENT_LIST, .host = "h"),
	GOOD("set nbd0 -dead-timeout 0", .command = CLIENT_SET, .details = true, .device = "nbd0",
	     .dead_timeout = 0),
	GOOD("set -t 5 /dev/nb0 -link-timeout 20 -fence-delay 0.1", .command = CLIENT_SET,
	     .details = true, .device = "/dev/nb0", .timeout = 5, .link_timeout = 20000,
	     .fence_delay = 100),
	GOOD("doctor", .command = CLIENT_DOCTOR, .details = true),
	GOOD("doctor nb0 /dev/nbd1 --json", .command = CLIENT_DOCTOR, .details = true, .json = true,
	     .ndevices = 2, .devices = { "nb0", "/dev/nbd1" }),
	GOOD("-timeout 9 h nbd0", H, .timeout = 9),
	GOOD("-T 8 h nbd0", H, .dead_timeout = 8),
	GOOD("-dead-timeout 8 h nbd0", H, .dead_timeout = 8),
	GOOD("-s h nbd0", H, .swap = true),
	GOOD("-swap h nbd0", H, .swap = true),
	GOOD("--sw h nbd0", H, .swap = true),
	GOOD("-R h nbd0", H, .read_only = true),
	GOOD("h -readonly nbd0", H, .read_only = true),
	GOOD("-p h nbd0", H, .persist = true),
	GOOD("-persist h nbd0", H, .persist = true),
	GOOD("-g h nbd0", H, .no_go = true),
	GOOD("-no-optgo h nbd0", H, .no_go = true),
	GOOD("-i me h nbd0", H, .identifier = "me"),
	GOOD("-identifier me h nbd0", H, .identifier = "me"),
	GOOD("-L h nbd0", H, .no_netlink = true),
	GOOD("-nonetlink h nbd0", H, .no_netlink = true),
	GOOD("-n h nbd0", H, .no_fork = true),
	GOOD("-nofork h nbd0", H, .no_fork = true),
	GOOD("-m h nbd0", H, .systemd_mark = true),
	GOOD("--systemd-mark h nbd0", H, .systemd_mark = true),
	GOOD("-P -B 1M h nbd0", H, .preinit = true, .size = 1 << 20),
	GOOD("-preinit -size 1M h nbd0", H, .preinit = true, .size = 1 << 20),
	GOOD("-Rsp h nbd0", H, .read_only = true, .swap = true, .persist = true),
	GOOD("-swap -- h nbd0", H, .swap = true),
	/* of old */
	GOOD("bs=1024 h nbd0", H, .block_size = 1024, .nwarnings = 1),
	GOOD("h 1 nbd0 timeout=5", H, .port = 1, .timeout = 5, .nwarnings = 1),
	/* Debian's initramfs script, with and without a port */
	GOOD("10.0.0.1 -N root /dev/nbd0 -swap -persist -systemd-mark", .host = "10.0.0.1",
	     .export = "root", .device = "/dev/nbd0", .swap = true, .persist = true,
	     .systemd_mark = true),
	GOOD("10.0.0.1 -N root 2000 /dev/nbd0 -swap -persist -systemd-mark", .host = "10.0.0.1",
	     .export = "root", .port = 2000, .device = "/dev/nbd0", .swap = true, .persist = true,
	     .systemd_mark = true),
	/* dracut's: with options of the kernel command line, by port and by name */
	GOOD("--systemd-mark bs=4096 srv 2000 /dev/nbd0 -persist", .host = "srv", .port = 2000,
	     .device = "/dev/nbd0", .block_size = 4096, .systemd_mark = true, .persist = true,
	     .nwarnings = 1),
	GOOD("--systemd-mark srv -N exp /dev/nbd0 -swap timeout=30", .host = "srv", .export = "exp",
	     .device = "/dev/nbd0", .systemd_mark = true, .swap = true, .timeout = 30,
	     .nwarnings = 1),
};

static void test_good(void **state)
{
	struct client_args args;
	struct client_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		const struct client_args *want = &good[i].want;

		if (parse(good[i].line, &args, &err))
			fail_msg("'%s': %s", good[i].line, err.text);
		same(args.host, want->host);
		same(args.unix_path, want->unix_path);
		same(args.device, want->device);
		same(args.export, want->export);
		same(args.identifier, want->identifier);
		client_args_free(&args);
	}
}

#define NUMBER(field)                                                      \
	do {                                                               \
		if (args.field != want->field)                             \
			fail_msg("'%s': " #field " is %llu", good[i].line, \
				 (unsigned long long)args.field);          \
	} while (0)

static void test_good_numbers(void **state)
{
	struct client_args args;
	struct client_error err;
	size_t i, j;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		const struct client_args *want = &good[i].want;

		assert_int_equal(parse(good[i].line, &args, &err), 0);
		NUMBER(command);
		NUMBER(port);
		NUMBER(block_size);
		NUMBER(size);
		NUMBER(timeout);
		NUMBER(dead_timeout);
		NUMBER(links);
		NUMBER(connect_timeout);
		NUMBER(link_timeout);
		NUMBER(fence_delay);
		NUMBER(spread);
		NUMBER(ndevices);
		for (j = 0; j < want->ndevices; j++)
			same(args.devices[j], want->devices[j]);
		NUMBER(no_go);
		NUMBER(read_only);
		NUMBER(swap);
		NUMBER(persist);
		NUMBER(no_fork);
		NUMBER(no_netlink);
		NUMBER(preinit);
		NUMBER(systemd_mark);
		NUMBER(force);
		NUMBER(json);
		NUMBER(details);
		NUMBER(nwarnings);
		client_args_free(&args);
	}
}

static const struct bad {
	const char *line;
	const char *says;      /* part of the sentence */
	enum client_exit code; /* 0: CLIENT_USAGE */
} bad[] = {
	{ "", "no host", 0 },
	{ "h", "a device is needed", 0 },
	{ "h 2000", "no device", 0 },
	{ "h 0 nbd0", "'0' is no port", 0 },
	{ "h 65536 nbd0", "'65536' is no port", 0 },
	{ "h 99999999999999999999999 nbd0", "no port", 0 },
	{ "h sda", "'sda' is no NBD device", 0 },
	{ "h nbd", "'nbd' is no NBD device", 0 },
	{ "h nbd00", "no NBD device", 0 },
	{ "h nbd0p1", "no NBD device", 0 },
	{ "h nbd9999999", "no NBD device", 0 },
	{ "h 1 nbd0 x", "one word too many", 0 },
	{ "h nbd0 x", "one word too many", 0 },
	{ "h 1 nbd0 x y", "one word too many", 0 },
	{ "-u /s", "no device", 0 },
	{ "-d", "-disconnect needs a value", 0 },
	{ "-d sda", "'sda' is no NBD device", 0 },
	{ "-d nbd0p1", "no NBD device", 0 },
	{ "-d nbd0 x", "one word too many", 0 },
	{ "-c sda", "'sda' is no NBD device", CLIENT_CANNOT_TELL },
	{ "-c nbd0 -d nbd0", "does not go with the other command", 0 },
	{ "-l", "no host", 0 },
	{ "-l h 1 2", "one word too many", 0 },
	{ "status sda", "no NBD device", 0 },
	{ "status nbd0 nbd1", "one word too many", 0 },
	{ "status -d nbd0", "does not go with the other command", 0 },
	{ "-frobnicate h nbd0", "'-frobnicate' is unknown or ambiguous", 0 },
	{ "--per=3 h nbd0", "-persist takes no value", 0 },
	{ "--no h nbd0", "unknown or ambiguous", 0 },
	{ "-N", "-name needs a value", 0 },
	{ "-b 1000 h nbd0", "not a power of two", 0 },
	{ "-b 256 h nbd0", "'256' is no value for -block-size", 0 },
	{ "-b 128k h nbd0", "no value for -block-size", 0 },
	{ "-b x h nbd0", "no value for -block-size", 0 },
	{ "-B 1000 h nbd0", "not a multiple of the block size", 0 },
	{ "-B 512 -b 4096 h nbd0", "not a multiple of the block size", 0 },
	{ "-B -1 h nbd0", "no value for -size", 0 },
	{ "-B 99999999T h nbd0", "no value for -size", 0 },
	{ "-C 0 h nbd0", "no value for -connections", 0 },
	{ "-C 17 h nbd0", "no value for -connections", 0 },
	{ "-C 4x h nbd0", "no value for -connections", 0 },
	{ "-t -5 h nbd0", "no value for -timeout", 0 },
	{ "-connect-timeout 0 h nbd0", "no value for -connect-timeout", 0 },
	{ "-link-timeout 0.9 h nbd0", "no value for -link-timeout", 0 },
	{ "-link-timeout 601 h nbd0", "no value for -link-timeout", 0 },
	{ "-fence-delay 61 h nbd0", "no value for -fence-delay", 0 },
	{ "-fence-delay -1 h nbd0", "no value for -fence-delay", 0 },
	{ "set nbd0", "nothing is to be set", 0 },
	{ "set -t 5", "no device", 0 },
	{ "set sda -t 5", "no NBD device", 0 },
	{ "set nbd0 nbd1 -t 5", "one word too many", 0 },
	{ "doctor nbd0 sda", "'sda' is no NBD device", 0 },
	{ "-connect-timeout 5m h nbd0", "no value for -connect-timeout", 0 },
	{ "bs=x h nbd0", "no value for -block-size", 0 },
	{ "-P h nbd0", "-preinit needs -size", 0 },
	{ "-S h nbd0", "-sdp is not supported", 0 },
	{ "-sdp h nbd0", "-sdp is not supported", 0 },
	{ "-x h nbd0", "no TLS", 0 },
	{ "-enable-tls h nbd0", "no TLS", 0 },
	{ "-F f h nbd0", "no TLS", 0 },
	{ "-certfile f h nbd0", "no TLS", 0 },
	{ "-K f h nbd0", "no TLS", 0 },
	{ "-A f h nbd0", "no TLS", 0 },
	{ "-H n h nbd0", "no TLS", 0 },
	{ "-y p h nbd0", "no TLS", 0 },
	{ "nbds://h/e nbd0", "TLS", 0 },
	{ "nbd:///e nbd0", "no NBD URI", 0 },
	{ "nbd://u@h/e nbd0", "no NBD URI", 0 },
	{ "nbd://h/e?socket=/s nbd0", "no NBD URI", 0 },
	{ "nbd://h/%zz nbd0", "no NBD URI", 0 },
	{ "nbd://h/%0 nbd0", "no NBD URI", 0 },
	{ "nbd://h/%00 nbd0", "no NBD URI", 0 },
	{ "nbd://[::1/e nbd0", "no NBD URI", 0 },
	{ "nbd://h:x/e nbd0", "'x' is no port", 0 },
	{ "nbd+unix:///e nbd0", "no NBD URI", 0 },
	{ "nbd+unix://h/e?socket=/s nbd0", "no NBD URI", 0 },
	{ "http://h/ nbd0", "no NBD URI", 0 },
	{ "nbd://h/e 5 nbd0 -N x", "leave out -name", 0 },
	{ "nbd://h:4/e 5 nbd0", "twice", 0 },
};

static void test_bad(void **state)
{
	struct client_args args;
	struct client_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (!parse(bad[i].line, &args, &err))
			fail_msg("'%s' is taken", bad[i].line);
		if (!strstr(err.text, bad[i].says))
			fail_msg("'%s' says: %s", bad[i].line, err.text);
		assert_int_equal(err.code, bad[i].code ? bad[i].code : CLIENT_USAGE);
		client_args_free(&args);
	}
}

static void test_long_value(void **state)
{
	char name[4098];
	char *argv[] = { "nbd-client", "-N", name, "h", "nbd0", NULL };
	struct client_args args;
	struct client_error err;

	(void)state;
	memset(name, 'x', sizeof(name));
	name[4097] = '\0';
	assert_int_equal(client_args_parse(5, argv, &args, &err), -1);
	assert_int_equal(err.code, CLIENT_USAGE);
	client_args_free(&args);
	name[4096] = '\0';
	assert_int_equal(client_args_parse(5, argv, &args, &err), 0);
	client_args_free(&args);
}

/* Scripts look for these in --help */
static void test_help(void **state)
{
	char *text, word[64];
	unsigned int i;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	client_args_help(out);
	fclose(out);
	assert_non_null(strstr(text, "systemd-mark"));
	assert_non_null(strstr(text, "-L"));
	for (i = 0; i < client_noptions; i++) {
		snprintf(word, sizeof(word), "-%s ", client_options[i].name);
		assert_non_null(strstr(text, word));
	}
	for (i = 0; i < client_nsubcommands; i++) {
		snprintf(word, sizeof(word), "nbd-client %s ", client_subcommands[i].name);
		assert_non_null(strstr(text, word));
	}
	free(text);
}

/* A manual page without the backslashes before dashes and underscores */
static char *manual(const char *path)
{
	char *text = calloc(1, 1 << 16), *p = text;
	FILE *file = fopen(path, "r");
	int c;

	assert_non_null(file);
	while ((c = getc(file)) != EOF && p < text + (1 << 16) - 1)
		if (c != '\\')
			*p++ = (char)c;
	fclose(file);
	return text;
}

/* Tests run in the top directory */
static void test_manual(void **state)
{
	char *client = manual("Documentation/man/nbd-client.8");
	char *tab = manual("Documentation/man/nbdtab.5");
	char word[64];
	unsigned int i;

	(void)state;
	for (i = 0; i < client_noptions; i++) {
		snprintf(word, sizeof(word), "-%s", client_options[i].name);
		if (!strstr(client, word))
			fail_msg("nbd-client.8 lacks %s", word);
		if (client_options[i].tab && !strstr(tab, client_options[i].tab))
			fail_msg("nbdtab.5 lacks %s", client_options[i].tab);
	}
	free(client);
	free(tab);
}

/* No two options may have the same name or letter */
static void test_table(void **state)
{
	unsigned int i, j;

	(void)state;
	for (i = 0; i < client_noptions; i++)
		for (j = 0; j < i; j++) {
			assert_string_not_equal(client_options[i].name, client_options[j].name);
			if (client_options[i].letter)
				assert_int_not_equal(client_options[i].letter,
						     client_options[j].letter);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),   cmocka_unit_test(test_good_numbers),
		cmocka_unit_test(test_bad),    cmocka_unit_test(test_long_value),
		cmocka_unit_test(test_help),   cmocka_unit_test(test_table),
		cmocka_unit_test(test_manual),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
