// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "session_peer.h"

#define FIXED NBD_WIRE_FIXED_NEWSTYLE
#define BOTH  (NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES)

static struct peer *p;

static int setup(void **state)
{
	(void)state;
	p = malloc(sizeof(*p));
	assert_non_null(p);
	peer_init(p, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(p);
	return 0;
}

static bool list_three(void *ctx, unsigned int i, const char **name, const char **description)
{
	static const char *const names[] = { "one", "two", "three" };

	(void)ctx;
	*name = i < 3 ? names[i] : NULL;
	*description = i == 1 ? "the second" : NULL;
	return i < 3;
}

static bool list_long(void *ctx, unsigned int i, const char **name, const char **description)
{
	static char longest[NBD_WIRE_MAX_STRING + 1];

	(void)ctx;
	memset(longest, 'x', NBD_WIRE_MAX_STRING);
	*name = longest;
	*description = longest;
	return i < 50;
}

static void greeting(void **state)
{
	(void)state;
	peer_greet(p, BOTH);
	assert_true(nbd_get_be64(p->out) == NBD_WIRE_INIT_MAGIC);
	assert_true(nbd_get_be64(p->out + 8) == NBD_WIRE_OPTION_MAGIC);
	assert_int_equal(nbd_get_be16(p->out + 16), BOTH);
	assert_int_equal(p->last, SRV_MORE);
}

static void unknown_client_flag_drops(void **state)
{
	(void)state;
	peer_greet(p, BOTH | 4);
	assert_int_equal(p->last, SRV_CLOSE);
}

static void wrong_option_magic_drops(void **state)
{
	uint8_t head[NBD_WIRE_OPTION_LEN] = { 1 };

	(void)state;
	peer_greet(p, BOTH);
	peer_send(p, head, sizeof(head));
	assert_int_equal(p->last, SRV_CLOSE);
}

static void export_name(void **state)
{
	(void)state;
	peer_greet(p, BOTH);
	peer_option(p, NBD_WIRE_OPT_EXPORT_NAME, "disk", 4);
	assert_string_equal(p->opened, "disk");
	assert_int_equal(p->got - p->seen, NBD_WIRE_EXPORT_REPLY_LEN);
	assert_true(nbd_get_be64(p->out + p->seen) == p->info.size);
	assert_int_equal(nbd_get_be16(p->out + p->seen + 8), p->info.flags);
	assert_true(p->s.in_transmission);
}

static void export_name_with_zeroes(void **state)
{
	uint8_t none[NBD_WIRE_EXPORT_ZEROES] = { 0 };

	(void)state;
	peer_greet(p, FIXED);
	peer_option(p, NBD_WIRE_OPT_EXPORT_NAME, "", 0);
	assert_string_equal(p->opened, "");
	assert_int_equal(p->got - p->seen, NBD_WIRE_EXPORT_REPLY_LEN + NBD_WIRE_EXPORT_ZEROES);
	assert_memory_equal(p->out + p->seen + 10, none, sizeof(none));
	assert_true(p->s.in_transmission);
}

static void export_name_unknown_closes(void **state)
{
	(void)state;
	p->refuse = true;
	peer_greet(p, BOTH);
	peer_option(p, NBD_WIRE_OPT_EXPORT_NAME, "no", 2);
	assert_int_equal(p->last, SRV_CLOSE);
	assert_int_equal(p->got, p->seen);
}

static void export_name_too_long_closes(void **state)
{
	uint8_t head[NBD_WIRE_OPTION_LEN];

	(void)state;
	peer_greet(p, BOTH);
	nbd_put_be64(head, NBD_WIRE_OPTION_MAGIC);
	nbd_put_be32(head + 8, NBD_WIRE_OPT_EXPORT_NAME);
	/* CVE-2022-26495: this length plus one was zero */
	nbd_put_be32(head + 12, 0xffffffff);
	peer_send(p, head, sizeof(head));
	assert_int_equal(p->last, SRV_CLOSE);
	assert_int_equal(p->opens, 0);
}

static void export_name_without_fixed(void **state)
{
	(void)state;
	peer_greet(p, 0);
	peer_option(p, NBD_WIRE_OPT_EXPORT_NAME, "disk", 4);
	assert_true(p->s.in_transmission);
}

static void other_option_without_fixed_closes(void **state)
{
	(void)state;
	peer_greet(p, 0);
	peer_option(p, NBD_WIRE_OPT_LIST, NULL, 0);
	assert_int_equal(p->last, SRV_CLOSE);
}

static void check_info_export(uint32_t opt)
{
	const uint8_t *data;
	uint32_t len;

	assert_int_equal(peer_reply(p, opt, &data, &len), NBD_WIRE_REP_INFO);
	assert_int_equal(len, NBD_WIRE_INFO_EXPORT_LEN);
	assert_int_equal(nbd_get_be16(data), NBD_WIRE_INFO_EXPORT);
	assert_true(nbd_get_be64(data + 2) == p->info.size);
	assert_int_equal(nbd_get_be16(data + 10), p->info.flags);
}

static void go_plain(void **state)
{
	(void)state;
	peer_greet(p, BOTH);
	peer_go(p, NBD_WIRE_OPT_GO, "disk", 0, NULL);
	check_info_export(NBD_WIRE_OPT_GO);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_GO, NULL, NULL), NBD_WIRE_REP_ACK);
	assert_int_equal(p->got, p->seen);
	assert_true(p->s.in_transmission);
}

