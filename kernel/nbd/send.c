// SPDX-License-Identifier: GPL-2.0-only
/*
 * The sending half of a link, run by its thread alone: never blocks, copies
 * into the socket's bounded buffer, and takes up where it left off.
 */
#include "internal.h"

/* Requests before the thread looks at other things; it then goes on at once */
#define SEND_BUDGET	64

/**
 * nbd_send_bytes() - give the socket what it takes now
 * @link: the link
 * @iter: what to send, advanced by what was taken
 * @flags: MSG_MORE if more follows at once
 *
 * Context: the link's thread, in its memalloc_noreclaim scope.
 * Return: bytes taken, -EAGAIN if the socket is full or memory is short, or
 * another -errno if the connection is broken.
 */
int nbd_send_bytes(struct nbd_link *link, struct iov_iter *iter, int flags)
{
	struct msghdr msg = { .msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL | flags };
	int n;

	msg.msg_iter = *iter;
	n = sock_sendmsg(link->sock, &msg);
	if (n > 0) {
		iov_iter_advance(iter, n);
		return n;
	}
	return !n || n == -ENOMEM || n == -ENOBUFS ? -EAGAIN : n;
}

static int send_header(struct nbd_link *link, int flags)
{
	struct nbd_cmd *cmd = link->tx;
	struct kvec vec = {
		.iov_base = (u8 *)&cmd->header + link->tx_done,
		.iov_len = sizeof(cmd->header) - link->tx_done,
	};
	struct iov_iter iter;

	iov_iter_kvec(&iter, ITER_SOURCE, &vec, 1, vec.iov_len);
	return nbd_send_bytes(link, &iter, flags);
}

static int send_payload(struct nbd_link *link, int flags)
{
	struct nbd_cmd *cmd = link->tx;
	struct iov_iter iter;

	iov_iter_bvec(&iter, ITER_SOURCE, cmd->bvec, cmd->nr_bvec, cmd->payload);
	iov_iter_advance(&iter, link->tx_done - sizeof(cmd->header));
	return nbd_send_bytes(link, &iter, flags);
}

/* Return: 1 when all of the request is sent, 0 when some was, or -errno */
static int send_some(struct nbd_link *link)
{
	struct nbd_cmd *cmd = link->tx;
	u32 total = sizeof(cmd->header) + cmd->payload;
	int more = link->tx_next ? MSG_MORE : 0;
	int n;

	if (link->tx_done < sizeof(cmd->header))
		n = send_header(link, cmd->payload ? MSG_MORE : more);
	else
		n = send_payload(link, more);
	if (n < 0)
		return n;
	link->tx_done += n;
	return link->tx_done == total;
}

/**
 * nbd_send() - send what waits, for as long as the socket takes it
 * @link: the link, ready
 *
 * But not for ever: the thread has a clock to watch, too.
 *
 * One request is taken ahead, so that MSG_MORE is said only when more does
 * follow: a segment held back in vain would wait for the retransmission timer.
 *
 * Context: the link's thread.
 * Return: 0 when nothing is left to send, -EAGAIN when the socket is full,
 * another -errno when the connection is broken.
 */
int nbd_send(struct nbd_link *link)
{
	unsigned int budget = SEND_BUDGET;
	bool progress = false;
	int ret;

	for (;;) {
		if (!link->tx) {
			link->tx = link->tx_next ?: nbd_queue_take(link);
			link->tx_next = NULL;
			link->tx_done = 0;
			if (!link->tx) {
				link->stalls = 0;
				return 0;
			}
		}
		if (!link->tx_next)
			link->tx_next = nbd_queue_take(link);

		ret = send_some(link);
		if (ret < 0) {
			link->stalls = progress ? 0 : link->stalls + 1;
			return ret;
		}
		progress = true;
		if (ret) {
			nbd_queue_sent(link, link->tx);
			link->tx = NULL;
			if (!--budget) {
				link->stalls = 0;
				nbd_link_wake(link, NBD_EVENT_QUEUE);
				return 0;
			}
		}
		if (READ_ONCE(link->fault))
			return 0;	/* the thread will see it */
		cond_resched();
	}
}

/**
 * nbd_send_disconnect() - say goodbye, if the socket takes it
 * @link: the link, ready
 *
 * Context: the link's thread.
 */
void nbd_send_disconnect(struct nbd_link *link)
{
	struct nbd_wire_request header = {
		.magic = cpu_to_be32(NBD_WIRE_REQUEST_MAGIC),
		.type = cpu_to_be16(NBD_WIRE_CMD_DISC),
	};
	struct kvec vec = { .iov_base = &header, .iov_len = sizeof(header) };
	struct iov_iter iter;

	/* In the middle of a request it would be taken for data */
	if (link->tx && link->tx_done)
		return;
	iov_iter_kvec(&iter, ITER_SOURCE, &vec, 1, vec.iov_len);
	nbd_send_bytes(link, &iter, 0);
}
