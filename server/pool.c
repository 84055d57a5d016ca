// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/pool.h"

#include <errno.h>
#include <time.h>

#include "server/loop.h"

#define STACK_SIZE (256 << 10)
/* A thread without work for this long ends, unless it is the last one */
#define IDLE_S	   5

static void queue_init(struct srv_job_queue *q)
{
	q->first = NULL;
	q->last = &q->first;
}

static void queue_add(struct srv_job_queue *q, struct srv_job *job)
{
	job->next = NULL;
	*q->last = job;
	q->last = &job->next;
}

static struct srv_job *queue_take(struct srv_job_queue *q)
{
	struct srv_job *job = q->first;

	if (job)
		q->first = job->next;
	if (!q->first)
		q->last = &q->first;
	return job;
}

/* The next job that may be done now; pool->lock is held */
static struct srv_job *next_job(struct srv_pool *pool)
{
	struct srv_job *job = queue_take(&pool->queue);

	if (!job && pool->changing < SRV_POOL_CHANGES)
		job = queue_take(&pool->changes);
	if (!job)
		return NULL;
	pool->queued--;
	pool->changing += job->change;
	return job;
}

/* Wait for something to do; false when that takes too long.  pool->lock is held. */
static bool wait_for_work(struct srv_pool *pool)
{
	struct timespec end;
	int ret;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += IDLE_S;
	pool->idle++;
	ret = pthread_cond_timedwait(&pool->work, &pool->lock, &end);
	pool->idle--;
	return !ret || pool->threads == 1;
}

static void *pool_main(void *arg)
{
	struct srv_pool *pool = arg;
	struct srv_job *job;
	bool change;

	pthread_mutex_lock(&pool->lock);
	while (!pool->quit) {
		job = next_job(pool);
		if (!job) {
			if (!wait_for_work(pool) && !pool->queued)
				break;
			continue;
		}
		change = job->change;
		pthread_mutex_unlock(&pool->lock);
		job->run(job);
		srv_loop_post(job->loop, job);
		pthread_mutex_lock(&pool->lock);
		pool->changing -= change;
	}
	pool->threads--;
	pthread_cond_signal(&pool->gone);
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* One more thread, counted already */
static int start(struct srv_pool *pool)
{
	pthread_attr_t attr;
	pthread_t thread;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	ret = pthread_create(&thread, &attr, pool_main, pool);
	pthread_attr_destroy(&attr);
	return -ret;
}

int srv_pool_init(struct srv_pool *pool)
{
	pthread_condattr_t attr;
	int ret;

	*pool = (struct srv_pool){ .threads = 1 };
	queue_init(&pool->queue);
	queue_init(&pool->changes);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->work, &attr);
	pthread_cond_init(&pool->gone, &attr);
	pthread_condattr_destroy(&attr);
	ret = start(pool);
	if (ret)
		pool->threads = 0;
	return ret;
}

void srv_pool_destroy(struct srv_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->quit = true;
	pthread_cond_broadcast(&pool->work);
	while (pool->threads)
		pthread_cond_wait(&pool->gone, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
	pthread_cond_destroy(&pool->work);
	pthread_cond_destroy(&pool->gone);
	pthread_mutex_destroy(&pool->lock);
}

void srv_pool_submit(struct srv_pool *pool, struct srv_job *job)
{
	bool more;

	pthread_mutex_lock(&pool->lock);
	queue_add(job->change ? &pool->changes : &pool->queue, job);
	/* One that has been woken counts as idle until it has taken its job */
	more = ++pool->queued > pool->idle && pool->threads < SRV_POOL_MAX;
	pool->threads += more;
	if (!more)
		pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	/* Without a further thread, the one that is always there gets to it later */
	if (more && start(pool)) {
		pthread_mutex_lock(&pool->lock);
		pool->threads--;
		pthread_mutex_unlock(&pool->lock);
	}
}
