// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A connection does what it can whenever it is run, and then waits to be run
 * again: by an event of its socket, a request back from the disk, memory that
 * others have given back, or the time.  Nothing here waits.
 *
 * Requests are read only while there is room for them: so a client that does
 * not read its replies is not read from either, and holds up nobody else.
 */
#include "server/connection.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "server/fence.h"
#include "server/socket.h"
#include "server/tls.h"
#include "server/transport.h"

/* Bytes that one connection may take or give before others have their turn */
#define TURN_BYTES (512u << 10)
/* Pieces of memory in one call: a reply has two */
#define SEND_IOV   128

/* Nothing more is read from the client; say why */
static void end(struct srv_conn *c, const char *why)
{
	if (c->stage != SRV_CONN_SERVING)
		return;
	c->stage = SRV_CONN_FINISHING;
	atomic_store(&c->leaving, true);
	if (atomic_load(&c->ended))
		why = "a newer connection of its session has come";
	if (c->session.in_transmission)
		nbd_log_about(c->peer, srv_conn_export_name(c), LOG_INFO,
			      "client %s leaves export '%s': %s", c->peer, srv_conn_export_name(c),
			      why);
	else if (c->session.state != SRV_CLOSED || !c->session.closing) {
		if (srv_server_may_log(c->srv))
			nbd_log_about(c->peer, NULL, LOG_INFO,
				      "client %s gone in the handshake: %s", c->peer, why);
	}
}

/* The same when nothing can be sent any longer either, or is worth it */
void srv_conn_cut(struct srv_conn *c, const char *why)
{
	end(c, why);
	c->dead = true;
}

static void queue_reply(struct srv_req *req, uint32_t error)
{
	struct srv_conn *c = req->conn;

	if (atomic_load(&c->ended) || c->dead) {
		srv_room_free(req);
		return;
	}
	if (!error && req->r.type == NBD_WIRE_CMD_READ)
		req->reply = (uint32_t)req->r.length;
	else if (!error && req->r.type == NBD_WIRE_CMD_BLOCK_STATUS)
		req->reply = req->extents * (req->r.extended ? SRV_EXT_EXTENT_LEN : SRV_EXTENT_LEN);
	req->head_len =
		(uint32_t)srv_reply_encode(&c->session, &req->r, error, req->reply, req->head);
	/* Before it is sent: who has the answer finds it counted */
	srv_count_answer(&c->counters, c->shard, srv_command(req->r.type), req->r.length, error,
			 srv_now_ns() - req->begun);
	req->begun = 0;
	srv_req_add(&c->replies, req);
}

/* Send to the disk what may go there; what has not been begun when @c is ended never is */
static void feed_disk(struct srv_conn *c)
{
	struct srv_req *req;
	int kind;

	for (kind = 0; kind < SRV_DISK_KINDS; kind++) {
		while (c->at_disk[kind] < c->max_at_disk &&
		       (req = srv_req_take(&c->pending[kind]))) {
			if (atomic_load(&c->ended)) {
				srv_room_free(req);
				continue;
			}
			c->at_disk[kind]++;
			srv_disk_begin(req);
		}
	}
}

enum srv_disk_kind srv_conn_disk_kind(const struct srv_request *r)
{
	switch (r->type) {
	case NBD_WIRE_CMD_READ:
	case NBD_WIRE_CMD_CACHE:
	case NBD_WIRE_CMD_BLOCK_STATUS:
		return SRV_DISK_READS;
	default:
		return SRV_DISK_CHANGES;
	}
}

void srv_conn_completed(struct srv_req *req, uint32_t error)
{
	struct srv_conn *c = req->conn;

	c->at_disk[srv_conn_disk_kind(&req->r)]--;
	if (error && atomic_load(&c->backend->lost))
		/* It may be carried out elsewhere: no answer, so that the client asks again */
		srv_conn_cut(c, "its image cannot be used through this server any longer");
	else if (error && !atomic_load(&c->ended))
		/* Perhaps it was never begun: an error would be taken for the disk's */
		srv_report_failure(c, &req->r, error);
	queue_reply(req, error);
	feed_disk(c);
	srv_list_add(&c->loop->ready, &c->ready);
}

