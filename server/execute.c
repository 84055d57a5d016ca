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
		ret = b->ops->read(b, buf, req->length, req->offset);
		break;
	case NBD_WIRE_CMD_WRITE:
		ret = b->ops->write(b, buf, req->length, req->offset, fua);
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

uint32_t srv_block_status(struct srv_backend *b, const struct srv_request *req, uint8_t *out,
			  uint32_t *n)
{
	uint32_t max = req->flags & NBD_WIRE_CMD_FLAG_REQ_ONE ? 1 : SRV_MAX_EXTENTS;
	uint32_t left = req->length, flags, len, last = 0;
	uint64_t offset = req->offset;
	bool hole;
	int ret;

	*n = 0;
	while (left) {
		len = left;
		ret = b->ops->extent(b, &len, offset, &hole);
		if (ret)
			return srv_wire_error(-ret);
		flags = hole ? NBD_WIRE_STATE_HOLE | NBD_WIRE_STATE_ZERO : 0;
		offset += len;
		left -= len;
		/* The file may change under us: neighbours of one kind are one extent */
		if (*n && flags == last) {
			out -= SRV_EXTENT_LEN;
			len += nbd_get_be32(out);
		} else if ((*n)++ == max) {
			(*n)--;
			break;
		}
		nbd_put_be32(out, len);
		nbd_put_be32(out + 4, flags);
		out += SRV_EXTENT_LEN;
		last = flags;
	}
	return 0;
}
