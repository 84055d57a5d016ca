// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/nospace.h"

bool srv_nospace_failed(struct srv_nospace *n, int64_t now, unsigned int *kept)
{
	int64_t until = atomic_load(&n->quiet_until);

	/* Of several threads that come at the same time one tells */
	if (now < until ||
	    !atomic_compare_exchange_strong(&n->quiet_until, &until, now + SRV_NOSPACE_MS)) {
		atomic_fetch_add(&n->kept, 1);
		return false;
	}
	*kept = atomic_exchange(&n->kept, 0);
	return true;
}

unsigned int srv_nospace_kept(struct srv_nospace *n, int64_t now)
{
	unsigned int kept = atomic_exchange(&n->kept, 0);

	if (kept)
		atomic_store(&n->quiet_until, now + SRV_NOSPACE_MS);
	return kept;
}
