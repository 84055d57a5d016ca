/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connection's socket: waiting, receiving, sending; and naming its peer. */
#ifndef SRV_SOCKET_H
#define SRV_SOCKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/connection.h"

/*
 * Receive into @buf, and what is left over into the connection's empty rbuf.
 * Returns the bytes that went to @buf (0 when @len is 0 and rbuf got some), or
 * -EPIPE at the end of the stream, -ETIMEDOUT, -ESHUTDOWN when the server is
 * stopping and nothing is half received, -ECANCELED when the connection has been
 * ended, or another negative errno.
 */
ssize_t srv_conn_recv(struct srv_conn *c, void *buf, size_t len);

/* Send a head and data as one piece.  0 or a negative errno. */
int srv_conn_send(struct srv_conn *c, const void *head, size_t head_len, const void *data,
		  size_t data_len);

/* Latency and keepalive settings for a new connection */
void srv_socket_tune(int fd, int family);

/* Let the peer read the last replies: hang up our side, wait for it to hang up its own */
void srv_socket_linger(int fd, int64_t deadline);

void srv_peer_name(const struct sockaddr_storage *addr, char *text, size_t len);

#endif /* SRV_SOCKET_H */
