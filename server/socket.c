// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/socket.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#define KEEPALIVE_IDLE	   60 /* seconds */
#define KEEPALIVE_INTERVAL 10
#define KEEPALIVE_PROBES   6

/* poll()'s timeout for a deadline; 0 is none */
static int timeout_until(int64_t deadline)
{
	int64_t left;

	if (!deadline)
		return -1;
	left = deadline - srv_now_ms();
	if (left < 0)
		return 0;
	return left > INT_MAX ? INT_MAX : (int)left;
}

/* Wait for the socket, or for the server's being told to stop */
static int conn_wait(struct srv_conn *c, short events, int64_t deadline)
{
	bool stopping = atomic_load(&c->srv->stopping);
	struct pollfd p[2] = {
		{ .fd = c->fd, .events = events },
		{ .fd = stopping ? -1 : c->srv->stop_fd, .events = POLLIN },
	};
	int64_t drain = atomic_load(&c->srv->drain_deadline);
	int n;

	if (stopping && (!deadline || drain < deadline))
		deadline = drain;
	do {
		n = poll(p, 2, timeout_until(deadline));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n ? 0 : -ETIMEDOUT;
}

static int64_t recv_deadline(const struct srv_conn *c)
{
	if (c->deadline)
		return c->deadline;
	if (c->export && c->export->timeout)
		return srv_now_ms() + (int64_t)c->export->timeout * 1000;
	return 0;
}

ssize_t srv_conn_recv(struct srv_conn *c, void *buf, size_t len)
{
	struct iovec iov[2] = {
		{ .iov_base = buf, .iov_len = len },
		{ .iov_base = c->rbuf, .iov_len = sizeof(c->rbuf) },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;
	int ret;

	for (;;) {
		/* What the kernel has received before it was shut down is not wanted */
		if (atomic_load(&c->ended))
			return -ECANCELED;
		n = recvmsg(c->fd, &msg, MSG_DONTWAIT);
		if (n > 0)
			break;
		if (!n)
			return -EPIPE;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		if (atomic_load(&c->srv->stopping) && !len && srv_session_idle(&c->session))
			return -ESHUTDOWN;
		ret = conn_wait(c, POLLIN, recv_deadline(c));
		if (ret)
			return ret;
	}
	c->rpos = 0;
	c->rlen = (size_t)n > len ? (size_t)n - len : 0;
	return (size_t)n > len ? (ssize_t)len : n;
}

int srv_conn_send(struct srv_conn *c, const void *head, size_t head_len, const void *data,
		  size_t data_len)
{
	struct iovec iov[2] = {
		{ .iov_base = (void *)head, .iov_len = head_len },
		{ .iov_base = (void *)data, .iov_len = data_len },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = data_len ? 2 : 1 };
	size_t n;
	ssize_t sent;
	int ret = 0;

	pthread_mutex_lock(&c->tx_lock);
	while (!ret && msg.msg_iovlen) {
		sent = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0) {
			if (errno == EAGAIN)
				ret = conn_wait(c, POLLOUT, c->deadline);
			else if (errno != EINTR)
				ret = -errno;
			continue;
		}
		for (n = (size_t)sent; msg.msg_iovlen && n >= msg.msg_iov->iov_len;) {
			n -= msg.msg_iov->iov_len;
			msg.msg_iov++;
			msg.msg_iovlen--;
		}
		if (msg.msg_iovlen) {
			msg.msg_iov->iov_base = (uint8_t *)msg.msg_iov->iov_base + n;
			msg.msg_iov->iov_len -= n;
		}
	}
	pthread_mutex_unlock(&c->tx_lock);
	return ret;
}

static void set_option(int fd, int level, int name, int value)
{
	/* Each is an improvement, none a condition: a failure is not worth a client */
	(void)setsockopt(fd, level, name, &value, sizeof(value));
}

void srv_socket_tune(int fd, int family)
{
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	if (family != AF_INET && family != AF_INET6)
		return;
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
}

void srv_socket_linger(int fd, int64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char waste[4096];
	ssize_t n;

	/* With unread input a close would reset, and take replies on their way with it */
	if (shutdown(fd, SHUT_WR) < 0)
		return;
	while (poll(&p, 1, timeout_until(deadline)) > 0) {
		n = recv(fd, waste, sizeof(waste), MSG_DONTWAIT);
		if (!n || (n < 0 && errno != EAGAIN && errno != EINTR))
			return;
	}
}

void srv_peer_name(const struct sockaddr_storage *addr, char *text, size_t len)
{
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (addr->ss_family == AF_UNIX) {
		snprintf(text, len, "on the Unix socket");
		return;
	}
	if (getnameinfo((const struct sockaddr *)addr, sizeof(*addr), host, sizeof(host), port,
			sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV)) {
		snprintf(text, len, "of unknown address");
		return;
	}
	snprintf(text, len, "%.80s port %.8s", host, port);
}