/* Every kind of information, also unknown kinds and the same one twice */
static void go_everything(void **state)
{
	static const uint16_t wants[] = { 3, 2, 1, 0, 77, 3 };
	const uint8_t *data;
	uint32_t len;

	(void)state;
	peer_greet(p, FIXED);
	peer_go(p, NBD_WIRE_OPT_GO, "", 6, wants);
	check_info_export(NBD_WIRE_OPT_GO);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_GO, &data, &len), NBD_WIRE_REP_INFO);
	assert_int_equal(nbd_get_be16(data), NBD_WIRE_INFO_NAME);
	assert_int_equal(len, 2 + 4);
	assert_memory_equal(data + 2, "disk", 4);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_GO, &data, &len), NBD_WIRE_REP_INFO);
	assert_int_equal(nbd_get_be16(data), NBD_WIRE_INFO_DESCRIPTION);
	assert_memory_equal(data + 2, "a disk", 6);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_GO, &data, &len), NBD_WIRE_REP_INFO);
	assert_int_equal(nbd_get_be16(data), NBD_WIRE_INFO_BLOCK_SIZE);
	assert_int_equal(len, NBD_WIRE_INFO_BLOCK_SIZE_LEN);
	assert_int_equal(nbd_get_be32(data + 2), 1);
	assert_int_equal(nbd_get_be32(data + 6), 4096);
	assert_int_equal(nbd_get_be32(data + 10), 32 << 20);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_GO, NULL, NULL), NBD_WIRE_REP_ACK);
	/* GO is never followed by zeroes */
	assert_int_equal(p->got, p->seen);
}

static void info_then_go_agree(void **state)
{
	static const uint16_t wants[] = { 3 };
	uint8_t *info;
	size_t len, i;

	(void)state;
	peer_greet(p, BOTH);
	peer_go(p, NBD_WIRE_OPT_INFO, "disk", 1, wants);
	assert_false(p->s.in_transmission);
	len = p->got - p->seen;
	info = p->out + p->seen;
	peer_go(p, NBD_WIRE_OPT_GO, "disk", 1, wants);
	assert_true(p->s.in_transmission);
	assert_int_equal(p->got - p->seen, 2 * len);
	for (i = 0; i < len; i++) {
		/* The low byte of the option number, in each of three replies */
		if (info[i] != info[len + i])
			assert_true(info[i] == NBD_WIRE_OPT_INFO &&
				    info[len + i] == NBD_WIRE_OPT_GO);
	}
}

