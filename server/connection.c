// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A client's threads take turns at reading its socket: whoever holds rx_lock
 * reads the next request.  What can be answered without a wait is answered on
 * the spot; for anything else the lock is passed on first, so that a slow
 * request holds up no later one.  A further thread is started only when all
 * are busy, up to the configured number.
 */
#include "server/connection.h"

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/acl.h"
#include "server/fence.h"
#include "server/socket.h"

#define STACK_SIZE (256 << 10)
/* A payload buffer keeps this much memory from one request to the next */
#define KEEP_BUF   (1u << 20)
/* Longer reads are not tried on the spot: copying them would hold up others */
#define INLINE_MAX (256u << 10)

/* Text from a client, fit for a log */
static char *printable(const char *text)
{
	return g_strescape(text, NULL);
}

/*
 * Count the client against its export's maximum, unless it only wants
 * information.  @shared: every other client of the export has the same file;
 * after a file has been replaced those who came before still have the old one.
 */
static bool claim(struct srv_conn *c, bool count, bool *shared)
{
	const struct srv_export *export = c->export;
	struct srv_conn *other;
	uint64_t n = 0;
	bool room;

	*shared = true;
	pthread_mutex_lock(&c->srv->lock);
	for (other = c->srv->conns; other; other = other->next) {
		/* By name: the other may have come before a reload */
		if (other == c || !other->claimed || strcmp(other->claimed->name, export->name))
			continue;
		n++;
		if (memcmp(other->claimed_id, c->backend->id, sizeof(c->claimed_id)))
			*shared = false;
	}
	room = !count || !export->max_connections || n < export->max_connections;
	c->claimed = count && room ? export : NULL;
	memcpy(c->claimed_id, c->backend->id, sizeof(c->claimed_id));
	pthread_mutex_unlock(&c->srv->lock);
	return room;
}

static void unclaim(struct srv_conn *c)
{
	pthread_mutex_lock(&c->srv->lock);
	c->claimed = NULL;
	pthread_mutex_unlock(&c->srv->lock);
}

static void close_export(struct srv_conn *c)
{
	unclaim(c);
	if (c->backend)
		c->backend->ops->close(c->backend);
	c->backend = NULL;
	c->export = NULL;
	srv_config_put(c->config);
	c->config = NULL;
}

static void fill_info(const struct srv_export *export, const struct srv_backend *b, bool shared,
		      struct srv_export_info *info)
{
	uint16_t flags = NBD_WIRE_FLAG_HAS_FLAGS;

	if (export->flush)
		flags |= NBD_WIRE_FLAG_SEND_FLUSH;
	if (export->rotational)
		flags |= NBD_WIRE_FLAG_ROTATIONAL;
	if (export->readonly)
		flags |= NBD_WIRE_FLAG_READ_ONLY;
	else
		flags |= NBD_WIRE_FLAG_SEND_WRITE_ZEROES |
			 (export->fua ? NBD_WIRE_FLAG_SEND_FUA : 0) |
			 (export->trim ? NBD_WIRE_FLAG_SEND_TRIM : 0);
	/* All connections go through the page cache of one file, if it is one file */
	if (shared)
		flags |= NBD_WIRE_FLAG_CAN_MULTI_CONN;

	*info = (struct srv_export_info){
		.size = b->size,
		.flags = flags,
		.min_block = 1,
		.preferred_block = b->preferred_block,
		.max_payload = NBD_WIRE_DEF_MAX_PAYLOAD,
		.name = export->name,
		.description = export->description,
	};
}

/* Open the file of c->export, if that has not been done for INFO already */
static bool open_backend(struct srv_conn *c)
{
	const struct srv_export *export = c->export;
	const char *what;

	if (c->backend)
		return true;
	c->backend = srv_file_open(export->path, export->readonly, export->size, &what);
	if (c->backend)
		c->backend->cancelled = &c->ended;
	else if (srv_server_may_log(c->srv))
		nbd_err("export '%s': cannot %s %s: %s", export->name, what, export->path,
			strerror(errno));
	return c->backend;
}

/* Find and open what the client asks for; on refusal @why says it to the client */
static enum srv_open_result open_export(struct srv_conn *c, bool *shared, char *why, size_t len)
{
	struct srv_config *config = srv_server_config(c->srv);
	const struct srv_export *export = srv_config_find(config, c->session.name);
	g_autofree char *name = printable(c->session.name);

