// SPDX-License-Identifier: GPL-2.0-only
/*
 * The receiving half of a link: replies are taken from the socket as they
 * arrive, in softirq, and data goes straight to the pages of its request.
 * Nothing the server sends is trusted.
 *
 * Everything here but nbd_recv_bytes() runs under the socket's lock, or for a
 * socket that was handed over, in the link's thread alone.
 */
#include <net/tcp.h>

#include "internal.h"

/* Replies that the thread reads before it looks at what there is to send */
#define RECV_BUDGET	64

static void expect_header(struct nbd_rx *rx)
{
	rx->cmd = NULL;
	rx->vec.iov_base = &rx->header;
	rx->vec.iov_len = sizeof(rx->header);
	iov_iter_kvec(&rx->iter, ITER_DEST, &rx->vec, 1, sizeof(rx->header));
}

static blk_status_t status_of(u32 error)
{
	switch (error) {
	case 0:
		return BLK_STS_OK;
	case NBD_WIRE_ENOSPC:
		return BLK_STS_NOSPC;
	case NBD_WIRE_ENOTSUP:
		return BLK_STS_NOTSUPP;
	default:
		return BLK_STS_IOERR;
	}
}

static int broken(struct nbd_link *link)
{
	struct nbd_queue *queue = &link->dev->queue;

	spin_lock_bh(&queue->lock);
	link->counters.protocol_errors++;
	spin_unlock_bh(&queue->lock);
	return -EPROTO;
}

/* A whole header has come. Return: 0 or -errno to drop the connection. */
static int header_done(struct nbd_link *link)
{
	struct nbd_rx *rx = &link->rx;
	u64 cookie = be64_to_cpu(rx->header.cookie);
	u32 magic = be32_to_cpu(rx->header.magic);
	u32 error = be32_to_cpu(rx->header.error);
	struct nbd_cmd *cmd;

	if (magic != NBD_WIRE_SIMPLE_REPLY_MAGIC) {
		nbd_link_say(link, "server sent reply magic 0x%x", magic);
		return broken(link);
	}
	cmd = nbd_queue_find(link, cookie);
	if (!cmd) {
		nbd_link_say(link, "server replied to request %llu, which is not in flight",
			     cookie);
		return broken(link);
	}
	/* It asks us to go; what it has not done will be asked for again */
	if (error == NBD_WIRE_ESHUTDOWN) {
		nbd_link_say(link, "server is shutting down");
		return -ESHUTDOWN;
	}
	if (error) {
		pr_warn_ratelimited("%s: server answers request of type %u at %llu, %u bytes, with error %u\n",
				    link->dev->disk->disk_name, cmd->type,
				    be64_to_cpu(cmd->header.offset), cmd->bytes, error);
	} else if (cmd->type == NBD_WIRE_CMD_READ) {
		rx->cmd = cmd;
		iov_iter_bvec(&rx->iter, ITER_DEST, cmd->bvec, cmd->nr_bvec, cmd->bytes);
		return 0;
	}
	nbd_queue_answered(link, cmd, status_of(error));
	expect_header(rx);
	return 0;
}

/* What was expected has come whole */
static int expected_done(struct nbd_link *link)
{
	struct nbd_rx *rx = &link->rx;

	if (!rx->cmd)
		return header_done(link);
	nbd_queue_answered(link, rx->cmd, BLK_STS_OK);
	expect_header(rx);
	return 0;
}

static int tcp_actor(read_descriptor_t *desc, struct sk_buff *skb, unsigned int offset, size_t len)
{
	struct nbd_link *link = desc->arg.data;
	struct nbd_rx *rx = &link->rx;
	size_t left = len;
	int err = 0;

	while (left && !err) {
		size_t n = min(left, iov_iter_count(&rx->iter));

		err = skb_copy_datagram_iter(skb, offset, &rx->iter, n);
		if (err)
			break;
		offset += n;
		left -= n;
		if (!iov_iter_count(&rx->iter))
			err = expected_done(link);
	}
	if (err) {
		/* Nothing that follows can be understood */
		rx->live = false;
		nbd_link_fault(link, err);
		return err;
	}
	return len;
}

/**
 * nbd_recv_start() - expect the first reply on a connection
 * @link: the link
 */
void nbd_recv_start(struct nbd_link *link)
{
	expect_header(&link->rx);
}

/**
 * nbd_recv_tcp() - take everything that has arrived
 * @link: the link, live, on a TCP socket of the kernel's own
 *
 * Context: the socket's lock held, softirq or process.
 * Return: 0 or -errno.
 */
int nbd_recv_tcp(struct nbd_link *link)
{
	read_descriptor_t desc = { .arg.data = link, .count = 1 };
	int ret;

	WRITE_ONCE(link->progress, jiffies);
	ret = tcp_read_sock(link->sock->sk, &desc, tcp_actor);
	return ret < 0 ? ret : 0;
}

/**
 * nbd_recv_any() - the same for a socket that was handed over
 * @link: the link, live
 *
 * Context: the link's thread.
 * Return: 0 or -errno to drop the connection.
 */
int nbd_recv_any(struct nbd_link *link)
{
	struct nbd_rx *rx = &link->rx;
	int budget = RECV_BUDGET;
	int n, err;

	while (budget--) {
		struct msghdr msg = { };

		msg.msg_iter = rx->iter;
		n = sock_recvmsg(link->sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n == -EAGAIN)
			return 0;
		if (n <= 0)
			return n ?: -ECONNRESET;
		WRITE_ONCE(link->progress, jiffies);
		iov_iter_advance(&rx->iter, n);
		if (iov_iter_count(&rx->iter))
			continue;
		err = expected_done(link);
		if (err)
			return err;
	}
	nbd_link_wake(link, NBD_EVENT_SOCKET);
	return 0;
}

/**
 * nbd_recv_bytes() - for the handshake: read what is there
 * @link: the link, not live
 * @buf: where to
 * @len: at most so many bytes
 *
 * Context: the link's thread.
 * Return: bytes read, 0 at the end of the stream, -EAGAIN if nothing has
 * arrived, or another -errno.
 */
int nbd_recv_bytes(struct nbd_link *link, void *buf, size_t len)
{
	struct kvec vec = { .iov_base = buf, .iov_len = len };
	struct msghdr msg = { };

	return kernel_recvmsg(link->sock, &msg, &vec, 1, len, MSG_DONTWAIT);
}
