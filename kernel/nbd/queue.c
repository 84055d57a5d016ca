// SPDX-License-Identifier: GPL-2.0-only
/*
 * The requests of a device: from queue_rq, which neither sleeps nor allocates,
 * through the links and back when one breaks, to completion.  Who answers a
 * request is its owner's business; that it is answered once is ours.
 */
#include "internal.h"
#include "trace.h"

/* So many READs may overtake a WRITE before it gets its turn */
#define READS_IN_A_ROW	16

static struct request *cmd_request(struct nbd_cmd *cmd)
{
	return blk_mq_rq_from_pdu(cmd);
}

/* Fill the scatter table.  Its length is bounded by the limits of the queue. */
static bool map_pages(struct nbd_cmd *cmd, struct request *rq)
{
	struct req_iterator iter;
	struct bio_vec bvec;

	rq_for_each_bvec(bvec, rq, iter) {
		if (WARN_ON_ONCE(cmd->nr_bvec == NBD_MAX_SEGMENTS))
			return false;
		cmd->bvec[cmd->nr_bvec++] = bvec;
	}
	return true;
}

static blk_status_t prepare(struct nbd_device *dev, struct nbd_cmd *cmd, struct request *rq)
{
	u16 flags = 0;

	cmd->flags = 0;
	cmd->tries = 0;
	cmd->nr_bvec = 0;
	cmd->payload = 0;
	cmd->bytes = blk_rq_bytes(rq);

	switch (req_op(rq)) {
	case REQ_OP_READ:
		cmd->type = NBD_WIRE_CMD_READ;
		break;
	case REQ_OP_WRITE:
		cmd->type = NBD_WIRE_CMD_WRITE;
		cmd->payload = cmd->bytes;
		break;
	case REQ_OP_FLUSH:
		cmd->type = NBD_WIRE_CMD_FLUSH;
		break;
	case REQ_OP_DISCARD:
		cmd->type = NBD_WIRE_CMD_TRIM;
		break;
	case REQ_OP_WRITE_ZEROES:
		cmd->type = NBD_WIRE_CMD_WRITE_ZEROES;
		if (rq->cmd_flags & REQ_NOUNMAP)
			flags |= NBD_WIRE_CMD_FLAG_NO_HOLE;
		break;
	default:
		return BLK_STS_NOTSUPP;
	}
	/* The block layer sets it only if the server offered it */
	if (rq->cmd_flags & REQ_FUA && cmd->type != NBD_WIRE_CMD_READ)
		flags |= NBD_WIRE_CMD_FLAG_FUA;

	/* The block layer warns of it and lets it pass */
	if (op_is_write(req_op(rq)) && dev->read_only)
		return BLK_STS_IOERR;
	if (cmd->type == NBD_WIRE_CMD_READ || cmd->type == NBD_WIRE_CMD_WRITE)
		if (!map_pages(cmd, rq))
			return BLK_STS_IOERR;

	cmd->header.magic = cpu_to_be32(NBD_WIRE_REQUEST_MAGIC);
	cmd->header.flags = cpu_to_be16(flags);
	cmd->header.type = cpu_to_be16(cmd->type);
	if (cmd->type == NBD_WIRE_CMD_FLUSH) {
		cmd->header.offset = 0;
		cmd->header.length = 0;
	} else {
		cmd->header.offset = cpu_to_be64((u64)blk_rq_pos(rq) << SECTOR_SHIFT);
		cmd->header.length = cpu_to_be32(cmd->bytes);
	}
	return BLK_STS_OK;
}

static struct list_head *waiting_list(struct nbd_queue *queue, const struct nbd_cmd *cmd)
{
	return cmd->type == NBD_WIRE_CMD_READ ? &queue->reads : &queue->writes;
}

