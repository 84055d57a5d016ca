// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/transport.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "server/tls.h"

ssize_t srv_transport_recv(int fd, struct srv_tls *tls, struct iovec *iov, size_t n)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t ret;

	if (tls)
		return srv_tls_recv(tls, iov, n);
	do {
		ret = recvmsg(fd, &msg, MSG_DONTWAIT);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : ret;
}

ssize_t srv_transport_send(int fd, struct srv_tls *tls, struct iovec *iov, size_t n)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t ret;

	if (tls)
		return srv_tls_send(tls, iov, n);
	do {
		ret = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : ret;
}

const char *srv_transport_error(const struct srv_tls *tls, ssize_t ret)
{
	return tls && ret == -EPROTO ? srv_tls_error(tls) : strerror((int)-ret);
}
