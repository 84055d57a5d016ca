// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A turn of a loop: wait; mark every connection that something has happened
 * to; run each of those once; send off what they want of the disk.
 */
#include "server/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/connection.h"
#include "server/listen.h"
#include "server/server.h"

#define STACK_SIZE	 (256 << 10)
#define EVENTS		 256
#define RING_ENTRIES	 1024
/* More requests than this are never at the disk, so no completion is ever lost */
#define RING_COMPLETIONS (2 * SRV_LOOP_REQUESTS)
/* Threads of the kernel for one ring, where it has to wait in one */
#define RING_WORKERS	 256
/* New clients for one event */
#define ACCEPT_MAX	 16
/* How long to leave new clients waiting when there are no file descriptors */
#define PAUSE_MS	 100

/* What an event is about: a connection's address, or one of these, with a descriptor above it */
enum tag { TAG_CONN = 0, TAG_WAKE = 1, TAG_RING = 2, TAG_LISTEN = 3, TAG_MASK = 3 };

void srv_loop_wake(struct srv_loop *l)
{
	/* Cannot fail: the counter is nowhere near its maximum */
	if (!atomic_exchange(&l->woken, true))
		eventfd_write(l->wake_fd, 1);
}

void srv_loop_wake_all(struct srv_server *srv)
{
	unsigned int i;

	for (i = 0; i < srv->n_loops; i++)
		srv_loop_wake(&srv->loops[i]);
}

void srv_loop_post(struct srv_loop *l, struct srv_job *job)
{
	pthread_mutex_lock(&l->lock);
	job->next = l->done;
	l->done = job;
	pthread_mutex_unlock(&l->lock);
	srv_loop_wake(l);
}

void srv_loop_assign(struct srv_server *srv, struct srv_loop *own, struct srv_conn *c)
{
	struct srv_loop *l = own;
	unsigned int i;

	for (i = 0; i < srv->n_loops; i++) {
		if (atomic_load(&srv->loops[i].clients) < atomic_load(&l->clients))
			l = &srv->loops[i];
	}
	atomic_fetch_add(&l->clients, 1);
	c->loop = l;
	pthread_mutex_lock(&l->lock);
	srv_list_add(&l->incoming, &c->ready);
	pthread_mutex_unlock(&l->lock);
	srv_loop_wake(l);
}

struct io_uring_sqe *srv_loop_sqe(struct srv_loop *l)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);

	if (!sqe && io_uring_submit(&l->ring) > 0)
		sqe = io_uring_get_sqe(&l->ring);
	return sqe;
}

