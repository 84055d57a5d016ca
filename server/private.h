/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a client writes for itself alone: into a file without a name, which is
 * gone with its last connection.  Such a file is either all of the export
 * (`temporary`), or lies over the export's own data (`copyonwrite`), and a map
 * tells which blocks are in it.
 *
 * Connections that tell the same session share one; each other has its own.
 */
#ifndef SRV_PRIVATE_H
#define SRV_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/nbd-wire.h"
#include "server/backend.h"
#include "server/list.h"

/* The map of an export takes no more than this many bytes: large ones have large blocks */
#define SRV_COW_MAP_MAX	     (4u << 20)
#define SRV_COW_BLOCK_MIN    4096u
/* Sessions that are known to have lost what they had written */
#define SRV_PRIVATE_LOST_MAX 1024

/* A file without a name, and what it lies over.  Counted; never changed but for @map. */
struct srv_store {
	atomic_int refs;
	int fd;
	struct srv_backend *under; /* only read; NULL: none */
	uint32_t block;
	pthread_mutex_t lock;  /* held while blocks that are not in the file yet are put there */
	_Atomic uint64_t *map; /* of the blocks that are; bits are never taken away */
	size_t map_len;	       /* bytes */
};

/*
 * @dir/@name with something behind it is the file's name for the moment until it
 * has none.  Takes over @under, also when it fails; without it the file has @size
 * bytes.  NULL with errno set; *@what names the step.
 */
struct srv_store *srv_store_new(const char *dir, const char *name, struct srv_backend *under,
				uint64_t size, const char **what);
struct srv_store *srv_store_get(struct srv_store *store);
/* The last one may wait for the disk */
void srv_store_put(struct srv_store *store);

/*
 * One connection's view; it has its own reference.  Once @cancelled, nothing is
 * changed any more.  NULL with errno set.
 */
struct srv_backend *srv_store_open(struct srv_store *store, const atomic_bool *cancelled,
				   const char **what);

/* What a session has at an export, or has had */
struct srv_private {
	struct srv_list link;
	unsigned int users; /* 0: it is lost */
	struct srv_store *store;
	uint8_t session[NBD_WIRE_X_SESSION_ID_LEN];
	char export[]; /* its name */
};

/* Of a server */
struct srv_privates {
	pthread_mutex_t lock; /* of all below; never held while the disk is waited for */
	struct srv_list all;  /* the one that was lost first comes before others that are */
	unsigned int n_lost;
};

void srv_privates_init(struct srv_privates *p);
void srv_privates_destroy(struct srv_privates *p);

enum srv_private_result {
	SRV_PRIVATE_NEW,    /* the session has nothing there */
	SRV_PRIVATE_SHARED, /* *@entry is used by one more connection */
	SRV_PRIVATE_LOST,   /* it had something, which is gone */
};

enum srv_private_result srv_private_find(struct srv_privates *p, const char *export,
					 const uint8_t *session, struct srv_private **entry);
/*
 * The session's is @store, unless another connection was faster; *@entry, with
 * one more user, says what it is.  The same as srv_private_find(); never SRV_PRIVATE_NEW.
 */
enum srv_private_result srv_private_add(struct srv_privates *p, const char *export,
					const uint8_t *session, struct srv_store *store,
					struct srv_private **entry);
/*
 * One connection less.  With the last one what it had written is lost.  Does not
 * wait if a view is still open.
 */
void srv_private_leave(struct srv_privates *p, struct srv_private *entry);

#endif /* SRV_PRIVATE_H */
