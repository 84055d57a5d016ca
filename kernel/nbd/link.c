// SPDX-License-Identifier: GPL-2.0-only
/*
 * A link: one thread that connects, negotiates, sends, notices that the
 * connection is gone, and begins again, for as long as the device is
 * configured.  The thread is made when the device is, and runs in a
 * memalloc_noreclaim scope all its life: what little recovery allocates may
 * come from the reserve and never waits for reclaim, that is for itself.
 */
#include <linux/kthread.h>
#include <linux/random.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "internal.h"
#include "trace.h"

/* Pause between attempts, ms: doubles from the first to the last */
#define BACKOFF_FIRST	100
#define BACKOFF_LAST	5000
/* A socket that was short of memory may never tell that it has it again, ms */
#define RETRY		10
/* So many attempts without an answer, and another port may have one */
#define UNANSWERED_MAX	3
/*
 * How long a server that has answered before has to answer again: with the
 * pause between attempts, one that is back is asked at least every 5 s, ms
 */
#define ANSWER		3000

/**
 * nbd_link_wake() - tell a link's thread of something
 * @link: the link
 * @event: NBD_EVENT_*
 *
 * Context: any.
 */
void nbd_link_wake(struct nbd_link *link, unsigned int event)
{
	if (!test_and_set_bit(event, &link->events))
		wake_up(&link->wait);
}

/**
 * nbd_link_fault() - the connection is to be dropped
 * @link: the link
 * @error: -errno; the first one is kept
 *
 * Context: any.
 */
void nbd_link_fault(struct nbd_link *link, int error)
{
	cmpxchg(&link->fault, 0, error);
	nbd_link_wake(link, NBD_EVENT_BROKEN);
}

/**
 * nbd_link_say() - why the connection or the attempt ends, for status and user
 * @link: the link
 * @fmt: a clause without a full stop
 *
 * Context: any.
 */
void nbd_link_say(struct nbd_link *link, const char *fmt, ...)
{
	struct nbd_queue *queue = &link->dev->queue;
	va_list args;

	spin_lock_bh(&queue->lock);
	va_start(args, fmt);
	vsnprintf(link->error, sizeof(link->error), fmt, args);
	va_end(args);
	spin_unlock_bh(&queue->lock);
}

/**
 * nbd_link_peer() - the address in use, or tried last
 * @link: the link
 *
 * Return: the address, or NULL if sockets are handed over.
 */
const struct sockaddr_storage *nbd_link_peer(const struct nbd_link *link)
{
	const struct nbd_config *config = &link->dev->config;

	return config->addresses ? &config->addresses[READ_ONCE(link->address)] : NULL;
}

static const char *describe(int error)
{
	switch (error) {
	case -ECONNREFUSED:
		return "connection refused";
	case -ETIMEDOUT:
		return "no answer in time";
	case -EHOSTUNREACH:
		return "no route to host";
	case -ENETUNREACH:
		return "network is unreachable";
	case -ECONNRESET:
	case -EPIPE:
		return "connection closed by the server";
	case -ESHUTDOWN:
		return "server is shutting down";
	case -ENOMEM:
	case -ENOBUFS:
		return "out of memory";
	case -EACCES:
	case -EPERM:
		return "not permitted";
	default:
		return NULL;
	}
}

static void clear_error(struct nbd_link *link)
{
	struct nbd_queue *queue = &link->dev->queue;

	spin_lock_bh(&queue->lock);
	link->error[0] = '\0';
	spin_unlock_bh(&queue->lock);
}

/* Say it unless somebody who knew more has */
static void explain(struct nbd_link *link, int error)
{
	const char *text = describe(error);

	if (READ_ONCE(link->error[0]))
		return;
	if (text)
		nbd_link_say(link, "%s", text);
	else
		nbd_link_say(link, "error %d", -error);
}