static void go_unknown_stays_in_sync(void **state)
{
	(void)state;
	peer_greet(p, BOTH);
	p->refuse = true;
	peer_go(p, NBD_WIRE_OPT_GO, "no", 0, NULL);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_GO, NULL, NULL), NBD_WIRE_REP_ERR_UNKNOWN);
	p->refuse = false;
	peer_go(p, NBD_WIRE_OPT_GO, "disk", 0, NULL);
	check_info_export(NBD_WIRE_OPT_GO);
}

static void go_with_data(const void *data, uint32_t len, uint32_t expected)
{
	unsigned int opens = p->opens;

	peer_option(p, NBD_WIRE_OPT_GO, data, len);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_GO, NULL, NULL), expected);
	assert_int_equal(p->got, p->seen);
	assert_int_equal(p->opens, opens);
}

/* CVE-2022-26496 and the desynchronisation of peers: lengths that do not fit each other */
static void go_malformed(void **state)
{
	uint8_t data[64] = { 0 };

	(void)state;
	peer_greet(p, BOTH);
	go_with_data(data, 0, NBD_WIRE_REP_ERR_INVALID);
	go_with_data(data, 5, NBD_WIRE_REP_ERR_INVALID);
	nbd_put_be32(data, 0xffffffff);
	go_with_data(data, 16, NBD_WIRE_REP_ERR_INVALID);
	nbd_put_be32(data, 0xfffffffa);
	go_with_data(data, 6, NBD_WIRE_REP_ERR_INVALID);
	nbd_put_be32(data, 11); /* one more than there is room for */
	go_with_data(data, 16, NBD_WIRE_REP_ERR_INVALID);
	nbd_put_be32(data, 9); /* one byte too many behind the name */
	go_with_data(data, 16, NBD_WIRE_REP_ERR_INVALID);
	nbd_put_be32(data, 0);
	nbd_put_be16(data + 4, 0xffff); /* more information requests than data */
	go_with_data(data, 64, NBD_WIRE_REP_ERR_INVALID);
	peer_go(p, NBD_WIRE_OPT_GO, "disk", 0, NULL);
	assert_true(p->s.in_transmission);
}

static void go_longest(void **state)
{
	static uint8_t data[SRV_MAX_OPTION + 1];
	static char name[NBD_WIRE_MAX_STRING + 1];
	static uint16_t wants[SRV_MAX_INFO_REQUESTS];

	(void)state;
	peer_greet(p, BOTH);
	go_with_data(data, sizeof(data), NBD_WIRE_REP_ERR_TOO_BIG);
	/* A name of 4097 bytes, in an option that could be held */
	nbd_put_be32(data, NBD_WIRE_MAX_STRING + 1);
	memset(data + 4, 'n', NBD_WIRE_MAX_STRING + 1);
	go_with_data(data, 6 + NBD_WIRE_MAX_STRING + 1, NBD_WIRE_REP_ERR_TOO_BIG);
	memset(name, 'n', NBD_WIRE_MAX_STRING);
	peer_go(p, NBD_WIRE_OPT_GO, name, SRV_MAX_INFO_REQUESTS, wants);
	assert_string_equal(p->opened, name);
	assert_true(p->s.in_transmission);
}

static void nul_in_name(void **state)
{
	uint8_t data[16] = { 0, 0, 0, 6, 'd', 'i', 's', 'k', 0, 'x', 0, 0 };

	(void)state;
	peer_greet(p, BOTH);
	go_with_data(data, 12, NBD_WIRE_REP_ERR_UNKNOWN);
	peer_option(p, NBD_WIRE_OPT_EXPORT_NAME, "disk\0x", 6);
	assert_int_equal(p->last, SRV_CLOSE);
	assert_int_equal(p->opens, 0);
}

static void list_refused(void **state)
{
	(void)state;
	peer_greet(p, BOTH);
	peer_option(p, NBD_WIRE_OPT_LIST, NULL, 0);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_LIST, NULL, NULL), NBD_WIRE_REP_ERR_POLICY);
}