/* A request that is complete: answer it, or begin it */
static void begin(struct srv_conn *c, struct srv_req *req)
{
	const struct srv_request *r = &req->r;
	uint32_t error;

	req->begun = srv_now_ns();
	srv_count_begin(&c->counters, c->shard);
	if (r->error)
		srv_report_refusal(c, r);
	if (r->error || (!r->length && r->type != NBD_WIRE_CMD_FLUSH)) {
		queue_reply(req, r->error);
	} else if (srv_disk_now(req, &error)) {
		if (error && !atomic_load(&c->ended))
			srv_report_failure(c, r, error);
		queue_reply(req, error);
	} else {
		srv_req_add(&c->pending[srv_conn_disk_kind(r)], req);
		feed_disk(c);
	}
}

/* Receive into @buf, and what is left over into the empty rbuf; false when nothing has come */
static bool receive(struct srv_conn *c, void *buf, size_t len, size_t *got)
{
	struct iovec iov[2] = {
		{ .iov_base = buf, .iov_len = len },
		{ .iov_base = c->rbuf, .iov_len = sizeof(c->rbuf) },
	};
	ssize_t n;

	if (!c->readable)
		return false;
	n = srv_transport_recv(c->fd, c->tls, iov, 2);
	if (n == -EAGAIN) {
		c->readable = false;
		return false;
	}
	if (n <= 0) {
		end(c, n ? srv_transport_error(c->tls, n) : "connection closed");
		/* Reset: replies have nowhere to go.  Of TLS, the alert has. */
		c->dead |= n < 0 && !c->tls;
		return false;
	}
	/* Less than there was room for: what comes later is a new event.  Not so with TLS. */
	if (!c->tls && (size_t)n < len + sizeof(c->rbuf) && !c->hung_up)
		c->readable = false;
	c->last_io = c->loop->now;
	*got = (size_t)n < len ? (size_t)n : len;
	c->rpos = 0;
	c->rlen = (size_t)n - *got;
	return true;
}

/* The memory and the payload of the request under way; true when it is complete */
static bool receive_payload(struct srv_conn *c)
{
	struct srv_req *req = c->receiving;
	size_t n = c->rlen - c->rpos;

	if (!srv_room_memory(c, req))
		return false;
	if (req->r.type != NBD_WIRE_CMD_WRITE || req->r.error)
		return true;
	while (req->got < req->r.length) {
		if (n > req->r.length - req->got)
			n = req->r.length - req->got;
		memcpy(req->buf + req->got, c->rbuf + c->rpos, n);
		c->rpos += n;
		req->got += (uint32_t)n;
		if (req->got == req->r.length)
			break;
		if (!receive(c, req->buf + req->got, req->r.length - req->got, &n))
			return false;
		req->got += (uint32_t)n;
		n = c->rlen;
	}
	return true;
}

static void out_job(struct srv_conn *c, bool slow, void (*run)(struct srv_job *),
		    void (*done)(struct srv_job *))
{
	c->job = (struct srv_job){ .loop = c->loop, .run = run, .done = done };
	c->job_out = true;
	/* A command, or a cluster, may take long, and nobody else's disk is to wait for it */
	srv_pool_submit(slow ? &c->srv->slow : &c->srv->pool, &c->job);
}

static struct srv_conn *job_conn(struct srv_job *job)
{
	return srv_entry(job, struct srv_conn, job);
}

static void run_open(struct srv_job *job)
{
	srv_conn_open_export(job_conn(job));
}