static void set_state(struct nbd_link *link, unsigned int state)
{
	struct nbd_device *dev = link->dev;
	struct nbd_queue *queue = &dev->queue;

	spin_lock_bh(&queue->lock);
	trace_nbd_link_state(dev->index, link->index, link->state, state);
	if (link->state == NBDX_LS_READY) {
		link->lost_at = jiffies;
		if (!--dev->ready)
			dev->down_since = jiffies;
	}
	if (state == NBDX_LS_READY) {
		dev->ready++;
		/* Requests may have been failing: see nbd_queue_expire() */
		if (dev->state == NBDX_STATE_LIVE)
			dev->queue.dead = false;
		link->counters.connects++;
		link->error[0] = '\0';
	}
	WRITE_ONCE(link->state, state);
	WRITE_ONCE(link->since, jiffies);
	spin_unlock_bh(&queue->lock);
}

/* Whoever configures the device learns how the first attempt ended */
static void report(struct nbd_link *link, int outcome)
{
	struct nbd_queue *queue = &link->dev->queue;
	bool first;

	spin_lock_bh(&queue->lock);
	first = link->outcome == -EINPROGRESS;
	if (first)
		link->outcome = outcome;
	spin_unlock_bh(&queue->lock);
	if (first)
		wake_up_all(&link->dev->setup);
}

static void release_held(struct nbd_link *link)
{
	nbd_queue_release(link);
	nbd_queue_kick(link->dev);
}

/*
 * May what the connection before has left unanswered be sent again without the
 * server's word that it is done with it?  If the server knows sessions its word
 * is to be had; but another server's word does not count.
 */
static bool fence_passed(struct nbd_link *link)
{
	if (link->fence == NBDX_FENCE_SESSION && link->state != NBDX_LS_READY)
		return false;
	return link->fence_over;
}

/**
 * nbd_link_tick() - what is to be done now and then, whatever a link waits for
 * @link: the link
 *
 * Context: the link's thread.
 * Return: when to call again at the latest, jiffies from now.
 */
unsigned long nbd_link_tick(struct nbd_link *link)
{
	unsigned long now = jiffies;

	nbd_queue_expire(link->dev);
	/* Looked at again and again, since jiffies wrap on 32 bits */
	if (!link->fence_over)
		link->fence_over = time_after_eq(now, link->fence_at);
	if (!READ_ONCE(link->nr_held))
		return NBD_WATCH;
	if (fence_passed(link)) {
		release_held(link);
		return NBD_WATCH;
	}
	return link->fence_over ? NBD_WATCH : min(link->fence_at - now, (unsigned long)NBD_WATCH);
}

static int await_connection(struct nbd_link *link, unsigned long deadline)
{
	struct sock *sk = link->sock->sk;
	unsigned long since = jiffies;
	int err;

	for (;;) {
		int state = READ_ONCE(sk->sk_state);

		nbd_neighbour_watch(link, sk, time_after_eq(jiffies, since + NBD_STALL));
		if (state == TCP_ESTABLISHED)
			return 0;
		if (state == TCP_CLOSE)
			return sock_error(sk) ?: -ECONNREFUSED;
		if (state != TCP_SYN_SENT)
			return 0;	/* closed again: the handshake will find out */
		err = nbd_socket_wait(link, deadline);
		if (err)
			return err;
	}
}

/*
 * Connect to the address in use.  Before anything has ever worked it may be a
 * firewall that nobody answers: the other way is tried in the same time.
 */
static int reach(struct nbd_link *link, unsigned int ms)
{
	bool again;
	int err;

	do {
		nbd_socket_close(link, false);
		again = nbd_netfilter_begin(link);
		err = nbd_socket_open(link, link->address);
		if (!err)
			err = await_connection(link, jiffies +
						     msecs_to_jiffies(again ? ms / 2 : ms));
		if (err == -EINTR)
			break;
		nbd_netfilter_end(link, !err);
	} while (err && again);
	return err;
}

