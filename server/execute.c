// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>

#include "common/bytes.h"
#include "server/connection.h"

uint32_t srv_execute(struct srv_backend *b, const struct srv_export *export,
		     const struct srv_request *req, void *buf)
{
	bool fua = (req->flags & NBD_WIRE_CMD_FLAG_FUA) || export->sync;
	bool keep = req->flags & NBD_WIRE_CMD_FLAG_NO_HOLE;
	int ret;

	/* Right before the work, see fence.c */
	if (srv_backend_cancelled(b))
		return srv_wire_error(ECANCELED);
	switch (req->type) {
	case NBD_WIRE_CMD_READ:
		ret = b->ops->read(b, buf, (uint32_t)req->length, req->offset);
		break;
	case NBD_WIRE_CMD_WRITE:
		ret = b->ops->write(b, buf, (uint32_t)req->length, req->offset, fua);
		break;
	case NBD_WIRE_CMD_FLUSH:
		ret = b->ops->flush(b);
		break;
	case NBD_WIRE_CMD_TRIM:
		ret = b->ops->trim(b, req->length, req->offset, fua);
		break;
	case NBD_WIRE_CMD_WRITE_ZEROES:
		/* Without TRIM the administrator wants the file to keep its space */
		keep = keep || !export->trim;
		if (req->flags & NBD_WIRE_CMD_FLAG_FAST_ZERO) {
			ret = b->ops->fast_zero(b, req->length, req->offset, keep, fua);
			/* The one command that has an answer of its own for this */
			if (ret == -EOPNOTSUPP)
				return NBD_WIRE_ENOTSUP;
		} else {
			ret = b->ops->zero(b, req->length, req->offset, keep, fua);
		}
		break;
	case NBD_WIRE_CMD_CACHE:
		ret = b->ops->cache(b, req->length, req->offset);
		break;
	default:
		ret = -EINVAL;
	}
	return srv_wire_error(-ret);
}

/* A client that wants to know more asks again: backends may need a system call for every 4 KiB */
#define EXTENT_LOOKS 16384u

/* An extent on the wire; its length and flags have been checked to fit */
static void put_extent(uint8_t *out, bool extended, uint64_t len, uint32_t flags)
{
	if (extended) {
		nbd_put_be64(out, len);
		nbd_put_be64(out + 8, flags);
	} else {
		nbd_put_be32(out, (uint32_t)len);
		nbd_put_be32(out + 4, flags);
	}
}

uint32_t srv_block_status(struct srv_backend *b, const struct srv_request *req, uint8_t *out,
			  uint32_t *n)
{
	uint32_t size = req->extended ? SRV_EXT_EXTENT_LEN : SRV_EXTENT_LEN;
	uint32_t max = req->flags & NBD_WIRE_CMD_FLAG_REQ_ONE ? 1 : SRV_EXTENTS_LEN / size;
	uint64_t left = req->length, offset = req->offset, len, last_len = 0;
	uint32_t flags, last = 0, looks;
	bool hole;
	int ret;

	*n = 0;
	for (looks = 0; left && looks < EXTENT_LOOKS; looks++) {
		len = left;
		ret = b->ops->extent(b, &len, offset, &hole);
		if (ret)
			return srv_wire_error(-ret);
		flags = hole ? NBD_WIRE_STATE_HOLE | NBD_WIRE_STATE_ZERO : 0;
		offset += len;
		left -= len;
		/* The file may change under us: neighbours of one kind are one extent */
		if (*n && flags == last) {
			out -= size;
			len += last_len;
		} else if (*n == max) {
			break;
		} else {
			(*n)++;
		}
		put_extent(out, req->extended, len, flags);
		out += size;
		last = flags;
		last_len = len;
	}
	return 0;
}
