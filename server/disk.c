// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where a request is carried out: on the spot when that takes no wait, by the
 * loop's ring when io_uring knows how, and by the pool otherwise.
 */
#include <errno.h>
#include <sys/uio.h>

#include "server/connection.h"

/* Longer ones are not carried out on the spot: copying them would hold up others */
#define INLINE_MAX (256u << 10)

/*
 * A thread of the pool does so much of a request that carries no data, and then
 * others have their turn: over terabytes one may make or remove a file for every
 * 4 KiB.  A power of two, and a multiple of every block that a backend knows.
 */
#define PIECE_MAX  (16u << 20)

bool srv_disk_now(struct srv_req *req, uint32_t *error)
{
	struct srv_backend *b = req->conn->backend;
	const struct srv_request *r = &req->r;
	bool reads = r->type == NBD_WIRE_CMD_READ;

	if ((!reads && r->type != NBD_WIRE_CMD_WRITE) || r->length > INLINE_MAX)
		return false;
	if (b->in_memory) {
		*error = srv_execute(b, req->conn->export, r, req->buf);
		return true;
	}
	*error = 0;
	return reads && !b->ops->read_cached(b, req->buf, (uint32_t)r->length, r->offset);
}

/* The next piece of a request; all of it when it is short, or must be done or left as a whole */
static struct srv_request next_piece(struct srv_req *req)
{
	struct srv_request r = req->r;
	uint64_t left = r.length - req->worked, n;

	r.offset += req->worked;
	n = PIECE_MAX - r.offset % PIECE_MAX;
	if (r.type != NBD_WIRE_CMD_TRIM && r.type != NBD_WIRE_CMD_WRITE_ZEROES &&
	    r.type != NBD_WIRE_CMD_CACHE)
		n = left;
	if (n >= left || (r.flags & NBD_WIRE_CMD_FLAG_FAST_ZERO))
		n = left;
	else
		r.flags &= (uint16_t)~NBD_WIRE_CMD_FLAG_FUA; /* the last one's flush is for all */
	r.length = n;
	req->worked += n;
	return r;
}

/* Where others do not wait for the machines that @c waits for */
static struct srv_pool *pool_of(const struct srv_conn *c)
{
	return c->backend->remote ? &c->srv->remote : &c->srv->pool;
}

static void run(struct srv_job *job)
{
	struct srv_req *req = srv_entry(job, struct srv_req, job);
	struct srv_conn *c = req->conn;
	struct srv_request piece;

	if (req->r.type == NBD_WIRE_CMD_BLOCK_STATUS) {
		req->error = srv_block_status(c->backend, &req->r, req->buf, &req->extents);
		return;
	}
	piece = next_piece(req);
	req->error = srv_execute(c->backend, c->export, &piece, req->buf);
}

static void done(struct srv_job *job)
{
	struct srv_req *req = srv_entry(job, struct srv_req, job);
	struct srv_conn *c = req->conn;

	/* Nobody waits for the rest once the client is cut off; of one that is ended nothing is begun */
	if (!req->error && req->worked && req->worked < req->r.length && !c->dead &&
	    !atomic_load(&c->ended))
		srv_pool_submit(pool_of(c), &req->job);
	else
		srv_conn_completed(req, req->error);
}

static void begin_in_pool(struct srv_req *req)
{
	req->job = (struct srv_job){
		.loop = req->conn->loop,
		.run = run,
		.done = done,
		.change = srv_conn_disk_kind(&req->r) == SRV_DISK_CHANGES,
	};
	srv_pool_submit(pool_of(req->conn), &req->job);
}

static bool begin_in_ring(struct srv_req *req)
{
	const struct srv_request *r = &req->r;
	struct srv_conn *c = req->conn;
	struct io_uring_sqe *sqe;

	if (!c->loop->has_ring || c->backend->ring_fd < 0 ||
	    (r->type != NBD_WIRE_CMD_READ && r->type != NBD_WIRE_CMD_WRITE &&
	     r->type != NBD_WIRE_CMD_FLUSH))
		return false;
	sqe = srv_loop_sqe(c->loop);
	if (!sqe)
		return false;
	switch (r->type) {
	case NBD_WIRE_CMD_READ:
		io_uring_prep_read(sqe, c->backend->ring_fd, req->buf, (uint32_t)r->length,
				   r->offset);
		break;
	case NBD_WIRE_CMD_WRITE:
		io_uring_prep_write(sqe, c->backend->ring_fd, req->buf, (uint32_t)r->length,
				    r->offset);
		if ((r->flags & NBD_WIRE_CMD_FLAG_FUA) || c->export->sync)
			sqe->rw_flags = RWF_DSYNC;
		break;
	default:
		io_uring_prep_fsync(sqe, c->backend->ring_fd, IORING_FSYNC_DATASYNC);
	}
	io_uring_sqe_set_data(sqe, req);
	return true;
}

void srv_disk_begin(struct srv_req *req)
{
	if (!begin_in_ring(req))
		begin_in_pool(req);
}

void srv_disk_reaped(struct srv_req *req, int result)
{
	bool whole = req->r.type == NBD_WIRE_CMD_FLUSH ? !result : result == (int)req->r.length;

	if (whole)
		srv_conn_completed(req, 0);
	else if (result >= 0 || result == -EINTR || result == -EAGAIN || result == -EOPNOTSUPP ||
		 result == -EINVAL)
		/* Done in part, or not in this way: the pool goes to the end of it */
		begin_in_pool(req);
	else
		srv_conn_completed(req, srv_wire_error(-result));
}
