// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>

#include <cmocka.h>

#include "session_peer.h"

#define SIZE	(1u << 20)
#define FUA	NBD_WIRE_CMD_FLAG_FUA
#define NO_HOLE NBD_WIRE_CMD_FLAG_NO_HOLE

static struct peer *p;

static int teardown(void **state)
{
	(void)state;
	free(p);
	return 0;
}

/* A session in transmission, with other transmission flags if they are not 0 */
static void connect_with(uint16_t flags)
{
	if (!p)
		p = malloc(sizeof(*p));
	assert_non_null(p);
	peer_init(p, NULL);
	if (flags)
		p->info.flags = flags;
	peer_greet(p, NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES);
	peer_go(p, NBD_WIRE_OPT_GO, "disk", 0, NULL);
	assert_true(p->s.in_transmission);
}

static int setup(void **state)
{
	(void)state;
	p = NULL;
	connect_with(0);
	return 0;
}

/* Send one request; the error the session decided on */
static uint32_t request(uint16_t flags, uint16_t type, uint64_t offset, uint32_t length)
{
	uint8_t buf[NBD_WIRE_REQUEST_LEN];
	unsigned int before = p->n_requests;
	const struct srv_request *req = &p->req[before % 16];

	peer_header(buf, flags, type, offset, length);
	peer_send(p, buf, sizeof(buf));
	assert_int_equal(p->last, SRV_MORE);
	assert_int_equal(p->n_requests, before + 1);
	assert_int_equal(req->type, type);
	assert_int_equal(req->flags, flags);
	assert_true(req->cookie == 0x1122334455667788ULL);
	assert_true(req->offset == offset);
	assert_int_equal(req->length, length);
	return req->error;
}

/* A WRITE that is refused: reported only when its payload has gone by */
static uint32_t refused_write(uint16_t flags, uint64_t offset, uint32_t length)
{
	static uint8_t junk[65536];
	uint8_t buf[NBD_WIRE_REQUEST_LEN];
	unsigned int before = p->n_requests;
	uint32_t n;

	/* Payload that looks like requests must not be taken for one */
	for (n = 0; n + sizeof(buf) <= sizeof(junk); n += sizeof(buf))
		peer_header(junk + n, 0, NBD_WIRE_CMD_READ, 0, 512);
	peer_header(buf, flags, NBD_WIRE_CMD_WRITE, offset, length);
	peer_send(p, buf, sizeof(buf));
	while (length) {
		assert_int_equal(p->n_requests, before);
		assert_false(srv_session_idle(&p->s));
		n = length < sizeof(junk) ? length : sizeof(junk);
		peer_send(p, junk, n);
		length -= n;
	}
	assert_int_equal(p->n_requests, before + 1);
	assert_true(srv_session_idle(&p->s));
	return p->req[before % 16].error;
}

static void good_requests(void **state)
{
	(void)state;
	assert_int_equal(request(0, NBD_WIRE_CMD_READ, 0, SIZE), 0);
	assert_int_equal(request(FUA, NBD_WIRE_CMD_READ, SIZE - 1, 1), 0);
	assert_int_equal(request(0, NBD_WIRE_CMD_READ, SIZE, 0), 0);
	assert_int_equal(request(0, NBD_WIRE_CMD_FLUSH, 0, 0), 0);
	assert_int_equal(request(FUA, NBD_WIRE_CMD_FLUSH, 0, 0), 0);
	assert_int_equal(request(FUA, NBD_WIRE_CMD_TRIM, 512, 512), 0);
	assert_int_equal(request(FUA | NO_HOLE, NBD_WIRE_CMD_WRITE_ZEROES, 0, SIZE), 0);
	/* The payload is the owner's: here there is none left for the session */
	assert_int_equal(request(FUA, NBD_WIRE_CMD_WRITE, 0, 4096), 0);
}

static void past_the_end(void **state)
{
	static const uint64_t offsets[] = { SIZE,	SIZE - 4095, SIZE + 1,
					    1ULL << 63, UINT64_MAX,  UINT64_MAX - 4095 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
		assert_int_equal(request(0, NBD_WIRE_CMD_READ, offsets[i], 4096), NBD_WIRE_EINVAL);
		assert_int_equal(request(0, NBD_WIRE_CMD_TRIM, offsets[i], 4096), NBD_WIRE_EINVAL);
		assert_int_equal(request(0, NBD_WIRE_CMD_WRITE_ZEROES, offsets[i], 4096),
				 NBD_WIRE_ENOSPC);
		assert_int_equal(refused_write(0, offsets[i], 4096), NBD_WIRE_ENOSPC);
	}
	assert_int_equal(request(0, NBD_WIRE_CMD_WRITE_ZEROES, 0, UINT32_MAX), NBD_WIRE_ENOSPC);
	assert_int_equal(request(0, NBD_WIRE_CMD_READ, UINT64_MAX, 1), NBD_WIRE_EINVAL);
}

