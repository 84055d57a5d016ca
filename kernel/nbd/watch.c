// SPDX-License-Identifier: GPL-2.0-only
/*
 * Is a connection alive?  Its link's thread asks, and helps it where it can: a
 * server that does not answer, another side that acknowledges nothing, a card
 * that had no memory to receive into.
 */
#include "internal.h"

/* In place of NBD_WATCH while answers are awaited: a stall is to be found in time */
#define WATCH_BUSY	(HZ / 4)
/* The same while nothing is acknowledged, or nothing heard */
#define WATCH_STALLED	(HZ / 10)
/* Nothing heard for so long, though something was asked for */
#define UNHEARD		(HZ / 5)
/* The connection is given up after so long when memory was short, at first and at last */
#define STARVED		(3 * HZ)
#define STARVED_LAST	(60 * HZ)

static void timed_out(struct nbd_link *link)
{
	struct nbd_queue *queue = &link->dev->queue;

	spin_lock_bh(&queue->lock);
	link->counters.timeouts++;
	spin_unlock_bh(&queue->lock);
}

/*
 * How long an answer may take: a server may well work on a FLUSH or on a long
 * TRIM for a while, and must get done with it in the end.
 */
static unsigned long allowance(const struct nbd_cmd *cmd, unsigned long timeout)
{
	if (cmd->type != NBD_WIRE_CMD_READ && cmd->type != NBD_WIRE_CMD_WRITE)
		timeout <<= min(cmd->tries + 1, 5U);
	/* Four times as long must still be in the future, on 32 bits */
	return min(timeout, (unsigned long)MAX_JIFFY_OFFSET / 8);
}

/*
 * Is anything asked for and nothing heard?  Or one request passed over, while
 * others are answered, for four times as long?
 */
static bool silent(struct nbd_link *link)
{
	struct nbd_queue *queue = &link->dev->queue;
	unsigned long timeout = READ_ONCE(link->dev->config.timeout) * HZ;
	unsigned long progress = READ_ONCE(link->progress);
	unsigned long now = jiffies;
	struct nbd_cmd *cmd;
	bool ret = false;

	spin_lock_bh(&queue->lock);
	list_for_each_entry(cmd, &link->sent, node) {
		unsigned long since = time_after(progress, cmd->start) ? progress : cmd->start;
		unsigned long allowed = allowance(cmd, timeout);

		ret = time_after(now, since + allowed) || time_after(now, cmd->start + 4 * allowed);
		if (ret)
			break;
	}
	if (ret)
		link->counters.timeouts++;
	spin_unlock_bh(&queue->lock);
	if (ret)
		nbd_link_say(link, "no answer for more than %lu s", timeout / HZ);
	return ret;
}

static bool waits(struct nbd_link *link)
{
	return !list_empty_careful(&link->sent);
}

/*
 * For how long has nothing been heard, though an answer is awaited?  The clock
 * starts when that is seen first, and stands while nobody listens.
 */
static unsigned long silence(struct nbd_link *link)
{
	/* In this order: what comes in between must not lie in the future */
	unsigned long progress = READ_ONCE(link->progress);
	bool waiting = waits(link);
	unsigned long now = jiffies;

	if (!waiting || !link->waiting) {
		link->heard = now;
		link->short_samples = 0;
	} else if (time_after(progress, link->heard)) {
		link->heard = progress;
		link->short_samples = 0;
	} else if (now - link->listened_at > 2 * NBD_WATCH) {
		link->heard += now - link->listened_at - NBD_WATCH;
	}
	link->waiting = waiting;
	link->listened_at = now;
	return time_after(now, link->heard) ? now - link->heard : 0;
}

/*
 * May the connection be given up though the server may just be slow?  Only if the
 * server sees to it that nothing is written late, and if it is not known to take
 * its time.
 */
static bool may_begin_anew(struct nbd_link *link)
{
	struct nbd_queue *queue = &link->dev->queue;
	struct nbd_cmd *oldest;
	bool ret;

	spin_lock_bh(&queue->lock);
	oldest = list_first_entry_or_null(&link->sent, struct nbd_cmd, node);
	ret = link->fence == NBDX_FENCE_SESSION && oldest &&
	      (oldest->type == NBD_WIRE_CMD_READ || oldest->type == NBD_WIRE_CMD_WRITE);
	spin_unlock_bh(&queue->lock);
	return ret;
}

/* How long the silence must be: twice as long as last time, if that was lately */
static unsigned long starved_limit(const struct nbd_link *link)
{
	if (!link->starved_limit ||
	    !time_in_range(jiffies, link->starved_at, link->starved_at + 2 * STARVED_LAST))
		return STARVED;
	return min(2 * link->starved_limit, (unsigned long)STARVED_LAST);
}

/*
 * If the network card has no memory to receive into, see that it has some.  What
 * it has lost meanwhile the other side sends again, but later each time: then
 * it is faster to begin anew.
 *
 * Return: 0, or -errno to give the connection up.
 */
static int help(struct nbd_link *link)
{
	unsigned long unheard;

	if (link->adopted)
		return 0;
	unheard = silence(link);
	if (unheard < UNHEARD)
		return 0;
	nbd_rescue(link);
	if (link->short_samples < NBD_SHORT_SAMPLES || unheard < starved_limit(link) ||
	    !may_begin_anew(link))
		return 0;
	link->starved_limit = starved_limit(link);
	link->starved_at = jiffies;
	timed_out(link);
	nbd_link_say(link, "nothing heard for %u ms, and memory was short",
		     jiffies_to_msecs(unheard));
	return -ETIMEDOUT;
}

/* Does TCP get anything across? Return: 0, or -errno to give the connection up. */
static int look(struct nbd_link *link)
{
	unsigned int timeout = READ_ONCE(link->dev->config.link_timeout);
	unsigned long stalled = nbd_socket_tend(link);

	link->stalled = stalled >= NBD_STALL;
	nbd_neighbour_watch(link, link->sock->sk, link->stalled);
	if (silent(link))
		return -ETIMEDOUT;
	if (link->adopted || stalled < msecs_to_jiffies(timeout))
		return 0;
	timed_out(link);
	nbd_link_say(link, "nothing acknowledged for %u ms", timeout);
	return -ETIMEDOUT;
}

/**
 * nbd_watch_start() - a connection is live
 * @link: the link
 *
 * Context: the link's thread.
 */
void nbd_watch_start(struct nbd_link *link)
{
	link->waiting = false;
	link->stalled = false;
	nbd_rescue_start(link);
	link->next_look = jiffies + NBD_WATCH;
}

/**
 * nbd_watch() - look whether the connection is alive, if it is time to
 * @link: the link, ready
 *
 * Context: the link's thread, often.
 * Return: 0, or -errno to give the connection up.
 */
int nbd_watch(struct nbd_link *link)
{
	int err;

	if (waits(link) && time_after(link->next_look, jiffies + WATCH_BUSY))
		link->next_look = jiffies + WATCH_BUSY;
	if (time_after_eq(jiffies, link->next_look)) {
		err = look(link);
		if (err)
			return err;
		link->next_look = jiffies + (link->stalled ? WATCH_STALLED : NBD_WATCH);
	}
	return help(link);
}

/**
 * nbd_watch_nap() - when to look again
 * @link: the link, ready
 *
 * Return: jiffies from now.
 */
unsigned long nbd_watch_nap(struct nbd_link *link)
{
	return link->stalled || waits(link) ? WATCH_STALLED : NBD_WATCH;
}
