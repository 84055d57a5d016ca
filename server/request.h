/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One request on its way through the server. */
#ifndef SRV_REQUEST_H
#define SRV_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "server/pool.h"
#include "server/session.h"

struct srv_conn;

/*
 * From its header to the last byte of its reply.  Owned by its connection, on
 * one of its queues, except while it is at the disk: then by the ring or the pool.
 */
struct srv_req {
	struct srv_req *next;
	struct srv_conn *conn;
	struct srv_request r;
	uint64_t begun;	 /* srv_now_ns() when all of it had come; 0: not yet, or answered */
	uint8_t *buf;	 /* of the arena, for what the request carries or brings; or NULL */
	uint32_t size;	 /* bytes asked for @buf */
	uint32_t got;	 /* of a WRITE's payload */
	uint64_t worked; /* bytes of a long one that the pool has dealt with */
	uint32_t reply;	 /* bytes of @buf that follow the head in the reply */
	uint32_t head_len;
	uint8_t head[SRV_MAX_REPLY_HEAD];
	struct srv_job job;
	uint32_t error; /* the pool's results */
	uint32_t extents;
};

struct srv_req_queue {
	struct srv_req *first, **last;
};

static inline void srv_req_queue_init(struct srv_req_queue *q)
{
	q->first = NULL;
	q->last = &q->first;
}

static inline void srv_req_add(struct srv_req_queue *q, struct srv_req *req)
{
	req->next = NULL;
	*q->last = req;
	q->last = &req->next;
}

static inline struct srv_req *srv_req_take(struct srv_req_queue *q)
{
	struct srv_req *req = q->first;

	if (req) {
		q->first = req->next;
		if (!q->first)
			q->last = &q->first;
	}
	return req;
}

/* Can the request be answered without a wait?  If so it has been carried out. */
bool srv_disk_now(struct srv_req *req, uint32_t *error);
/* Begin a request; srv_conn_completed() is called when it is over */
void srv_disk_begin(struct srv_req *req);
/* What the ring says of a request */
void srv_disk_reaped(struct srv_req *req, int result);

#endif /* SRV_REQUEST_H */
