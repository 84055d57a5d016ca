// SPDX-License-Identifier: GPL-2.0-or-later
/* A buddy allocator: two free halves of a block become the block again. */
#include "server/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define NONE	  UINT32_MAX
#define ONE_BLOCK (1u << SRV_ARENA_ORDER) /* pages */

/* State of a page: the order of the block it is the first one of, or that it is none */
#define INSIDE	  0xff
#define FREE	  0x80 /* with the order: the block is free */

/* Larger blocks give their memory back at once: requests as large as that are rare */
#define KEEP	  (1u << 20)

static unsigned int order_of(size_t len)
{
	unsigned int order = 0;

	while (((size_t)SRV_ARENA_PAGE << order) < len)
		order++;
	return order;
}

static void push(struct srv_arena *a, uint32_t page, unsigned int order)
{
	uint32_t first = a->free[order];

	a->state[page] = (uint8_t)(FREE | order);
	a->next[page] = first;
	a->prev[page] = NONE;
	if (first != NONE)
		a->prev[first] = page;
	a->free[order] = page;
}

static void take_off(struct srv_arena *a, uint32_t page, unsigned int order)
{
	if (a->prev[page] == NONE)
		a->free[order] = a->next[page];
	else
		a->next[a->prev[page]] = a->next[page];
	if (a->next[page] != NONE)
		a->prev[a->next[page]] = a->prev[page];
	a->state[page] = INSIDE;
}

int srv_arena_init(struct srv_arena *a, size_t bytes)
{
	size_t blocks = bytes / SRV_ARENA_MAX;
	uint32_t page;
	int i;

	*a = (struct srv_arena){ 0 };
	if (!blocks)
		blocks = 1;
	if (blocks > UINT32_MAX / ONE_BLOCK - 1)
		return -ENOMEM;
	a->pages = (uint32_t)blocks * ONE_BLOCK;
	for (i = 0; i <= SRV_ARENA_ORDER; i++)
		a->free[i] = NONE;
	a->base = mmap(NULL, (size_t)a->pages * SRV_ARENA_PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (a->base == MAP_FAILED) {
		a->base = NULL;
		return -errno;
	}
	a->next = calloc(a->pages, sizeof(*a->next));
	a->prev = calloc(a->pages, sizeof(*a->prev));
	a->state = malloc(a->pages);
	if (!a->next || !a->prev || !a->state) {
		srv_arena_destroy(a);
		return -ENOMEM;
	}
	for (page = 0; page < a->pages; page++)
		a->state[page] = INSIDE;
	for (page = a->pages; page; page -= ONE_BLOCK)
		push(a, page - ONE_BLOCK, SRV_ARENA_ORDER);
	return 0;
}

void srv_arena_destroy(struct srv_arena *a)
{
	if (a->base)
		munmap(a->base, (size_t)a->pages * SRV_ARENA_PAGE);
	free(a->next);
	free(a->prev);
	free(a->state);
	*a = (struct srv_arena){ 0 };
}

size_t srv_arena_size(size_t len)
{
	return (size_t)SRV_ARENA_PAGE << order_of(len);
}

void *srv_arena_get(struct srv_arena *a, size_t len)
{
	unsigned int want = order_of(len), order = want;
	uint32_t page;

	while (order <= SRV_ARENA_ORDER && a->free[order] == NONE)
		order++;
	if (order > SRV_ARENA_ORDER)
		return NULL;
	page = a->free[order];
	take_off(a, page, order);
	while (order > want) {
		order--;
		push(a, page + (1u << order), order);
	}
	a->state[page] = (uint8_t)want;
	a->used += (size_t)SRV_ARENA_PAGE << want;
	if (a->warm < a->used)
		a->warm = a->used;
	return a->base + (size_t)page * SRV_ARENA_PAGE;
}

void srv_arena_put(struct srv_arena *a, void *block)
{
	uint32_t page = (uint32_t)((size_t)((uint8_t *)block - a->base) / SRV_ARENA_PAGE);
	unsigned int order = a->state[page];
	uint32_t buddy;

	a->used -= (size_t)SRV_ARENA_PAGE << order;
	if (((size_t)SRV_ARENA_PAGE << order) > KEEP)
		madvise(block, (size_t)SRV_ARENA_PAGE << order, MADV_DONTNEED);
	a->state[page] = INSIDE;
	while (order < SRV_ARENA_ORDER) {
		buddy = page ^ (1u << order);
		if (a->state[buddy] != (FREE | order))
			break;
		take_off(a, buddy, order);
		if (buddy < page)
			page = buddy;
		order++;
	}
	push(a, page, order);
}

void srv_arena_trim(struct srv_arena *a)
{
	unsigned int order;
	uint32_t page;

	for (order = 0; order <= SRV_ARENA_ORDER; order++) {
		for (page = a->free[order]; page != NONE; page = a->next[page])
			madvise(a->base + (size_t)page * SRV_ARENA_PAGE,
				(size_t)SRV_ARENA_PAGE << order, MADV_DONTNEED);
	}
	a->warm = a->used;
}