static blk_status_t queue_rq(struct blk_mq_hw_ctx *hctx, const struct blk_mq_queue_data *bd)
{
	struct nbd_device *dev = hctx->queue->queuedata;
	struct nbd_cmd *cmd = blk_mq_rq_to_pdu(bd->rq);
	struct nbd_queue *queue = &dev->queue;
	blk_status_t status;

	status = prepare(dev, cmd, bd->rq);
	if (status != BLK_STS_OK)
		return status;

	blk_mq_start_request(bd->rq);
	if (cmd->type == NBD_WIRE_CMD_WRITE)
		nbd_oom_write_started();

	spin_lock_bh(&queue->lock);
	if (queue->dead) {
		spin_unlock_bh(&queue->lock);
		if (cmd->type == NBD_WIRE_CMD_WRITE)
			nbd_oom_write_done(false, false);
		return BLK_STS_IOERR;
	}
	cmd->cookie = queue->next_cookie++;
	cmd->header.cookie = cpu_to_be64(cmd->cookie);
	trace_nbd_request_queued(dev->index, cmd);
	list_add_tail(&cmd->node, waiting_list(queue, cmd));
	queue->queued++;
	spin_unlock_bh(&queue->lock);

	if (bd->last)
		nbd_queue_kick(dev);
	return BLK_STS_OK;
}

static void commit_rqs(struct blk_mq_hw_ctx *hctx)
{
	nbd_queue_kick(hctx->queue->queuedata);
}

static void complete_rq(struct request *rq)
{
	struct nbd_cmd *cmd = blk_mq_rq_to_pdu(rq);

	blk_mq_end_request(rq, cmd->status);
}

/* Time never completes a request: links watch for silence and are replaced */
static enum blk_eh_timer_return request_timeout(struct request *rq)
{
	return BLK_EH_RESET_TIMER;
}

const struct blk_mq_ops nbd_mq_ops = {
	.queue_rq	= queue_rq,
	.commit_rqs	= commit_rqs,
	.complete	= complete_rq,
	.timeout	= request_timeout,
};

/* Give the request back to the block layer; nobody else refers to it */
static void finish(struct nbd_cmd *cmd)
{
	if (cmd->type == NBD_WIRE_CMD_WRITE)
		nbd_oom_write_done(cmd->status == BLK_STS_OK,
				   cmd_request(cmd)->cmd_flags & REQ_SWAP);
	blk_mq_complete_request(cmd_request(cmd));
}

/**
 * nbd_queue_init() - an empty queue that takes no requests yet
 * @queue: the queue
 */
void nbd_queue_init(struct nbd_queue *queue)
{
	spin_lock_init(&queue->lock);
	INIT_LIST_HEAD(&queue->reads);
	INIT_LIST_HEAD(&queue->writes);
	queue->dead = true;
	/* Not 0: a server that answers with a zeroed cookie is found out */
	queue->next_cookie = 1;
}

/**
 * nbd_queue_kick() - wake as many links as there are requests waiting
 * @dev: the device
 *
 * A link that is full looks for more by itself as soon as it is not.
 *
 * Context: any but hard interrupt.
 */
void nbd_queue_kick(struct nbd_device *dev)
{
	/* Pairs with go_live(): the links are there if their number is */
	unsigned int n = smp_load_acquire(&dev->nr_links);
	unsigned int queued = READ_ONCE(dev->queue.queued);
	unsigned int first = raw_smp_processor_id();
	unsigned int i;

	for (i = 0; i < n && queued; i++) {
		struct nbd_link *link = dev->links[(first + i) % n];

		if (READ_ONCE(link->state) != NBDX_LS_READY || READ_ONCE(link->full))
			continue;
		nbd_link_wake(link, NBD_EVENT_QUEUE);
		queued--;
	}
}

static struct nbd_cmd *next_waiting(struct nbd_queue *queue)
{
	struct list_head *from = &queue->reads;

	/* A page fault waits for a READ, nobody waits for one WRITE */
	if (list_empty(&queue->reads) ||
	    (queue->reads_in_a_row >= READS_IN_A_ROW && !list_empty(&queue->writes)))
		from = &queue->writes;
	if (list_empty(from))
		return NULL;
	queue->reads_in_a_row = from == &queue->reads ? queue->reads_in_a_row + 1 : 0;
	return list_first_entry(from, struct nbd_cmd, node);
}

/**
 * nbd_queue_take() - the next request for a link to send
 * @link: the link, ready
 *
 * From here on the server may answer the request; the caller must go on to
 * nbd_queue_sent() or, when the link breaks, to nbd_queue_give_back().
 *
 * Return: the request, or NULL if none waits.
 */
struct nbd_cmd *nbd_queue_take(struct nbd_link *link)
{
	struct nbd_queue *queue = &link->dev->queue;
	struct nbd_cmd *cmd;

