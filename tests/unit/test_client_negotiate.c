// SPDX-License-Identifier: GPL-2.0-or-later
/* The handshake against scripted servers: good ones, old ones, hostile ones. */
#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/negotiate.h"

#define FIXED (NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES)

/* Bytes a server sends */
struct script {
	size_t len;
	uint8_t data[1 << 20];
};

static struct script script;
static struct client_nego nego;
/* all that the client has sent */
static uint8_t sent[1 << 16];
static size_t nsent;

static void bytes(const void *data, size_t len)
{
	assert_true(script.len + len <= sizeof(script.data));
	memcpy(script.data + script.len, data, len);
	script.len += len;
}

static void be(uint64_t v, size_t len)
{
	v = htobe64(v);
	bytes((uint8_t *)&v + 8 - len, len);
}

static void greet(uint16_t flags)
{
	script.len = 0;
	be(NBD_WIRE_INIT_MAGIC, 8);
	be(NBD_WIRE_OPTION_MAGIC, 8);
	be(flags, 2);
}

static void reply(uint32_t option, uint32_t type, uint32_t len)
{
	be(NBD_WIRE_OPT_REPLY_MAGIC, 8);
	be(option, 4);
	be(type, 4);
	be(len, 4);
}

static void info_export(uint32_t option, uint64_t size, uint16_t flags)
{
	reply(option, NBD_WIRE_REP_INFO, 12);
	be(NBD_WIRE_INFO_EXPORT, 2);
	be(size, 8);
	be(flags, 2);
}

static void info_block_size(uint32_t option, uint32_t min, uint32_t preferred, uint32_t max)
{
	reply(option, NBD_WIRE_REP_INFO, 14);
	be(NBD_WIRE_INFO_BLOCK_SIZE, 2);
	be(min, 4);
	be(preferred, 4);
	be(max, 4);
}

static void server_reply(const char *name, const char *description)
{
	reply(NBD_WIRE_OPT_LIST, NBD_WIRE_REP_SERVER,
	      (uint32_t)(4 + strlen(name) + strlen(description)));
	be(strlen(name), 4);
	bytes(name, strlen(name));
	bytes(description, strlen(description));
}

/* Feed the script until the handshake stops or wants more than there is; returns bytes used */
static size_t feed(void)
{
	size_t used = 0;

	while (client_nego_busy(&nego)) {
		assert_true(nego.need > 0 && nego.need <= sizeof(nego.in));
		assert_true(nsent + nego.out_len <= sizeof(sent));
		memcpy(sent + nsent, nego.out, nego.out_len);
		nsent += nego.out_len;
		nego.out_len = 0;
		if (used + nego.need > script.len)
			break;
		memcpy(nego.in, script.data + used, nego.need);
		used += nego.need;
		client_nego_input(&nego);
	}
	return used;
}

static size_t talk(enum client_nego_goal goal, const char *name, struct client_export_list *list)
{
	client_nego_free(&nego);
	nsent = 0;
	client_nego_init(&nego, goal, name, list);
	return feed();
}

static void expect_failure(const char *says)
{
	assert_int_equal(nego.state, CLIENT_NEGO_FAILED);
	if (!strstr(nego.err.text, says))
		fail_msg("'%s' does not say '%s'", nego.err.text, says);
	assert_int_equal(nego.err.code, CLIENT_REFUSED);
}

static void test_go(void **state)
{
	static const uint8_t want[] = {
		0, 0, 0, 3,  'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 7,
		0, 0, 0, 12, 0,	  0,   0,   4,	 's', 'w', 'a', 'p', 0, 1, 0, 3,
	};

	(void)state;
	greet(FIXED | 0x8000); /* a flag we do not know is not answered */
	info_block_size(NBD_WIRE_OPT_GO, 1, 4096, 32 << 20);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_INFO, 5);
	be(77, 2); /* an item we do not know */
	be(0, 3);
	info_export(NBD_WIRE_OPT_GO, 1 << 30, 0x1ff);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_ACK, 0);
	bytes("first bytes of the transmission phase", 10);
	/* nothing behind the last reply is read */
	assert_int_equal(talk(CLIENT_NEGO_GO, "swap", NULL), script.len - 10);
	assert_int_equal(nego.state, CLIENT_NEGO_TRANSMISSION);
	assert_int_equal(nego.export.size, 1 << 30);
	assert_int_equal(nego.export.flags, 0x1ff);
	assert_true(nego.export.has_block_size);
	assert_int_equal(nego.export.min_block, 1);
	assert_int_equal(nego.export.preferred_block, 4096);
	assert_int_equal(nego.export.max_payload, 32 << 20);
	assert_int_equal(nsent, sizeof(want));
	assert_memory_equal(sent, want, sizeof(want));
}