static int watch(struct srv_loop *l, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

/* Accept new clients, or leave them waiting */
static void accept_clients(struct srv_loop *l, bool on)
{
	unsigned int i;
	int fd;

	if (l->accepting == on || !l->listener)
		return;
	for (i = 0; i < l->listener->n; i++) {
		fd = l->listener->fd[i];
		if (!on)
			epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		else if (watch(l, fd, EPOLLIN | EPOLLEXCLUSIVE, TAG_LISTEN | (uint64_t)fd << 2))
			nbd_err("cannot wait for clients: %s", strerror(errno));
	}
	l->accepting = on;
}

static void accept_some(struct srv_loop *l, int fd)
{
	unsigned int i;

	for (i = 0; i < ACCEPT_MAX && l->accepting; i++) {
		switch (srv_listen_accept(l->srv, l, fd)) {
		case SRV_ACCEPTED:
			break;
		case SRV_ACCEPT_NONE:
			return;
		case SRV_ACCEPT_PAUSE:
			accept_clients(l, false);
			l->paused_until = l->now + PAUSE_MS;
			return;
		}
	}
}

static void take_event(struct srv_loop *l, const struct epoll_event *ev)
{
	struct srv_conn *c;
	eventfd_t count;

	switch ((enum tag)(ev->data.u64 & TAG_MASK)) {
	case TAG_CONN:
		c = ev->data.ptr;
		srv_conn_event(c, ev->events);
		srv_list_add(&l->ready, &c->ready);
		break;
	case TAG_WAKE:
		/* Before what was posted is looked at: what comes later wakes again */
		eventfd_read(l->wake_fd, &count);
		atomic_store(&l->woken, false);
		break;
	case TAG_RING:
		/* Looked at in every turn */
		break;
	case TAG_LISTEN:
		accept_some(l, (int)(ev->data.u64 >> 2));
		break;
	}
}

static void reap_ring(struct srv_loop *l)
{
	struct io_uring_cqe *cqe;
	struct srv_req *req;
	int result;

	while (!io_uring_peek_cqe(&l->ring, &cqe)) {
		req = io_uring_cqe_get_data(cqe);
		result = cqe->res;
		io_uring_cqe_seen(&l->ring, cqe);
		srv_disk_reaped(req, result);
	}
}

static void attach(struct srv_loop *l, struct srv_conn *c)
{
	int ret = watch(l, c->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, (uintptr_t)c);

	srv_list_add(&l->all, &c->all);
	srv_list_add(&l->timed, &c->timed);
	srv_list_add(&l->ready, &c->ready);
	srv_conn_attached(c, ret);
}

static void take_posted(struct srv_loop *l)
{
	struct srv_list *item, *next;
	struct srv_job *job, *done;

	for (;;) {
		pthread_mutex_lock(&l->lock);
		item = srv_list_take(&l->incoming);
		pthread_mutex_unlock(&l->lock);
		if (!item)
			break;
		attach(l, srv_entry(item, struct srv_conn, ready));
	}
	pthread_mutex_lock(&l->lock);
	done = l->done;
	l->done = NULL;
	pthread_mutex_unlock(&l->lock);
	while ((job = done)) {
		done = job->next;
		job->done(job);
	}
	if (atomic_exchange(&l->fence_moved, false)) {
		/* Whoever waits for others has a deadline */
		for (item = l->timed.next; item != &l->timed; item = next) {
			next = item->next;
			srv_list_add(&l->ready, &srv_entry(item, struct srv_conn, timed)->ready);
		}
	}
	if (atomic_load(&l->srv->stopping) && !l->stopped) {
		l->stopped = true;
		accept_clients(l, false);
		l->paused_until = 0;
		srv_server_loop_stopped(l->srv);
		for (item = l->all.next; item != &l->all; item = item->next)
			srv_conn_stopping(srv_entry(item, struct srv_conn, all));
	}
}

static void tick(struct srv_loop *l)
{
	struct srv_list *item, *next;

	l->next_tick = l->now + SRV_TICK_MS;
	if (l->paused_until && l->now >= l->paused_until) {
		l->paused_until = 0;
		accept_clients(l, true);
	}
	for (item = l->timed.next; item != &l->timed; item = next) {
		next = item->next;
		srv_conn_tick(srv_entry(item, struct srv_conn, timed));
	}
	srv_room_reclaim(l);
	/* Nothing is under way: what the last requests needed is not kept for the next ones */
	if (!l->arena.used && l->arena.warm)
		srv_arena_trim(&l->arena);
}

static void run_ready(struct srv_loop *l)
{
	struct srv_list now, *item;

	/* Who is ready again after its turn waits for the others' */
	srv_list_init(&now);
	while ((item = srv_list_take(&l->ready)))
		srv_list_add(&now, item);
	while ((item = srv_list_take(&now)))
		srv_conn_run(srv_entry(item, struct srv_conn, ready));
}

static int timeout(const struct srv_loop *l)
{
	int64_t left;

	if (!srv_list_empty(&l->ready))
		return 0;
	if (l->has_ring && io_uring_sq_ready(&l->ring))
		return 1;
	if (srv_list_empty(&l->timed) && srv_list_empty(&l->waiting) &&
	    srv_list_empty(&l->crowded) && !l->paused_until && (l->arena.used || !l->arena.warm))
		return -1;
	left = l->next_tick - srv_now_ms();
	return left < 0 ? 0 : left > SRV_TICK_MS ? SRV_TICK_MS : (int)left;
}

static void *loop_main(void *arg)
{
	struct epoll_event ev[EVENTS];
	struct srv_loop *l = arg;
	int i, n;

	while (!atomic_load(&l->quit)) {
		n = epoll_wait(l->epoll_fd, ev, EVENTS, timeout(l));
		l->now = srv_now_ms();
		for (i = 0; i < n; i++)
			take_event(l, &ev[i]);
		if (l->has_ring)
			reap_ring(l);
		take_posted(l);
		if (l->now >= l->next_tick)
			tick(l);
		run_ready(l);
		if (l->has_ring && io_uring_sq_ready(&l->ring))
			io_uring_submit(&l->ring);
	}
	return NULL;
}

static int init_requests(struct srv_loop *l)
{
	size_t bytes = SRV_LOOP_REQUESTS * sizeof(struct srv_req);
	unsigned int i;

	l->requests = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (l->requests == MAP_FAILED) {
		l->requests = NULL;
		return -errno;
	}
	for (i = SRV_LOOP_REQUESTS; i--;) {
		l->requests[i].next = l->free_requests;
		l->free_requests = &l->requests[i];
	}
	return 0;
}

static int init_ring(struct srv_loop *l)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE,
		.cq_entries = RING_COMPLETIONS,
	};
	unsigned int workers[2] = { RING_WORKERS, 0 };
	int ret = io_uring_queue_init_params(RING_ENTRIES, &l->ring, &p);

	if (ret)
		return ret;
	l->has_ring = true;
	/* A kernel without this call has limits of its own: no reason not to start */
	(void)io_uring_register_iowq_max_workers(&l->ring, workers);
	return watch(l, l->ring.ring_fd, EPOLLIN, TAG_RING);
}

