/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connection's socket: its settings, and its peer's name. */
#ifndef SRV_SOCKET_H
#define SRV_SOCKET_H

#include <stddef.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Latency and keepalive settings for a new connection */
void srv_socket_tune(int fd, int family);
/* Find out soon whether the other side is still there */
void srv_socket_probe(int fd, int family);

/* A socket file whose server has died is in the way; one that is served is not ours */
bool srv_socket_stale(const struct sockaddr_un *addr);

void srv_peer_name(const struct sockaddr_storage *addr, char *text, size_t len);

#endif /* SRV_SOCKET_H */