static void test_fallback(void **state)
{
	static const uint8_t tail[] = {
		'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 1, 0, 0, 0, 1, 'x',
	};

	(void)state;
	/* a server without GO */
	greet(FIXED);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_ERR_UNSUP, 4);
	bytes("what", 4);
	be(4096, 8);
	be(5, 2);
	assert_int_equal(talk(CLIENT_NEGO_GO, "x", NULL), script.len);
	assert_int_equal(nego.state, CLIENT_NEGO_TRANSMISSION);
	assert_int_equal(nego.export.size, 4096);
	assert_int_equal(nego.export.flags, 5);
	assert_false(nego.export.has_block_size);
	assert_memory_equal(sent + nsent - sizeof(tail), tail, sizeof(tail));

	/* one that is not even fixed newstyle: no option but EXPORT_NAME, and zeroes */
	greet(0);
	be(8192, 8);
	be(1, 2);
	memset(script.data + script.len, 0, 124);
	script.len += 124;
	assert_int_equal(talk(CLIENT_NEGO_GO, "x", NULL), script.len);
	assert_int_equal(nego.state, CLIENT_NEGO_TRANSMISSION);
	assert_int_equal(nego.export.size, 8192);
	assert_int_equal(nsent, 4 + sizeof(tail));
	assert_memory_equal(sent, "\0\0\0\0", 4);

	/* asked for */
	greet(FIXED);
	be(8192, 8);
	be(1, 2);
	assert_int_equal(talk(CLIENT_NEGO_EXPORT_NAME, "x", NULL), script.len);
	assert_int_equal(nego.state, CLIENT_NEGO_TRANSMISSION);
}

static void test_list(void **state)
{
	struct client_export_list list = { 0 };

	(void)state;
	greet(FIXED);
	server_reply("one", "");
	server_reply("", "a description");
	server_reply("\xff\033", "");
	reply(NBD_WIRE_OPT_LIST, NBD_WIRE_REP_ACK, 0);
	assert_int_equal(talk(CLIENT_NEGO_LIST, "", &list), script.len);
	assert_int_equal(nego.state, CLIENT_NEGO_READY);
	assert_int_equal(list.n, 3);
	assert_string_equal(list.export[0].name, "one");
	assert_null(list.export[0].description);
	assert_string_equal(list.export[1].name, "");
	assert_string_equal(list.export[1].description, "a description");
	assert_string_equal(list.export[2].name, "\xff\033");

	/* on the same connection: size and flags, of one that the server refuses to tell too */
	script.len = 0;
	info_export(NBD_WIRE_OPT_INFO, 512, 3);
	reply(NBD_WIRE_OPT_INFO, NBD_WIRE_REP_INFO, 4);
	be(NBD_WIRE_INFO_DESCRIPTION, 2);
	bytes("hi", 2);
	reply(NBD_WIRE_OPT_INFO, NBD_WIRE_REP_ACK, 0);
	client_nego_info(&nego, "one");
	assert_int_equal(feed(), script.len);
	assert_int_equal(nego.state, CLIENT_NEGO_READY);
	assert_true(nego.export.known);
	assert_int_equal(nego.export.size, 512);
	assert_string_equal(nego.export.description, "hi");

	script.len = 0;
	info_export(NBD_WIRE_OPT_INFO, 512, 3);
	reply(NBD_WIRE_OPT_INFO, NBD_WIRE_REP_ERR_POLICY, 5);
	bytes("never", 5);
	client_nego_info(&nego, "");
	assert_int_equal(feed(), script.len);
	assert_int_equal(nego.state, CLIENT_NEGO_READY);
	assert_false(nego.export.known);
	assert_non_null(strstr(nego.export.problem, "never"));

	client_nego_abort(&nego);
	assert_int_equal(nego.out_len, 16);
	assert_memory_equal(nego.out, "IHAVEOPT\0\0\0\2\0\0\0\0", 16);
	client_export_list_free(&list);
}

