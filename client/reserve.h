/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that the kernel keeps free while devices carry swap:
 * vm.min_free_kbytes, raised by the first device and put back by the last.
 *
 * Swapping out needs memory before it gives memory, and what the network card
 * cannot get for its receive buffers the server's answers cannot arrive in.
 * The kernel's default is made for disks.
 *
 * And vm.watermark_boost_factor, which is 0 meanwhile: with it every mixing of
 * kinds of pages in a block raises the watermarks, up to two and a half times.
 * From min_free that is much already, that took more than half of a small
 * machine's memory away, until the OOM killer came though 71 of 126 MB were free.
 */
#ifndef CLIENT_RESERVE_H
#define CLIENT_RESERVE_H

#include <stdint.h>

struct client_reserve {
	const char *sysctl;  /* file to read and write, in kB */
	const char *boost;   /* the same for the boost, in 1/10000; may be missing */
	const char *state;   /* directory that outlives us until the next boot */
	const char *meminfo; /* file that tells how much memory there is */
};

extern const struct client_reserve client_reserve_system;

/* What a device needs, as its driver says, kB */
struct client_reserve_share {
	unsigned long reserve;	/* of the kernel's reserve, it may use at most */
	unsigned long min_free; /* vm.min_free_kbytes that keeps so much for it alone */
};

/*
 * From bytes; a driver that tells nothing of it gets what so many links were worth once.
 * Of what the kernel keeps itself only the rest counts, which is min_free.
 */
struct client_reserve_share client_reserve_share(uint64_t reserve, uint64_t min_free,
						 uint64_t registered, unsigned int links);

/*
 * vm.min_free_kbytes for several devices, kB.  Their reserves add up, but what
 * others may take meanwhile and what is set aside for interrupts is in the
 * min_free of each and counts once.  Since min_free grows by no more than 8/3 of
 * the reserve, any one device's min_free and 8/3 of the reserve of all others is
 * enough.  0 if no device needs any, else at least CLIENT_RESERVE_FLOOR.
 */
unsigned long client_reserve_sum(const struct client_reserve_share *share, unsigned int n);
#define CLIENT_RESERVE_FLOOR 8192ul

/* A quarter of the machine's memory, kB: never more than that; 0: unknown */
unsigned long client_reserve_most(const struct client_reserve *where);

struct client_reserve_change {
	unsigned long from, to; /* the same if nothing had to change */
	unsigned long need;	/* what all devices need, more than to if that is too much */
};

/* Hold it for device index. 0, or -1 with errno; change->need is set in both cases. */
int client_reserve_hold(const struct client_reserve *where, int index,
			const struct client_reserve_share *share,
			struct client_reserve_change *change);

/* Give it back; nothing happens if none was held. 0, or -1 with errno. */
int client_reserve_drop(const struct client_reserve *where, int index);

#endif /* CLIENT_RESERVE_H */
