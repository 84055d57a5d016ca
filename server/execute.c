// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>

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
		ret = b->ops->zero(b, req->length, req->offset, keep || !export->trim, fua);
		break;
	default:
		ret = -EINVAL;
	}
	return srv_wire_error(-ret);
}
