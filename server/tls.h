/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TLS with GnuTLS: what a configuration has for it, and what a connection has.
 * Nothing here waits: -EAGAIN says that the socket has to be waited for.
 */
#ifndef SRV_TLS_H
#define SRV_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Forward secrecy, authenticated ciphers, and nothing that the protocol does not allow */
#define SRV_TLS_PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"
/* The most data in one record */
#define SRV_TLS_RECORD	 16384

struct srv_config;
struct srv_tls_creds;
struct srv_tls;

/* The certificates and keys a configuration names, read; NULL when one is bad, and says why */
struct srv_tls_creds *srv_tls_creds_new(const struct srv_config *config);
/* Only once no connection is left that has been made with them */
void srv_tls_creds_free(struct srv_tls_creds *creds);

/* The server's side of TLS on a socket; NULL: no memory.  Belongs to one thread. */
struct srv_tls *srv_tls_new(const struct srv_tls_creds *creds, int fd);
void srv_tls_free(struct srv_tls *t);

/* 0 once there is TLS, -EAGAIN with *@write: what the socket has to be ready for, or -EPROTO */
int srv_tls_handshake(struct srv_tls *t, bool *write);

/* What was agreed on and who the client is, fit for a log; the caller frees it */
char *srv_tls_describe(const struct srv_tls *t);

/*
 * As recvmsg() and sendmsg(): bytes, 0 at the end in good order or not, or -EAGAIN
 * or -EPROTO.  Who is told -EAGAIN when sending comes again with the same data.
 */
ssize_t srv_tls_recv(struct srv_tls *t, const struct iovec *iov, size_t n);
ssize_t srv_tls_send(struct srv_tls *t, const struct iovec *iov, size_t n);

/* Has a part of a record come, or of the handshake? */
bool srv_tls_midway(const struct srv_tls *t);
/* Nothing more is sent: tell the client, behind all that was: 0, or -EAGAIN until that has gone */
int srv_tls_bye(struct srv_tls *t);
/* What was wrong when -EPROTO was returned */
const char *srv_tls_error(const struct srv_tls *t);

#endif /* SRV_TLS_H */