	if (export && c->export == export && c->backend) {
		srv_config_put(config); /* INFO has opened it already */
	} else {
		close_export(c);
		c->config = config;
		c->export = export;
	}
	if (!export) {
		snprintf(why, len, "export '%.80s' unknown", name);
		return SRV_OPEN_UNKNOWN;
	}
	if (export->authfile &&
	    !srv_acl_allows(export->authfile, (const struct sockaddr *)&c->addr)) {
		snprintf(why, len, "export '%.80s' is not for this client's address", name);
		return SRV_OPEN_POLICY;
	}
	if (!open_backend(c)) {
		snprintf(why, len, "export '%.80s' cannot be opened on the server", name);
		return SRV_OPEN_UNKNOWN;
	}
	if (!claim(c, c->session.opt != NBD_WIRE_OPT_INFO, shared)) {
		snprintf(why, len, "export '%.80s' has its maximum of %llu connections", name,
			 (unsigned long long)export->max_connections);
		return SRV_OPEN_POLICY;
	}
	return SRV_OPEN_OK;
}

static void conn_open(struct srv_conn *c)
{
	struct srv_export_info info = { 0 };
	char why[SRV_MAX_REASON] = "";
	enum srv_open_result result;
	bool shared;

	result = open_export(c, &shared, why, sizeof(why));
	if (result == SRV_OPEN_OK)
		fill_info(c->export, c->backend, shared, &info);
	else if (srv_server_may_log(c->srv))
		nbd_warn("client %s refused: %s", c->peer, why);
	srv_session_opened(&c->session, result, &info, why);
	if (result != SRV_OPEN_OK) {
		close_export(c);
	} else if (c->session.in_transmission) {
		c->deadline = 0;
		nbd_info("client %s uses export '%s', %llu bytes%s", c->peer, c->export->name,
			 (unsigned long long)info.size, c->export->readonly ? ", read-only" : "");
	}
}

static void conn_fence(struct srv_conn *c)
{
	bool drained = srv_fence(c);

	/* Only then has the client something better to do than to ask again */
	if (atomic_load(&c->srv->stopping))
		srv_session_shutdown(&c->session);
	srv_session_fenced(&c->session, drained);
}

/* Nothing more is read from the client; say why */
static bool end(struct srv_conn *c, const char *why)
{
	c->done = true;
	if (atomic_load(&c->ended))
		why = "a newer connection of its session has come";
	if (c->session.in_transmission)
		nbd_info("client %s leaves export '%s': %s", c->peer, c->export->name, why);
	else if (c->session.state != SRV_CLOSED || !c->session.closing) {
		if (srv_server_may_log(c->srv))
			nbd_info("client %s gone in the handshake: %s", c->peer, why);
	}
	return false;
}

static bool end_on_error(struct srv_conn *c, int err)
{
	switch (err) {
	case -ESHUTDOWN:
		c->quiet = true;
		return end(c, "server shutting down");
	case -ETIMEDOUT:
		if (atomic_load(&c->srv->stopping))
			return end(c, "server shutting down, client in the middle of a message");
		return end(c, c->deadline ? "no handshake in time" : "idle for too long");
	case -EPIPE:
		return end(c, "connection closed");
	default:
		return end(c, strerror(-err));
	}
}

/* The data of a WRITE, from what has been read already and then from the socket */
static bool get_payload(struct srv_conn *c, struct srv_worker *w)
{
	size_t need = w->req.length, have = c->rlen - c->rpos;
	ssize_t n;

	if (w->req.type != NBD_WIRE_CMD_WRITE || w->req.error)
		return true;
	if (have > need)
		have = need;
	memcpy(w->buf, c->rbuf + c->rpos, have);
	c->rpos += have;
	while (have < need) {
		n = srv_conn_recv(c, w->buf + have, need - have);
		if (n < 0)
			return end_on_error(c, (int)n);
		have += (size_t)n;
	}
	return true;
}

/* Read until there is a request to answer; false when there will be no more */
static bool next_request(struct srv_conn *c, struct srv_worker *w)
{
	struct srv_session *s = &c->session;
	const uint8_t *in;
	ssize_t ret;
	size_t len;

	for (;;) {
		if (atomic_load(&c->ended) || atomic_load(&c->dead))
			return end(c, "replies cannot be sent");
		if (atomic_load(&c->srv->stopping))
			srv_session_shutdown(s);
		in = c->rbuf + c->rpos;
		len = c->rlen - c->rpos;
		ret = 0;
		switch (srv_session_next(s, &in, &len)) {
		case SRV_REQUEST:
			c->rpos = c->rlen - len;
			w->req = s->req;
			return get_payload(c, w);
		case SRV_CLOSE:
			return end(c, s->reason);
		case SRV_OPEN:
			conn_open(c);
			break;
		case SRV_FENCE:
			conn_fence(c);
			break;
		case SRV_SEND:
			ret = srv_conn_send(c, s->out, s->out_len, NULL, 0);
			srv_session_sent(s);
			break;
		case SRV_MORE:
			c->rpos = c->rlen;
			ret = srv_conn_recv(c, NULL, 0);
			len = c->rlen;
			break;
		}
		if (ret < 0)
			return end_on_error(c, (int)ret);
		c->rpos = c->rlen - len;
	}
}

