// SPDX-License-Identifier: GPL-2.0-or-later
/* Structured replies and metadata contexts: their options, flags, requests and replies. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/connection.h"
#include "session_peer.h"

#define SHOWN	   (NBD_WIRE_FLAG_SEND_DF | NBD_WIRE_FLAG_SEND_CACHE | NBD_WIRE_FLAG_SEND_FAST_ZERO)
#define LIST_META  NBD_WIRE_OPT_LIST_META_CONTEXT
#define SET_META   NBD_WIRE_OPT_SET_META_CONTEXT
#define ALLOCATION NBD_WIRE_META_ALLOCATION

static struct peer *p;

static int setup(void **state)
{
	(void)state;
	p = malloc(sizeof(*p));
	assert_non_null(p);
	peer_init(p, NULL);
	p->info.flags |= SHOWN;
	peer_greet(p, NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(p);
	return 0;
}

static void ask_structured(void)
{
	peer_option(p, NBD_WIRE_OPT_STRUCTURED_REPLY, NULL, 0);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_STRUCTURED_REPLY, NULL, NULL),
			 NBD_WIRE_REP_ACK);
}

/* LIST or SET with up to two queries; the type of the final reply, and the contexts before it */
static uint32_t meta(uint32_t opt, const char *name, const char *first, const char *second,
		     unsigned int *contexts, uint32_t *id)
{
	const char *const queries[] = { first, second };
	uint32_t n = (uint32_t)strlen(name), len = 0, type;
	uint8_t buf[1024];
	const uint8_t *data;
	int i;

	nbd_put_be32(buf, n);
	memcpy(buf + 4, name, n);
	len = 4 + n + 4;
	nbd_put_be32(buf + 4 + n, (first ? 1 : 0) + (second ? 1 : 0));
	for (i = 0; i < 2 && queries[i]; i++) {
		n = (uint32_t)strlen(queries[i]);
		nbd_put_be32(buf + len, n);
		memcpy(buf + len + 4, queries[i], n);
		len += 4 + n;
	}
	peer_option(p, opt, buf, len);
	*contexts = 0;
	while ((type = peer_reply(p, opt, &data, &len)) == NBD_WIRE_REP_META_CONTEXT) {
		assert_int_equal(len, 4 + sizeof(ALLOCATION) - 1);
		assert_memory_equal(data + 4, ALLOCATION, sizeof(ALLOCATION) - 1);
		*id = nbd_get_be32(data);
		++*contexts;
	}
	assert_int_equal(p->got, p->seen);
	return type;
}

/* GO; the flags it gives */
static uint16_t go(const char *name)
{
	const uint8_t *data;
	uint32_t len;
	uint16_t flags;

	peer_go(p, NBD_WIRE_OPT_GO, name, 0, NULL);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_GO, &data, &len), NBD_WIRE_REP_INFO);
	flags = nbd_get_be16(data + 10);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_GO, NULL, NULL), NBD_WIRE_REP_ACK);
	return flags;
}

/* The error of a request that has no payload */
static uint32_t request(uint16_t flags, uint16_t type, uint64_t offset, uint32_t length)
{
	uint8_t buf[NBD_WIRE_REQUEST_LEN];
	unsigned int before = p->n_requests;

	peer_header(buf, flags, type, offset, length);
	peer_send(p, buf, sizeof(buf));
	assert_int_equal(p->n_requests, before + 1);
	return p->req[before % 16].error;
}

static void flags_only_with_structured(void **state)
{
	(void)state;
	assert_int_equal(go("disk") & SHOWN, 0);
	assert_int_equal(request(0, NBD_WIRE_CMD_CACHE, 0, 512), NBD_WIRE_EINVAL);
	assert_int_equal(request(NBD_WIRE_CMD_FLAG_DF, NBD_WIRE_CMD_READ, 0, 1), NBD_WIRE_EINVAL);
	assert_int_equal(request(0, NBD_WIRE_CMD_BLOCK_STATUS, 0, 512), NBD_WIRE_EINVAL);
	teardown(state);
	setup(state);
	ask_structured();
	assert_int_equal(go("disk") & SHOWN, SHOWN);
	assert_int_equal(request(0, NBD_WIRE_CMD_CACHE, 0, 1 << 20), 0);
	assert_int_equal(request(0, NBD_WIRE_CMD_CACHE, 1, 1 << 20), NBD_WIRE_EINVAL);
	assert_int_equal(request(NBD_WIRE_CMD_FLAG_DF, NBD_WIRE_CMD_READ, 0, 1), 0);
	assert_int_equal(request(NBD_WIRE_CMD_FLAG_DF, NBD_WIRE_CMD_TRIM, 0, 1), NBD_WIRE_EINVAL);
	assert_int_equal(request(NBD_WIRE_CMD_FLAG_FAST_ZERO, NBD_WIRE_CMD_WRITE_ZEROES, 0, 1), 0);
	/* Not without its context */
	assert_int_equal(request(0, NBD_WIRE_CMD_BLOCK_STATUS, 0, 512), NBD_WIRE_EINVAL);
}

