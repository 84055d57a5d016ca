// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "session.h"

/* 0: ready; -1 and errno, ETIMEDOUT at the deadline */
static int wait_for(int fd, short events, int64_t deadline)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	int64_t left;
	int ret;

	do {
		left = deadline - client_clock_ms();
		ret = poll(&pfd, 1, left > 0 ? (int)left : 0);
	} while (ret < 0 && errno == EINTR);
	if (ret)
		return ret < 0 ? -1 : 0;
	errno = ETIMEDOUT;
	return -1;
}

static int finish_connect(int fd, int64_t deadline)
{
	socklen_t len = sizeof(int);
	int error;

	if (wait_for(fd, POLLOUT, deadline) || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
		return -1;
	errno = error;
	return error ? -1 : 0;
}

int client_session_connect(const struct client_address *address, int64_t deadline,
			   struct client_error *err)
{
	char text[CLIENT_ADDRESS_TEXT];
	const int on = 1;
	int fd;

	client_address_text(&address->sa, address->len, text);
	fd = socket(address->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return client_error_set(err, CLIENT_UNREACHABLE, "cannot make a socket for %s: %s",
					text, strerror(errno));
	if (connect(fd, &address->sa, address->len) &&
	    (errno != EINPROGRESS || finish_connect(fd, deadline))) {
		client_error_set(err, CLIENT_UNREACHABLE,
				 "cannot connect to %s: %s; check that the server runs there", text,
				 strerror(errno));
		close(fd);
		return -1;
	}
	if (address->sa.sa_family != AF_UNIX) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	}
	return fd;
}

static int send_all(int fd, const uint8_t *data, size_t len, int64_t deadline)
{
	ssize_t n;

	while (len) {
		n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			if (wait_for(fd, POLLOUT, deadline))
				return -1;
			continue;
		}
		if (n < 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int recv_all(int fd, uint8_t *data, size_t len, int64_t deadline)
{
	ssize_t n;

	while (len) {
		/* before each read: a byte at a time must not extend the deadline */
		if (wait_for(fd, POLLIN, deadline))
			return -1;
		n = recv(fd, data, len, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0) {
			if (!n)
				errno = ECONNRESET;
			return -1;
		}
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int broken(const struct client_nego *nego, struct client_error *err)
{
	if (errno == ETIMEDOUT)
		return client_error_set(err, CLIENT_UNREACHABLE,
					"the server does not answer in time: see -connect-timeout");
	if (nego->state == CLIENT_NEGO_EXPORT)
		return client_error_set(
			err, CLIENT_REFUSED,
			"cannot open export '%.200s': the server closed the connection; it has no such export, or does not let this machine in",
			nego->name);
	if (errno == ECONNRESET && nego->state == CLIENT_NEGO_GREETING)
		return client_error_set(
			err, CLIENT_REFUSED,
			"the server closed the connection at once: does it let this machine in?");
	return client_error_set(err, CLIENT_UNREACHABLE,
				"the connection broke during the handshake: %s", strerror(errno));
}

int client_session_run(int fd, struct client_nego *nego, int64_t deadline, struct client_error *err)
{
	while (client_nego_busy(nego)) {
		if (send_all(fd, nego->out, nego->out_len, deadline) ||
		    recv_all(fd, nego->in, nego->need, deadline))
			return broken(nego, err);
		client_nego_input(nego);
	}
	if (nego->state == CLIENT_NEGO_FAILED) {
		*err = nego->err;
		return -1;
	}
	return 0;
}