static void reply(struct srv_conn *c, struct srv_worker *w, uint32_t error)
{
	const struct srv_request *req = &w->req;
	uint8_t head[NBD_WIRE_SIMPLE_REPLY_LEN];
	size_t data = req->type == NBD_WIRE_CMD_READ && !error ? req->length : 0;

	srv_reply_encode(head, req->cookie, error);
	if (srv_conn_send(c, head, sizeof(head), w->buf, data)) {
		/* Whoever is reading finds out by itself */
		atomic_store(&c->dead, true);
		shutdown(c->fd, SHUT_RDWR);
	}
	if (req->length > KEEP_BUF &&
	    (req->type == NBD_WIRE_CMD_READ || req->type == NBD_WIRE_CMD_WRITE))
		madvise(w->buf + KEEP_BUF, NBD_WIRE_DEF_MAX_PAYLOAD - KEEP_BUF, MADV_DONTNEED);
}

static void log_failure(struct srv_conn *c, const struct srv_request *req, uint32_t error)
{
	static const char *const names[] = {
		[NBD_WIRE_CMD_READ] = "read",	      [NBD_WIRE_CMD_WRITE] = "write",
		[NBD_WIRE_CMD_FLUSH] = "flush",	      [NBD_WIRE_CMD_TRIM] = "trim",
		[NBD_WIRE_CMD_WRITE_ZEROES] = "zero",
	};
	bool allowed;

	pthread_mutex_lock(&c->tx_lock);
	allowed = nbd_log_allowed(&c->log_limit, (time_t)(srv_now_ms() / 1000));
	pthread_mutex_unlock(&c->tx_lock);
	if (allowed)
		nbd_err("export '%s': cannot %s %u bytes at %llu of %s: %s", c->export->name,
			names[req->type], req->length, (unsigned long long)req->offset,
			c->export->path,
			error == NBD_WIRE_ENOSPC ?
				"no space left; free some or the client loses data" :
				"I/O error");
}

static void answer(struct srv_conn *c, struct srv_worker *w)
{
	uint32_t error = srv_execute(c->backend, c->export, &w->req, w->buf);

	/* Perhaps it was never begun: an error would be taken for the disk's */
	if (atomic_load(&c->ended))
		return;
	if (error)
		log_failure(c, &w->req, error);
	reply(c, w, error);
}

/* Answer at once if that takes no wait, or if nobody could take over the reading */
static bool answer_inline(struct srv_conn *c, struct srv_worker *w)
{
	const struct srv_request *req = &w->req;

	if (req->error || (!req->length && req->type != NBD_WIRE_CMD_FLUSH)) {
		reply(c, w, req->error);
		return true;
	}
	if (req->type == NBD_WIRE_CMD_READ && req->length <= INLINE_MAX &&
	    !c->backend->ops->read_cached(c->backend, w->buf, req->length, req->offset)) {
		reply(c, w, 0);
		return true;
	}
	if (c->max_workers > 1)
		return false;
	answer(c, w);
	return true;
}

static void *worker_main(void *arg);