static void list_exports(void **state)
{
	const uint8_t *data;
	uint32_t len;

	(void)state;
	peer_init(p, list_three);
	peer_greet(p, BOTH);
	peer_option(p, NBD_WIRE_OPT_LIST, "x", 1);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_LIST, NULL, NULL), NBD_WIRE_REP_ERR_INVALID);
	peer_option(p, NBD_WIRE_OPT_LIST, NULL, 0);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_LIST, &data, &len), NBD_WIRE_REP_SERVER);
	assert_int_equal(len, 4 + 3);
	assert_int_equal(nbd_get_be32(data), 3);
	assert_memory_equal(data + 4, "one", 3);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_LIST, &data, &len), NBD_WIRE_REP_SERVER);
	assert_int_equal(nbd_get_be32(data), 3);
	assert_int_equal(len, 4 + 3 + 10);
	assert_memory_equal(data + 7, "the second", 10);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_LIST, NULL, NULL), NBD_WIRE_REP_SERVER);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_LIST, NULL, NULL), NBD_WIRE_REP_ACK);
	assert_int_equal(p->got, p->seen);
}

/* Many times what the session can hold at once */
static void list_in_pieces(void **state)
{
	uint32_t len;
	int i;

	(void)state;
	peer_init(p, list_long);
	peer_greet(p, BOTH);
	peer_option(p, NBD_WIRE_OPT_LIST, NULL, 0);
	for (i = 0; i < 50; i++) {
		assert_int_equal(peer_reply(p, NBD_WIRE_OPT_LIST, NULL, &len), NBD_WIRE_REP_SERVER);
		assert_int_equal(len, 4 + 2 * NBD_WIRE_MAX_STRING);
	}
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_LIST, NULL, NULL), NBD_WIRE_REP_ACK);
	assert_int_equal(p->got, p->seen);
}

static void abort_acks_and_closes(void **state)
{
	(void)state;
	peer_greet(p, BOTH);
	peer_option(p, NBD_WIRE_OPT_ABORT, "ignored", 7);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_ABORT, NULL, NULL), NBD_WIRE_REP_ACK);
	assert_int_equal(p->last, SRV_CLOSE);
}

/* What is not offered is refused, whatever its length, and the next option is understood */
static void unsupported_options(void **state)
{
	static const struct {
		uint32_t opt, len, reply;
	} cases[] = {
		{ NBD_WIRE_OPT_STARTTLS, 0, NBD_WIRE_REP_ERR_POLICY },
		{ NBD_WIRE_OPT_STARTTLS, 3, NBD_WIRE_REP_ERR_INVALID },
		{ NBD_WIRE_OPT_PEEK_EXPORT, 4, NBD_WIRE_REP_ERR_UNSUP },
		{ NBD_WIRE_OPT_STRUCTURED_REPLY, 1, NBD_WIRE_REP_ERR_INVALID },
		{ NBD_WIRE_OPT_EXTENDED_HEADERS, 1, NBD_WIRE_REP_ERR_INVALID },
		{ 0, 0, NBD_WIRE_REP_ERR_UNSUP },
		{ 0x80000001, 1, NBD_WIRE_REP_ERR_UNSUP },
		{ 0xffffffff, 1000000, NBD_WIRE_REP_ERR_UNSUP },
	};
	static uint8_t junk[1000000];
	size_t i;

	(void)state;
	peer_greet(p, BOTH);
	memset(junk, 0xa5, sizeof(junk));
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		peer_option(p, cases[i].opt, junk, cases[i].len);
		assert_int_equal(peer_reply(p, cases[i].opt, NULL, NULL), cases[i].reply);
		assert_int_equal(p->got, p->seen);
	}
	peer_go(p, NBD_WIRE_OPT_GO, "disk", 0, NULL);
	assert_true(p->s.in_transmission);
}

static void byte_by_byte(void **state)
{
	static const uint16_t wants[] = { 1, 2, 3 };
	uint8_t *whole = malloc(PEER_OUT);
	size_t len;
	int pass;

	(void)state;
	assert_non_null(whole);
	for (pass = 0; pass < 2; pass++) {
		peer_init(p, list_three);
		p->step = pass;
		peer_greet(p, FIXED);
		peer_option(p, NBD_WIRE_OPT_LIST, NULL, 0);
		peer_option(p, 99, "data", 4);
		peer_go(p, NBD_WIRE_OPT_INFO, "disk", 3, wants);
		peer_go(p, NBD_WIRE_OPT_GO, "disk", 3, wants);
		assert_true(p->s.in_transmission);
		if (!pass)
			memcpy(whole, p->out, len = p->got);
	}
	assert_int_equal(p->got, len);
	assert_memory_equal(p->out, whole, len);
	free(whole);
}