static int send_all(struct nbd_link *link, u8 *buf, size_t len, unsigned long deadline)
{
	struct kvec vec = { .iov_base = buf, .iov_len = len };
	struct iov_iter iter;
	int n;

	iov_iter_kvec(&iter, ITER_SOURCE, &vec, 1, len);
	while (iov_iter_count(&iter)) {
		n = nbd_send_bytes(link, &iter, 0);
		if (n < 0 && n != -EAGAIN)
			return n;
		if (n == -EAGAIN) {
			if (time_after_eq(jiffies, deadline))
				return -ETIMEDOUT;
			n = nbd_socket_wait(link, jiffies + msecs_to_jiffies(RETRY));
			if (n == -EINTR)
				return n;
		}
	}
	return 0;
}

static int handshake(struct nbd_link *link, unsigned long deadline)
{
	struct nbd_config *config = &link->dev->config;
	struct nbd_handshake *hs = &link->handshake;
	size_t len;
	u8 *buf;
	int n;

	nbd_handshake_start(hs, config->export, strlen(config->export),
			    config->flags & NBDX_FLAG_NO_GO, link->session);
	for (;;) {
		if (hs->out_len) {
			n = send_all(link, hs->out, hs->out_len, deadline);
			if (n)
				return n;
			hs->out_len = 0;
		}
		if (hs->state == NBD_HS_DONE)
			return 0;
		if (hs->state == NBD_HS_FAILED)
			break;

		buf = nbd_handshake_buffer(hs, &len);
		n = nbd_recv_bytes(link, buf, len);
		if (n > 0) {
			/* However fast it talks, it has no longer than the others */
			if (time_after_eq(jiffies, deadline))
				return -ETIMEDOUT;
			nbd_handshake_received(hs, n);
		} else if (!n) {
			nbd_handshake_closed(hs);
		} else {
			if (n == -EAGAIN)
				n = nbd_socket_wait(link, deadline);
			if (n)
				return n;
		}
	}

	nbd_link_say(link, "%s", hs->text);
	if (hs->protocol_error) {
		spin_lock_bh(&link->dev->queue.lock);
		link->counters.protocol_errors++;
		spin_unlock_bh(&link->dev->queue.lock);
	}
	return hs->error;
}

/* The first handshake tells what the device is; every later one must agree */
static int accept_export(struct nbd_link *link)
{
	struct nbd_device *dev = link->dev;
	const struct nbd_export *new = &link->handshake.export;
	char why[NBD_HANDSHAKE_TEXT_MAX];
	int err = 0;

	spin_lock_bh(&dev->queue.lock);
	if (!dev->export_known) {
		dev->export = *new;
		dev->export_known = true;
	} else {
		err = nbd_device_check_export(dev, new, why, sizeof(why));
	}
	spin_unlock_bh(&dev->queue.lock);
	if (err) {
		nbd_link_say(link, "%s", why);
		pr_warn_ratelimited("%s: %pISpc: %s: not used\n", dev->disk->disk_name,
				    nbd_link_peer(link), why);
	}
	return err;
}

/* One attempt at one address. Return: 0 with a socket past its handshake. */
static int attempt(struct nbd_link *link)
{
	struct nbd_config *config = &link->dev->config;
	unsigned long deadline = jiffies + msecs_to_jiffies(config->connect_timeout);
	unsigned int answer = config->connect_timeout;
	u8 *unanswered = &link->unanswered[link->address];
	int err;

	if (*unanswered == UNANSWERED_MAX) {
		*unanswered = 0;
		nbd_socket_change_port(link);
	}
	if (link->counters.connects)
		answer = min(answer, (unsigned int)ANSWER);
	clear_error(link);
	set_state(link, NBDX_LS_CONNECTING);
	err = reach(link, answer);
	*unanswered = err == -ETIMEDOUT ? *unanswered + 1 : 0;
	if (!err)
		err = nbd_socket_charge(link);
	if (!err) {
		set_state(link, NBDX_LS_NEGOTIATING);
		err = handshake(link, deadline);
		if (err == -ETIMEDOUT)
			nbd_link_say(link, "server did not finish the handshake in %u ms",
				     config->connect_timeout);
	}
	if (!err)
		err = accept_export(link);
	if (err)
		nbd_socket_close(link, false);
	return err;
}

