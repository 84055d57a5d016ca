/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that the kernel keeps free while devices carry swap:
 * vm.min_free_kbytes, raised by the first device and put back by the last.
 *
 * Swapping out needs memory before it gives memory, and what the network card
 * cannot get for its receive buffers the server's answers cannot arrive in.
 * The kernel's default is made for disks.
 */
#ifndef CLIENT_RESERVE_H
#define CLIENT_RESERVE_H

struct client_reserve {
	const char *sysctl; /* file to read and write, in kB */
	const char *state;  /* directory that outlives us until the next boot */
};

extern const struct client_reserve client_reserve_system;

/*
 * What a device with so many links is worth, kB.  A link's socket holds at most
 * 512 KiB each way and as much again in bookkeeping; the rest is for one ring of
 * receive buffers and for what other packets take while it lasts.  Three eighths
 * of vm.min_free_kbytes are out of everybody else's reach.
 */
unsigned long client_reserve_need(unsigned int links);

/*
 * Hold it for device index; at most a quarter of the machine's memory in all.
 * 0 with *from and *to, in kB, the same if nothing had to change; -1 with errno.
 */
int client_reserve_hold(const struct client_reserve *where, int index, unsigned int links,
			unsigned long *from, unsigned long *to);

/* Give it back; nothing happens if none was held. 0, or -1 with errno. */
int client_reserve_drop(const struct client_reserve *where, int index);

#endif /* CLIENT_RESERVE_H */