static bool init_worker(struct srv_conn *c, struct srv_worker *w)
{
	w->conn = c;
	/* Address space for the largest payload; memory comes as it is touched */
	w->buf = mmap(NULL, NBD_WIRE_DEF_MAX_PAYLOAD, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return w->buf != MAP_FAILED;
}

static bool start_thread(pthread_t *thread, void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	ret = pthread_create(thread, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return !ret;
}

/* All workers are busy: one more, if there may be; without it the client is only slower */
static void add_worker(struct srv_conn *c)
{
	struct srv_worker *w = &c->workers[c->n_workers];

	if (c->n_workers == c->max_workers)
		return;
	if (!init_worker(c, w)) {
		c->max_workers = c->n_workers;
		return;
	}
	if (!start_thread(&w->thread, worker_main, w)) {
		munmap(w->buf, NBD_WIRE_DEF_MAX_PAYLOAD);
		c->max_workers = c->n_workers;
		return;
	}
	c->n_workers++;
}

static void *worker_main(void *arg)
{
	struct srv_worker *w = arg;
	struct srv_conn *c = w->conn;

	pthread_mutex_lock(&c->rx_lock);
	while (!c->done && next_request(c, w)) {
		if (answer_inline(c, w))
			continue;
		if (++c->busy == c->n_workers)
			add_worker(c);
		pthread_mutex_unlock(&c->rx_lock);
		answer(c, w);
		pthread_mutex_lock(&c->rx_lock);
		c->busy--;
	}
	pthread_mutex_unlock(&c->rx_lock);
	return NULL;
}

static void conn_free(struct srv_conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	pthread_mutex_destroy(&c->rx_lock);
	pthread_mutex_destroy(&c->tx_lock);
	srv_config_put(c->listed);
	free(c->workers);
	free(c);
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
	conn_free(c);
	/* Under the lock: the server may be gone right after */
	if (last)
		eventfd_write(srv->idle_fd, 1);
	pthread_mutex_unlock(&srv->lock);
}

static void *conn_main(void *arg)
{
	struct srv_conn *c = arg;
	unsigned int i;

	worker_main(&c->workers[0]);
	/* Nobody reads any more, so nobody adds a worker */
	for (i = 1; i < c->n_workers; i++)
		pthread_join(c->workers[i].thread, NULL);
	/* Its place is free for the connection that may be waiting for it */
	unclaim(c);
	srv_fence_leave(c);
	close_export(c);
	if (c->quiet)
		srv_socket_linger(c->fd, srv_now_ms() + SRV_LINGER_MS);
	for (i = 0; i < c->n_workers; i++)
		munmap(c->workers[i].buf, NBD_WIRE_DEF_MAX_PAYLOAD);
	unregister(c);
	return NULL;
}

static bool list_export(void *ctx, unsigned int i, const char **name, const char **description)
{
	struct srv_conn *c = ctx;
	const struct srv_export *export;

	if (i >= c->listed->exports->len)
		return false;
	export = g_ptr_array_index(c->listed->exports, i);
	*name = export->name;
	*description = export->description;
	return true;
}

static struct srv_conn *conn_new(struct srv_server *srv, int fd,
				 const struct sockaddr_storage *addr)
{
	struct srv_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->srv = srv;
	c->fd = fd;
	c->addr = *addr;
	pthread_mutex_init(&c->rx_lock, NULL);
	pthread_mutex_init(&c->tx_lock, NULL);
	srv_peer_name(addr, c->peer, sizeof(c->peer));
	c->listed = srv_server_config(srv);
	c->deadline = srv_now_ms() + (int64_t)c->listed->handshake_timeout * 1000;
	c->max_workers = (unsigned int)c->listed->max_threads;
	srv_session_init(&c->session, c->listed->allowlist ? list_export : NULL, c);
	c->session.can_fence = !srv->one_client;
	c->workers = calloc(c->max_workers, sizeof(*c->workers));
	if (!c->workers || !init_worker(c, &c->workers[0])) {
		c->fd = -1; /* the caller closes it */
		conn_free(c);
		return NULL;
	}
	c->n_workers = 1;
	return c;
}

/* Count the client and put it on the server's list, if there is room for it */
static bool register_conn(struct srv_conn *c)
{
	struct srv_server *srv = c->srv;
	bool room;

	pthread_mutex_lock(&srv->lock);
	room = srv->clients < srv->config->max_clients;
	if (room) {
		srv->clients++;
		c->next = srv->conns;
		if (c->next)
			c->next->prev = c;
		srv->conns = c;
	}
	pthread_mutex_unlock(&srv->lock);
	return room;
}

int srv_conn_start(struct srv_server *srv, int fd, const struct sockaddr_storage *addr)
{
	struct srv_conn *c;
	pthread_t thread;

	srv_socket_tune(fd, addr->ss_family);
	c = conn_new(srv, fd, addr);
	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	if (!register_conn(c)) {
		munmap(c->workers[0].buf, NBD_WIRE_DEF_MAX_PAYLOAD);
		conn_free(c);
		return -EUSERS;
	}
	if (!start_thread(&thread, conn_main, c)) {
		munmap(c->workers[0].buf, NBD_WIRE_DEF_MAX_PAYLOAD);
		unregister(c);
		return -EAGAIN;
	}
	pthread_detach(thread);
	return 0;
}