/* Every address once, from the one that worked last */
static int connect_link(struct nbd_link *link)
{
	struct nbd_config *config = &link->dev->config;
	unsigned int i;
	int err = -EINVAL;

	for (i = 0; i < config->nr_addresses; i++) {
		err = attempt(link);
		if (!err || err == -EINTR)
			return err;
		explain(link, err);
		if (i + 1 < config->nr_addresses)
			WRITE_ONCE(link->address, (link->address + 1) % config->nr_addresses);
	}
	return err;
}

static int adopt(struct nbd_link *link)
{
	struct socket *sock;
	int err;

	if (!READ_ONCE(link->handover))
		return -ENOTCONN;
	/* The next one is for another link: see nbd_device_hand_over() */
	set_state(link, NBDX_LS_CONNECTING);
	sock = xchg(&link->handover, NULL);
	err = nbd_socket_adopt(link, sock);
	if (err)
		sockfd_put(sock);
	return err;
}

/* Requests answered so far */
static u64 answers(struct nbd_link *link)
{
	const struct nbd_counters *c = &link->counters;
	struct nbd_queue *queue = &link->dev->queue;
	u64 ret;

	spin_lock_bh(&queue->lock);
	ret = c->reads + c->writes + c->flushes + c->trims + c->zeroes;
	spin_unlock_bh(&queue->lock);
	return ret;
}

/*
 * Sleep until there is something to do.  A socket that takes nothing although
 * it says that it would is short of memory, and would wake us for ever.
 */
static void rest(struct nbd_link *link, bool full)
{
	unsigned long longest = nbd_link_tick(link);

	if (full)
		longest = msecs_to_jiffies(RETRY);
	else
		longest = min(longest, nbd_watch_nap(link));

	if (link->stalls > 1)
		wait_event_idle_timeout(link->wait,
					test_bit(NBD_EVENT_BROKEN, &link->events) ||
					kthread_should_stop(), msecs_to_jiffies(RETRY));
	else
		wait_event_idle_timeout(link->wait,
					READ_ONCE(link->events) || kthread_should_stop(),
					longest);
}

/* Send and receive until the connection breaks. Return: -errno, 0 to stop. */
static int serve(struct nbd_link *link)
{
	bool full, was_full;
	int err;

	while (!kthread_should_stop()) {
		/* Pairs with nbd_link_wake(): what comes after is seen again */
		xchg(&link->events, 0);
		err = READ_ONCE(link->fault);
		if (err)
			return err;
		if (link->adopted) {
			err = nbd_recv_any(link);
			if (err)
				return err;
		}
		/*
		 * Before the queue is found empty, under its lock: who adds to it afterwards
		 * sees that this link is to be woken
		 */
		was_full = link->full;
		WRITE_ONCE(link->full, false);
		err = nbd_send(link);
		if (err && err != -EAGAIN)
			return err;
		full = err;
		WRITE_ONCE(link->full, full);
		/* What waits may go by another link */
		if (full && !was_full)
			nbd_queue_kick(link->dev);

		err = nbd_watch(link);
		if (err)
			return err;
		rest(link, full);
	}
	return 0;
}

static void set_fence(struct nbd_link *link, unsigned int fence)
{
	spin_lock_bh(&link->dev->queue.lock);
	link->fence = fence;
	spin_unlock_bh(&link->dev->queue.lock);
}

