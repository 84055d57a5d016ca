// SPDX-License-Identifier: GPL-2.0-or-later
/* Lists of hosts and what they resolve to (numeric: no name server is asked). */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/hosts.h"

static unsigned int warnings;

static void warn(const char *fmt, ...)
{
	(void)fmt;
	warnings++;
}

static void test_parse(void **state)
{
	static const struct {
		const char *list;
		unsigned int n;
		const char *name;
		uint16_t port;
	} cases[] = {
		{ "h", 1, "h", 10809 },
		{ "h:5", 1, "h", 5 },
		{ "a,b:7", 2, "b", 7 },
		{ "192.0.2.1", 1, "192.0.2.1", 10809 },
		{ "192.0.2.1:65535", 1, "192.0.2.1", 65535 },
		{ "::1", 1, "::1", 10809 },
		{ "2001:db8::1:2", 1, "2001:db8::1:2", 10809 },
		{ "fe80::1%lo", 1, "fe80::1%lo", 10809 },
		{ "[::1]", 1, "::1", 10809 },
		{ "[::1]:7", 1, "::1", 7 },
		{ "a,[::1]:7,c", 3, "c", 10809 },
		{ "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", 16, "16", 10809 },
	};
	struct client_hosts hosts;
	struct client_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (client_hosts_parse(cases[i].list, 10809, &hosts, &err))
			fail_msg("'%s': %s", cases[i].list, err.text);
		assert_int_equal(hosts.n, cases[i].n);
		assert_string_equal(hosts.host[hosts.n - 1].name, cases[i].name);
		assert_int_equal(hosts.host[hosts.n - 1].port, cases[i].port);
	}
}

static void test_parse_bad(void **state)
{
	static const char *const cases[] = {
		"",
		",",
		"a,",
		",a",
		"a,,b",
		":5",
		"h:",
		"h:0",
		"h:65536",
		"h:x",
		"h:123456789",
		"[::1",
		"[]",
		"[::1]5",
		"[::1]:",
		"[::1]:x",
		"[::1]:123456789",
		"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17",
	};
	struct client_hosts hosts;
	struct client_error err;
	char name[400];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (!client_hosts_parse(cases[i], 10809, &hosts, &err))
			fail_msg("'%s' is taken", cases[i]);
		assert_int_equal(err.code, CLIENT_USAGE);
	}
	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(client_hosts_parse(name, 10809, &hosts, &err), -1);
}

static void test_resolve(void **state)
{
	struct client_addresses addresses;
	struct client_hosts hosts;
	struct client_error err;
	char text[CLIENT_ADDRESS_TEXT];

	(void)state;
	assert_int_equal(client_hosts_parse("192.0.2.1,[2001:db8::1]:7,192.0.2.1,192.0.2.1:2", 5,
					    &hosts, &err),
			 0);
	warnings = 0;
	assert_int_equal(client_hosts_resolve(&hosts, &addresses, warn, &err), 0);
	assert_int_equal(addresses.n, 3); /* the third is the first again */
	assert_int_equal(warnings, 0);
	assert_string_equal(client_address_text(&addresses.address[0].sa, addresses.address[0].len,
						text),
			    "192.0.2.1:5");
	assert_string_equal(client_address_text(&addresses.address[1].sa, addresses.address[1].len,
						text),
			    "[2001:db8::1]:7");
	assert_string_equal(client_address_text(&addresses.address[2].sa, addresses.address[2].len,
						text),
			    "192.0.2.1:2");
	assert_int_equal(addresses.address[1].len, sizeof(struct sockaddr_in6));
}

static void test_resolve_failures(void **state)
{
	struct client_addresses addresses;
	struct client_hosts hosts;
	struct client_error err;

	(void)state;
	/* a name that cannot exist fails alone, and is warned of beside others */
	assert_int_equal(client_hosts_parse("bad..name", 5, &hosts, &err), 0);
	assert_int_equal(client_hosts_resolve(&hosts, &addresses, warn, &err), -1);
	assert_int_equal(err.code, CLIENT_UNREACHABLE);
	assert_non_null(strstr(err.text, "'bad..name' has no address"));
	warnings = 0;
	assert_int_equal(client_hosts_parse("bad..name,192.0.2.1", 5, &hosts, &err), 0);
	assert_int_equal(client_hosts_resolve(&hosts, &addresses, warn, &err), 0);
	assert_int_equal(addresses.n, 1);
	assert_int_equal(warnings, 1);
}

static void test_unix(void **state)
{
	struct client_address address;
	struct client_error err;
	char text[CLIENT_ADDRESS_TEXT], path[200];

	(void)state;
	assert_int_equal(client_address_unix("/run/s", &address, &err), 0);
	assert_string_equal(client_address_text(&address.sa, address.len, text), "unix:/run/s");
	assert_true(client_address_is_local(&address.sa));
	assert_int_equal(client_address_unix("", &address, &err), -1);
	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(client_address_unix(path, &address, &err), -1);
	path[107] = '\0';
	assert_int_equal(client_address_unix(path, &address, &err), 0);
}

static void test_text(void **state)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
				    .sin6_port = htons(9),
				    .sin6_scope_id = 3 };
	struct sockaddr sa = { .sa_family = AF_PACKET };
	char text[CLIENT_ADDRESS_TEXT];

	(void)state;
	inet_pton(AF_INET6, "fe80::1", &in6.sin6_addr);
	assert_string_equal(client_address_text((struct sockaddr *)&in6, sizeof(in6), text),
			    "[fe80::1%3]:9");
	/* cut off by whoever told it */
	assert_string_equal(client_address_text((struct sockaddr *)&in6, 20, text), "(unknown)");
	assert_string_equal(client_address_text(&sa, sizeof(sa), text), "(unknown)");
}

static void test_local(void **state)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

	(void)state;
	inet_pton(AF_INET, "127.1.2.3", &in.sin_addr);
	assert_true(client_address_is_local((struct sockaddr *)&in));
	inet_pton(AF_INET, "192.0.2.1", &in.sin_addr);
	assert_false(client_address_is_local((struct sockaddr *)&in));
	inet_pton(AF_INET6, "2001:db8::1", &in6.sin6_addr);
	assert_false(client_address_is_local((struct sockaddr *)&in6));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),	cmocka_unit_test(test_parse_bad),
		cmocka_unit_test(test_resolve), cmocka_unit_test(test_resolve_failures),
		cmocka_unit_test(test_unix),	cmocka_unit_test(test_text),
		cmocka_unit_test(test_local),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
