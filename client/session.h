/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connection to a server, made and negotiated in userspace, every step with a deadline. */
#ifndef CLIENT_SESSION_H
#define CLIENT_SESSION_H

#include <stdint.h>

#include "hosts.h"
#include "negotiate.h"

/* Connected socket, or -1 */
int client_session_connect(const struct client_address *address, int64_t deadline,
			   struct client_error *err);

/* Talk until the handshake waits for a decision (READY), is over, or has failed (-1) */
int client_session_run(int fd, struct client_nego *nego, int64_t deadline,
		       struct client_error *err);

#endif /* CLIENT_SESSION_H */