static void test_greetings(void **state)
{
	struct client_export_list list = { 0 };

	(void)state;
	script.len = 0;
	bytes("HTTP/1.1 400 Bad R", 18);
	talk(CLIENT_NEGO_GO, "", NULL);
	expect_failure("no NBD server");

	script.len = 0;
	be(NBD_WIRE_INIT_MAGIC, 8);
	be(NBD_WIRE_OLDSTYLE_MAGIC, 8);
	be(0, 2);
	talk(CLIENT_NEGO_GO, "", NULL);
	expect_failure("oldstyle");

	script.len = 0;
	be(NBD_WIRE_INIT_MAGIC, 8);
	be(1, 8);
	be(0, 2);
	talk(CLIENT_NEGO_GO, "", NULL);
	expect_failure("unknown magic");

	greet(0);
	talk(CLIENT_NEGO_LIST, "", &list);
	expect_failure("too old");
}

static void test_refusals(void **state)
{
	static const struct {
		uint32_t type;
		const char *says;
	} cases[] = {
		{ NBD_WIRE_REP_ERR_POLICY, "forbids" },
		{ NBD_WIRE_REP_ERR_INVALID, "invalid" },
		{ NBD_WIRE_REP_ERR_PLATFORM, "platform" },
		{ NBD_WIRE_REP_ERR_TLS_REQD, "TLS" },
		{ NBD_WIRE_REP_ERR_UNKNOWN, "no such export" },
		{ NBD_WIRE_REP_ERR_SHUTDOWN, "shutting down" },
		{ NBD_WIRE_REP_ERR_BLOCK_SIZE_REQD, "block size" },
		{ NBD_WIRE_REP_ERR_TOO_BIG, "too big" },
		{ NBD_WIRE_REP_ERROR + 99, "unknown here" },
	};
	struct client_export_list list = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		greet(FIXED);
		reply(NBD_WIRE_OPT_GO, cases[i].type, 6);
		bytes("so\0\033ab", 6);
		talk(CLIENT_NEGO_GO, "swap", NULL);
		expect_failure(cases[i].says);
		assert_non_null(strstr(nego.err.text, "'swap'"));
		assert_non_null(strstr(nego.err.text, "(it says: so)"));
	}
	greet(FIXED);
	reply(NBD_WIRE_OPT_LIST, NBD_WIRE_REP_ERR_POLICY, 0);
	talk(CLIENT_NEGO_LIST, "", &list);
	expect_failure("cannot list the exports");
}

/* One reply to an option that no honest server sends */
static void test_hostile(void **state)
{
	static const struct {
		uint64_t magic;
		uint32_t option, type, len;
		const char *data, *says;
	} cases[] = {
		{ 1, 7, NBD_WIRE_REP_ACK, 0, "", "unknown magic" },
		{ 0, 6, NBD_WIRE_REP_ACK, 0, "", "answers option 6 when asked 7" },
		{ 0, 7, NBD_WIRE_REP_ACK, 0, "", "does not tell the size" },
		{ 0, 7, NBD_WIRE_REP_ACK, 1, "x", "with data" },
		{ 0, 7, NBD_WIRE_REP_SERVER, 4, "\0\0\0\0", "reply type 2" },
		{ 0, 7, NBD_WIRE_REP_META_CONTEXT, 4, "\0\0\0\0", "reply type 4" },
		{ 0, 7, 99, 0, "", "reply type 99" },
		{ 0, 7, NBD_WIRE_REP_INFO, 0xffffffff, "", "reply of 4294967295 bytes" },
		{ 0, 7, NBD_WIRE_REP_INFO, CLIENT_NEGO_MAX_REPLY + 1, "", "reply of" },
		{ 0, 7, NBD_WIRE_REP_ERR_UNKNOWN, 0x80000000, "", "reply of" },
		{ 0, 7, NBD_WIRE_REP_INFO, 0, "", "wrong length" },
		{ 0, 7, NBD_WIRE_REP_INFO, 1, "\0", "wrong length" },
		{ 0, 7, NBD_WIRE_REP_INFO, 2, "\0\0", "wrong length" },
		{ 0, 7, NBD_WIRE_REP_INFO, 13, "\0\0\0\0\0\0\0\0\0\0\0\0\0", "wrong length" },
		{ 0, 7, NBD_WIRE_REP_INFO, 12, "\0\3\0\0\0\1\0\0\0\1\0\0", "wrong length" },
		{ 0, 7, NBD_WIRE_REP_INFO, 12, "\0\0\200\0\0\0\0\0\0\0\0\1", "an export of" },
		/* minimum 0, not a power of two, too large; preferred below it; payload below it */
		{ 0, 7, NBD_WIRE_REP_INFO, 14, "\0\3\0\0\0\0\0\0\20\0\0\1\0\0", "block sizes" },
		{ 0, 7, NBD_WIRE_REP_INFO, 14, "\0\3\0\0\0\3\0\0\20\0\0\1\0\0", "block sizes" },
		{ 0, 7, NBD_WIRE_REP_INFO, 14, "\0\3\0\2\0\0\0\2\0\0\0\2\0\0", "block sizes" },
		{ 0, 7, NBD_WIRE_REP_INFO, 14, "\0\3\0\0\20\0\0\0\2\0\0\1\0\0", "block sizes" },
		{ 0, 7, NBD_WIRE_REP_INFO, 14, "\0\3\0\0\20\0\0\0\20\0\0\0\2\0", "block sizes" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		greet(FIXED);
		be(cases[i].magic ? cases[i].magic : NBD_WIRE_OPT_REPLY_MAGIC, 8);
		be(cases[i].option, 4);
		be(cases[i].type, 4);
		be(cases[i].len, 4);
		if (cases[i].len < 64)
			bytes(cases[i].data, cases[i].len);
		talk(CLIENT_NEGO_GO, "swap", NULL);
		expect_failure(cases[i].says);
	}
}

static void test_hostile_lists(void **state)
{
	static const struct {
		uint32_t len, name;
	} cases[] = {
		{ 0, 0 },	   { 3, 0 },	      { 4, 1 },		  { 8, 5 },
		{ 8, 0xffffffff }, { 8, 0xfffffffc }, { 4 + 4097, 4097 },
	};
	struct client_export_list list = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		greet(FIXED);
		reply(NBD_WIRE_OPT_LIST, NBD_WIRE_REP_SERVER, cases[i].len);
		if (cases[i].len < 4)
			be(0, cases[i].len);
		else
			be(cases[i].name, 4);
		memset(script.data + script.len, 'x', 5000);
		script.len += 5000;
		talk(CLIENT_NEGO_LIST, "", &list);
		expect_failure("wrong length");
		assert_int_equal(list.n, 0);
	}
	/* information about something that was not asked for */
	greet(FIXED);
	reply(NBD_WIRE_OPT_LIST, NBD_WIRE_REP_INFO, 2);
	be(0, 2);
	talk(CLIENT_NEGO_LIST, "", &list);
	expect_failure("reply type 3");
	client_export_list_free(&list);
}