static void tell_use(const struct srv_conn *c)
{
	g_autofree char *tls = c->tls ? srv_tls_describe(c->tls) : NULL;

	nbd_log_about(c->peer, srv_conn_export_name(c), LOG_INFO,
		      "client %s uses export '%s', %llu bytes%s%s%s", c->peer,
		      srv_conn_export_name(c), (unsigned long long)c->session.info.size,
		      c->export->readonly ? ", read-only" : "", tls ? ", with TLS: " : "",
		      tls ? tls : "");
}

static void opened(struct srv_job *job)
{
	struct srv_conn *c = job_conn(job);
	struct srv_conn_setup *setup = c->setup;

	c->job_out = false;
	srv_list_add(&c->loop->ready, &c->ready);
	srv_session_opened(&c->session, setup->result, &setup->info, setup->why);
	if (!c->session.in_transmission)
		return;
	c->deadline = 0;
	c->last_io = c->loop->now;
	tell_use(c);
}

static void run_close(struct srv_job *job)
{
	srv_conn_close_export(job_conn(job));
}

static void closed(struct srv_job *job)
{
	struct srv_conn *c = job_conn(job);

	c->job_out = false;
	srv_list_add(&c->loop->ready, &c->ready);
}

/* Are older connections gone?  Answer the client when that is known. */
static void look_at_fence(struct srv_conn *c)
{
	enum srv_fence_result result = srv_fence_look(c);

	if (result == SRV_FENCE_WAIT)
		return;
	c->fencing = false;
	atomic_fetch_sub(&c->srv->fencing, 1);
	srv_session_fenced(&c->session, result == SRV_FENCE_DRAINED);
}

/* What was opened without TLS, and the place in a session, go with all that was said */
static bool begin_tls(struct srv_conn *c)
{
	if (c->config) {
		out_job(c, c->hooked, run_close, closed);
		return false;
	}
	srv_fence_leave(c);
	c->tls = srv_tls_new(c->listed->creds, c->fd);
	if (!c->tls)
		srv_conn_cut(c, "no memory for TLS");
	return c->tls;
}

/* On with the handshake of TLS; false when it cannot go on now */
static bool secure(struct srv_conn *c)
{
	char why[SRV_MAX_REASON];
	bool for_write;

	if (!c->tls && !begin_tls(c))
		return false;
	switch (srv_tls_handshake(c->tls, &for_write)) {
	case 0:
		srv_session_secured(&c->session);
		return true;
	case -EAGAIN:
		*(for_write ? &c->writable : &c->readable) = false;
		return false;
	default:
		snprintf(why, sizeof(why), "TLS: %s", srv_tls_error(c->tls));
		/* Time for the alert to get there, before what is unread resets the connection */
		c->quiet = true;
		end(c, why);
		return false;
	}
}

/* One step of the session; false when it cannot go on now */
static bool step(struct srv_conn *c)
{
	struct srv_session *s = &c->session;
	const uint8_t *in = c->rbuf + c->rpos;
	size_t len = c->rlen - c->rpos, got;
	struct srv_req *req = NULL;
	enum srv_event ev;

	/* So that there is a place for a request once it has been taken */
	if (s->in_transmission) {
		req = srv_room_new(c);
		if (!req)
			return false;
	}
	ev = srv_session_next(s, &in, &len);
	c->rpos = c->rlen - len;
	if (ev == SRV_REQUEST) {
		req->r = s->req;
		c->receiving = req;
		return true;
	}
	if (req)
		srv_room_put_back(req);
	switch (ev) {
	case SRV_MORE:
		return receive(c, NULL, 0, &got);
	case SRV_OPEN:
		out_job(c, srv_conn_opens_slowly(c), run_open, opened);
		return false;
	case SRV_STARTTLS:
		return secure(c);
	case SRV_FENCE:
		c->fencing = true;
		atomic_fetch_add(&c->srv->fencing, 1);
		srv_fence_begin(c);
		look_at_fence(c);
		return true;
	case SRV_CLOSE:
		end(c, s->reason);
		return false;
	default: /* SRV_SEND: serve() does */
		return true;
	}
}

