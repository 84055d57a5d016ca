/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Doubly linked lists of things that hold their own links. */
#ifndef SRV_LIST_H
#define SRV_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct srv_list {
	struct srv_list *next, *prev;
};

/* The structure that holds a link */
#define srv_entry(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* A head without items, or an item on no list */
static inline void srv_list_init(struct srv_list *l)
{
	l->next = l;
	l->prev = l;
}

/* Of a head: are there no items?  Of an item: is it on no list? */
static inline bool srv_list_empty(const struct srv_list *l)
{
	return l->next == l;
}

static inline void srv_list_del(struct srv_list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	srv_list_init(item);
}

/* Put an item last, unless it is on a list already */
static inline void srv_list_add(struct srv_list *head, struct srv_list *item)
{
	if (!srv_list_empty(item))
		return;
	item->prev = head->prev;
	item->next = head;
	head->prev->next = item;
	head->prev = item;
}

/* Take the first item off; NULL when there is none */
static inline struct srv_list *srv_list_take(struct srv_list *head)
{
	struct srv_list *first = head->next;

	if (first == head)
		return NULL;
	srv_list_del(first);
	return first;
}

#endif /* SRV_LIST_H */
