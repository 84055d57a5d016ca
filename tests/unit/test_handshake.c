// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The driver's handshake against servers that follow the protocol and servers
 * that do not.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "kernel/nbd/handshake.h"
#include "nbd-wire.h"

/* What a server sends, built up piece by piece */
struct script {
	uint8_t bytes[1 << 20];
	size_t len;
};

static struct script script;
static struct nbd_handshake hs;

/* What play() announces; NULL: nothing */
static const uint8_t *session;
static const uint8_t some_session[NBD_WIRE_X_SESSION_LEN] = "sixteen.bytes.id\0\0\0\3";

/* Everything the client has sent */
static uint8_t sent[2 * NBD_HANDSHAKE_OUT_MAX];
static size_t sent_len;

static void put(uint64_t value, unsigned int bytes)
{
	while (bytes--)
		script.bytes[script.len++] = (uint8_t)(value >> 8 * bytes);
}

static void greet(uint16_t flags)
{
	script.len = 0;
	put(NBD_WIRE_INIT_MAGIC, 8);
	put(NBD_WIRE_OPTION_MAGIC, 8);
	put(flags, 2);
}

static void reply(uint32_t option, uint32_t type, uint32_t len)
{
	put(NBD_WIRE_OPT_REPLY_MAGIC, 8);
	put(option, 4);
	put(type, 4);
	put(len, 4);
}

static void info_export(uint64_t size, uint16_t flags)
{
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_INFO, NBD_WIRE_INFO_EXPORT_LEN);
	put(NBD_WIRE_INFO_EXPORT, 2);
	put(size, 8);
	put(flags, 2);
}

static void info_block_size(uint32_t min, uint32_t preferred, uint32_t max)
{
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_INFO, NBD_WIRE_INFO_BLOCK_SIZE_LEN);
	put(NBD_WIRE_INFO_BLOCK_SIZE, 2);
	put(min, 4);
	put(preferred, 4);
	put(max, 4);
}

static void ack(void)
{
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_ACK, 0);
}

static void text(const char *s)
{
	memcpy(script.bytes + script.len, s, strlen(s));
	script.len += strlen(s);
}

static void drain_output(void)
{
	assert_true(hs.out_len <= sizeof(hs.out));
	assert_true(sent_len + hs.out_len <= sizeof(sent));
	memcpy(sent + sent_len, hs.out, hs.out_len);
	sent_len += hs.out_len;
	hs.out_len = 0;
}

/* Play the script, at most @step bytes at a time. Returns how many were taken. */
static size_t play(const char *name, bool no_go, size_t step)
{
	size_t at = 0, len;
	uint8_t *buf;

	sent_len = 0;
	nbd_handshake_start(&hs, name, strlen(name), no_go, session);
	while (hs.state != NBD_HS_DONE && hs.state != NBD_HS_FAILED) {
		drain_output();
		buf = nbd_handshake_buffer(&hs, &len);
		assert_true(len > 0);
		assert_true(buf >= hs.in && buf + len <= hs.in + sizeof(hs.in));
		if (len > step)
			len = step;
		if (len > script.len - at)
			len = script.len - at;
		if (!len) {
			nbd_handshake_closed(&hs);
			break;
		}
		memcpy(buf, script.bytes + at, len);
		at += len;
		nbd_handshake_received(&hs, len);
	}
	drain_output();
	return at;
}

/* Both ways: as one piece, and byte by byte, with the same end */
static void expect(const char *name, enum nbd_handshake_state state, int error, const char *words)
{
	size_t taken = play(name, false, SIZE_MAX);
	enum nbd_handshake_state first = hs.state;

	assert_int_equal(play(name, false, 1), taken);
	assert_int_equal(hs.state, first);
	if (hs.state != state || hs.error != error || (words && !strstr(hs.text, words)))
		fail_msg("state %d error %d '%s'", hs.state, hs.error, hs.text);
	if (state == NBD_HS_FAILED)
		assert_true(strlen(hs.text) > 0);
}

static void test_go(void **state)
{
	size_t taken;

	(void)state;
	greet(NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES);
	info_block_size(4096, 65536, 1 << 20);
	info_export(1ull << 33, 0x16d);
	ack();
	put(0xdead, 2); /* belongs to transmission: must not be touched */
	taken = play("disk", false, SIZE_MAX);
	assert_int_equal(taken, script.len - 2);
	expect("disk", NBD_HS_DONE, 0, NULL);
	assert_int_equal(hs.export.size, 1ull << 33);
	assert_int_equal(hs.export.flags, 0x16d);
	assert_int_equal(hs.export.min_block, 4096);
	assert_int_equal(hs.export.preferred_block, 65536);
	assert_int_equal(hs.export.max_payload, 1 << 20);
}