static void go_ready(struct nbd_link *link)
{
	struct nbd_device *dev = link->dev;
	const struct sockaddr_storage *peer = nbd_link_peer(link);
	u64 losses = link->counters.losses;

	/* Another server cannot speak for the one that has them */
	if (!link->adopted && link->handshake.fenced && link->address == link->lost_address)
		nbd_queue_release(link);
	link->fault = 0;
	link->tx = NULL;
	link->tx_next = NULL;
	link->stalls = 0;
	WRITE_ONCE(link->full, false);
	link->answered = answers(link);
	nbd_socket_go_live(link);
	nbd_watch_start(link);
	set_fence(link, !link->adopted && link->handshake.fenced ? NBDX_FENCE_SESSION :
								   NBDX_FENCE_DELAY);
	nbd_findings_note(link, link->sock->sk);
	set_state(link, NBDX_LS_READY);
	nbd_queue_kick(dev);
	if (losses && peer)
		pr_info_ratelimited("%s: link %u to %pISpc is back\n", dev->disk->disk_name,
				    link->index, peer);
	else if (losses)
		pr_info_ratelimited("%s: link %u is back\n", dev->disk->disk_name, link->index);
}

static void lose(struct nbd_link *link, int error)
{
	struct nbd_device *dev = link->dev;
	const struct sockaddr_storage *peer = nbd_link_peer(link);
	char why[NBD_HANDSHAKE_TEXT_MAX];
	unsigned int waiting;

	/* A server that takes connections and does nothing is not tried in haste again */
	if (answers(link) != link->answered ||
	    time_after(jiffies, link->since + msecs_to_jiffies(BACKOFF_LAST)))
		link->backoff = BACKOFF_FIRST;
	explain(link, error);
	nbd_socket_close(link, false);
	set_state(link, link->adopted ? NBDX_LS_DOWN : NBDX_LS_LOST);
	/* One server cannot speak for what is held on another's account */
	if (READ_ONCE(link->nr_held) && link->lost_address != link->address)
		link->lost_address = NBDX_MAX_ADDRESSES;
	else
		link->lost_address = link->address;
	link->fence_at = jiffies + msecs_to_jiffies(READ_ONCE(dev->config.fence_delay));
	link->fence_over = false;
	nbd_queue_give_back(link);

	spin_lock_bh(&dev->queue.lock);
	link->counters.losses++;
	waiting = dev->queue.queued + dev->queue.inflight + link->nr_held;
	strscpy(why, link->error, sizeof(why));
	spin_unlock_bh(&dev->queue.lock);
	if (peer)
		pr_warn_ratelimited("%s: link %u to %pISpc lost: %s; %u requests wait\n",
				    dev->disk->disk_name, link->index, peer, why, waiting);
	else
		pr_warn_ratelimited("%s: link %u lost: %s; %u requests wait\n",
				    dev->disk->disk_name, link->index, why, waiting);

	/* Other links may take over what is not held */
	nbd_queue_kick(dev);
	wake_up_all(&dev->setup);
	nbd_netlink_notify(dev, link->notice);
	link->notice = nbd_netlink_prepare_notice(dev, GFP_NOWAIT | __GFP_NOMEMALLOC |
						  __GFP_NOWARN);
}

/* Before the next attempt; one that began at @since and took long has paused */
static void pause_link(struct nbd_link *link, unsigned long since)
{
	unsigned int ms = link->backoff / 2 + get_random_u32() % (link->backoff / 2 + 1);
	unsigned long until = since + msecs_to_jiffies(ms);

	link->backoff = min(link->backoff * 2, (unsigned int)BACKOFF_LAST);
	if (link->adopted)
		until = since + NBD_WATCH;
	while (!kthread_should_stop() && !READ_ONCE(link->handover)) {
		unsigned long nap = nbd_link_tick(link);
		long left = until - jiffies;

		if (left <= 0)
			break;
		wait_event_idle_timeout(link->wait,
					kthread_should_stop() ||
					test_and_clear_bit(NBD_EVENT_HANDOVER, &link->events),
					min_t(unsigned long, left, nap));
	}
}