/* Pieces of what is to be sent, the session's first; how many */
static size_t gather(const struct srv_conn *c, struct iovec *iov)
{
	const struct srv_session *s = &c->session;
	size_t skip = c->reply_sent, n = 0;
	struct srv_req *req;

	if (s->out_len)
		iov[n++] = (struct iovec){ s->out + c->setup_sent, s->out_len - c->setup_sent };
	for (req = c->replies.first; req && n + 2 <= SEND_IOV; req = req->next) {
		if (skip < req->head_len) {
			iov[n++] = (struct iovec){ req->head + skip, req->head_len - skip };
			skip = req->head_len;
		}
		skip -= req->head_len;
		if (req->reply > skip)
			iov[n++] = (struct iovec){ req->buf + skip, req->reply - skip };
		skip = 0;
	}
	return n;
}

/* @n bytes of what was gathered have gone */
static void sent(struct srv_conn *c, size_t n)
{
	struct srv_session *s = &c->session;
	size_t left;

	if (s->out_len) {
		left = s->out_len - c->setup_sent;
		c->setup_sent += n < left ? n : left;
		if (n < left)
			return;
		n -= left;
		c->setup_sent = 0;
		srv_session_sent(s);
	}
	while (c->replies.first) {
		left = c->replies.first->head_len + c->replies.first->reply - c->reply_sent;
		if (n < left) {
			c->reply_sent += n;
			return;
		}
		n -= left;
		c->reply_sent = 0;
		srv_room_free(srv_req_take(&c->replies));
	}
}

static void send_all(struct srv_conn *c)
{
	struct iovec iov[SEND_IOV];
	size_t turn = 0;
	ssize_t n;

	while (c->writable && !c->dead && (c->session.out_len || c->replies.first)) {
		if (atomic_load(&c->ended))
			return;
		n = srv_transport_send(c->fd, c->tls, iov, gather(c, iov));
		if (n > 0) {
			c->last_io = c->loop->now;
			sent(c, (size_t)n);
			turn += (size_t)n;
			/* Encrypting takes time, and the client may read as fast as that */
			if (turn > TURN_BYTES) {
				srv_list_add(&c->loop->ready, &c->ready);
				return;
			}
		} else if (n == -EAGAIN) {
			c->writable = false;
		} else {
			srv_conn_cut(c, "replies cannot be sent");
		}
	}
}

/* Read and begin requests for as long as there are any and there is room */
static void serve(struct srv_conn *c)
{
	size_t turn = 0;

	while (c->stage == SRV_CONN_SERVING && !c->job_out && !c->fencing) {
		/* What the kernel had received before it was shut down is not wanted */
		if (atomic_load(&c->ended)) {
			srv_conn_cut(c, "");
			return;
		}
		if (c->session.out_len)
			send_all(c);
		if (c->session.out_len)
			return;
		if (turn > TURN_BYTES) {
			srv_list_add(&c->loop->ready, &c->ready);
			return;
		}
		if (!c->receiving && !step(c))
			return;
		/* What is skipped took time, too */
		if (!c->receiving) {
			turn += c->rlen;
			continue;
		}
		if (!receive_payload(c))
			return;
		/* It took time to get it: once more, right before it is begun */
		if (atomic_load(&c->ended))
			continue;
		turn += c->receiving->r.length;
		begin(c, c->receiving);
		c->receiving = NULL;
	}
}

/* Both directions have come to their end in good order, and the server is going */
static void stop_if_idle(struct srv_conn *c)
{
	if (c->stage != SRV_CONN_SERVING || c->readable || c->receiving || c->job_out ||
	    c->fencing || (c->tls && srv_tls_midway(c->tls)) || c->rpos < c->rlen ||
	    c->session.out_len || !srv_session_idle(&c->session))
		return;
	c->quiet = true;
	end(c, "server shutting down");
}

