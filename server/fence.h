/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sessions: a client's new connection ends its older ones before it goes on. */
#ifndef SRV_FENCE_H
#define SRV_FENCE_H

#include "server/connection.h"

enum srv_fence_result {
	SRV_FENCE_WAIT,	   /* not known yet: ask again when loop->fence_moved says so, or later */
	SRV_FENCE_DRAINED, /* nothing that came on older connections can reach the disk any more */
	SRV_FENCE_GAVE_UP, /* it took too long, the server stops, or @c has itself been ended */
};

/*
 * Announce @c in the session its engine was told of, and end every older
 * connection of it.  Once more when the client asks again.
 */
void srv_fence_begin(struct srv_conn *c);

/*
 * Are they still at work?  Waiting takes NBD_WIRE_X_SESSION_DRAIN_S at most, and
 * no longer than @c has for its handshake.
 */
enum srv_fence_result srv_fence_look(struct srv_conn *c);

/* Nothing of @c is under way any longer: whoever waits for it may go on */
void srv_fence_leave(struct srv_conn *c);

#endif /* SRV_FENCE_H */
