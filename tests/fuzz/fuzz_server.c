// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The server's engine from the greeting to the last request, over memory.
 *
 * The first byte of the input chooses the size of the pieces in which the rest
 * arrives and where shutdown begins; the rest is what the client sends.  All
 * that the engine promises its owner is checked: requests it passes as good
 * lie within the export, and what it sends is well formed.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/bytes.h"
#include "server/connection.h"

#define SIZE	    (1u << 16)
#define MAX_PAYLOAD 8192u

static uint8_t disk[SIZE];

static int mem_read(struct srv_backend *b, void *buf, uint32_t len, uint64_t offset)
{
	(void)b;
	memcpy(buf, disk + offset, len);
	return 0;
}

static int mem_write(struct srv_backend *b, const void *buf, uint32_t len, uint64_t offset,
		     bool fua)
{
	(void)b;
	(void)fua;
	memcpy(disk + offset, buf, len);
	/* One block is bad */
	return offset <= 4096 && offset + len > 4096 ? -ENOSPC : 0;
}

static int mem_flush(struct srv_backend *b)
{
	(void)b;
	return 0;
}

static int mem_trim(struct srv_backend *b, uint64_t len, uint64_t offset, bool fua)
{
	(void)b;
	(void)fua;
	memset(disk + offset, 0xaa, len);
	return 0;
}

static int mem_zero(struct srv_backend *b, uint64_t len, uint64_t offset, bool keep, bool fua)
{
	(void)b;
	(void)keep;
	(void)fua;
	memset(disk + offset, 0, len);
	return 0;
}

static int mem_fast_zero(struct srv_backend *b, uint64_t len, uint64_t offset, bool keep, bool fua)
{
	return keep ? -EOPNOTSUPP : mem_zero(b, len, offset, keep, fua);
}

static int mem_cache(struct srv_backend *b, uint64_t len, uint64_t offset)
{
	(void)b;
	(void)len;
	(void)offset;
	return 0;
}

/* Every block of 8 bytes is another extent than the one before */
static int mem_extent(struct srv_backend *b, uint64_t *len, uint64_t offset, bool *hole)
{
	uint32_t left = 8 - (uint32_t)offset % 8;

	(void)b;
	*hole = offset / 8 % 2;
	if (*len > left)
		*len = left;
	return 0;
}

static const struct srv_backend_ops mem_ops = {
	.read = mem_read,
	.write = mem_write,
	.flush = mem_flush,
	.trim = mem_trim,
	.zero = mem_zero,
	.fast_zero = mem_fast_zero,
	.cache = mem_cache,
	.extent = mem_extent,
};

/* What the session under way has been fenced with */
static struct {
	const struct srv_session *s;
	uint8_t id[NBD_WIRE_X_SESSION_ID_LEN];
	uint32_t link;
	uint32_t busy; /* answers that are still to say so */
} fence_of;

static const char *const names[] = { "", "disk", "ro" };

static bool list(void *ctx, unsigned int i, const char **name, const char **description)
{
	(void)ctx;
	if (i >= 3)
		return false;
	*name = names[i];
	*description = i ? "an export" : NULL;
	return true;
}

static void open_export(struct srv_session *s)
{
	struct srv_export_info info = {
		.size = SIZE,
		.flags = NBD_WIRE_FLAG_HAS_FLAGS,
		.min_block = 1,
		.preferred_block = 4096,
		.max_payload = MAX_PAYLOAD,
		.name = "disk",
		.description = "an export",
	};

	assert(strlen(s->name) <= NBD_WIRE_MAX_STRING);
	if (!strcmp(s->name, "ro"))
		info.flags |= NBD_WIRE_FLAG_READ_ONLY;
	else
		info.flags |= NBD_WIRE_FLAG_SEND_FLUSH | NBD_WIRE_FLAG_SEND_FUA |
			      NBD_WIRE_FLAG_SEND_TRIM | NBD_WIRE_FLAG_SEND_WRITE_ZEROES |
			      NBD_WIRE_FLAG_SEND_DF | NBD_WIRE_FLAG_SEND_CACHE |
			      NBD_WIRE_FLAG_SEND_FAST_ZERO;
	if (!*s->name || !strcmp(s->name, "disk") || !strcmp(s->name, "ro"))
		srv_session_opened(s, SRV_OPEN_OK, &info, "");
	else if (*s->name == 'p')
		srv_session_opened(s, SRV_OPEN_POLICY, NULL, "not for you");
	else
		srv_session_opened(s, SRV_OPEN_UNKNOWN, NULL, "unknown");
}

/* Older connections are busy as often as the upper half of the link says */
static void fence(struct srv_session *s)
{
	assert(s->can_fence && s->announced && !s->fenced && !s->shutdown && !s->in_transmission);
	if (s != fence_of.s) {
		fence_of.s = s;
		memcpy(fence_of.id, s->session_id, sizeof(fence_of.id));
		fence_of.link = s->session_link;
		fence_of.busy = s->session_link >> 16;
	}
	/* Others know the connection by these: they must stay */
	assert(!memcmp(fence_of.id, s->session_id, sizeof(fence_of.id)));
	assert(fence_of.link == s->session_link);
	srv_session_fenced(s, !fence_of.busy);
	if (fence_of.busy)
		fence_of.busy--;
}