static void free_setup(struct srv_conn *c)
{
	struct srv_loop *l = c->loop;

	if (!c->setup)
		return;
	if (l && l->n_spares < SRV_LOOP_SPARES)
		l->spares[l->n_spares++] = c->setup;
	else
		srv_conn_spare_free(c->setup);
	c->setup = NULL;
}

void srv_conn_spare_free(void *setup)
{
	munmap(setup, sizeof(struct srv_conn_setup));
}

static bool get_setup(struct srv_conn *c)
{
	struct srv_loop *l = c->loop;

	if (l->n_spares) {
		c->setup = l->spares[--l->n_spares];
		return true;
	}
	/* Not from the heap, where it would leave holes between those that stay */
	c->setup = mmap(NULL, sizeof(*c->setup), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->setup == MAP_FAILED)
		c->setup = NULL;
	return c->setup;
}

static bool linger_over(struct srv_conn *c)
{
	char waste[4096];
	size_t turn = 0;
	ssize_t n;

	do {
		n = recv(c->fd, waste, sizeof(waste), MSG_DONTWAIT);
		turn += n > 0 ? (size_t)n : 0;
	} while ((n > 0 && turn < TURN_BYTES) || (n < 0 && errno == EINTR));
	if (n > 0)
		srv_list_add(&c->loop->ready, &c->ready);
	return n <= 0 && (!n || errno != EAGAIN);
}

static void unregister(struct srv_conn *c)
{
	struct srv_server *srv = c->srv;
	bool last;

	pthread_mutex_lock(&srv->lock);
	if (c->next)
		c->next->prev = c->prev;
	if (c->prev)
		c->prev->next = c->next;
	else
		srv->conns = c->next;
	last = !--srv->clients;
	/* Under the lock: others shut down the sockets of those on the list */
	close(c->fd);
	srv_config_put(c->listed);
	free(c);
	/* The same: the server may be gone right after */
	if (last)
		eventfd_write(srv->idle_fd, 1);
	pthread_mutex_unlock(&srv->lock);
}

static void gone(struct srv_conn *c)
{
	struct srv_loop *l = c->loop;

	free_setup(c);
	srv_tls_free(c->tls);
	srv_list_del(&c->all);
	srv_list_del(&c->ready);
	srv_list_del(&c->timed);
	srv_list_del(&c->waiting);
	if (c->share)
		srv_share_put(l->shares, c->share);
	atomic_fetch_sub(&l->clients, 1);
	unregister(c);
}

/* Drop what is not to be sent or begun any longer; true when nothing is left under way */
static bool finished(struct srv_conn *c)
{
	/* Whoever waits for memory behind it need not do so any longer */
	srv_room_got(c);
	if (atomic_load(&c->ended) || c->dead) {
		srv_room_free_queue(&c->replies);
		srv_room_free_queue(&c->pending[SRV_DISK_READS]);
		srv_room_free_queue(&c->pending[SRV_DISK_CHANGES]);
		c->session.out_len = 0;
	}
	if (c->receiving) {
		srv_room_free(c->receiving);
		c->receiving = NULL;
	}
	if (c->fencing) {
		c->fencing = false;
		atomic_fetch_sub(&c->srv->fencing, 1);
	}
	return !c->n_requests && !c->session.out_len && !c->job_out;
}

/* The client is told that nothing more comes, or cannot be, or not in time */
static bool parted(struct srv_conn *c)
{
	if (!c->tls || c->dead || c->loop->now >= c->deadline)
		return true;
	if (c->writable && srv_tls_bye(c->tls) != -EAGAIN)
		return true;
	c->writable = false;
	srv_list_add(&c->loop->timed, &c->timed);
	return false;
}

