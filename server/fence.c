// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Why nothing of an older connection is written once srv_fence() has said so:
 *
 *  - A connection's threads look at `ended` right before each change of the
 *    disk (srv_execute(), and a backend between the parts of a long one).
 *  - The fence sets `ended` and then waits for the connection to leave its
 *    session, which its main thread does when it has joined all others.
 *
 * So a thread either sees `ended` and begins nothing, or has begun before; what
 * it has begun is over before it is joined, the join comes before the leaving,
 * and the leaving, by srv->lock, before the fence's return.  Requests that were
 * read but not begun, or are still in buffers here or in the kernel, are dropped:
 * a socket that has been shut down still gives what it had received, so that it
 * fails at once is only what wakes the threads, not what keeps data from the disk.
 * Nothing of it is answered either: "not done" would be taken for a disk's error.
 *
 * Nobody waits in a circle: a connection waits for those of its session that
 * came before it only, and one that waits itself is woken when it is ended.
 */
#include "server/fence.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* Is @o in the session of @c, and was there before it?  srv->lock is held. */
static bool is_older(const struct srv_conn *o, const struct srv_conn *c)
{
	return o->turn && o->turn < c->turn && o->session_link == c->session_link &&
	       !memcmp(o->session_id, c->session_id, sizeof(c->session_id));
}

/* End the older connections that have not been told yet; how many.  srv->lock is held. */
static unsigned int end_older(struct srv_conn *c)
{
	struct srv_conn *o;
	unsigned int n = 0;

	for (o = c->srv->conns; o; o = o->next) {
		if (!is_older(o, c) || atomic_load(&o->ended))
			continue;
		atomic_store(&o->ended, true);
		/* Its descriptor stays open for as long as it is on the list */
		shutdown(o->fd, SHUT_RDWR);
		n++;
	}
	/* One of them may be waiting for others */
	if (n)
		pthread_cond_broadcast(&c->srv->left);
	return n;
}

static unsigned int count_older(const struct srv_conn *c)
{
	const struct srv_conn *o;
	unsigned int n = 0;

	for (o = c->srv->conns; o; o = o->next)
		n += is_older(o, c);
	return n;
}

static struct timespec wait_until(const struct srv_conn *c)
{
	int64_t ms = srv_now_ms() + NBD_WIRE_X_SESSION_DRAIN_S * 1000;

	if (c->deadline && c->deadline < ms)
		ms = c->deadline;
	return (struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
}

/* Wait for the older ones to leave; how many have not.  srv->lock is held. */
static unsigned int wait_for_older(struct srv_conn *c)
{
	struct timespec end = wait_until(c);
	unsigned int n;
	int ret = 0;

	while ((n = count_older(c)) && !ret) {
		if (atomic_load(&c->ended) || atomic_load(&c->srv->stopping))
			break;
		ret = pthread_cond_timedwait(&c->srv->left, &c->srv->lock, &end);
	}
	return n;
}

bool srv_fence(struct srv_conn *c)
{
	struct srv_server *srv = c->srv;
	unsigned int n;

	pthread_mutex_lock(&srv->lock);
	/* Who asks again keeps its turn: anyone that came since has ended it */
	if (!c->turn) {
		memcpy(c->session_id, c->session.session_id, sizeof(c->session_id));
		c->session_link = c->session.session_link;
		c->turn = ++srv->turns;
	}
	n = end_older(c);
	pthread_mutex_unlock(&srv->lock);
	if (n && srv_server_may_log(srv))
		nbd_info(
			"client %s goes on with link %u of its session: %u older connection%s ended",
			c->peer, c->session_link, n, n == 1 ? "" : "s");

	pthread_mutex_lock(&srv->lock);
	n = wait_for_older(c);
	pthread_mutex_unlock(&srv->lock);
	if (n && !atomic_load(&c->ended) && srv_server_may_log(srv))
		nbd_warn(
			"client %s has to wait: %u older connection%s of its session still at work",
			c->peer, n, n == 1 ? "" : "s");
	return !n;
}

void srv_fence_leave(struct srv_conn *c)
{
	pthread_mutex_lock(&c->srv->lock);
	if (c->turn) {
		c->turn = 0;
		pthread_cond_broadcast(&c->srv->left);
	}
	pthread_mutex_unlock(&c->srv->lock);
}