/* CVE-2005-3534, CVE-2011-0530: lengths beyond the buffer, by a lot and by one */
static void payload_limit(void **state)
{
	const uint32_t max = NBD_WIRE_DEF_MAX_PAYLOAD;

	(void)state;
	p->s.info.size = 1ULL << 40;
	assert_int_equal(request(0, NBD_WIRE_CMD_READ, 0, max), 0);
	assert_int_equal(request(0, NBD_WIRE_CMD_READ, 0, max + 1), NBD_WIRE_EINVAL);
	assert_int_equal(request(0, NBD_WIRE_CMD_READ, 0, UINT32_MAX), NBD_WIRE_EINVAL);
	assert_int_equal(request(0, NBD_WIRE_CMD_WRITE, 0, max), 0);
	assert_int_equal(refused_write(0, 0, max + 1), NBD_WIRE_EINVAL);
	/* No payload, so no such limit */
	assert_int_equal(request(0, NBD_WIRE_CMD_WRITE_ZEROES, 0, UINT32_MAX), 0);
	assert_int_equal(request(0, NBD_WIRE_CMD_TRIM, 0, UINT32_MAX), 0);
	assert_int_equal(request(0, NBD_WIRE_CMD_READ, 0, 512), 0);
}

static void unknown_commands_and_flags(void **state)
{
	(void)state;
	assert_int_equal(request(0, NBD_WIRE_CMD_CACHE, 0, 512), NBD_WIRE_EINVAL);
	assert_int_equal(request(0, NBD_WIRE_CMD_BLOCK_STATUS, 0, 512), NBD_WIRE_EINVAL);
	assert_int_equal(request(0, 8, 0, 512), NBD_WIRE_EINVAL);
	assert_int_equal(request(0, 0xffff, 0, 512), NBD_WIRE_EINVAL);
	assert_int_equal(request(NBD_WIRE_CMD_FLAG_DF, NBD_WIRE_CMD_READ, 0, 512), NBD_WIRE_EINVAL);
	assert_int_equal(request(NO_HOLE, NBD_WIRE_CMD_READ, 0, 512), NBD_WIRE_EINVAL);
	assert_int_equal(request(NO_HOLE, NBD_WIRE_CMD_TRIM, 0, 512), NBD_WIRE_EINVAL);
	assert_int_equal(request(NBD_WIRE_CMD_FLAG_FAST_ZERO, NBD_WIRE_CMD_WRITE_ZEROES, 0, 512),
			 NBD_WIRE_EINVAL);
	assert_int_equal(request(0x8000, NBD_WIRE_CMD_FLUSH, 0, 0), NBD_WIRE_EINVAL);
	assert_int_equal(refused_write(0x4000, 0, 512), NBD_WIRE_EINVAL);
	assert_int_equal(request(0, NBD_WIRE_CMD_FLUSH, 512, 0), NBD_WIRE_EINVAL);
	assert_int_equal(request(0, NBD_WIRE_CMD_FLUSH, 0, 512), NBD_WIRE_EINVAL);
}

static void read_only(void **state)
{
	(void)state;
	connect_with(NBD_WIRE_FLAG_HAS_FLAGS | NBD_WIRE_FLAG_READ_ONLY);
	assert_int_equal(request(0, NBD_WIRE_CMD_READ, 0, 512), 0);
	assert_int_equal(request(0, NBD_WIRE_CMD_TRIM, 0, 512), NBD_WIRE_EPERM);
	assert_int_equal(request(0, NBD_WIRE_CMD_WRITE_ZEROES, 0, 512), NBD_WIRE_EPERM);
	assert_int_equal(refused_write(0, 0, 512), NBD_WIRE_EPERM);
	assert_int_equal(refused_write(0, 1ULL << 50, 100000), NBD_WIRE_EPERM);
}

static void nothing_offered(void **state)
{
	(void)state;
	connect_with(NBD_WIRE_FLAG_HAS_FLAGS);
	assert_int_equal(request(0, NBD_WIRE_CMD_FLUSH, 0, 0), NBD_WIRE_EINVAL);
	assert_int_equal(request(0, NBD_WIRE_CMD_TRIM, 0, 512), NBD_WIRE_EINVAL);
	assert_int_equal(request(0, NBD_WIRE_CMD_WRITE_ZEROES, 0, 512), NBD_WIRE_EINVAL);
	assert_int_equal(request(FUA, NBD_WIRE_CMD_READ, 0, 512), NBD_WIRE_EINVAL);
	assert_int_equal(refused_write(FUA, 0, 512), NBD_WIRE_EINVAL);
	assert_int_equal(request(0, NBD_WIRE_CMD_READ, 0, 512), 0);
}

