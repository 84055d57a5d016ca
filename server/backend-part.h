/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For backends made of others: a request, of which each carries out its part. */
#ifndef SRV_BACKEND_PART_H
#define SRV_BACKEND_PART_H

#include "server/backend.h"

enum srv_work_kind {
	SRV_WORK_READ,
	SRV_WORK_READ_CACHED,
	SRV_WORK_WRITE,
	SRV_WORK_TRIM,
	SRV_WORK_ZERO,
	SRV_WORK_CACHE,
};

struct srv_work {
	enum srv_work_kind kind;
	bool keep, fua; /* as the operations have them */
	uint8_t *in;	/* for what is read */
	const uint8_t *out;
};

/* @len bytes of the work, which begin @done bytes into it, are those at @offset of @b */
static inline int srv_work_do(const struct srv_work *w, uint64_t done, struct srv_backend *b,
			      uint64_t len, uint64_t offset)
{
	switch (w->kind) {
	case SRV_WORK_READ:
		return b->ops->read(b, w->in + done, (uint32_t)len, offset);
	case SRV_WORK_READ_CACHED:
		return b->ops->read_cached(b, w->in + done, (uint32_t)len, offset);
	case SRV_WORK_WRITE:
		return b->ops->write(b, w->out + done, (uint32_t)len, offset, w->fua);
	case SRV_WORK_TRIM:
		return b->ops->trim(b, len, offset, w->fua);
	case SRV_WORK_ZERO:
		return b->ops->zero(b, len, offset, w->keep, w->fua);
	default:
		return b->ops->cache(b, len, offset);
	}
}

#endif /* SRV_BACKEND_PART_H */