static void test_go_bytes_sent(void **state)
{
	static const uint8_t wanted[] = {
		0, 0, 0, 3,  'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 7,
		0, 0, 0, 12, 0,	  0,   0,   4,	 'd', 'i', 's', 'k', 0, 1, 0, 3,
	};

	(void)state;
	greet(NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES);
	play("disk", false, SIZE_MAX);
	assert_int_equal(sent_len, sizeof(wanted));
	assert_memory_equal(sent, wanted, sizeof(wanted));
}

static void test_unknown_handshake_flags_are_not_answered(void **state)
{
	(void)state;
	greet(0xfffd); /* all but NO_ZEROES */
	play("", false, SIZE_MAX);
	assert_int_equal(sent[3], NBD_WIRE_FIXED_NEWSTYLE);
	assert_int_equal(sent[0] | sent[1] | sent[2], 0);
}

static void test_unsup_falls_back(void **state)
{
	static const uint8_t option[] = {
		'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 1, 0, 0, 0, 1, 'x',
	};

	(void)state;
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_ERR_UNSUP, 5);
	text("never");
	put(123456, 8);
	put(NBD_WIRE_FLAG_HAS_FLAGS | NBD_WIRE_FLAG_SEND_TRIM, 2);
	for (int i = 0; i < NBD_WIRE_EXPORT_ZEROES; i++)
		put(0, 1);
	expect("x", NBD_HS_DONE, 0, NULL);
	assert_int_equal(hs.export.size, 123456);
	assert_int_equal(hs.export.flags, NBD_WIRE_FLAG_HAS_FLAGS | NBD_WIRE_FLAG_SEND_TRIM);
	assert_int_equal(hs.export.min_block, 0);
	assert_memory_equal(sent + sent_len - sizeof(option), option, sizeof(option));
}

static void test_unsup_forgets_what_go_said(void **state)
{
	(void)state;
	greet(NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES);
	info_block_size(4096, 4096, 4096);
	info_export(77, 1);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_ERR_UNSUP, 0);
	put(1 << 20, 8);
	put(0, 2);
	expect("x", NBD_HS_DONE, 0, NULL);
	assert_int_equal(hs.export.size, 1 << 20);
	assert_int_equal(hs.export.min_block, 0);
	assert_int_equal(hs.export.max_payload, 0);
}

static void test_not_fixed_uses_export_name(void **state)
{
	(void)state;
	greet(NBD_WIRE_NO_ZEROES);
	put(4096, 8);
	put(1, 2);
	expect("", NBD_HS_DONE, 0, NULL);
	assert_int_equal(sent[3], NBD_WIRE_NO_ZEROES);
	assert_int_equal(sent[15], NBD_WIRE_OPT_EXPORT_NAME);
}

static void test_no_go(void **state)
{
	(void)state;
	greet(NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES);
	put(4096, 8);
	put(3, 2);
	play("", true, 1);
	assert_int_equal(hs.state, NBD_HS_DONE);
	assert_int_equal(hs.export.flags, 3);
}

static void test_flags_without_has_flags_count_for_nothing(void **state)
{
	(void)state;
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	info_export(512, 0xfffe);
	ack();
	expect("", NBD_HS_DONE, 0, NULL);
	assert_int_equal(hs.export.flags, 0);
}

static void test_long_name_fits(void **state)
{
	static char name[NBD_HANDSHAKE_NAME_MAX + 1];

	(void)state;
	memset(name, 'n', NBD_HANDSHAKE_NAME_MAX);
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_ERR_UNSUP, 0);
	expect(name, NBD_HS_FAILED, -ENOENT, "nnnn");
	assert_int_equal(sent_len,
			 4 + 16 + 4 + NBD_HANDSHAKE_NAME_MAX + 4 + 16 + NBD_HANDSHAKE_NAME_MAX);
}