static void shutdown_refuses_options(void **state)
{
	(void)state;
	peer_greet(p, BOTH);
	srv_session_shutdown(&p->s);
	assert_true(srv_session_idle(&p->s));
	peer_go(p, NBD_WIRE_OPT_GO, "disk", 0, NULL);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_GO, NULL, NULL), NBD_WIRE_REP_ERR_SHUTDOWN);
	peer_option(p, NBD_WIRE_OPT_EXPORT_NAME, "disk", 4);
	assert_int_equal(p->last, SRV_CLOSE);
	assert_int_equal(p->opens, 0);
}

static void idle_only_between_options(void **state)
{
	uint8_t head[NBD_WIRE_OPTION_LEN];

	(void)state;
	peer_greet(p, BOTH);
	nbd_put_be64(head, NBD_WIRE_OPTION_MAGIC);
	nbd_put_be32(head + 8, NBD_WIRE_OPT_GO);
	nbd_put_be32(head + 12, 16);
	assert_true(srv_session_idle(&p->s));
	peer_send(p, head, 7);
	assert_false(srv_session_idle(&p->s));
	peer_send(p, head + 7, sizeof(head) - 7);
	assert_false(srv_session_idle(&p->s));
}

static const uint8_t session[] = "sixteen.bytes.id\0\1\2\3and more";

/* Tell @len bytes of a session, get @expected and nothing else; @fences: times drained for */
static void tell(const void *data, uint32_t len, uint32_t expected, unsigned int fences)
{
	unsigned int before = p->fences;
	uint32_t text;

	peer_option(p, NBD_WIRE_OPT_X_SESSION, data, len);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_X_SESSION, NULL, &text), expected);
	assert_int_equal(p->got, p->seen);
	/* Refusals say why, in one line */
	assert_true(expected == NBD_WIRE_REP_ACK ? !text : text && text < 80);
	assert_int_equal(p->fences - before, fences);
}

static void session_once(void **state)
{
	size_t pass;

	(void)state;
	for (pass = 0; pass < 2; pass++) {
		peer_init(p, NULL);
		p->step = pass;
		peer_greet(p, BOTH);
		tell(session, NBD_WIRE_X_SESSION_LEN, NBD_WIRE_REP_ACK, 1);
		assert_memory_equal(p->s.session_id, session, NBD_WIRE_X_SESSION_ID_LEN);
		assert_int_equal(p->s.session_link, 0x00010203);
		assert_int_equal(p->opens, 0);
		/* Again is too often, for the same one and for another */
		tell(session, NBD_WIRE_X_SESSION_LEN, NBD_WIRE_REP_ERR_INVALID, 0);
		tell(session + 1, NBD_WIRE_X_SESSION_LEN, NBD_WIRE_REP_ERR_INVALID, 0);
		assert_int_equal(p->s.session_link, 0x00010203);
		peer_go(p, NBD_WIRE_OPT_GO, "disk", 0, NULL);
		assert_true(p->s.in_transmission);
	}
}

static void session_then_export_name(void **state)
{
	(void)state;
	peer_greet(p, BOTH);
	peer_go(p, NBD_WIRE_OPT_INFO, "disk", 0, NULL);
	p->seen = p->got;
	tell(session, NBD_WIRE_X_SESSION_LEN, NBD_WIRE_REP_ACK, 1);
	peer_option(p, NBD_WIRE_OPT_EXPORT_NAME, "disk", 4);
	assert_true(p->s.in_transmission);
}

