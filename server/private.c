// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file that nobody else can find.  A descriptor or a negative errno. */
static int open_nameless(const char *dir, const char *name, uint64_t size)
{
	char path[PATH_MAX];
	int fd, ret;

	if ((size_t)snprintf(path, sizeof(path), "%s/%.200s.XXXXXX", dir, name) >= sizeof(path))
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!unlink(path) && !ftruncate(fd, (off_t)size))
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

/* A bit for each block; memory is taken as it is used */
static int make_map(struct srv_store *store)
{
	uint64_t size = store->under->size, words;
	void *map;

	store->block = SRV_COW_BLOCK_MIN;
	if (store->under->preferred_block > store->block)
		store->block = store->under->preferred_block;
	while (size > SRV_COW_MAP_MAX * 8ull * store->block)
		store->block *= 2;
	words = (size - (size > 0)) / store->block / 64 + 1;
	map = mmap(NULL, words * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return -errno;
	store->map = map;
	store->map_len = words * 8;
	return 0;
}

struct srv_store *srv_store_new(const char *dir, const char *name, struct srv_backend *under,
				uint64_t size, const char **what)
{
	struct srv_store *store = calloc(1, sizeof(*store));
	int ret;

	*what = "allocate memory for";
	if (!store) {
		if (under)
			under->ops->close(under);
		return NULL;
	}
	atomic_init(&store->refs, 1);
	pthread_mutex_init(&store->lock, NULL);
	store->fd = -1;
	store->under = under;
	ret = under ? make_map(store) : 0;
	if (!ret) {
		*what = "make a file for what a client writes at";
		ret = open_nameless(dir, name, under ? under->size : size);
	}
	if (ret < 0) {
		srv_store_put(store);
		errno = -ret;
		return NULL;
	}
	store->fd = ret;
	return store;
}

struct srv_store *srv_store_get(struct srv_store *store)
{
	atomic_fetch_add(&store->refs, 1);
	return store;
}

void srv_store_put(struct srv_store *store)
{
	if (atomic_fetch_sub(&store->refs, 1) > 1)
		return;
	if (store->fd >= 0)
		close(store->fd);
	if (store->under)
		store->under->ops->close(store->under);
	if (store->map)
		munmap(store->map, store->map_len);
	pthread_mutex_destroy(&store->lock);
	free(store);
}

void srv_privates_init(struct srv_privates *p)
{
	*p = (struct srv_privates){ 0 };
	pthread_mutex_init(&p->lock, NULL);
	srv_list_init(&p->all);
}

void srv_privates_destroy(struct srv_privates *p)
{
	struct srv_list *link;

	while ((link = srv_list_take(&p->all)))
		free(srv_entry(link, struct srv_private, link));
	pthread_mutex_destroy(&p->lock);
}

/* p->lock is held */
static enum srv_private_result find(struct srv_privates *p, const char *export,
				    const uint8_t *session, struct srv_private **entry)
{
	struct srv_private *e;
	struct srv_list *link;

	for (link = p->all.next; link != &p->all; link = link->next) {
		e = srv_entry(link, struct srv_private, link);
		if (memcmp(e->session, session, sizeof(e->session)) || strcmp(e->export, export))
			continue;
		if (!e->users)
			return SRV_PRIVATE_LOST;
		e->users++;
		*entry = e;
		return SRV_PRIVATE_SHARED;
	}
	return SRV_PRIVATE_NEW;
}

enum srv_private_result srv_private_find(struct srv_privates *p, const char *export,
					 const uint8_t *session, struct srv_private **entry)
{
	enum srv_private_result result;

	pthread_mutex_lock(&p->lock);
	result = find(p, export, session, entry);
	pthread_mutex_unlock(&p->lock);
	return result;
}

enum srv_private_result srv_private_add(struct srv_privates *p, const char *export,
					const uint8_t *session, struct srv_store *store,
					struct srv_private **entry)
{
	struct srv_private *e = calloc(1, sizeof(*e) + strlen(export) + 1);
	enum srv_private_result result;

	/* Who cannot be remembered cannot be told later what it has lost */
	if (!e)
		return SRV_PRIVATE_LOST;
	pthread_mutex_lock(&p->lock);
	result = find(p, export, session, entry);
	if (result == SRV_PRIVATE_NEW) {
		e->users = 1;
		e->store = srv_store_get(store);
		memcpy(e->session, session, sizeof(e->session));
		strcpy(e->export, export);
		srv_list_init(&e->link);
		srv_list_add(&p->all, &e->link);
		*entry = e;
		e = NULL;
		result = SRV_PRIVATE_SHARED;
	}
	pthread_mutex_unlock(&p->lock);
	free(e);
	return result;
}

/* The entry that was lost first; p->lock is held */
static void forget_one(struct srv_privates *p)
{
	struct srv_private *e;
	struct srv_list *link;

	for (link = p->all.next; link != &p->all; link = link->next) {
		e = srv_entry(link, struct srv_private, link);
		if (e->users)
			continue;
		srv_list_del(link);
		free(e);
		p->n_lost--;
		return;
	}
}

void srv_private_leave(struct srv_privates *p, struct srv_private *entry)
{
	struct srv_store *store = NULL;

	pthread_mutex_lock(&p->lock);
	if (!--entry->users) {
		store = entry->store;
		entry->store = NULL;
		/* Behind those that were lost before */
		srv_list_del(&entry->link);
		srv_list_add(&p->all, &entry->link);
		if (++p->n_lost > SRV_PRIVATE_LOST_MAX)
			forget_one(p);
	}
	pthread_mutex_unlock(&p->lock);
	if (store)
		srv_store_put(store);
}
