/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One client: a socket, the session that speaks to it, and the requests it has
 * under way.  A connection belongs to one event loop, whose thread alone touches
 * it, but for what is said to have a lock, and for what a job of the pool has
 * been given while the job is out.
 */
#ifndef SRV_CONNECTION_H
#define SRV_CONNECTION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "server/address.h"
#include "server/backend.h"
#include "server/list.h"
#include "server/loop.h"
#include "server/server.h"
#include "server/session.h"
#include "server/stats.h"

#define SRV_CONN_RBUF	  4096
#define SRV_CONN_REQUESTS 128 /* under way at a time; more are left in the socket */
#define SRV_PEER_LEN	  120

/* A connection from its accept to its end, in this order */
enum srv_conn_stage {
	SRV_CONN_SERVING,
	SRV_CONN_FINISHING, /* nothing more is read; what has been begun is finished */
	SRV_CONN_CLOSING,   /* the pool closes the export */
	SRV_CONN_PARTING,   /* TLS has something to send still */
	SRV_CONN_LINGERING, /* the client is given time to hang up */
	SRV_CONN_GONE,
};

/* What waits for the disk, or is there, is counted by kind: reads do not wait for changes */
enum srv_disk_kind { SRV_DISK_READS, SRV_DISK_CHANGES, SRV_DISK_KINDS };

/* What only a handshake needs; the session's buffers are in it */
struct srv_conn_setup {
	struct srv_handshake hs;
	enum srv_open_result result; /* of opening an export */
	struct srv_export_info info;
	char why[SRV_MAX_REASON]; /* it was refused */
	/* Where the answer to LIST is, see exports.c */
	unsigned int list_at;
	unsigned int list_next;
	const struct srv_export *list_export;
	char list_name[SRV_SWAP_NAME_MAX + 1];
};

struct srv_conn {
	struct srv_server *srv;
	struct srv_conn *next, *prev;	  /* srv->lock */
	const struct srv_export *claimed; /* counted against its limit; srv->lock */
	uint64_t claimed_id[2];		  /* of the file behind @claimed; srv->lock */
	struct srv_swap_file *swap;	  /* used, and changed with srv->lock held; or NULL */
	struct srv_private *private;	  /* the same, for what is its session's own */
	uint64_t turn;			  /* in its session, 0: in none; srv->lock, as both below */
	uint8_t session_id[NBD_WIRE_X_SESSION_ID_LEN];
	uint32_t session_link;
	uint64_t id;	     /* how many came up to it; srv->lock */
	atomic_bool ended;   /* a newer connection of its session has come: begin nothing */
	int64_t since;	     /* the time of day when it came, in milliseconds */
	atomic_bool leaving; /* for who asks: nothing more is read */
	struct srv_counters counters; /* written by its loop, read by anyone */

	struct srv_loop *loop;			    /* set before the loop gets it */
	struct srv_list all, ready, timed, waiting; /* the loop's lists of these names */
	struct srv_list crowded;		    /* on @share's list waiting */
	int fd;
	struct sockaddr_storage addr;
	struct srv_address address; /* the same, for limits */
	struct srv_share *share;    /* of the loop's memory; NULL: no limit */
	char peer[SRV_PEER_LEN];    /* addr, for messages */
	struct srv_config *listed;  /* in force when the client came: what LIST shows */
	struct srv_tls *tls;	    /* with the credentials of @listed; NULL until STARTTLS */

	/* The export: the pool's while one of its jobs is out */
	struct srv_config *config; /* holds @export */
	const struct srv_export *export;
	struct srv_backend *backend;
	bool hooked;		     /* @export's prerun has been run, its postrun is to be */
	struct srv_counted *counted; /* what counts @export, and the loop's part of it */
	struct srv_shard *shard;
	struct srv_job job;
	bool job_out;

	enum srv_conn_stage stage;
	bool readable; /* perhaps: the socket has not said otherwise */
	bool hung_up;  /* the client sends nothing more */
	bool writable; /* perhaps, the same */
	bool dead;     /* nothing can be sent any longer */
	bool quiet;    /* it may hang up by itself: nothing is left to answer, or TLS has failed */
	bool fencing;  /* waiting for older connections, until @fence_end */
	int64_t fence_end;
	int64_t deadline;  /* of the handshake, and later of lingering; 0: none */
	int64_t last_io;   /* when something was last received or sent */
	int64_t wait_from; /* for memory since */
	struct nbd_log_limit log_limit;
	int64_t nospace_due; /* when to tell of writes without space that were kept back; 0: none */