static void session_of_wrong_length(void **state)
{
	static const uint32_t lengths[] = { 0, 1, 16, 19, 21, 4096 };
	static uint8_t junk[1000000];
	size_t i;

	(void)state;
	peer_greet(p, BOTH);
	for (i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
		tell(junk, lengths[i], NBD_WIRE_REP_ERR_INVALID, 0);
	tell(junk, sizeof(junk), NBD_WIRE_REP_ERR_INVALID, 0);
	/* Which does not count as told */
	tell(session, NBD_WIRE_X_SESSION_LEN, NBD_WIRE_REP_ACK, 1);
}

static void session_busy(void **state)
{
	(void)state;
	peer_greet(p, BOTH);
	p->busy = true;
	tell(session, NBD_WIRE_X_SESSION_LEN, NBD_WIRE_REP_ERR_X_BUSY, 1);
	tell(session, NBD_WIRE_X_SESSION_LEN, NBD_WIRE_REP_ERR_X_BUSY, 1);
	/* Asking again is for the same session */
	tell(session + 1, NBD_WIRE_X_SESSION_LEN, NBD_WIRE_REP_ERR_INVALID, 0);
	tell("sixteen.bytes.id\0\1\2\4", NBD_WIRE_X_SESSION_LEN, NBD_WIRE_REP_ERR_INVALID, 0);
	p->busy = false;
	tell(session, NBD_WIRE_X_SESSION_LEN, NBD_WIRE_REP_ACK, 1);
	tell(session, NBD_WIRE_X_SESSION_LEN, NBD_WIRE_REP_ERR_INVALID, 0);
	peer_option(p, NBD_WIRE_OPT_ABORT, NULL, 0);
	assert_int_equal(p->last, SRV_CLOSE);
}

static void session_not_offered(void **state)
{
	(void)state;
	p->s.can_fence = false;
	peer_greet(p, BOTH);
	tell(session, NBD_WIRE_X_SESSION_LEN, NBD_WIRE_REP_ERR_UNSUP, 0);
	tell(session, 3, NBD_WIRE_REP_ERR_UNSUP, 0);
	peer_go(p, NBD_WIRE_OPT_GO, "disk", 0, NULL);
	assert_true(p->s.in_transmission);
}

static void session_and_shutdown(void **state)
{
	const uint8_t *in = session;
	uint8_t head[NBD_WIRE_OPTION_LEN];
	size_t len = NBD_WIRE_X_SESSION_LEN;

	(void)state;
	peer_greet(p, BOTH);
	nbd_put_be64(head, NBD_WIRE_OPTION_MAGIC);
	nbd_put_be32(head + 8, NBD_WIRE_OPT_X_SESSION);
	nbd_put_be32(head + 12, NBD_WIRE_X_SESSION_LEN);
	peer_send(p, head, sizeof(head));
	assert_int_equal(srv_session_next(&p->s, &in, &len), SRV_FENCE);
	/* While the owner waits for others, the server is told to end */
	srv_session_shutdown(&p->s);
	srv_session_fenced(&p->s, false);
	peer_send(p, NULL, 0);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_X_SESSION, NULL, NULL),
			 NBD_WIRE_REP_ERR_SHUTDOWN);
	tell(session, NBD_WIRE_X_SESSION_LEN, NBD_WIRE_REP_ERR_SHUTDOWN, 0);
}

/* STARTTLS goes through, and then the other side's first bytes come */
static void starttls(void)
{
	unsigned int before = p->secured;

	peer_option(p, NBD_WIRE_OPT_STARTTLS, NULL, 0);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_STARTTLS, NULL, NULL), NBD_WIRE_REP_ACK);
	assert_int_equal(p->secured, before + 1);
	assert_int_equal(p->got, p->seen);
}

static void tls_once(void **state)
{
	(void)state;
	p->s.can_tls = true;
	peer_greet(p, BOTH);
	peer_option(p, NBD_WIRE_OPT_STARTTLS, "x", 1);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_STARTTLS, NULL, NULL),
			 NBD_WIRE_REP_ERR_INVALID);
	starttls();
	assert_true(p->s.secure);
	peer_option(p, NBD_WIRE_OPT_STARTTLS, NULL, 0);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_STARTTLS, NULL, NULL),
			 NBD_WIRE_REP_ERR_INVALID);
	assert_int_equal(p->secured, 1);
	peer_go(p, NBD_WIRE_OPT_GO, "disk", 0, NULL);
	check_info_export(NBD_WIRE_OPT_GO);
	assert_true(p->s.in_transmission);
}

