/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all connections share: the configuration in force and the list of clients. */
#ifndef SRV_SERVER_H
#define SRV_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/log.h"
#include "server/config.h"
#include "server/loop.h"
#include "server/pool.h"
#include "server/private.h"
#include "server/stats.h"
#include "server/swap.h"

/* How long a shutdown may take before the rest is cut off, in milliseconds */
#define SRV_DRAIN_MS  10000
/* and how long a client has to hang up once it has been told */
#define SRV_LINGER_MS 1000

/* Limits for which clients have been refused */
enum srv_refusal {
	SRV_REFUSED_CLIENTS,	 /* max_clients */
	SRV_REFUSED_CONNECTIONS, /* maxconnections of an export */
	SRV_REFUSED_ADDRESS,	 /* maxperaddress, of an export or of all */
	SRV_REFUSALS,
};

struct srv_conn;

struct srv_server {
	int idle_fd;			/* eventfd, written when the last connection ends */
	atomic_bool stopping;		/* set before the loops are woken */
	_Atomic int64_t drain_deadline; /* srv_now_ms() at which stopping ends; set before */
	struct srv_loop *loops;		/* they and the pool: from the start to the end */
	unsigned int n_loops;
	struct srv_pool pool;
	struct srv_pool slow;	/* opens exports with prerun or postrun, and images of Ceph */
	struct srv_pool remote; /* for requests to images of Ceph */
	bool filtered;		/* system calls are, since the start, and commands not possible */
	bool has_slow;		/* both are there, once a configuration in force needs one */
	struct srv_stats stats;
	struct srv_swaps swaps;
	struct srv_privates privates;
	atomic_uint fencing; /* connections that wait for older ones */
	_Atomic uint64_t refused[SRV_REFUSALS];
	unsigned int places;	  /* clients there are file descriptors for */
	unsigned int monitor_fds; /* those that its visitors may need; set at the start */
	int64_t started;	  /* the time of day, in milliseconds; and srv_now_ms() then */
	int64_t started_ms;
	bool one_client;	   /* set at the start: others have their own processes */
	pthread_mutex_t lock;	   /* of all below */
	pthread_cond_t stopped;	   /* a loop has */
	unsigned int n_stopped;	   /* loops that accept no clients any longer, for good */
	uint64_t turns;		   /* the last one taken in a session, see fence.c */
	struct srv_config *config; /* in force for new clients */
	struct srv_conn *conns;
	unsigned int clients;
	uint64_t came;			/* clients, since the start */
	struct nbd_log_limit log_limit; /* for what strangers can make us say */
};

int64_t srv_now_ms(void);

/* The key that sets the limit */
const char *srv_refusal_name(enum srv_refusal why);

/* Takes over the caller's reference to the configuration.  0 or a negative errno. */
int srv_server_init(struct srv_server *srv, struct srv_config *config);
/* Open what the configuration names, with the rights to use it; says what fails.  0 or -1. */
int srv_server_prepare(struct srv_server *srv);
/* Start all threads, and accept clients if there is a listener; says what fails.  0 or -1. */
int srv_server_start(struct srv_server *srv, const struct srv_listener *listener);
/* Only once no connection is left */
void srv_server_destroy(struct srv_server *srv);

/* The configuration in force, with a reference for the caller */
struct srv_config *srv_server_config(struct srv_server *srv);
/* A new one for new clients; takes over the reference.  Says what fails.  0 or -1. */
int srv_server_reload(struct srv_server *srv, struct srv_config *config);

/*
 * Have every connection finish what is in flight and close.  When this returns
 * no new one is accepted any longer.
 */
void srv_server_stop(struct srv_server *srv);

/* Is there a descriptor for one more client, and one for what it opens? */
bool srv_server_has_place(struct srv_server *srv);

/* For a loop, once it accepts no clients any longer */
void srv_server_loop_stopped(struct srv_server *srv);

/* May something that a stranger caused be logged now? */
bool srv_server_may_log(struct srv_server *srv);

#endif /* SRV_SERVER_H */