/* Servers that never come to an end */
static void test_endless(void **state)
{
	struct client_export_list list = { 0 };
	unsigned int i;

	(void)state;
	greet(FIXED);
	for (i = 0; i < 1000; i++)
		info_export(NBD_WIRE_OPT_GO, 512, 1);
	assert_true(talk(CLIENT_NEGO_GO, "", NULL) < script.len);
	expect_failure("more than 64 information replies");

	greet(FIXED);
	for (i = 0; i < CLIENT_NEGO_MAX_EXPORTS + 10; i++)
		server_reply("x", "");
	assert_true(talk(CLIENT_NEGO_LIST, "", &list) < script.len);
	expect_failure("more than 4096 exports");
	assert_int_equal(list.n, CLIENT_NEGO_MAX_EXPORTS);
	client_export_list_free(&list);
}

static void test_longest(void **state)
{
	char name[NBD_WIRE_MAX_STRING + 1];
	struct client_export_list list = { 0 };

	(void)state;
	memset(name, 'n', sizeof(name));
	name[NBD_WIRE_MAX_STRING] = '\0';
	greet(FIXED);
	server_reply(name, name);
	reply(NBD_WIRE_OPT_LIST, NBD_WIRE_REP_ACK, 0);
	talk(CLIENT_NEGO_LIST, "", &list);
	assert_int_equal(nego.state, CLIENT_NEGO_READY);
	assert_string_equal(list.export[0].name, name);
	assert_string_equal(list.export[0].description, name);
	client_export_list_free(&list);

	greet(FIXED);
	info_export(NBD_WIRE_OPT_GO, 512, 1);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_ERR_UNKNOWN, CLIENT_NEGO_MAX_REPLY);
	memset(script.data + script.len, 'x', CLIENT_NEGO_MAX_REPLY);
	script.len += CLIENT_NEGO_MAX_REPLY;
	assert_int_equal(talk(CLIENT_NEGO_GO, name, NULL), script.len);
	assert_int_equal(nsent, CLIENT_NEGO_MAX_SEND);
	expect_failure("no such export");
}

static int tear_down(void **state)
{
	(void)state;
	client_nego_free(&nego);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_go),
		cmocka_unit_test(test_fallback),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_greetings),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_hostile_lists),
		cmocka_unit_test(test_endless),
		cmocka_unit_test(test_longest),
	};

	return cmocka_run_group_tests(tests, NULL, tear_down);
}