static int link_thread(void *data)
{
	struct nbd_link *link = data;
	unsigned int noreclaim;
	unsigned long since;
	int err;

	/* Where everybody wants the CPU somebody must free the memory for it */
	set_user_nice(current, MIN_NICE);
	err = nbd_socket_make(link);
	if (err) {
		explain(link, err);
		report(link, err);
		goto out;
	}
	noreclaim = memalloc_noreclaim_save();

	while (!kthread_should_stop()) {
		since = jiffies;
		err = link->adopted ? adopt(link) : connect_link(link);
		if (err) {
			report(link, err);
			set_state(link, link->adopted ? NBDX_LS_DOWN : NBDX_LS_LOST);
			pause_link(link, since);
			continue;
		}
		go_ready(link);
		report(link, 0);
		err = serve(link);
		if (!err)
			break;
		lose(link, err);
		pause_link(link, jiffies);
	}

	if (link->state == NBDX_LS_READY)
		nbd_send_disconnect(link);
	nbd_socket_close(link, true);
	set_state(link, NBDX_LS_STOPPED);
	nbd_queue_give_back(link);
	nbd_queue_release(link);
	nbd_neighbour_release(link);
	memalloc_noreclaim_restore(noreclaim);

out:
	nbd_rescue_exit(link);
	nbd_socket_free(link);
	/* kthread_stop() may not have been called yet */
	while (!kthread_should_stop())
		wait_event_idle(link->wait, kthread_should_stop());
	return 0;
}

/**
 * nbd_link_create() - a link and its thread, which starts at once
 * @dev: the device, in SETUP
 * @index: of the link
 * @handover: socket from userspace, its reference passes to the link on
 *	      success; NULL: the kernel connects
 *
 * Return: the link or an ERR_PTR.
 */
struct nbd_link *nbd_link_create(struct nbd_device *dev, unsigned int index,
				 struct socket *handover)
{
	__be32 number = cpu_to_be32(index);
	struct nbd_link *link;
	int err;

	link = kzalloc(sizeof(*link), GFP_KERNEL);
	if (!link)
		return ERR_PTR(-ENOMEM);
	link->dev = dev;
	link->index = index;
	link->outcome = -EINPROGRESS;
	link->adopted = handover;
	link->handover = handover;
	link->backoff = BACKOFF_FIRST;
	link->since = jiffies;
	init_waitqueue_head(&link->wait);
	nbd_rescue_init(link);
	INIT_LIST_HEAD(&link->sent);
	INIT_LIST_HEAD(&link->held);
	memcpy(link->session, dev->session, sizeof(dev->session));
	memcpy(link->session + sizeof(dev->session), &number, sizeof(number));
	hash_init(link->cookies);
	/* All begin where the first one got through: they must reach one server */
	if (index && !handover) {
		link->address = READ_ONCE(dev->links[0]->address);
		link->tracking = dev->links[0]->tracking;
	}
	if (index && dev->config.flags & NBDX_FLAG_SPREAD && !handover)
		link->address = (link->address + index) % dev->config.nr_addresses;
	link->notice = nbd_netlink_prepare_notice(dev, GFP_KERNEL);
	if (!link->notice) {
		err = -ENOMEM;
		goto err_notice;
	}

	link->task = kthread_create(link_thread, link, "nbd%d-%u", dev->index, index);
	if (IS_ERR(link->task)) {
		err = PTR_ERR(link->task);
		goto err_task;
	}
	wake_up_process(link->task);
	return link;

err_task:
	nlmsg_free(link->notice);
err_notice:
	kfree(link);
	return ERR_PTR(err);
}

/**
 * nbd_link_stop() - end the thread
 * @link: the link
 *
 * Its requests wait in the device's queue afterwards.  Takes no longer than
 * the thread needs to notice: it never waits for the network.
 */
void nbd_link_stop(struct nbd_link *link)
{
	kthread_stop(link->task);
}

/**
 * nbd_link_free() - free a link
 * @link: stopped, and seen by nobody any longer
 */
void nbd_link_free(struct nbd_link *link)
{
	if (link->handover)
		sockfd_put(link->handover);
	nlmsg_free(link->notice);
	kfree(link);
}