/* Everything sent in the handshake is one greeting, option replies, or a size and flags */
static void check_out(const struct srv_session *s)
{
	const uint8_t *p = s->out, *end = s->out + s->out_len;

	assert(s->out_len && s->out_len <= SRV_MAX_OUT);
	if (nbd_get_be64(p) == NBD_WIRE_INIT_MAGIC) {
		assert(s->out_len == NBD_WIRE_GREETING_LEN);
		return;
	}
	if (s->in_transmission && s->opt == NBD_WIRE_OPT_EXPORT_NAME) {
		assert(s->out_len ==
		       NBD_WIRE_EXPORT_REPLY_LEN + (s->no_zeroes ? 0 : NBD_WIRE_EXPORT_ZEROES));
		return;
	}
	while (p < end) {
		assert(end - p >= NBD_WIRE_OPT_REPLY_LEN);
		assert(nbd_get_be64(p) == NBD_WIRE_OPT_REPLY_MAGIC);
		assert(nbd_get_be32(p + 8) == s->opt);
		assert(nbd_get_be32(p + 16) <= end - p - NBD_WIRE_OPT_REPLY_LEN);
		p += NBD_WIRE_OPT_REPLY_LEN + nbd_get_be32(p + 16);
	}
}

/* Carry out a request; false when its payload has not come as a whole */
static bool request(struct srv_session *s, const uint8_t **in, size_t *len)
{
	static uint8_t buf[MAX_PAYLOAD];
	struct srv_backend b = { .ops = &mem_ops, .size = SIZE };
	struct srv_export export = { .trim = true };
	const struct srv_request *req = &s->req;
	uint8_t head[SRV_MAX_REPLY_HEAD];
	uint32_t error = req->error, data = 0;
	size_t n;

	if (!error) {
		assert(req->offset <= SIZE && req->length <= SIZE - req->offset);
		if (req->type == NBD_WIRE_CMD_READ || req->type == NBD_WIRE_CMD_WRITE)
			assert(req->length <= MAX_PAYLOAD);
		if (req->type == NBD_WIRE_CMD_WRITE || req->type == NBD_WIRE_CMD_TRIM ||
		    req->type == NBD_WIRE_CMD_WRITE_ZEROES)
			assert(!(s->info.flags & NBD_WIRE_FLAG_READ_ONLY));
		assert(!s->shutdown);
		assert(req->extended == s->extended);
		if (req->type == NBD_WIRE_CMD_WRITE) {
			if (*len < req->length)
				return false;
			memcpy(buf, *in, req->length);
			*in += req->length;
			*len -= req->length;
		}
		if (req->type == NBD_WIRE_CMD_BLOCK_STATUS) {
			assert(s->structured && s->allocation && req->length);
			error = srv_block_status(&b, req, buf, &data);
			assert(!error && data && data <= SRV_MAX_EXTENTS);
			data *= req->extended ? SRV_EXT_EXTENT_LEN : SRV_EXTENT_LEN;
			assert(data <= SRV_EXTENTS_LEN);
		} else {
			error = srv_execute(&b, &export, req, buf);
			data = req->type == NBD_WIRE_CMD_READ && !error ? (uint32_t)req->length : 0;
		}
	}
	n = srv_reply_encode(s, req, error, data, head);
	assert(n >= NBD_WIRE_SIMPLE_REPLY_LEN && n <= sizeof(head));
	assert(nbd_get_be64(head + 8) == req->cookie);
	if (s->extended)
		assert(n >= NBD_WIRE_EXT_REPLY_LEN && nbd_get_be64(head + 16) == req->offset &&
		       nbd_get_be64(head + 24) == n - NBD_WIRE_EXT_REPLY_LEN + data);
	return true;
}

/* false when the session has ended */
static bool feed(struct srv_session *s, const uint8_t **in, size_t *len, size_t piece)
{
	size_t n, left;

	do {
		n = *len < piece ? *len : piece;
		left = n;
		switch (srv_session_next(s, in, &left)) {
		case SRV_MORE:
			assert(!left);
			*len -= n;
			break;
		case SRV_SEND:
			*len -= n - left;
			check_out(s);
			srv_session_sent(s);
			break;
		case SRV_OPEN:
			*len -= n - left;
			open_export(s);
			break;
		case SRV_STARTTLS:
			assert(s->can_tls && !s->secure && !left && !s->in_transmission);
			*len -= n - left;
			srv_session_secured(s);
			memset(&fence_of, 0, sizeof(fence_of));
			break;
		case SRV_FENCE:
			*len -= n - left;
			fence(s);
			break;
		case SRV_REQUEST:
			*len -= n - left;
			if (!request(s, in, len))
				return false;
			break;
		case SRV_CLOSE:
			assert(*s->reason);
			return false;
		}
	} while (*len);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t pieces[] = {
		1, 2, 3, 7, 16, 27, 28, 29, 32, 100, 4096, 65536, 1u << 30
	};
	static struct srv_session s;
	static struct srv_handshake hs;
	const uint8_t *in;
	size_t piece, len;

	if (!size)
		return 0;
	piece = pieces[(data[0] & 0x7f) % (sizeof(pieces) / sizeof(*pieces))];
	in = data + 1;
	len = size - 1;
	/* What one input leaves must not matter to the next */
	memset(disk, 0, sizeof(disk));
	memset(&s, 0x5a, sizeof(s));
	memset(&hs, 0x5a, sizeof(hs));
	memset(&fence_of, 0, sizeof(fence_of));
	srv_session_init(&s, data[0] % 5 ? list : NULL, NULL);
	srv_session_lend(&s, &hs);
	s.can_fence = data[0] % 7;
	s.can_tls = data[0] % 5;
	s.needs_tls = s.can_tls && data[0] % 16 == 14;
	if (data[0] & 0x80) {
		size_t first = len / 2;

		len -= first;
		if (!feed(&s, &in, &first, piece))
			return 0;
		srv_session_shutdown(&s);
	}
	feed(&s, &in, &len, piece);
	return 0;
}
