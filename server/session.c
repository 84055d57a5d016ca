// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"

void srv_session_init(struct srv_session *s, srv_list_fn list, void *list_ctx)
{
	memset(s, 0, sizeof(*s));
	s->state = SRV_GREET;
	s->list = list;
	s->list_ctx = list_ctx;
}

void srv_session_lend(struct srv_session *s, struct srv_handshake *hs)
{
	s->hs = hs;
	s->in = hs->in;
	s->out = hs->out;
}

/* Gather @want bytes of an item in s->in; true when they are all there */
bool srv_take(struct srv_session *s, size_t want, const uint8_t **in, size_t *len)
{
	size_t n = want - s->in_len;

	if (n > *len)
		n = *len;
	if (n)
		memcpy(s->in + s->in_len, *in, n);
	s->in_len += n;
	*in += n;
	*len -= n;
	if (s->in_len < want)
		return false;
	s->in_len = 0;
	return true;
}

/* Pass over s->skip bytes; true when they have all gone by */
bool srv_skip(struct srv_session *s, const uint8_t **in, size_t *len)
{
	size_t n = s->skip < *len ? s->skip : *len;

	*in += n;
	*len -= n;
	s->skip -= n;
	return !s->skip;
}

enum srv_event srv_close(struct srv_session *s, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(s->reason, sizeof(s->reason), fmt, args);
	va_end(args);
	s->state = SRV_CLOSED;
	return SRV_CLOSE;
}

enum srv_event srv_session_next(struct srv_session *s, const uint8_t **in, size_t *len)
{
	if (s->state == SRV_CLOSED)
		return SRV_CLOSE;
	if (s->out_len)
		return SRV_SEND;
	if (s->closing)
		return srv_close(s, "left the handshake");
	if (s->in_transmission)
		return srv_transmission_next(s, in, len);
	return srv_handshake_next(s, in, len);
}

void srv_session_sent(struct srv_session *s)
{
	s->out_len = 0;
	if (s->in_transmission) {
		s->hs = NULL;
		s->out = NULL;
	}
}

void srv_session_shutdown(struct srv_session *s)
{
	s->shutdown = true;
}

bool srv_session_idle(const struct srv_session *s)
{
	return !s->in_len && !s->skip && s->state != SRV_OPTION_DATA && s->state != SRV_LISTING &&
	       s->state != SRV_SECURING;
}

/* The head of a chunk, the only one of its reply; @len bytes are to follow.  Its own length. */
static size_t encode_chunk(uint8_t *out, const struct srv_request *req, uint16_t type, uint32_t len)
{
	nbd_put_be32(out,
		     req->extended ? NBD_WIRE_EXT_REPLY_MAGIC : NBD_WIRE_STRUCTURED_REPLY_MAGIC);
	nbd_put_be16(out + 4, NBD_WIRE_CHUNK_FLAG_DONE);
	nbd_put_be16(out + 6, type);
	nbd_put_be64(out + 8, req->cookie);
	if (!req->extended) {
		nbd_put_be32(out + 16, len);
		return NBD_WIRE_STRUCTURED_REPLY_LEN;
	}
	nbd_put_be64(out + 16, req->offset);
	nbd_put_be64(out + 24, len);
	return NBD_WIRE_EXT_REPLY_LEN;
}

size_t srv_reply_encode(const struct srv_session *s, const struct srv_request *req, uint32_t error,
			uint32_t data, uint8_t *out)
{
	size_t n;

	/* Whoever can take chunks can take simple replies too, except to these two */
	if (!req->extended && (!s->structured || (req->type != NBD_WIRE_CMD_READ &&
						  req->type != NBD_WIRE_CMD_BLOCK_STATUS))) {
		nbd_put_be32(out, NBD_WIRE_SIMPLE_REPLY_MAGIC);
		nbd_put_be32(out + 4, error);
		nbd_put_be64(out + 8, req->cookie);
		return NBD_WIRE_SIMPLE_REPLY_LEN;
	}
	if (error) {
		n = encode_chunk(out, req, NBD_WIRE_CHUNK_ERROR, 6);
		nbd_put_be32(out + n, error);
		nbd_put_be16(out + n + 4, 0);
		return n + 6;
	}
	if (!data)
		return encode_chunk(out, req, NBD_WIRE_CHUNK_NONE, 0);
	if (req->type == NBD_WIRE_CMD_READ) {
		n = encode_chunk(out, req, NBD_WIRE_CHUNK_OFFSET_DATA, 8 + data);
		nbd_put_be64(out + n, req->offset);
		return n + 8;
	}
	if (!req->extended) {
		n = encode_chunk(out, req, NBD_WIRE_CHUNK_BLOCK_STATUS, 4 + data);
		nbd_put_be32(out + n, SRV_META_ID);
		return n + 4;
	}
	n = encode_chunk(out, req, NBD_WIRE_CHUNK_BLOCK_STATUS_EXT, 8 + data);
	nbd_put_be32(out + n, SRV_META_ID);
	nbd_put_be32(out + n + 4, data / SRV_EXT_EXTENT_LEN);
	return n + 8;
}

uint32_t srv_wire_error(int err)
{
	switch (err) {
	case 0:
		return 0;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_WIRE_ENOSPC;
	case EPERM:
	case EACCES:
	case EROFS:
		return NBD_WIRE_EPERM;
	case EINVAL:
		return NBD_WIRE_EINVAL;
	case ESHUTDOWN:
		return NBD_WIRE_ESHUTDOWN;
	default:
		return NBD_WIRE_EIO;
	}
}
