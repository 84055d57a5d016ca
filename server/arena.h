/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory for the data of requests: one stretch of address space, set aside at
 * the start, from which blocks of 4 KiB times a power of two are taken.  So a
 * request allocates nothing, and all of them together have a bound.  An arena
 * belongs to one thread.
 */
#ifndef SRV_ARENA_H
#define SRV_ARENA_H

#include <stddef.h>
#include <stdint.h>

#define SRV_ARENA_PAGE	4096u
#define SRV_ARENA_ORDER 13 /* of the largest block: 32 MiB */
#define SRV_ARENA_MAX	((size_t)SRV_ARENA_PAGE << SRV_ARENA_ORDER)

struct srv_arena {
	uint8_t *base;
	uint32_t pages;
	uint32_t *next, *prev; /* free blocks of one order, by their first pages */
	uint8_t *state;	       /* of each page, see arena.c */
	uint32_t free[SRV_ARENA_ORDER + 1];
	size_t used; /* bytes in blocks taken */
	size_t warm; /* at most this much has been touched since the last trim */
};

/* @bytes is rounded down to whole largest blocks, but to one at least.  0 or a negative errno. */
int srv_arena_init(struct srv_arena *a, size_t bytes);
void srv_arena_destroy(struct srv_arena *a);

/* What a block of @len bytes takes */
size_t srv_arena_size(size_t len);

/* A block of @len bytes, at most SRV_ARENA_MAX; NULL when there is none at present */
void *srv_arena_get(struct srv_arena *a, size_t len);
void srv_arena_put(struct srv_arena *a, void *block);

/* Give the memory of all free blocks back to the system */
void srv_arena_trim(struct srv_arena *a);

#endif /* SRV_ARENA_H */