static void test_refusals(void **state)
{
	static const struct {
		uint32_t type;
		int error;
		const char *words;
	} cases[] = {
		{ NBD_WIRE_REP_ERR_UNKNOWN, -ENOENT, "does not know export 'x': go away" },
		{ NBD_WIRE_REP_ERR_TLS_REQD, -EACCES, "demands TLS" },
		{ NBD_WIRE_REP_ERR_POLICY, -EACCES, "policy" },
		{ NBD_WIRE_REP_ERR_SHUTDOWN, -ESHUTDOWN, "shutting down" },
		{ NBD_WIRE_REP_ERR_INVALID, -EINVAL, "invalid" },
		{ NBD_WIRE_REP_ERR_PLATFORM, -EOPNOTSUPP, "platform" },
		{ NBD_WIRE_REP_ERR_BLOCK_SIZE_REQD, -EPROTO, "block sizes" },
		{ NBD_WIRE_REP_ERR_TOO_BIG, -E2BIG, "too long" },
		{ NBD_WIRE_REP_ERROR + 4711, -EREMOTEIO, "refuses export 'x': go away" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		greet(NBD_WIRE_FIXED_NEWSTYLE);
		reply(NBD_WIRE_OPT_GO, cases[i].type, 7);
		text("go away");
		expect("x", NBD_HS_FAILED, cases[i].error, cases[i].words);
		assert_false(hs.protocol_error);
	}
}

static void test_server_text_is_made_printable(void **state)
{
	(void)state;
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_ERR_UNKNOWN, 6);
	text("a\033[2Jb");
	expect("x", NBD_HS_FAILED, -ENOENT, "a?[2Jb");
}

static void test_long_server_text_is_cut(void **state)
{
	(void)state;
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_ERR_POLICY, 4096);
	for (int i = 0; i < 4096; i++)
		put('z', 1);
	expect("x", NBD_HS_FAILED, -EACCES, "zzzz");
	assert_int_equal(strlen(hs.text), NBD_HANDSHAKE_TEXT_MAX - 1);
}

static void test_closed(void **state)
{
	(void)state;
	script.len = 0;
	expect("", NBD_HS_FAILED, -ECONNRESET, "before its greeting");
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	expect("", NBD_HS_FAILED, -ECONNRESET, "during the handshake");
	greet(0);
	expect("e", NBD_HS_FAILED, -ENOENT, "asked for export 'e'");
}

static void test_wrong_magics(void **state)
{
	(void)state;
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	script.bytes[0] ^= 1;
	expect("", NBD_HS_FAILED, -EPROTO, "greeting");
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	script.bytes[8] ^= 1;
	expect("", NBD_HS_FAILED, -EPROTO, "magic");
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	ack();
	script.bytes[18] ^= 1;
	expect("", NBD_HS_FAILED, -EPROTO, "magic");
	assert_true(hs.protocol_error);

	script.len = 0;
	put(NBD_WIRE_INIT_MAGIC, 8);
	put(NBD_WIRE_OLDSTYLE_MAGIC, 8);
	put(0, 2);
	expect("", NBD_HS_FAILED, -EPROTONOSUPPORT, "oldstyle");
}

static void test_bad_replies(void **state)
{
	(void)state;
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_LIST, NBD_WIRE_REP_ACK, 0);
	expect("", NBD_HS_FAILED, -EPROTO, "not sent");
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_SERVER, 0);
	expect("", NBD_HS_FAILED, -EPROTO, "type 0x2");
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_INFO, UINT32_MAX);
	expect("", NBD_HS_FAILED, -EPROTO, "length 0xffffffff");
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_INFO, 1);
	expect("", NBD_HS_FAILED, -EPROTO, "length 0x1");
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_INFO, 13);
	put(NBD_WIRE_INFO_EXPORT, 2);
	put(0, 8);
	put(0, 3);
	expect("", NBD_HS_FAILED, -EPROTO, "length 0xd");
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	ack();
	expect("", NBD_HS_FAILED, -EPROTO, "without telling the size");
}

static void test_bad_block_sizes(void **state)
{
	static const uint32_t cases[][3] = {
		{ 0, 4096, 65536 },   { 3, 4096, 65536 }, { 1 << 17, 1 << 17, 1 << 20 },
		{ 512, 256, 65536 },  { 512, 0, 65536 },  { 512, 3000, 65536 },
		{ 4096, 512, 65536 }, { 1, 256, 65536 },  { 4096, 4096, 0 },
		{ 4096, 4096, 4095 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		greet(NBD_WIRE_FIXED_NEWSTYLE);
		info_block_size(cases[i][0], cases[i][1], cases[i][2]);
		info_export(512, 1);
		ack();
		expect("", NBD_HS_FAILED, -EPROTO, "server sent");
	}
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	info_block_size(65536, 65536, UINT32_MAX);
	info_export(512, 1);
	ack();
	expect("", NBD_HS_DONE, 0, NULL);
}

static void test_endless_replies(void **state)
{
	(void)state;
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	for (int i = 0; i < 1000; i++)
		info_export(512, 1);
	expect("", NBD_HS_FAILED, -EPROTO, "too many replies");
	assert_int_equal(hs.replies, NBD_HANDSHAKE_MAX_REPLIES + 1);
}

static void test_unknown_infos_are_skipped(void **state)
{
	static const uint32_t lengths[] = { 2, 3, 255, 256, 257, 512, 513, 65536 };

	(void)state;
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_INFO, lengths[i]);
		put(0x4711, 2);
		for (uint32_t n = 2; n < lengths[i]; n++)
			put('?', 1);
	}
	info_export(512, 1);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_ACK, 3); /* data to be ignored */
	put(0, 3);
	expect("", NBD_HS_DONE, 0, NULL);
	assert_int_equal(hs.export.size, 512);
}

