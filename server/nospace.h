/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How often it is told that writes to an export find no space: never silently, never for each. */
#ifndef SRV_NOSPACE_H
#define SRV_NOSPACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Between two messages about one export, in milliseconds */
#define SRV_NOSPACE_MS 10000

/* Of an export, for all of its connections, whichever thread they belong to; zeroed at first */
struct srv_nospace {
	_Atomic int64_t quiet_until;
	atomic_uint kept; /* failures that have not been told of yet */
};

/*
 * A write has failed at @now: is it to be told at once?  If so *@kept others
 * have failed since the last message; if not it has been counted, and whoever
 * called is to ask srv_nospace_kept() SRV_NOSPACE_MS later.
 */
bool srv_nospace_failed(struct srv_nospace *n, int64_t now, unsigned int *kept);

/* How many have failed of which nobody has been told: the caller is to do so */
unsigned int srv_nospace_kept(struct srv_nospace *n, int64_t now);

#endif /* SRV_NOSPACE_H */