static void alignment(void **state)
{
	(void)state;
	p->s.info.min_block = 512;
	assert_int_equal(request(0, NBD_WIRE_CMD_READ, 512, 512), 0);
	assert_int_equal(request(0, NBD_WIRE_CMD_READ, 511, 512), NBD_WIRE_EINVAL);
	assert_int_equal(request(0, NBD_WIRE_CMD_TRIM, 512, 513), NBD_WIRE_EINVAL);
	assert_int_equal(refused_write(0, 1, 512), NBD_WIRE_EINVAL);
}

static void disconnect(void **state)
{
	unsigned int before = p->n_requests;
	uint8_t buf[NBD_WIRE_REQUEST_LEN];

	(void)state;
	peer_header(buf, 0, NBD_WIRE_CMD_DISC, 0, 0);
	peer_send(p, buf, sizeof(buf));
	assert_int_equal(p->last, SRV_CLOSE);
	assert_int_equal(p->n_requests, before);
}

static void wrong_magic_closes(void **state)
{
	uint8_t buf[NBD_WIRE_REQUEST_LEN];

	(void)state;
	assert_int_equal(request(0, NBD_WIRE_CMD_READ, 0, 512), 0);
	peer_header(buf, 0, NBD_WIRE_CMD_READ, 0, 512);
	buf[0] ^= 1;
	peer_send(p, buf, sizeof(buf));
	assert_int_equal(p->last, SRV_CLOSE);
	assert_int_equal(p->n_requests, 1);
	/* and nothing wakes it again */
	buf[0] ^= 1;
	peer_send(p, buf, sizeof(buf));
	assert_int_equal(p->last, SRV_CLOSE);
	assert_int_equal(p->n_requests, 1);
}

static void shutdown_refuses_requests(void **state)
{
	(void)state;
	srv_session_shutdown(&p->s);
	assert_int_equal(request(0, NBD_WIRE_CMD_READ, 0, 512), NBD_WIRE_ESHUTDOWN);
	assert_int_equal(request(0, NBD_WIRE_CMD_FLUSH, 0, 0), NBD_WIRE_ESHUTDOWN);
	assert_int_equal(refused_write(0, 0, 70000), NBD_WIRE_ESHUTDOWN);
	disconnect(state);
}

/* Headers cut at every byte, several to a piece */
static void any_cut(void **state)
{
	uint8_t buf[16 * NBD_WIRE_REQUEST_LEN];
	size_t step;
	int i;

	(void)state;
	for (i = 0; i < 16; i++)
		peer_header(buf + i * NBD_WIRE_REQUEST_LEN, 0, NBD_WIRE_CMD_READ, (uint64_t)i * 512,
			    512);
	for (step = 1; step < 100; step++) {
		connect_with(0);
		p->step = step;
		peer_send(p, buf, sizeof(buf));
		assert_int_equal(p->n_requests, 16);
		for (i = 0; i < 16; i++)
			assert_true(p->req[i].offset == (uint64_t)i * 512 && !p->req[i].error);
	}
}

static void reply_bytes(void **state)
{
	static const uint8_t expected[] = { 0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28,
					    1,	  2,	3,    4,    5, 6, 7, 8 };
	const struct srv_request req = { .cookie = 0x0102030405060708ULL };
	uint8_t out[SRV_MAX_REPLY_HEAD];

	(void)state;
	assert_int_equal(srv_reply_encode(&p->s, &req, NBD_WIRE_ENOSPC, 0, out), sizeof(expected));
	assert_memory_equal(out, expected, sizeof(expected));
}

static void wire_errors(void **state)
{
	(void)state;
	assert_int_equal(srv_wire_error(0), 0);
	assert_int_equal(srv_wire_error(ENOSPC), NBD_WIRE_ENOSPC);
	assert_int_equal(srv_wire_error(EDQUOT), NBD_WIRE_ENOSPC);
	assert_int_equal(srv_wire_error(EFBIG), NBD_WIRE_ENOSPC);
	assert_int_equal(srv_wire_error(EROFS), NBD_WIRE_EPERM);
	assert_int_equal(srv_wire_error(EINVAL), NBD_WIRE_EINVAL);
	assert_int_equal(srv_wire_error(EIO), NBD_WIRE_EIO);
	assert_int_equal(srv_wire_error(ENOMEM), NBD_WIRE_EIO);
	assert_int_equal(srv_wire_error(12345), NBD_WIRE_EIO);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(good_requests),
		T(past_the_end),
		T(payload_limit),
		T(unknown_commands_and_flags),
		T(read_only),
		T(nothing_offered),
		T(alignment),
		T(disconnect),
		T(wrong_magic_closes),
		T(shutdown_refuses_requests),
		T(any_cut),
		T(reply_bytes),
		T(wire_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