static int with_session(void **state)
{
	(void)state;
	session = some_session;
	return 0;
}

static int without_session(void **state)
{
	(void)state;
	session = NULL;
	return 0;
}

static void go_is_fine(void)
{
	info_export(512, 1);
	ack();
}

static void test_session_acknowledged(void **state)
{
	static const uint8_t option[] = {
		0,   0,	  0,   3,   'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0x6e, 0x62,
		'S', 1,	  0,   0,   0,	 20,  's', 'i', 'x', 't', 'e', 'e', 'n',  '.',
		'b', 'y', 't', 'e', 's', '.', 'i', 'd', 0,   0,	  0,   3,
	};

	(void)state;
	/* The option goes out, and GO not before its answer */
	greet(NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES);
	play("x", false, SIZE_MAX);
	assert_int_equal(sent_len, sizeof(option));
	assert_memory_equal(sent, option, sizeof(option));
	reply(NBD_WIRE_OPT_X_SESSION, NBD_WIRE_REP_ACK, 0);
	go_is_fine();
	expect("x", NBD_HS_DONE, 0, NULL);
	assert_true(hs.fenced);
	assert_int_equal(hs.export.size, 512);
	assert_int_equal(sent_len, sizeof(option) + 16 + 4 + 1 + 4);
	assert_int_equal(sent[sizeof(option) + 11], NBD_WIRE_OPT_GO);
}

static void test_session_is_a_help_only(void **state)
{
	static const uint32_t answers[] = {
		NBD_WIRE_REP_ERR_UNSUP,	   NBD_WIRE_REP_ERR_POLICY,
		NBD_WIRE_REP_ERR_INVALID,  NBD_WIRE_REP_ERR_PLATFORM,
		NBD_WIRE_REP_ERR_TLS_REQD, NBD_WIRE_REP_ERR_UNKNOWN,
		NBD_WIRE_REP_ERR_TOO_BIG,  NBD_WIRE_REP_ERR_BLOCK_SIZE_REQD,
		NBD_WIRE_REP_ERROR + 4711,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		greet(NBD_WIRE_FIXED_NEWSTYLE);
		reply(NBD_WIRE_OPT_X_SESSION, answers[i], 5);
		text("never");
		go_is_fine();
		expect("x", NBD_HS_DONE, 0, NULL);
		assert_false(hs.fenced);
	}
	/* What it did not know says nothing of GO */
	greet(NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES);
	reply(NBD_WIRE_OPT_X_SESSION, NBD_WIRE_REP_ACK, 0);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_ERR_UNSUP, 0);
	put(123456, 8);
	put(0, 2);
	expect("x", NBD_HS_DONE, 0, NULL);
	assert_true(hs.fenced);
	assert_int_equal(hs.export.size, 123456);
}

static void test_session_busy(void **state)
{
	(void)state;
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_X_SESSION, NBD_WIRE_REP_ERR_X_BUSY, 4);
	text("wait");
	go_is_fine();
	expect("x", NBD_HS_FAILED, -EBUSY,
	       "server still works on requests of the connection before");
	assert_false(hs.fenced);
	assert_false(hs.protocol_error);

	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_X_SESSION, NBD_WIRE_REP_ERR_SHUTDOWN, 0);
	go_is_fine();
	expect("x", NBD_HS_FAILED, -ESHUTDOWN, "shutting down");
	assert_false(hs.protocol_error);

	/* Its number means that only in answer to the session */
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_X_SESSION, NBD_WIRE_REP_ACK, 0);
	reply(NBD_WIRE_OPT_GO, NBD_WIRE_REP_ERR_X_BUSY, 0);
	expect("x", NBD_HS_FAILED, -EREMOTEIO, "refuses");
}

