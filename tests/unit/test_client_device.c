// SPDX-License-Identifier: GPL-2.0-or-later
/* Device names, with a directory that stands for /sys/block. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/commands.h"
#include "client/device.h"

/* Milliseconds that a busy machine does not need for what succeeds */
#define PATIENCE 500

static char root[] = "/tmp/nbswap-test-XXXXXX"; /* for /sys/block */
static char dev[] = "/tmp/nbswap-test-XXXXXX";

static void make(const char *name, const char *content)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	if (!content) {
		assert_int_equal(mkdir(path, 0755), 0);
		return;
	}
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(content, file);
	fclose(file);
}

static int set_up(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(root));
	assert_non_null(mkdtemp(dev));
	make("nb0", NULL);
	make("nb0/pid", "1234\n");
	make("nbd1", NULL);
	make("nbd1/pid", "99\n");
	make("nb2", NULL);
	make("nb3", NULL);
	make("nb3/pid", NULL); /* cannot be read */
	return 0;
}

static int tear_down(void **state)
{
	static const char *const names[] = {
		"nb0/pid", "nbd1/pid", "nb3/pid", "nb0", "nbd1", "nb2", "nb3", "nbd5", "",
	};
	char path[256];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, names[i]);
		if (remove(path) && errno != ENOENT)
			return -1;
	}
	return rmdir(dev);
}

static void test_index(void **state)
{
	(void)state;
	assert_int_equal(client_device_index("nb0"), 0);
	assert_int_equal(client_device_index("nbd12"), 12);
	assert_int_equal(client_device_index("/dev/nb3"), 3);
	assert_int_equal(client_device_index("/dev/nbd1048575"), 1048575);
	assert_int_equal(client_device_index("nbd1048576"), -1);
	assert_int_equal(client_device_index("nbd99999999999999999999"), -1);
	assert_int_equal(client_device_index("nb"), -1);
	assert_int_equal(client_device_index("nb01"), -1);
	assert_int_equal(client_device_index("nbx1"), -1);
	assert_int_equal(client_device_index("nb-1"), -1);
	assert_int_equal(client_device_index("nb0p1"), -1);
	assert_int_equal(client_device_index("/dev/sda"), -1);
	assert_int_equal(client_device_index("/tmp/nb0"), -1);
	assert_int_equal(client_device_index(""), -1);
	assert_int_equal(client_device_index_of_partition("/dev/nbd0p12"), 0);
	assert_int_equal(client_device_index_of_partition("nb7"), 7);
	assert_int_equal(client_device_index_of_partition("nb7p"), -1);
	assert_int_equal(client_device_index_of_partition("nb7px"), -1);
	assert_int_equal(client_device_index_of_partition("nb7q1"), -1);
}

static void test_name(void **state)
{
	char name[CLIENT_DEVICE_NAME];
	bool exists;

	(void)state;
	assert_string_equal(client_device_name(root, 0, name, &exists), "nb0");
	assert_true(exists);
	assert_string_equal(client_device_name(root, 1, name, &exists), "nbd1");
	assert_true(exists);
	assert_string_equal(client_device_name(root, 9, name, &exists), "nb9");
	assert_false(exists);
	/* the name that exists, else the one that was given */
	assert_string_equal(client_device_called(root, "/dev/nbd0", name), "nb0");
	assert_string_equal(client_device_called(root, "nb1", name), "nbd1");
	assert_string_equal(client_device_called(root, "/dev/nbd9", name), "nbd9");
}

static int check(const char *device, char *out, struct client_error *err)
{
	struct client_args args = { .command = CLIENT_CHECK, .device = (char *)device };
	FILE *file = fmemopen(out, 64, "w");
	int ret;

	memset(out, 0, 64);
	ret = client_check(&args, root, file, err);
	fclose(file);
	return ret;
}

static void test_check(void **state)
{
	struct client_error err;
	char out[64];

	(void)state;
	assert_int_equal(check("/dev/nbd0", out, &err), 0);
	assert_string_equal(out, "1234\n");
	assert_int_equal(check("nb1", out, &err), 0);
	assert_string_equal(out, "99\n");
	assert_int_equal(check("nb1p2", out, &err), 0);
	assert_int_equal(check("nb2", out, &err), 1);
	assert_string_equal(out, "");
	assert_int_equal(check("nb9", out, &err), 1);
	assert_int_equal(check("nb3", out, &err), -1);
	assert_int_equal(err.code, CLIENT_CANNOT_TELL);
}

static void test_open(void **state)
{
	struct client_error err;

	(void)state;
	assert_int_equal(client_device_open(root, root, 8, O_RDONLY, PATIENCE, &err), -1);
	assert_int_equal(err.code, CLIENT_NO_DRIVER);
	assert_non_null(strstr(err.text, "modprobe nbd"));
	/* a file is no device, whatever its name */
	make("nbd5", "x");
	assert_int_equal(client_device_open(root, root, 5, O_RDONLY, PATIENCE, &err), -1);
	assert_int_equal(err.code, CLIENT_FAILED);
	/* the same in a process of its own: its error comes back */
	memset(&err, 0, sizeof(err));
	assert_int_equal(client_device_settle(root, root, 8, PATIENCE, &err), -1);
	assert_int_equal(err.code, CLIENT_NO_DRIVER);
	assert_non_null(strstr(err.text, "modprobe nbd"));
}

/* Opening a FIFO without a writer sleeps as a device without a server does */
static void test_settle_stuck(void **state)
{
	struct client_error err;
	char path[256];
	int64_t start = client_clock_ms();

	(void)state;
	snprintf(path, sizeof(path), "%s/nb2", dev);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(client_device_settle(root, dev, 2, 100, &err), -1);
	assert_int_equal(err.code, CLIENT_FAILED);
	assert_non_null(strstr(err.text, "too long"));
	assert_true(client_clock_ms() - start >= 200);
	assert_true(client_clock_ms() - start < 5000);
	assert_int_equal(unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_index),	     cmocka_unit_test(test_name),
		cmocka_unit_test(test_check),	     cmocka_unit_test(test_open),
		cmocka_unit_test(test_settle_stuck),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