	spin_lock_bh(&queue->lock);
	cmd = next_waiting(queue);
	if (cmd) {
		queue->queued--;
		queue->inflight++;
		cmd->start = jiffies;
		__set_bit(NBD_CMD_SENDING, &cmd->flags);
		list_move_tail(&cmd->node, &link->sent);
		hash_add(link->cookies, &cmd->hash, cmd->cookie);
		if (cmd->tries++)
			link->counters.replays++;
	}
	spin_unlock_bh(&queue->lock);
	return cmd;
}

static void count(struct nbd_counters *counters, const struct nbd_cmd *cmd)
{
	if (cmd->status != BLK_STS_OK)
		counters->errors++;
	switch (cmd->type) {
	case NBD_WIRE_CMD_READ:
		counters->reads++;
		counters->read_bytes += cmd->bytes;
		break;
	case NBD_WIRE_CMD_WRITE:
		counters->writes++;
		counters->write_bytes += cmd->bytes;
		break;
	case NBD_WIRE_CMD_FLUSH:
		counters->flushes++;
		break;
	case NBD_WIRE_CMD_TRIM:
		counters->trims++;
		break;
	case NBD_WIRE_CMD_WRITE_ZEROES:
		counters->zeroes++;
		break;
	}
}

/* Under the lock: the request leaves the link.  The caller finishes it. */
static void leave(struct nbd_link *link, struct nbd_cmd *cmd)
{
	list_del(&cmd->node);
	hash_del(&cmd->hash);
	link->dev->queue.inflight--;
	count(&link->counters, cmd);
	trace_nbd_request_replied(link->dev->index, link->index, cmd);
}

/**
 * nbd_queue_sent() - TCP has taken all of a request
 * @link: the link
 * @cmd: from nbd_queue_take(), not to be used afterwards
 */
void nbd_queue_sent(struct nbd_link *link, struct nbd_cmd *cmd)
{
	struct nbd_queue *queue = &link->dev->queue;
	bool done;

	spin_lock_bh(&queue->lock);
	trace_nbd_request_sent(link->dev->index, link->index, cmd);
	__clear_bit(NBD_CMD_SENDING, &cmd->flags);
	/* The answer may have been here first */
	done = test_bit(NBD_CMD_ANSWERED, &cmd->flags);
	if (done)
		leave(link, cmd);
	spin_unlock_bh(&queue->lock);
	if (done)
		finish(cmd);
}

/**
 * nbd_queue_find() - the request that a server's cookie names
 * @link: the link on which it came
 * @cookie: the cookie
 *
 * Return: a request of this link that has not been answered, or NULL.  It
 * stays with the link for as long as the caller holds the socket's lock.
 */
struct nbd_cmd *nbd_queue_find(struct nbd_link *link, u64 cookie)
{
	struct nbd_queue *queue = &link->dev->queue;
	struct nbd_cmd *cmd, *found = NULL;

	spin_lock_bh(&queue->lock);
	hash_for_each_possible(link->cookies, cmd, hash, cookie) {
		if (cmd->cookie == cookie && !test_bit(NBD_CMD_ANSWERED, &cmd->flags)) {
			found = cmd;
			break;
		}
	}
	spin_unlock_bh(&queue->lock);
	return found;
}

/**
 * nbd_queue_answered() - the whole answer to a request has come
 * @link: the link
 * @cmd: from nbd_queue_find(), not to be used afterwards
 * @status: outcome
 */
void nbd_queue_answered(struct nbd_link *link, struct nbd_cmd *cmd, blk_status_t status)
{
	struct nbd_queue *queue = &link->dev->queue;
	bool done;

	spin_lock_bh(&queue->lock);
	cmd->status = status;
	__set_bit(NBD_CMD_ANSWERED, &cmd->flags);
	/* The sender still reads its pages: nbd_queue_sent() finishes it then */
	done = !test_bit(NBD_CMD_SENDING, &cmd->flags);
	if (done)
		leave(link, cmd);
	spin_unlock_bh(&queue->lock);
	if (done)
		finish(cmd);
}

/* Under the lock: to its place by age, which is near the head */
static void wait_again(struct nbd_queue *queue, struct nbd_cmd *cmd)
{
	struct list_head *list = waiting_list(queue, cmd);
	struct nbd_cmd *pos;

	list_for_each_entry(pos, list, node)
		if (pos->cookie > cmd->cookie)
			break;
	/* Before @pos, or at the tail: @pos then stands for the head of the list */
	list_move_tail(&cmd->node, &pos->node);
	queue->queued++;
}

