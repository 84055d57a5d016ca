/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One client: a socket, the session that speaks to it, and the threads that
 * serve it.  The layer above the engine that knows sockets, and the only one
 * to change when connections are no longer threads.
 */
#ifndef SRV_CONNECTION_H
#define SRV_CONNECTION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "server/backend.h"
#include "server/server.h"
#include "server/session.h"

#define SRV_CONN_RBUF 65536
#define SRV_PEER_LEN  120

struct srv_worker {
	struct srv_conn *conn;
	pthread_t thread;
	uint8_t *buf; /* one payload; only touched pages cost memory */
	struct srv_request req;
};

struct srv_conn {
	struct srv_server *srv;
	struct srv_conn *next, *prev;	  /* srv->lock */
	const struct srv_export *claimed; /* counted against its limit; srv->lock */
	uint64_t claimed_id[2];		  /* of the file behind @claimed; srv->lock */
	uint64_t turn;			  /* in its session, 0: in none; srv->lock, as both below */
	uint8_t session_id[NBD_WIRE_X_SESSION_ID_LEN];
	uint32_t session_link;
	int fd;
	struct sockaddr_storage addr;
	char peer[SRV_PEER_LEN]; /* addr, for messages */

	struct srv_config *listed; /* in force when the client came: what LIST shows */
	struct srv_config *config; /* holds @export */
	const struct srv_export *export;
	struct srv_backend *backend;
	atomic_bool dead;  /* the socket has failed */
	atomic_bool ended; /* a newer connection of its session has come: begin nothing */

	/* Locks: rx before tx, never the other way */
	pthread_mutex_t tx_lock;	/* whole replies go out one after the other */
	struct nbd_log_limit log_limit; /* tx_lock */

	pthread_mutex_t rx_lock; /* of all below: who reads the socket */
	bool done;		 /* nothing more is to be read */
	bool quiet;		 /* stopping, and nothing is left to answer */
	int64_t deadline;	 /* of the handshake; 0: none */
	unsigned int max_workers;
	unsigned int n_workers;
	unsigned int busy; /* workers that answer a request just now */
	struct srv_worker *workers;
	size_t rpos, rlen; /* unread bytes in rbuf are rbuf[rpos..rlen) */
	uint8_t rbuf[SRV_CONN_RBUF];
	struct srv_session session;
};

/*
 * Serve a client that has connected, in threads of its own.  Takes over @fd,
 * also when it fails.  Returns 0 or a negative errno.
 */
int srv_conn_start(struct srv_server *srv, int fd, const struct sockaddr_storage *addr);

/* Carry out a request that has been checked; @buf holds or takes its data */
uint32_t srv_execute(struct srv_backend *b, const struct srv_export *export,
		     const struct srv_request *req, void *buf);

#endif /* SRV_CONNECTION_H */