/* CVE-2021-3716: somebody in between could have said it */
static void tls_forgets_what_was_said(void **state)
{
	static const uint8_t meta[] = "\0\0\0\4disk\0\0\0\1\0\0\0\17base:allocation";
	static const uint8_t other[NBD_WIRE_X_SESSION_LEN] = { 7 };

	(void)state;
	p->s.can_tls = true;
	p->info.flags |= NBD_WIRE_FLAG_SEND_DF;
	peer_greet(p, BOTH);
	peer_option(p, NBD_WIRE_OPT_STRUCTURED_REPLY, NULL, 0);
	peer_option(p, NBD_WIRE_OPT_SET_META_CONTEXT, meta, sizeof(meta) - 1);
	peer_option(p, NBD_WIRE_OPT_X_SESSION, session, NBD_WIRE_X_SESSION_LEN);
	peer_option(p, NBD_WIRE_OPT_EXTENDED_HEADERS, NULL, 0);
	assert_true(p->s.structured && p->s.extended && p->s.allocation && p->s.fenced);
	p->seen = p->got;
	starttls();
	assert_false(p->s.structured || p->s.allocation || p->s.announced || p->s.fenced);
	assert_false(p->s.extended);
	/* Another session may be told, but no metadata chosen: that needs to be asked for again */
	tell(other, sizeof(other), NBD_WIRE_REP_ACK, 1);
	peer_option(p, NBD_WIRE_OPT_SET_META_CONTEXT, meta, sizeof(meta) - 1);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_SET_META_CONTEXT, NULL, NULL),
			 NBD_WIRE_REP_ERR_INVALID);
	p->info.flags &= (uint16_t)~NBD_WIRE_FLAG_SEND_DF;
	peer_go(p, NBD_WIRE_OPT_GO, "disk", 0, NULL);
	check_info_export(NBD_WIRE_OPT_GO);
}

static void tls_required(void **state)
{
	static const uint32_t opts[] = {
		NBD_WIRE_OPT_LIST,
		NBD_WIRE_OPT_INFO,
		NBD_WIRE_OPT_GO,
		NBD_WIRE_OPT_STRUCTURED_REPLY,
		NBD_WIRE_OPT_SET_META_CONTEXT,
		NBD_WIRE_OPT_LIST_META_CONTEXT,
		NBD_WIRE_OPT_X_SESSION,
		77,
	};
	static uint8_t data[SRV_MAX_OPTION + 1];
	size_t i;

	(void)state;
	p->s.can_tls = true;
	p->s.needs_tls = true;
	p->s.list = list_three;
	peer_greet(p, BOTH);
	for (i = 0; i < sizeof(opts) / sizeof(*opts); i++) {
		peer_option(p, opts[i], NULL, 0);
		assert_int_equal(peer_reply(p, opts[i], NULL, NULL), NBD_WIRE_REP_ERR_TLS_REQD);
		peer_option(p, opts[i], data, sizeof(data));
		assert_int_equal(peer_reply(p, opts[i], NULL, NULL), NBD_WIRE_REP_ERR_TLS_REQD);
	}
	assert_int_equal(p->got, p->seen);
	assert_int_equal(p->opens + p->fences, 0);
	starttls();
	peer_go(p, NBD_WIRE_OPT_GO, "disk", 0, NULL);
	check_info_export(NBD_WIRE_OPT_GO);
	assert_true(p->s.in_transmission);
}

static void tls_required_to_leave_and_for_a_name(void **state)
{
	(void)state;
	p->s.can_tls = true;
	p->s.needs_tls = true;
	peer_greet(p, BOTH);
	peer_option(p, NBD_WIRE_OPT_EXPORT_NAME, "disk", 4);
	assert_int_equal(p->last, SRV_CLOSE);
	assert_int_equal(p->opens, 0);
	assert_int_equal(p->got, p->seen);
	peer_init(p, NULL);
	p->s.needs_tls = true;
	peer_greet(p, BOTH);
	peer_option(p, NBD_WIRE_OPT_ABORT, NULL, 0);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_ABORT, NULL, NULL), NBD_WIRE_REP_ACK);
	assert_int_equal(p->last, SRV_CLOSE);
}