static void test_session_bad_replies(void **state)
{
	(void)state;
	/* GO's kind of answer */
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_X_SESSION, NBD_WIRE_REP_INFO, NBD_WIRE_INFO_EXPORT_LEN);
	expect("", NBD_HS_FAILED, -EPROTO, "reply to the session option of type 0x3");
	assert_true(hs.protocol_error);
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_X_SESSION, 0, 0);
	expect("", NBD_HS_FAILED, -EPROTO, "type 0x0");
	/* GO's answer too early, the session's too late */
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	go_is_fine();
	expect("", NBD_HS_FAILED, -EPROTO, "not sent, 0x7");
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_X_SESSION, NBD_WIRE_REP_ERR_UNSUP, 0);
	reply(NBD_WIRE_OPT_X_SESSION, NBD_WIRE_REP_ACK, 0);
	expect("", NBD_HS_FAILED, -EPROTO, "not sent, 0x6e625301");
	assert_false(hs.fenced);
	/* One that is too long, and the longest there may be */
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_X_SESSION, NBD_WIRE_REP_ACK, NBD_HANDSHAKE_MAX_REPLY_LEN + 1);
	expect("", NBD_HS_FAILED, -EPROTO, "length 0x10001");
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_X_SESSION, NBD_WIRE_REP_ACK, NBD_HANDSHAKE_MAX_REPLY_LEN);
	for (int i = 0; i < NBD_HANDSHAKE_MAX_REPLY_LEN; i++)
		put('?', 1);
	go_is_fine();
	expect("", NBD_HS_DONE, 0, NULL);
	assert_true(hs.fenced);
	/* None at all */
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	expect("", NBD_HS_FAILED, -ECONNRESET, "during the handshake");
}

static void test_session_needs_the_fixed_style(void **state)
{
	(void)state;
	greet(NBD_WIRE_NO_ZEROES);
	put(4096, 8);
	put(1, 2);
	expect("", NBD_HS_DONE, 0, NULL);
	assert_false(hs.fenced);
	assert_int_equal(sent_len, 4 + 16);
	assert_int_equal(sent[15], NBD_WIRE_OPT_EXPORT_NAME);

	greet(NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES);
	put(4096, 8);
	put(1, 2);
	play("", true, SIZE_MAX);
	assert_int_equal(hs.state, NBD_HS_DONE);
	assert_false(hs.fenced);
	assert_int_equal(sent_len, 4 + 16);
}

static void test_long_name_fits_with_session(void **state)
{
	static char name[NBD_HANDSHAKE_NAME_MAX + 1];

	(void)state;
	memset(name, 'n', NBD_HANDSHAKE_NAME_MAX);
	greet(NBD_WIRE_FIXED_NEWSTYLE);
	reply(NBD_WIRE_OPT_X_SESSION, NBD_WIRE_REP_ACK, 0);
	go_is_fine();
	expect(name, NBD_HS_DONE, 0, NULL);
	assert_int_equal(sent_len,
			 4 + 16 + NBD_WIRE_X_SESSION_LEN + 16 + 4 + NBD_HANDSHAKE_NAME_MAX + 4);
}

#define session_test(t) cmocka_unit_test_setup_teardown(t, with_session, without_session)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_go),
		cmocka_unit_test(test_go_bytes_sent),
		cmocka_unit_test(test_unknown_handshake_flags_are_not_answered),
		cmocka_unit_test(test_unsup_falls_back),
		cmocka_unit_test(test_unsup_forgets_what_go_said),
		cmocka_unit_test(test_not_fixed_uses_export_name),
		cmocka_unit_test(test_no_go),
		cmocka_unit_test(test_flags_without_has_flags_count_for_nothing),
		cmocka_unit_test(test_long_name_fits),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_server_text_is_made_printable),
		cmocka_unit_test(test_long_server_text_is_cut),
		cmocka_unit_test(test_closed),
		cmocka_unit_test(test_wrong_magics),
		cmocka_unit_test(test_bad_replies),
		cmocka_unit_test(test_bad_block_sizes),
		cmocka_unit_test(test_endless_replies),
		cmocka_unit_test(test_unknown_infos_are_skipped),
		session_test(test_session_acknowledged),
		session_test(test_session_is_a_help_only),
		session_test(test_session_busy),
		session_test(test_session_bad_replies),
		session_test(test_session_needs_the_fixed_style),
		session_test(test_long_name_fits_with_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