static int init_loop(struct srv_server *srv, struct srv_loop *l)
{
	int ret;

	l->srv = srv;
	srv_list_init(&l->all);
	srv_list_init(&l->ready);
	srv_list_init(&l->timed);
	srv_list_init(&l->waiting);
	srv_list_init(&l->crowded);
	srv_list_init(&l->incoming);
	l->shares = srv_shares_new();
	pthread_mutex_init(&l->lock, NULL);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->wake_fd < 0 || l->epoll_fd < 0)
		return -errno;
	ret = watch(l, l->wake_fd, EPOLLIN, TAG_WAKE);
	if (!ret)
		ret = init_requests(l);
	if (!ret)
		ret = srv_arena_init(&l->arena, srv->config->buffer_memory / srv->n_loops);
	return ret;
}

static void destroy_loop(struct srv_loop *l)
{
	if (l->has_ring)
		io_uring_queue_exit(&l->ring);
	while (l->n_spares)
		srv_conn_spare_free(l->spares[--l->n_spares]);
	srv_arena_destroy(&l->arena);
	if (l->shares)
		g_hash_table_unref(l->shares);
	if (l->requests)
		munmap(l->requests, SRV_LOOP_REQUESTS * sizeof(struct srv_req));
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	if (l->epoll_fd >= 0)
		close(l->epoll_fd);
	pthread_mutex_destroy(&l->lock);
}

/* One kind of disk I/O for all loops: io_uring if every loop can have one */
static int choose_io(struct srv_server *srv)
{
	unsigned int i;
	int ret = 0;

	if (srv->config->io == SRV_IO_THREADS)
		return 0;
	for (i = 0; i < srv->n_loops && !ret; i++)
		ret = init_ring(&srv->loops[i]);
	if (!ret)
		return 0;
	for (i = 0; i < srv->n_loops; i++) {
		if (srv->loops[i].has_ring)
			io_uring_queue_exit(&srv->loops[i].ring);
		srv->loops[i].has_ring = false;
	}
	if (srv->config->io == SRV_IO_URING) {
		nbd_err("io = uring: io_uring cannot be set up: %s; use io = auto", strerror(-ret));
		return ret;
	}
	nbd_info("io_uring cannot be set up (%s): threads wait for the disk instead",
		 strerror(-ret));
	return 0;
}

int srv_loops_start(struct srv_server *srv, const struct srv_listener *listener)
{
	pthread_attr_t attr;
	unsigned int i, started = 0;
	int ret = 0;

	srv->loops = calloc(srv->n_loops, sizeof(*srv->loops));
	if (!srv->loops)
		return -ENOMEM;
	for (i = 0; i < srv->n_loops; i++) {
		srv->loops[i].wake_fd = -1;
		srv->loops[i].epoll_fd = -1;
	}
	for (i = 0; i < srv->n_loops && !ret; i++)
		ret = init_loop(srv, &srv->loops[i]);
	if (!ret)
		ret = choose_io(srv);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	while (started < srv->n_loops && !ret) {
		struct srv_loop *l = &srv->loops[started];

		l->listener = listener;
		accept_clients(l, true);
		ret = -pthread_create(&l->thread, &attr, loop_main, l);
		l->running = !ret;
		started += !ret;
	}
	pthread_attr_destroy(&attr);
	if (ret)
		srv_loops_end(srv);
	return ret;
}

void srv_loops_end(struct srv_server *srv)
{
	unsigned int i;

	for (i = 0; i < srv->n_loops && srv->loops; i++) {
		if (srv->loops[i].running) {
			atomic_store(&srv->loops[i].quit, true);
			srv_loop_wake(&srv->loops[i]);
			pthread_join(srv->loops[i].thread, NULL);
		}
		destroy_loop(&srv->loops[i]);
	}
	free(srv->loops);
	srv->loops = NULL;
	srv->n_loops = 0;
}