static void queries(void **state)
{
	unsigned int n;
	uint32_t id = 99;

	(void)state;
	assert_int_equal(meta(SET_META, "disk", ALLOCATION, NULL, &n, &id),
			 NBD_WIRE_REP_ERR_INVALID);
	ask_structured();
	assert_int_equal(meta(LIST_META, "disk", NULL, NULL, &n, &id), NBD_WIRE_REP_ACK);
	assert_int_equal(n, 1);
	assert_int_equal(id, 0);
	assert_int_equal(meta(LIST_META, "disk", "base:", NULL, &n, &id), NBD_WIRE_REP_ACK);
	assert_int_equal(n, 1);
	assert_int_equal(meta(LIST_META, "disk", "qemu:", "base:allocatio", &n, &id),
			 NBD_WIRE_REP_ACK);
	assert_int_equal(n, 0);
	assert_int_equal(meta(SET_META, "disk", NULL, NULL, &n, &id), NBD_WIRE_REP_ACK);
	assert_int_equal(n, 0);
	assert_int_equal(meta(SET_META, "disk", "base:", NULL, &n, &id), NBD_WIRE_REP_ACK);
	assert_int_equal(n, 0);
	assert_int_equal(meta(SET_META, "disk", "x-other:y", ALLOCATION, &n, &id),
			 NBD_WIRE_REP_ACK);
	assert_int_equal(n, 1);
	assert_int_equal(id, SRV_META_ID);
	p->refuse = true;
	assert_int_equal(meta(LIST_META, "none", NULL, NULL, &n, &id), NBD_WIRE_REP_ERR_UNKNOWN);
}

/* The context is of the export of the same name, and of the last SET */
static void context_of_export(void **state)
{
	static const struct {
		const char *second, *name;
		uint32_t error;
	} cases[] = {
		{ NULL, "disk", 0 },
		{ NULL, "other", NBD_WIRE_EINVAL },
		{ "x-none:", "disk", NBD_WIRE_EINVAL },
		{ ALLOCATION, "disk", 0 },
	};
	unsigned int n;
	uint32_t id;
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		teardown(state);
		setup(state);
		ask_structured();
		meta(SET_META, "disk", ALLOCATION, NULL, &n, &id);
		if (cases[i].second)
			meta(SET_META, "disk", cases[i].second, NULL, &n, &id);
		go(cases[i].name);
		assert_int_equal(request(0, NBD_WIRE_CMD_BLOCK_STATUS, 0, 512), cases[i].error);
		assert_int_equal(request(NBD_WIRE_CMD_FLAG_REQ_ONE, NBD_WIRE_CMD_BLOCK_STATUS, 0,
					 1 << 20),
				 cases[i].error);
		assert_int_equal(request(0, NBD_WIRE_CMD_BLOCK_STATUS, 0, 0), NBD_WIRE_EINVAL);
		assert_int_equal(request(0, NBD_WIRE_CMD_BLOCK_STATUS, 1, 1 << 20),
				 NBD_WIRE_EINVAL);
	}
}

/* Malformed queries are refused, take back what was set, and the next option is understood */
static void bad_queries(void **state)
{
	static const struct {
		const char *data;
		uint32_t len;
	} cases[] = {
		{ "", 0 },
		{ "\0\0\0\0\0\0\0", 7 },
		{ "\0\0\0\1\0\0\0\0", 8 },
		{ "\377\377\377\377\0\0\0\0", 8 },
		{ "\0\0\0\0\0\0\0\1", 8 },
		{ "\0\0\0\0\0\0\0\1\0\0\0\1", 12 },
		{ "\0\0\0\0\0\0\0\1\377\377\377\377xxxx", 16 },
		{ "\0\0\0\0\0\0\0\0x", 9 },
		{ "\0\0\0\0\377\377\377\377\0\0\0\0", 12 },
	};
	static uint8_t longest[20000];
	unsigned int n;
	uint32_t id;
	size_t i;

	(void)state;
	ask_structured();
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		meta(SET_META, "disk", ALLOCATION, NULL, &n, &id);
		assert_int_equal(n, 1);
		peer_option(p, LIST_META, cases[i].data, cases[i].len);
		assert_int_equal(peer_reply(p, LIST_META, NULL, NULL), NBD_WIRE_REP_ERR_INVALID);
		assert_true(p->s.allocation);
		peer_option(p, SET_META, cases[i].data, cases[i].len);
		assert_int_equal(peer_reply(p, SET_META, NULL, NULL), NBD_WIRE_REP_ERR_INVALID);
		assert_false(p->s.allocation);
	}
	meta(SET_META, "disk", ALLOCATION, NULL, &n, &id);
	peer_option(p, SET_META, longest, sizeof(longest));
	assert_int_equal(peer_reply(p, SET_META, NULL, NULL), NBD_WIRE_REP_ERR_TOO_BIG);
	go("disk");
	assert_int_equal(request(0, NBD_WIRE_CMD_BLOCK_STATUS, 0, 512), NBD_WIRE_EINVAL);
}

