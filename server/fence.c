// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Why nothing of an older connection is written once its fence has been found
 * drained:
 *
 *  - A connection's loop looks at `ended` right before it begins a change of the
 *    disk (feed_disk(), serve()), and so does whoever carries one out in several
 *    parts before each (srv_execute(), and the backends).
 *  - The fence sets `ended` and then waits for the connection to leave its
 *    session, which its loop does when none of its requests is at the disk, in
 *    the ring or the pool, and none is being looked at: it is one thread.
 *
 * So a loop either sees `ended` and begins nothing, or has begun before; what it
 * has begun has come back before it leaves, and the leaving, by srv->lock, is
 * before the fence's look.  Requests that were read but not begun, or are still
 * in buffers here or in the kernel, are dropped: a socket that has been shut down
 * still gives what it had received, so that it fails at once is only what wakes
 * the loop, not what keeps data from the disk.  Nothing of it is answered either:
 * "not done" would be taken for a disk's error.
 *
 * Nobody waits in a circle: a connection waits for those of its session that
 * came before it only, and one that waits itself is woken when it is ended.
 */
#include "server/fence.h"

#include <string.h>
#include <sys/socket.h>

/* Is @o in the session of @c, and was there before it?  srv->lock is held. */
static bool is_older(const struct srv_conn *o, const struct srv_conn *c)
{
	return o->turn && o->turn < c->turn && o->session_link == c->session_link &&
	       !memcmp(o->session_id, c->session_id, sizeof(c->session_id));
}

/* Whoever waits for others is to look again */
static void tell_loops(struct srv_server *srv)
{
	unsigned int i;

	if (!atomic_load(&srv->fencing))
		return;
	for (i = 0; i < srv->n_loops; i++) {
		atomic_store(&srv->loops[i].fence_moved, true);
		srv_loop_wake(&srv->loops[i]);
	}
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

void srv_fence_begin(struct srv_conn *c)
{
	struct srv_server *srv = c->srv;
	unsigned int n;

	c->fence_end = c->loop->now + NBD_WIRE_X_SESSION_DRAIN_S * 1000;
	if (c->deadline && c->deadline < c->fence_end)
		c->fence_end = c->deadline;
	pthread_mutex_lock(&srv->lock);
	/* Who asks again keeps its turn: anyone that came since has ended it */
	if (!c->turn) {
		memcpy(c->session_id, c->session.session_id, sizeof(c->session_id));
		c->session_link = c->session.session_link;
		c->turn = ++srv->turns;
	}
	n = end_older(c);
	pthread_mutex_unlock(&srv->lock);
	if (!n)
		return;
	/* One of them may be waiting for others */
	tell_loops(srv);
	if (srv_server_may_log(srv))
		nbd_log_about(
			c->peer, NULL, LOG_INFO,
			"client %s goes on with link %u of its session: %u older connection%s ended",
			c->peer, c->session_link, n, n == 1 ? "" : "s");
}

enum srv_fence_result srv_fence_look(struct srv_conn *c)
{
	struct srv_server *srv = c->srv;
	unsigned int n;

	pthread_mutex_lock(&srv->lock);
	n = count_older(c);
	pthread_mutex_unlock(&srv->lock);
	if (!n)
		return SRV_FENCE_DRAINED;
	if (!atomic_load(&c->ended) && !atomic_load(&srv->stopping) && c->loop->now < c->fence_end)
		return SRV_FENCE_WAIT;
	if (!atomic_load(&c->ended) && srv_server_may_log(srv))
		nbd_log_about(
			c->peer, NULL, LOG_WARNING,
			"client %s has to wait: %u older connection%s of its session still at work",
			c->peer, n, n == 1 ? "" : "s");
	return SRV_FENCE_GAVE_UP;
}

void srv_fence_leave(struct srv_conn *c)
{
	bool left;

	pthread_mutex_lock(&c->srv->lock);
	left = c->turn;
	c->turn = 0;
	pthread_mutex_unlock(&c->srv->lock);
	if (left)
		tell_loops(c->srv);
}