/* Go through the stages of the end as far as possible; true when the connection is gone */
static bool finish(struct srv_conn *c)
{
	if (c->stage == SRV_CONN_FINISHING && finished(c)) {
		srv_report_no_space(c);
		/* Its place is free for the connection that may be waiting for it */
		srv_conn_unclaim(c);
		srv_fence_leave(c);
		c->stage = SRV_CONN_CLOSING;
		if (c->backend || c->config)
			out_job(c, c->hooked, run_close, closed);
	}
	if (c->stage == SRV_CONN_CLOSING && !c->job_out) {
		c->stage = SRV_CONN_PARTING;
		c->deadline = c->loop->now + SRV_LINGER_MS;
	}
	if (c->stage == SRV_CONN_PARTING && parted(c)) {
		c->stage = SRV_CONN_GONE;
		/*
		 * With unread input a close would reset, and take replies on their way with
		 * it: a client may have said goodbye in TLS, right behind DISC.
		 */
		if ((c->quiet || c->tls) && !c->dead && !shutdown(c->fd, SHUT_WR)) {
			c->stage = SRV_CONN_LINGERING;
			srv_list_add(&c->loop->timed, &c->timed);
		}
	}
	if (c->stage == SRV_CONN_LINGERING && linger_over(c))
		c->stage = SRV_CONN_GONE;
	return c->stage == SRV_CONN_GONE;
}

void srv_conn_run(struct srv_conn *c)
{
	bool stopping = atomic_load(&c->srv->stopping);

	if (stopping)
		srv_session_shutdown(&c->session);
	if (c->fencing && c->stage == SRV_CONN_SERVING)
		look_at_fence(c);
	serve(c);
	send_all(c);
	if (c->session.in_transmission && !c->session.out_len)
		free_setup(c);
	if (atomic_load(&c->ended))
		srv_conn_cut(c, "");
	if (stopping)
		stop_if_idle(c);
	/* The export last: before and after that it may be in the hands of the pool */
	if (!c->deadline && !c->fencing && !c->nospace_due && !stopping &&
	    c->stage == SRV_CONN_SERVING && c->session.in_transmission && !c->export->timeout)
		srv_list_del(&c->timed);
	else
		srv_list_add(&c->loop->timed, &c->timed);
	if (finish(c))
		gone(c);
}

void srv_conn_event(struct srv_conn *c, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->readable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->hung_up = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		c->writable = true;
}

void srv_conn_stopping(struct srv_conn *c)
{
	/* What has arrived already is still answered */
	c->readable = true;
	srv_list_add(&c->loop->ready, &c->ready);
}

void srv_conn_attached(struct srv_conn *c, int error)
{
	c->last_io = c->loop->now;
	if (c->listed->address_memory && c->address.kind)
		c->share = srv_share_get(c->loop->shares, &c->address);
	if (nbd_log_level() >= LOG_DEBUG && srv_server_may_log(c->srv))
		nbd_log_about(c->peer, NULL, LOG_DEBUG, "client %s connects", c->peer);
	if (error)
		srv_conn_cut(c, strerror(-error));
	else if (!get_setup(c))
		srv_conn_cut(c, "no memory for its handshake");
	else
		srv_session_lend(&c->session, &c->setup->hs);
}

/* The server is going, and has waited for as long as it does */
static bool drained(const struct srv_conn *c)
{
	return atomic_load(&c->srv->stopping) &&
	       c->loop->now >= atomic_load(&c->srv->drain_deadline);
}

/* Is it too late for what the connection is at? */
static const char *too_late(const struct srv_conn *c)
{
	int64_t now = c->loop->now;

	if (drained(c))
		return "server shutting down, client in the middle of a message";
	if (c->stage != SRV_CONN_SERVING)
		return NULL;
	/* Once it has been told of the fence's end the client may leave by itself */
	if (c->deadline && now >= c->deadline && !c->fencing)
		return "no handshake in time";
	if (c->session.in_transmission && c->export->timeout && !c->n_requests &&
	    now - c->last_io >= (int64_t)c->export->timeout * 1000)
		return "idle for too long";
	return NULL;
}