	struct srv_conn_setup *setup; /* NULL once the handshake is over and sent */
	size_t setup_sent;	      /* bytes of the session's output */
	unsigned int n_requests;
	size_t memory; /* of the arena, for its requests */
	unsigned int max_at_disk;
	unsigned int at_disk[SRV_DISK_KINDS];
	struct srv_req_queue pending[SRV_DISK_KINDS]; /* to go to the disk */
	struct srv_req_queue replies;		      /* to be sent, in this order */
	size_t reply_sent;			      /* bytes of the first one */
	struct srv_req *receiving;		      /* whose memory or payload is still to come */
	struct srv_session session;
	size_t rpos, rlen; /* unread bytes in rbuf are rbuf[rpos..rlen) */
	uint8_t rbuf[SRV_CONN_RBUF];
};

/*
 * Serve a client that has connected, in the loop that has the fewest.  Takes
 * over @fd, also when it fails.  Returns 0 or a negative errno.
 */
int srv_conn_start(struct srv_server *srv, struct srv_loop *own, int fd,
		   const struct sockaddr_storage *addr);

/* For the connection's loop: */
void srv_conn_attached(struct srv_conn *c, int error);
void srv_conn_event(struct srv_conn *c, uint32_t events); /* of epoll */
void srv_conn_stopping(struct srv_conn *c);		  /* the server is told to stop */
void srv_conn_tick(struct srv_conn *c); /* the time has come to look at deadlines */
void srv_conn_run(struct srv_conn *c);	/* whatever can be done; may free it */
/* Nothing more is read of the client or sent to it; say why */
void srv_conn_cut(struct srv_conn *c, const char *why);
void srv_conn_spare_free(void *setup);

enum srv_disk_kind srv_conn_disk_kind(const struct srv_request *r);
/* A request has come back from the disk */
void srv_conn_completed(struct srv_req *req, uint32_t error);

/* room.c, for the loop: a place for one more request; NULL when the connection has to wait */
struct srv_req *srv_room_new(struct srv_conn *c);
/* Memory for a request's data; false when it has to wait */
bool srv_room_memory(struct srv_conn *c, struct srv_req *req);
/* The connection no longer waits for any of it */
void srv_room_got(struct srv_conn *c);
/* A request is over; a place that has not been used after all; and all of a queue */
void srv_room_free(struct srv_req *req);
void srv_room_put_back(struct srv_req *req);
void srv_room_free_queue(struct srv_req_queue *q);
/* Others wait for memory: end who holds some and does not get on */
void srv_room_reclaim(struct srv_loop *l);

/* report.c, for the loop: a request failed at the disk, or is refused for what it is */
void srv_report_failure(struct srv_conn *c, const struct srv_request *req, uint32_t error);
void srv_report_refusal(struct srv_conn *c, const struct srv_request *req);
/* Tell of writes without space that were kept back: their time has come, or @c goes */
void srv_report_no_space(struct srv_conn *c);

/* exports.c, for the pool: open what the session asks for into c->setup; close it again */
void srv_conn_open_export(struct srv_conn *c);
void srv_conn_close_export(struct srv_conn *c);
/* May opening the session's export, or closing its last one, take very long? */
bool srv_conn_opens_slowly(const struct srv_conn *c);
/* What LIST shows, as srv_list_fn wants it */
bool srv_conn_list(void *conn, unsigned int i, const char **name, const char **description);
/* The name of the export in use, and where its data is, for messages */
const char *srv_conn_export_name(const struct srv_conn *c);
void srv_conn_export_file(const struct srv_conn *c, char *text, size_t len);
/* For any thread with srv->lock held: the same name while it is claimed, else NULL */
const char *srv_conn_claimed_name(const struct srv_conn *c);
/* Give up the place among the most connections an export may have, and a swap export's file */
void srv_conn_unclaim(struct srv_conn *c);

/* Carry out a request that has been checked; @buf holds or takes its data */
uint32_t srv_execute(struct srv_backend *b, const struct srv_export *export,
		     const struct srv_request *req, void *buf);

/*
 * The extents of a range, as they go out: *@n of SRV_EXTENT_LEN bytes each, up
 * to SRV_MAX_EXTENTS.  Returns what srv_execute() does.
 */
uint32_t srv_block_status(struct srv_backend *b, const struct srv_request *req, uint8_t *out,
			  uint32_t *n);

#endif /* SRV_CONNECTION_H */
