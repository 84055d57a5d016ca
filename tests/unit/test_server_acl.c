// SPDX-License-Identifier: GPL-2.0-or-later
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "capture.h"
#include "server/acl.h"

static struct sockaddr_storage storage;

static const struct sockaddr *addr(const char *text)
{
	struct sockaddr_in *in = (void *)&storage;
	struct sockaddr_in6 *in6 = (void *)&storage;

	memset(&storage, 0, sizeof(storage));
	if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
	} else {
		assert_int_equal(inet_pton(AF_INET6, text, &in6->sin6_addr), 1);
		in6->sin6_family = AF_INET6;
	}
	return (const struct sockaddr *)&storage;
}

static void lines(void **state)
{
	static const struct {
		const char *line, *addr;
		int result;
	} cases[] = {
		{ "192.168.1.1", "192.168.1.1", 1 },
		{ "  192.168.1.1\t# comment\n", "192.168.1.1", 1 },
		{ "192.168.1.1#comment", "192.168.1.1", 1 },
		/* CVE-2013-6410: not as text */
		{ "192.168.1.1", "192.168.1.10", 0 },
		{ "192.168.1.10", "192.168.1.1", 0 },
		{ "10.0.0.1", "10.0.0.129", 0 },
		{ "192.168.0.0/16", "192.168.255.1", 1 },
		{ "192.168.0.0/16", "192.169.0.1", 0 },
		{ "10.1.2.128/25", "10.1.2.129", 1 },
		{ "10.1.2.128/25", "10.1.2.127", 0 },
		{ "10.1.2.200/25", "10.1.2.129", 1 },
		{ "10.0.0.0/8", "11.0.0.0", 0 },
		{ "0.0.0.0/0", "8.8.8.8", 1 },
		{ "10.1.2.3/32", "10.1.2.3", 1 },
		{ "10.1.2.3/32", "10.1.2.2", 0 },
		{ "10.1.2.2/31", "10.1.2.3", 1 },
		{ "::1", "::1", 1 },
		{ "::1", "::2", 0 },
		{ "2001:db8::/32", "2001:db8:1::5", 1 },
		{ "2001:db8::/32", "2001:db9::5", 0 },
		{ "2001:db8::/33", "2001:db8:8000::", 0 },
		{ "::/0", "2001:db8::1", 1 },
		/* One family does not stand for the other, but mapped is the same address */
		{ "::/0", "10.0.0.1", 0 },
		{ "0.0.0.0/0", "::1", 0 },
		{ "10.0.0.0/8", "::ffff:10.1.1.1", 1 },
		{ "10.0.0.0/8", "::ffff:11.1.1.1", 0 },
		{ "", "10.0.0.1", 0 },
		{ "   \n", "10.0.0.1", 0 },
		{ "# 10.0.0.1", "10.0.0.1", 0 },
		{ "10.0.0.1/33", "10.0.0.1", -1 },
		{ "::1/129", "::1", -1 },
		{ "10.0.0.1/", "10.0.0.1", -1 },
		{ "10.0.0.1/-1", "10.0.0.1", -1 },
		{ "10.0.0.1/8x", "10.0.0.1", -1 },
		{ "10.0.0", "10.0.0.1", -1 },
		{ "host.example", "10.0.0.1", -1 },
		{ "10.0.0.1 10.0.0.2", "10.0.0.1", -1 },
		{ "/8", "10.0.0.1", -1 },
		{ "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc", "::1", -1 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		if (srv_acl_match(cases[i].line, addr(cases[i].addr)) == cases[i].result)
			continue;
		print_error("'%s' for %s is not %d\n", cases[i].line, cases[i].addr,
			    cases[i].result);
		fail();
	}
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void files(void **state)
{
	const struct sockaddr local = { .sa_family = AF_UNIX };
	char dir[] = "/tmp/nbd-acl-XXXXXX";
	char path[64];

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/allow", dir);
	assert_true(srv_acl_allows(path, addr("10.0.0.1")));
	write_file(path, "");
	assert_false(srv_acl_allows(path, addr("10.0.0.1")));
	assert_true(srv_acl_allows(path, &local));
	write_file(path, "# who\n\n10.0.0.2\nnonsense\n10.0.0.1\n");
	capture_start();
	assert_true(srv_acl_allows(path, addr("10.0.0.1")));
	assert_said(capture_end(), "allow line 4 is neither");
	assert_true(srv_acl_allows(path, addr("10.0.0.2")));
	capture_start();
	assert_false(srv_acl_allows(path, addr("10.0.0.3")));
	capture_end();
	/* Something that is there and cannot be read lets nobody in */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	capture_start();
	assert_false(srv_acl_allows(path, addr("10.0.0.1")));
	assert_said(capture_end(), "cannot read authorization file");
	rmdir(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines),
		cmocka_unit_test(files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