void srv_conn_tick(struct srv_conn *c)
{
	const char *why;

	if (c->stage == SRV_CONN_PARTING || c->stage == SRV_CONN_LINGERING) {
		if (c->loop->now < c->deadline && !drained(c))
			return;
		c->stage = SRV_CONN_GONE;
		srv_list_add(&c->loop->ready, &c->ready);
		return;
	}
	if (c->nospace_due && c->loop->now >= c->nospace_due)
		srv_report_no_space(c);
	why = too_late(c);
	if (why)
		srv_conn_cut(c, why);
	if (why || c->fencing)
		srv_list_add(&c->loop->ready, &c->ready);
}

static struct srv_conn *conn_new(struct srv_server *srv, int fd,
				 const struct sockaddr_storage *addr)
{
	struct srv_conn *c = calloc(1, sizeof(*c));
	int kind;

	if (!c)
		return NULL;
	c->srv = srv;
	c->fd = fd;
	c->addr = *addr;
	c->address = srv_address_of((const struct sockaddr *)addr);
	srv_list_init(&c->all);
	srv_list_init(&c->ready);
	srv_list_init(&c->timed);
	srv_list_init(&c->waiting);
	srv_list_init(&c->crowded);
	for (kind = 0; kind < SRV_DISK_KINDS; kind++)
		srv_req_queue_init(&c->pending[kind]);
	srv_req_queue_init(&c->replies);
	srv_peer_name(addr, c->peer, sizeof(c->peer));
	c->readable = true;
	c->writable = true;
	c->since = g_get_real_time() / 1000;
	c->listed = srv_server_config(srv);
	c->deadline = srv_now_ms() + (int64_t)c->listed->handshake_timeout * 1000;
	c->max_at_disk = (unsigned int)c->listed->max_threads;
	srv_session_init(&c->session, c->listed->allowlist ? srv_conn_list : NULL, c);
	c->session.can_fence = !srv->one_client;
	c->session.can_tls = c->listed->creds;
	c->session.needs_tls = c->listed->tls == SRV_TLS_REQUIRED;
	return c;
}

/* Has the client's address all the connections it may have?  srv->lock is held. */
static bool address_full(const struct srv_conn *c)
{
	uint64_t max = c->srv->config->max_per_address, n = 0;
	const struct srv_conn *other;

	if (!max || !c->address.kind)
		return false;
	for (other = c->srv->conns; other && n < max; other = other->next)
		n += srv_address_same(&other->address, &c->address);
	return n >= max;
}

/* Count the client and put it on the server's list, if there is room for it: 0, or why not */
static int register_conn(struct srv_conn *c)
{
	struct srv_server *srv = c->srv;
	int ret = 0;

	pthread_mutex_lock(&srv->lock);
	if (srv->clients >= srv->config->max_clients) {
		atomic_fetch_add(&srv->refused[SRV_REFUSED_CLIENTS], 1);
		ret = -EUSERS;
	} else if (address_full(c)) {
		atomic_fetch_add(&srv->refused[SRV_REFUSED_ADDRESS], 1);
		ret = -EDQUOT;
	} else {
		srv->clients++;
		c->id = ++srv->came;
		c->next = srv->conns;
		if (c->next)
			c->next->prev = c;
		srv->conns = c;
	}
	pthread_mutex_unlock(&srv->lock);
	return ret;
}

int srv_conn_start(struct srv_server *srv, struct srv_loop *own, int fd,
		   const struct sockaddr_storage *addr)
{
	struct srv_conn *c;
	int ret;

	srv_socket_tune(fd, addr->ss_family);
	c = conn_new(srv, fd, addr);
	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	ret = register_conn(c);
	if (ret) {
		close(fd);
		srv_config_put(c->listed);
		free(c);
		return ret;
	}
	srv_loop_assign(srv, own, c);
	return 0;
}
