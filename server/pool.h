/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads for what an event loop must not do because it may wait, and io_uring
 * cannot do: opening and closing exports, giving space back, zeroing.  Without
 * io_uring they do all disk I/O that is not answered from the page cache.
 */
#ifndef SRV_POOL_H
#define SRV_POOL_H

#include <pthread.h>
#include <stdbool.h>

#define SRV_POOL_MAX	 64
/* Jobs that change data leave the others some threads, whatever the disk does */
#define SRV_POOL_CHANGES 48

struct srv_loop;

/* Part of whatever the job is about; the pool's from its submission until @done is called */
struct srv_job {
	struct srv_job *next;
	struct srv_loop *loop; /* where @done is called */
	void (*run)(struct srv_job *job);
	void (*done)(struct srv_job *job);
	bool change;
};

struct srv_job_queue {
	struct srv_job *first, **last;
};

struct srv_pool {
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t work;
	pthread_cond_t gone; /* a thread has ended */
	struct srv_job_queue queue, changes;
	unsigned int queued; /* jobs in both */
	unsigned int threads;
	unsigned int idle;
	unsigned int changing; /* threads at work on a change */
	bool quit;
};

/* Starts one thread, which is kept; others come and go.  0 or a negative errno. */
int srv_pool_init(struct srv_pool *pool);
/* Only once no job is left */
void srv_pool_destroy(struct srv_pool *pool);
void srv_pool_submit(struct srv_pool *pool, struct srv_job *job);

#endif /* SRV_POOL_H */
