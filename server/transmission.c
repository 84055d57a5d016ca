// SPDX-License-Identifier: GPL-2.0-or-later
/* The transmission half of the engine: requests are checked once, here. */
#include "common/bytes.h"
#include "server/session.h"

static bool past_end(const struct srv_session *s, const struct srv_request *req)
{
	return req->offset > s->info.size || req->length > s->info.size - req->offset;
}

/* The command flags a client may set on a command */
static uint16_t allowed_flags(const struct srv_session *s, uint16_t type)
{
	uint16_t flags = 0;

	if (s->info.flags & NBD_WIRE_FLAG_SEND_FUA)
		flags |= NBD_WIRE_CMD_FLAG_FUA;
	if (type == NBD_WIRE_CMD_READ && (s->info.flags & NBD_WIRE_FLAG_SEND_DF))
		flags |= NBD_WIRE_CMD_FLAG_DF;
	if (type == NBD_WIRE_CMD_WRITE_ZEROES)
		flags |= NBD_WIRE_CMD_FLAG_NO_HOLE;
	if (type == NBD_WIRE_CMD_WRITE_ZEROES && (s->info.flags & NBD_WIRE_FLAG_SEND_FAST_ZERO))
		flags |= NBD_WIRE_CMD_FLAG_FAST_ZERO;
	if (type == NBD_WIRE_CMD_BLOCK_STATUS)
		flags |= NBD_WIRE_CMD_FLAG_REQ_ONE;
	if (type == NBD_WIRE_CMD_WRITE && s->extended)
		flags |= NBD_WIRE_CMD_FLAG_PAYLOAD_LEN;
	return flags;
}

/* Is the command one that this export offers? */
static bool offered(const struct srv_session *s, uint16_t type)
{
	switch (type) {
	case NBD_WIRE_CMD_READ:
	case NBD_WIRE_CMD_WRITE:
		return true;
	case NBD_WIRE_CMD_FLUSH:
		return s->info.flags & NBD_WIRE_FLAG_SEND_FLUSH;
	case NBD_WIRE_CMD_TRIM:
		return s->info.flags & NBD_WIRE_FLAG_SEND_TRIM;
	case NBD_WIRE_CMD_WRITE_ZEROES:
		return s->info.flags & NBD_WIRE_FLAG_SEND_WRITE_ZEROES;
	case NBD_WIRE_CMD_CACHE:
		return s->info.flags & NBD_WIRE_FLAG_SEND_CACHE;
	case NBD_WIRE_CMD_BLOCK_STATUS:
		return s->allocation;
	default:
		return false;
	}
}

static bool changes_data(uint16_t type)
{
	return type == NBD_WIRE_CMD_WRITE || type == NBD_WIRE_CMD_TRIM ||
	       type == NBD_WIRE_CMD_WRITE_ZEROES;
}

static uint32_t check_request(const struct srv_session *s, const struct srv_request *req)
{
	bool payload = req->type == NBD_WIRE_CMD_READ || req->type == NBD_WIRE_CMD_WRITE;

	if (s->shutdown)
		return NBD_WIRE_ESHUTDOWN;
	/* First, so that a read-only export says so even for what it does not offer */
	if (changes_data(req->type) && (s->info.flags & NBD_WIRE_FLAG_READ_ONLY))
		return NBD_WIRE_EPERM;
	if (!offered(s, req->type) || (req->flags & ~allowed_flags(s, req->type)))
		return NBD_WIRE_EINVAL;
	if (req->type == NBD_WIRE_CMD_FLUSH)
		return req->offset || req->length ? NBD_WIRE_EINVAL : 0;
	if (payload && req->length > s->info.max_payload)
		return NBD_WIRE_EINVAL;
	/* The answer has one extent at least, and an extent is not empty */
	if (req->type == NBD_WIRE_CMD_BLOCK_STATUS && !req->length)
		return NBD_WIRE_EINVAL;
	if (past_end(s, req)) {
		if (req->type == NBD_WIRE_CMD_WRITE || req->type == NBD_WIRE_CMD_WRITE_ZEROES)
			return NBD_WIRE_ENOSPC;
		return NBD_WIRE_EINVAL;
	}
	if ((req->offset | req->length) & (s->info.min_block - 1))
		return NBD_WIRE_EINVAL;
	return 0;
}

/* The bytes that follow a request's header */
static uint64_t payload(const struct srv_request *req)
{
	if (req->extended)
		return req->flags & NBD_WIRE_CMD_FLAG_PAYLOAD_LEN ? req->length : 0;
	return req->type == NBD_WIRE_CMD_WRITE ? req->length : 0;
}

static enum srv_event take_header(struct srv_session *s)
{
	struct srv_request *req = &s->req;
	const uint8_t *p = s->in;

	if (nbd_get_be32(p) != (s->extended ? NBD_WIRE_EXT_REQUEST_MAGIC : NBD_WIRE_REQUEST_MAGIC))
		return srv_close(s, "request with wrong magic 0x%08x", nbd_get_be32(p));
	req->flags = nbd_get_be16(p + 4);
	req->type = nbd_get_be16(p + 6);
	req->cookie = nbd_get_be64(p + 8);
	req->offset = nbd_get_be64(p + 16);
	req->length = s->extended ? nbd_get_be64(p + 24) : nbd_get_be32(p + 24);
	req->extended = s->extended;
	if (req->type == NBD_WIRE_CMD_DISC)
		return srv_close(s, "disconnected");
	/* Whether data follows is anybody's guess, and data must not be taken for requests */
	if (req->extended && req->type == NBD_WIRE_CMD_WRITE && !payload(req) && req->length)
		return srv_close(s, "WRITE without PAYLOAD_LEN");
	if (payload(req) > UINT32_MAX)
		return srv_close(s, "payload of %llu bytes", (unsigned long long)payload(req));

	req->error = check_request(s, req);
	if (req->error && payload(req)) {
		s->skip = (uint32_t)payload(req);
		s->state = SRV_PAYLOAD_SKIP;
		return SRV_MORE;
	}
	return SRV_REQUEST;
}

enum srv_event srv_transmission_next(struct srv_session *s, const uint8_t **in, size_t *len)
{
	enum srv_event ev;

	if (s->state == SRV_HEADER) {
		if (!srv_take(s, s->extended ? NBD_WIRE_EXT_REQUEST_LEN : NBD_WIRE_REQUEST_LEN, in,
			      len))
			return SRV_MORE;
		ev = take_header(s);
		if (ev != SRV_MORE)
			return ev;
	}
	if (!srv_skip(s, in, len))
		return SRV_MORE;
	s->state = SRV_HEADER;
	return SRV_REQUEST;
}