#define COOKIE 1, 2, 3, 4, 5, 6, 7, 8

static void replies(void **state)
{
	static const struct {
		uint16_t type;
		uint32_t error, data;
		size_t len;
		uint8_t bytes[SRV_MAX_REPLY_HEAD];
	} cases[] = {
		{ NBD_WIRE_CMD_READ, 0, 512, 28, { 0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 1, COOKIE, 0, 0,
						   2,	 8,    0,    0,	   0, 0, 0, 0, 0x10,   0 } },
		{ NBD_WIRE_CMD_READ,
		  0,
		  0,
		  20,
		  { 0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 0, COOKIE, 0, 0, 0, 0 } },
		{ NBD_WIRE_CMD_READ,
		  5,
		  0,
		  26,
		  { 0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 1, COOKIE, 0, 0, 0, 6, 0, 0, 0, 5, 0, 0 } },
		{ NBD_WIRE_CMD_BLOCK_STATUS,
		  0,
		  16,
		  24,
		  { 0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 5, COOKIE, 0, 0, 0, 20, 0, 0, 0, 1 } },
		{ NBD_WIRE_CMD_WRITE, 28, 0, 16, { 0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, COOKIE } },
	};
	struct srv_session s = { .structured = true };
	uint8_t out[SRV_MAX_REPLY_HEAD];
	struct srv_request req;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		req = (struct srv_request){ .type = cases[i].type,
					    .cookie = 0x0102030405060708ULL,
					    .offset = 4096 };
		assert_int_equal(srv_reply_encode(&s, &req, cases[i].error, cases[i].data, out),
				 cases[i].len);
		assert_memory_equal(out, cases[i].bytes, cases[i].len);
	}
}

/* A backend whose kind changes every @stride bytes, and at times says so in pieces */
static uint32_t stride, piece;

static int extent(struct srv_backend *b, uint64_t *len, uint64_t offset, bool *hole)
{
	uint64_t left = stride - offset % stride;

	(void)b;
	if (offset >= 1000000)
		return -EIO;
	if (piece && left > piece)
		left = piece;
	if (left < *len)
		*len = left;
	*hole = offset / stride % 2;
	return 0;
}

static void extents(void **state)
{
	static const struct srv_backend_ops ops = { .extent = extent };
	struct srv_backend b = { .ops = &ops };
	struct srv_request req = { .type = NBD_WIRE_CMD_BLOCK_STATUS, .offset = 50, .length = 300 };
	uint8_t out[SRV_MAX_EXTENTS * SRV_EXTENT_LEN + 1];
	uint32_t n, i, sum = 0;

	(void)state;
	stride = 100;
	for (piece = 0; piece < 100; piece += 30) {
		assert_int_equal(srv_block_status(&b, &req, out, &n), 0);
		assert_int_equal(n, 4);
		assert_int_equal(nbd_get_be32(out), 50);
		assert_int_equal(nbd_get_be32(out + 4), 0);
		assert_int_equal(nbd_get_be32(out + 8), 100);
		assert_int_equal(nbd_get_be32(out + 12), NBD_WIRE_STATE_HOLE | NBD_WIRE_STATE_ZERO);
		assert_int_equal(nbd_get_be32(out + 24), 50);
	}
	req.flags = NBD_WIRE_CMD_FLAG_REQ_ONE;
	assert_int_equal(srv_block_status(&b, &req, out, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(nbd_get_be32(out), 50);
	/* More than there is room for: as many as there is, and nothing after them */
	req = (struct srv_request){ .type = NBD_WIRE_CMD_BLOCK_STATUS, .length = 900000 };
	out[sizeof(out) - 1] = 0x5a;
	piece = 0;
	assert_int_equal(srv_block_status(&b, &req, out, &n), 0);
	assert_int_equal(n, SRV_MAX_EXTENTS);
	for (i = 0; i < n; i++)
		sum += nbd_get_be32(out + i * SRV_EXTENT_LEN);
	assert_int_equal(sum, SRV_MAX_EXTENTS * 100);
	assert_int_equal(out[sizeof(out) - 1], 0x5a);
	/* Nor does it look for ever: what it has found by then is a good answer, too */
	stride = 1000000;
	piece = 1;
	assert_int_equal(srv_block_status(&b, &req, out, &n), 0);
	assert_int_equal(n, 1);
	assert_in_range(nbd_get_be32(out), 1, 100000);
	req.offset = 1000000;
	assert_int_equal(srv_block_status(&b, &req, out, &n), NBD_WIRE_EIO);
}

static void ask_extended(void)
{
	peer_option(p, NBD_WIRE_OPT_EXTENDED_HEADERS, NULL, 0);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_EXTENDED_HEADERS, NULL, NULL),
			 NBD_WIRE_REP_ACK);
}

