/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sessions: a client's new connection ends its older ones before it goes on. */
#ifndef SRV_FENCE_H
#define SRV_FENCE_H

#include <stdbool.h>

#include "server/connection.h"

/*
 * Announce @c in the session its engine was told of, end every older connection
 * of it, and wait until none of these is at work any longer: for
 * NBD_WIRE_X_SESSION_DRAIN_S at most, and no longer than @c has for its handshake,
 * is not ended itself, and the server runs.  Asking again waits again.
 * True when nothing that came on them can reach the disk any more.
 */
bool srv_fence(struct srv_conn *c);

/* All threads of @c have finished: whoever waits for it may go on */
void srv_fence_leave(struct srv_conn *c);

#endif /* SRV_FENCE_H */
