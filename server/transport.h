/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bytes of a connection: through its socket, bare or with TLS.  Nothing here waits. */
#ifndef SRV_TRANSPORT_H
#define SRV_TRANSPORT_H

#include <sys/types.h>
#include <sys/uio.h>

struct srv_tls;

/*
 * @tls is NULL without TLS.  Bytes that have come into @iov or gone from it; 0:
 * the client sends no more; or a negative errno, -EAGAIN if the socket has to be
 * waited for.  Until then it need not: there may be more with fewer bytes, too.
 */
ssize_t srv_transport_recv(int fd, struct srv_tls *tls, struct iovec *iov, size_t n);
ssize_t srv_transport_send(int fd, struct srv_tls *tls, struct iovec *iov, size_t n);
/* What was wrong */
const char *srv_transport_error(const struct srv_tls *tls, ssize_t ret);

#endif /* SRV_TRANSPORT_H */
