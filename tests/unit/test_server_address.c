// SPDX-License-Identifier: GPL-2.0-or-later
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/address.h"

static struct srv_address of(const char *text)
{
	struct sockaddr_storage storage = { 0 };
	struct sockaddr_in *in = (void *)&storage;
	struct sockaddr_in6 *in6 = (void *)&storage;

	if (inet_pton(AF_INET, text, &in->sin_addr) == 1)
		in->sin_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1)
		in6->sin6_family = AF_INET6;
	else
		storage.ss_family = AF_UNIX;
	in->sin_port = 7;
	return srv_address_of((struct sockaddr *)&storage);
}

static void kinds(void **state)
{
	static const struct {
		const char *a, *b;
		bool same;
	} cases[] = {
		{ "10.0.0.1", "10.0.0.1", true },
		{ "10.0.0.1", "10.0.0.2", false },
		{ "10.0.0.1", "::ffff:10.0.0.1", true },
		{ "::ffff:10.0.0.1", "::ffff:10.0.0.2", false },
		{ "2001:db8::1", "2001:db8::ffff:0:0:1", true },
		{ "2001:db8::1", "2001:db8:0:1::1", false },
		/* The same bytes, but not the same kind */
		{ "10.0.0.1", "a00:1::", false },
		{ "0.0.0.0", "::", false },
		{ "0.0.0.0", "unix", false },
	};
	struct srv_address a, b;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		a = of(cases[i].a);
		b = of(cases[i].b);
		if (srv_address_same(&a, &b) != cases[i].same)
			fail_msg("%s and %s", cases[i].a, cases[i].b);
	}
	assert_int_equal(of("unix").kind, 0);
}

static void shares(void **state)
{
	GHashTable *all = srv_shares_new();
	struct srv_address a = of("10.0.0.1"), b = of("2001:db8::1"), c = of("2001:db8::2");
	struct srv_share *first = srv_share_get(all, &a), *second = srv_share_get(all, &b);

	(void)state;
	assert_ptr_not_equal(first, second);
	assert_ptr_equal(srv_share_get(all, &a), first);
	assert_ptr_equal(srv_share_get(all, &c), second);
	first->memory = 7;
	srv_share_put(all, first);
	assert_int_equal(srv_share_get(all, &a)->memory, 7);
	srv_share_put(all, first);
	srv_share_put(all, first);
	assert_int_equal(srv_share_get(all, &a)->memory, 0);
	g_hash_table_unref(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds),
		cmocka_unit_test(shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