/* Whatever comes in one piece with STARTTLS was not said by who speaks TLS later */
static void tls_with_more_behind_it_closes(void **state)
{
	uint8_t buf[2 * NBD_WIRE_OPTION_LEN] = { 0 };
	const uint8_t *in = buf;
	size_t len = sizeof(buf);
	int i;

	(void)state;
	p->s.can_tls = true;
	peer_greet(p, BOTH);
	for (i = 0; i < 2; i++) {
		nbd_put_be64(buf + i * NBD_WIRE_OPTION_LEN, NBD_WIRE_OPTION_MAGIC);
		nbd_put_be32(buf + i * NBD_WIRE_OPTION_LEN + 8,
			     i ? NBD_WIRE_OPT_STRUCTURED_REPLY : NBD_WIRE_OPT_STARTTLS);
	}
	peer_run(p, &in, &len);
	assert_int_equal(p->last, SRV_CLOSE);
	assert_int_equal(p->secured, 0);
	assert_non_null(strstr(p->s.reason, "behind STARTTLS"));
}

static void tls_for_one_export(void **state)
{
	(void)state;
	p->refuse = true;
	p->result = SRV_OPEN_TLS;
	peer_greet(p, BOTH);
	peer_go(p, NBD_WIRE_OPT_GO, "disk", 0, NULL);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_GO, NULL, NULL), NBD_WIRE_REP_ERR_TLS_REQD);
	peer_option(p, NBD_WIRE_OPT_EXPORT_NAME, "disk", 4);
	assert_int_equal(p->last, SRV_CLOSE);
}

/* The handshake of TLS is in the hands of the owner: the server's end waits for it */
static void tls_under_way_is_not_idle(void **state)
{
	const uint8_t *in = NULL;
	size_t len = 0;

	(void)state;
	p->s.can_tls = true;
	p->hold = true;
	peer_greet(p, BOTH);
	peer_option(p, NBD_WIRE_OPT_STARTTLS, NULL, 0);
	assert_int_equal(p->last, SRV_STARTTLS);
	assert_false(srv_session_idle(&p->s));
	srv_session_shutdown(&p->s);
	assert_int_equal(srv_session_next(&p->s, &in, &len), SRV_STARTTLS);
	srv_session_secured(&p->s);
	assert_true(srv_session_idle(&p->s));
	p->seen = p->got;
	peer_go(p, NBD_WIRE_OPT_GO, "disk", 0, NULL);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_GO, NULL, NULL), NBD_WIRE_REP_ERR_SHUTDOWN);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(greeting),
		T(unknown_client_flag_drops),
		T(wrong_option_magic_drops),
		T(export_name),
		T(export_name_with_zeroes),
		T(export_name_unknown_closes),
		T(export_name_too_long_closes),
		T(export_name_without_fixed),
		T(other_option_without_fixed_closes),
		T(go_plain),
		T(go_everything),
		T(info_then_go_agree),
		T(go_unknown_stays_in_sync),
		T(go_malformed),
		T(go_longest),
		T(nul_in_name),
		T(list_refused),
		T(list_exports),
		T(list_in_pieces),
		T(abort_acks_and_closes),
		T(unsupported_options),
		T(byte_by_byte),
		T(shutdown_refuses_options),
		T(idle_only_between_options),
		T(session_once),
		T(session_then_export_name),
		T(session_of_wrong_length),
		T(session_busy),
		T(session_not_offered),
		T(session_and_shutdown),
		T(tls_once),
		T(tls_forgets_what_was_said),
		T(tls_required),
		T(tls_required_to_leave_and_for_a_name),
		T(tls_with_more_behind_it_closes),
		T(tls_for_one_export),
		T(tls_under_way_is_not_idle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