/* A request with an extended header and @n bytes after it; how many requests that was */
static unsigned int extended_request(uint16_t flags, uint16_t type, uint64_t offset,
				     uint64_t length, size_t n)
{
	uint8_t buf[NBD_WIRE_EXT_REQUEST_LEN + 1024] = { 0 };
	unsigned int before = p->n_requests;

	nbd_put_be32(buf, NBD_WIRE_EXT_REQUEST_MAGIC);
	nbd_put_be16(buf + 4, flags);
	nbd_put_be16(buf + 6, type);
	nbd_put_be64(buf + 8, 77);
	nbd_put_be64(buf + 16, offset);
	nbd_put_be64(buf + 24, length);
	assert_true(n <= 1024);
	peer_send(p, buf, NBD_WIRE_EXT_REQUEST_LEN + n);
	return p->n_requests - before;
}

static const struct srv_request *last_request(void)
{
	return &p->req[(p->n_requests - 1) % 16];
}

static void extended_option(void **state)
{
	(void)state;
	peer_option(p, NBD_WIRE_OPT_EXTENDED_HEADERS, "x", 1);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_EXTENDED_HEADERS, NULL, NULL),
			 NBD_WIRE_REP_ERR_INVALID);
	assert_false(p->s.extended || p->s.structured);
	ask_structured();
	ask_extended();
	peer_option(p, NBD_WIRE_OPT_EXTENDED_HEADERS, NULL, 0);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_EXTENDED_HEADERS, NULL, NULL),
			 NBD_WIRE_REP_ERR_INVALID);
	peer_option(p, NBD_WIRE_OPT_STRUCTURED_REPLY, NULL, 0);
	assert_int_equal(peer_reply(p, NBD_WIRE_OPT_STRUCTURED_REPLY, NULL, NULL),
			 NBD_WIRE_REP_ERR_EXT_HEADER_REQD);
	peer_option(p, NBD_WIRE_OPT_EXPORT_NAME, "disk", 4);
	assert_int_equal(p->last, SRV_CLOSE);
}

static void extended_requests(void **state)
{
	uint16_t with = NBD_WIRE_CMD_FLAG_PAYLOAD_LEN;
	unsigned int n;
	uint32_t id;

	(void)state;
	p->info.size = 1ull << 40;
	ask_extended();
	assert_int_equal(meta(SET_META, "disk", ALLOCATION, NULL, &n, &id), NBD_WIRE_REP_ACK);
	assert_int_equal(go("disk") & SHOWN, SHOWN);
	assert_int_equal(extended_request(0, NBD_WIRE_CMD_TRIM, 512, 5ull << 32, 0), 1);
	assert_true(last_request()->length == 5ull << 32 && !last_request()->error);
	assert_int_equal(extended_request(0, NBD_WIRE_CMD_BLOCK_STATUS, 0, 1ull << 40, 0), 1);
	assert_true(last_request()->extended && !last_request()->error);
	assert_int_equal(extended_request(0, NBD_WIRE_CMD_WRITE_ZEROES, 1, 1ull << 40, 0), 1);
	assert_int_equal(last_request()->error, NBD_WIRE_ENOSPC);
	assert_int_equal(extended_request(0, NBD_WIRE_CMD_TRIM, 1, UINT64_MAX, 0), 1);
	assert_int_equal(last_request()->error, NBD_WIRE_EINVAL);
	/* The low half of the length alone would be fine */
	assert_int_equal(extended_request(0, NBD_WIRE_CMD_READ, 0, (1ull << 32) + 512, 0), 1);
	assert_int_equal(last_request()->error, NBD_WIRE_EINVAL);
	assert_int_equal(extended_request(0, NBD_WIRE_CMD_WRITE, 0, 0, 0), 1);
	assert_int_equal(last_request()->error, 0);
	/* A payload that does not belong there is passed over, and what follows is in sync */
	assert_int_equal(extended_request(with, NBD_WIRE_CMD_READ, 0, 600, 600), 1);
	assert_int_equal(last_request()->error, NBD_WIRE_EINVAL);
	assert_int_equal(extended_request(with, NBD_WIRE_CMD_WRITE, 1ull << 40, 1000, 1000), 1);
	assert_int_equal(last_request()->error, NBD_WIRE_ENOSPC);
	assert_int_equal(extended_request(with, NBD_WIRE_CMD_WRITE, 0, 512, 0), 1);
	assert_int_equal(last_request()->error, 0);
}