/**
 * nbd_queue_give_back() - the link has broken: its requests wait again
 * @link: the link, its socket closed
 *
 * READs may go by another link at once.  What writes is held, since the server
 * may yet carry it out, after whatever else is written there meanwhile: see
 * nbd_queue_release().
 *
 * An answer that came before the whole request was sent does not count.
 */
void nbd_queue_give_back(struct nbd_link *link)
{
	struct nbd_queue *queue = &link->dev->queue;
	struct nbd_cmd *cmd, *next;

	spin_lock_bh(&queue->lock);
	list_for_each_entry_safe(cmd, next, &link->sent, node) {
		hash_del(&cmd->hash);
		cmd->flags = 0;
		queue->inflight--;
		if (cmd->type == NBD_WIRE_CMD_READ) {
			wait_again(queue, cmd);
		} else {
			list_move_tail(&cmd->node, &link->held);
			link->nr_held++;
		}
	}
	spin_unlock_bh(&queue->lock);
}

/**
 * nbd_queue_release() - the connection before can write no longer
 * @link: the link whose it was
 *
 * What it held may be sent again, by any link.
 */
void nbd_queue_release(struct nbd_link *link)
{
	struct nbd_queue *queue = &link->dev->queue;
	struct nbd_cmd *cmd, *next;

	spin_lock_bh(&queue->lock);
	list_for_each_entry_safe(cmd, next, &link->held, node)
		wait_again(queue, cmd);
	link->nr_held = 0;
	spin_unlock_bh(&queue->lock);
}

/* Under the lock */
static void take_waiting(struct nbd_queue *queue, struct list_head *to)
{
	list_splice_init(&queue->reads, to);
	list_splice_tail_init(&queue->writes, to);
	queue->queued = 0;
}

static void fail_all(struct list_head *failed)
{
	struct nbd_cmd *cmd, *next;

	list_for_each_entry_safe(cmd, next, failed, node) {
		list_del(&cmd->node);
		cmd->status = BLK_STS_IOERR;
		finish(cmd);
	}
}

/**
 * nbd_queue_fail() - fail every request that waits
 * @dev: the device, being disconnected
 */
void nbd_queue_fail(struct nbd_device *dev)
{
	LIST_HEAD(failed);

	spin_lock_bh(&dev->queue.lock);
	take_waiting(&dev->queue, &failed);
	spin_unlock_bh(&dev->queue.lock);
	fail_all(&failed);
}

/* Under the lock: what a link has held for so long without coming back */
static void take_held(struct nbd_link *link, unsigned long timeout, struct list_head *to)
{
	if (link->state == NBDX_LS_READY || !link->nr_held ||
	    !time_after(jiffies, link->lost_at + timeout))
		return;
	list_splice_tail_init(&link->held, to);
	link->nr_held = 0;
}

/**
 * nbd_queue_expire() - dead_conn_timeout: the administrator prefers errors
 * @dev: the device
 *
 * If no link has been ready for so long, fail what waits, and what comes until
 * one is.  What a lost link holds fails after that time even if others are.
 */
void nbd_queue_expire(struct nbd_device *dev)
{
	unsigned long timeout = READ_ONCE(dev->config.dead_conn_timeout) * HZ;
	bool first = false;
	LIST_HEAD(failed);
	unsigned int i;

	if (!timeout)
		return;
	spin_lock_bh(&dev->queue.lock);
	/* LIVE: every link is there, and stays for as long as a thread runs */
	for (i = 0; dev->state == NBDX_STATE_LIVE && i < dev->config.nr_links; i++)
		take_held(dev->links[i], timeout, &failed);
	if (!dev->ready && dev->state == NBDX_STATE_LIVE &&
	    time_after(jiffies, dev->down_since + timeout)) {
		first = !dev->queue.dead;
		dev->queue.dead = true;
		take_waiting(&dev->queue, &failed);
	}
	spin_unlock_bh(&dev->queue.lock);
	if (first)
		pr_err("%s: no link for %lu s: requests fail now\n", dev->disk->disk_name,
		       timeout / HZ);
	fail_all(&failed);
}
