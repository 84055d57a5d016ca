/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Event loops: each is a thread that accepts clients and does everything for
 * those it has, so that a request passes through no other thread.  Sockets are
 * waited for with epoll, which the loop's io_uring is a part of; where io_uring
 * cannot be had, the disk's work goes to the pool instead.
 */
#ifndef SRV_LOOP_H
#define SRV_LOOP_H

#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/address.h"
#include "server/arena.h"
#include "server/list.h"
#include "server/pool.h"
#include "server/request.h"
#include "server/session.h"

/* How often deadlines are looked at, in milliseconds */
#define SRV_TICK_MS	  100
/* Requests of all clients of one loop at a time */
#define SRV_LOOP_REQUESTS 4096
/* Buffers for handshakes that are kept from one client to the next */
#define SRV_LOOP_SPARES	  16

struct srv_server;
struct srv_conn;
struct srv_listener;

struct srv_loop {
	struct srv_server *srv;
	pthread_t thread; /* once running, which only who starts and ends the loops looks at */
	bool running;
	int epoll_fd;
	int wake_fd; /* eventfd: something has been posted */
	const struct srv_listener *listener;

	/* The thread's own */
	bool has_ring;
	bool accepting;
	bool stopped; /* the server is stopping, and all connections have been told */
	struct io_uring ring;
	struct srv_arena arena;
	struct srv_req *requests;      /* SRV_LOOP_REQUESTS of them */
	struct srv_req *free_requests; /* those that are not in use */
	struct srv_list all;	       /* connections, each by the link of the same name */
	struct srv_list ready;	       /* to be run next */
	struct srv_list timed;	       /* that have a deadline */
	struct srv_list waiting;       /* for memory, in the order they came */
	struct srv_list crowded;       /* shares that somebody waits for */
	GHashTable *shares;	       /* of addresses, for those that have a limit */
	void *spares[SRV_LOOP_SPARES]; /* handshake buffers */
	unsigned int n_spares;
	int64_t next_tick;
	int64_t paused_until; /* no new clients before; 0: they are accepted */
	int64_t now;	      /* srv_now_ms() of this turn */

	/* What others post */
	atomic_bool woken; /* wake_fd has been written and not yet been read */
	atomic_bool quit;
	atomic_bool fence_moved; /* a connection has left its session, or been ended */
	atomic_uint clients;
	pthread_mutex_t lock;	  /* of both below; innermost */
	struct srv_list incoming; /* new connections, by their link ready */
	struct srv_job *done;	  /* jobs back from the pool */
};

/* Start srv->n_loops of them.  0 or a negative errno, and then none runs. */
int srv_loops_start(struct srv_server *srv, const struct srv_listener *listener);
/* End all loops; only once no connection is left */
void srv_loops_end(struct srv_server *srv);

/* From any thread: */
void srv_loop_wake(struct srv_loop *l);
void srv_loop_wake_all(struct srv_server *srv);
void srv_loop_post(struct srv_loop *l, struct srv_job *job);
/* Give a new connection to the loop that has the fewest, or to @own if it has as few */
void srv_loop_assign(struct srv_server *srv, struct srv_loop *own, struct srv_conn *c);

/* A queue entry of the ring, sent off at the end of the turn; NULL: there is none now */
struct io_uring_sqe *srv_loop_sqe(struct srv_loop *l);

#endif /* SRV_LOOP_H */