static void extended_violations(void **state)
{
	uint8_t compact[NBD_WIRE_EXT_REQUEST_LEN] = { 0 };
	int i;

	for (i = 0; i < 3; i++) {
		ask_extended();
		go("disk");
		if (i == 0)
			assert_int_equal(extended_request(0, NBD_WIRE_CMD_WRITE, 0, 512, 0), 0);
		if (i == 1)
			assert_int_equal(extended_request(NBD_WIRE_CMD_FLAG_PAYLOAD_LEN,
							  NBD_WIRE_CMD_WRITE, 0, 1ull << 32, 0),
					 0);
		if (i == 2) {
			peer_header(compact, 0, NBD_WIRE_CMD_READ, 0, 512);
			peer_send(p, compact, sizeof(compact));
		}
		assert_int_equal(p->last, SRV_CLOSE);
		teardown(state);
		setup(state);
	}
}

static void extended_replies(void **state)
{
	struct srv_request req = { .cookie = 5, .offset = 1ull << 33, .extended = true };
	uint8_t out[SRV_MAX_REPLY_HEAD], extents[SRV_EXTENTS_LEN];
	static const struct srv_backend_ops ops = { .extent = extent };
	struct srv_backend b = { .ops = &ops };
	uint32_t n;

	(void)state;
	req.type = NBD_WIRE_CMD_WRITE;
	assert_int_equal(srv_reply_encode(&p->s, &req, 0, 0, out), 32);
	assert_int_equal(nbd_get_be32(out), NBD_WIRE_EXT_REPLY_MAGIC);
	assert_int_equal(nbd_get_be32(out + 4), 1 << 16 | NBD_WIRE_CHUNK_NONE);
	assert_true(nbd_get_be64(out + 8) == 5 && nbd_get_be64(out + 16) == 1ull << 33 &&
		    !nbd_get_be64(out + 24));
	assert_int_equal(srv_reply_encode(&p->s, &req, NBD_WIRE_EIO, 0, out), 38);
	assert_int_equal(nbd_get_be16(out + 6), NBD_WIRE_CHUNK_ERROR);
	assert_int_equal(nbd_get_be64(out + 24), 6);
	assert_int_equal(nbd_get_be32(out + 32), NBD_WIRE_EIO);
	req.type = NBD_WIRE_CMD_READ;
	assert_int_equal(srv_reply_encode(&p->s, &req, 0, 100, out), 40);
	assert_int_equal(nbd_get_be64(out + 24), 108);
	assert_true(nbd_get_be64(out + 32) == 1ull << 33);
	req.type = NBD_WIRE_CMD_BLOCK_STATUS;
	assert_int_equal(srv_reply_encode(&p->s, &req, 0, 48, out), 40);
	assert_int_equal(nbd_get_be16(out + 6), NBD_WIRE_CHUNK_BLOCK_STATUS_EXT);
	assert_int_equal(nbd_get_be64(out + 24), 56);
	assert_int_equal(nbd_get_be32(out + 32), SRV_META_ID);
	assert_int_equal(nbd_get_be32(out + 36), 3);
	/* Extents of more than 32 bits, as many as there is room for */
	stride = 100;
	piece = 0;
	req.offset = 0;
	req.length = 900000;
	assert_int_equal(srv_block_status(&b, &req, extents, &n), 0);
	assert_int_equal(n, SRV_EXTENTS_LEN / 16);
	assert_true(nbd_get_be64(extents) == 100 && nbd_get_be64(extents + 24) == 3);
	assert_true(nbd_get_be64(extents + sizeof(extents) - 16) == 100);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(flags_only_with_structured),
		T(queries),
		T(context_of_export),
		T(bad_queries),
		T(replies),
		T(extents),
		T(extended_option),
		T(extended_requests),
		T(extended_violations),
		T(extended_replies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
