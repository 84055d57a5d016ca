/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Swap exports: a section of the configuration with `swapdir` stands for many
 * exports, each a file NAME.swap of its own in that directory.  It is made when
 * a client first uses the name, and removed when nobody has for a while.
 *
 *  swap-name.c  what needs no file: names, patterns, sums and times
 *  swap-file.c  the directory: one system call after the other, no memory
 *  swap.c       who has which file: names, sessions, quota, grace
 */
#ifndef SRV_SWAP_H
#define SRV_SWAP_H

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/list.h"
#include "server/nospace.h"

/* With what a file's name has around it still a file name everywhere */
#define SRV_SWAP_NAME_MAX 200
#define SRV_SWAP_SUFFIX	  ".swap"
/* Sessions of a directory that are known to have lost their file */
#define SRV_SWAP_LOST_MAX 256
#define SRV_SWAP_ID_LEN	  16

struct srv_config;
struct srv_export;

/* Who uses a file; compared byte by byte, so zero all of it first */
enum srv_swap_owner_kind {
	SRV_OWNER_NONE, /* nobody yet, or it is not known: found when the server was started */
	SRV_OWNER_SESSION,
	SRV_OWNER_IPV4, /* who tells no session is known by its address */
	SRV_OWNER_IPV6,
	SRV_OWNER_LOCAL,
};

struct srv_swap_owner {
	uint8_t kind;
	uint8_t id[SRV_SWAP_ID_LEN];
};

/* One client's file.  It lives for as long as it has users, or is in its directory. */
struct srv_swap_file {
	struct srv_swap_dir *dir;
	struct srv_nospace nospace;
	/* swaps->lock: */
	struct srv_swap_owner owner; /* of the connections, or of the last one */
	uint64_t size;
	unsigned int users; /* connections */
	int64_t idle_since; /* without any, srv_now_ms() */
	bool busy;	    /* being made, opened or removed, by one thread without the lock */
	char name[];	    /* the export's; never changes */
};

struct srv_swap_dir {
	struct srv_swaps *swaps;
	char *path;
	int fd; /* locked: another server would remove what is ours */
	uint64_t id[2];
	/* swaps->lock: */
	struct srv_list link;
	int refs;	   /* of configurations, and of whoever is in the middle of something */
	bool in_force;	   /* the configuration for new clients has it */
	uint64_t grace;	   /* seconds, as that one says */
	GPtrArray *files;  /* struct srv_swap_file *, by name */
	uint64_t promised; /* the sum of their sizes */
	uint8_t lost[SRV_SWAP_LOST_MAX][SRV_SWAP_ID_LEN];
	unsigned int n_lost; /* counts on; the oldest ones are overwritten */
};

/* Of a server */
struct srv_swaps {
	pthread_mutex_t lock;	/* taken after srv->lock; never held while the disk is waited for */
	pthread_cond_t changed; /* a file is not busy any longer */
	pthread_cond_t wake;	/* for the thread that removes files */
	struct srv_list dirs;
	int64_t patience; /* with a file that somebody has in hand, in ms; never changed in use */
	pthread_t thread;
	bool running;
	bool quit;
};

/* swap-name.c */

/* Is the section's name one with a *? */
bool srv_swap_is_pattern(const char *section);
/* The * stands for one byte or more */
bool srv_swap_matches(const char *pattern, const char *name);
/* NULL, or why no file may have this name */
const char *srv_swap_bad_name(const char *name);
/* May @size more be promised?  @quota 0 sets no limit. */
bool srv_swap_fits(uint64_t promised, uint64_t size, uint64_t quota);
/* Milliseconds until a file idle since then is to be removed; 0: now */
int64_t srv_swap_left(int64_t idle_since, uint64_t grace, int64_t now);

/* swap-file.c: each returns a negative errno when it fails, and *@what then names the step */

/* The directory, locked */
int srv_swap_dir_open(const char *path, const char **what);
/* A file that is there; *@size becomes its size.  -ENOENT: there is none. */
int srv_swap_file_open(int dir, const char *name, uint64_t *size, const char **what);
/* A new one.  Nobody ever sees it under its name before it is complete. */
int srv_swap_file_create(int dir, const char *name, uint64_t size, bool preallocate,
			 const char **what);
int srv_swap_file_remove(int dir, const char *name);
/*
 * Note with the file which session has it, or that none has (NULL), for the next
 * server.  A file system without extended attributes is no failure.
 */
int srv_swap_file_note(int fd, const uint8_t *session, const char **what);
/* Every file of the directory with its session or NULL, and remove what a crash has left half made */
typedef void (*srv_swap_found_fn)(void *ctx, const char *name, uint64_t size,
				  const uint8_t *session);
int srv_swap_dir_scan(int dir, srv_swap_found_fn found, void *ctx, const char **what);

/* swap.c */

void srv_swaps_init(struct srv_swaps *swaps);
/* Only once no configuration and no connection is left that has a directory */
void srv_swaps_destroy(struct srv_swaps *swaps);

/*
 * Open the directories that a new configuration names, before anybody else
 * knows it; they go with it.  Says what fails.  0 or -1.
 */
int srv_swaps_bind(struct srv_swaps *swaps, struct srv_config *config);
/* It is now the one for new clients: its directories are looked after, and no others */
void srv_swaps_in_force(struct srv_swaps *swaps, const struct srv_config *config);
/* Have files removed from now on, if there is a directory.  0 or a negative errno. */
int srv_swaps_run(struct srv_swaps *swaps);
void srv_swap_dir_put(struct srv_swap_dir *dir);

enum srv_swap_result {
	SRV_SWAP_OK,
	SRV_SWAP_IN_USE, /* by another client */
	SRV_SWAP_LOST,	 /* what this session had written is there no longer */
	SRV_SWAP_QUOTA,
	SRV_SWAP_FAILED, /* @what failed with @error */
};

struct srv_swap_opened {
	struct srv_swap_file *file;
	int fd;
	bool created;
	uint64_t size;
	uint64_t promised; /* SRV_SWAP_QUOTA: by the files there are */
	const char *what;
	int error;
};

/*
 * The file of a name for one more connection of @who, made if need be; for the
 * pool, as it waits for the disk.  Its end is to be told by srv_swap_leave().
 */
enum srv_swap_result srv_swap_open(const struct srv_export *export, const char *name,
				   const struct srv_swap_owner *who, struct srv_swap_opened *o);
/* What that would say now, and the size; nothing is made */
enum srv_swap_result srv_swap_look(const struct srv_export *export, const char *name,
				   const struct srv_swap_owner *who, struct srv_swap_opened *o);
/* The connection uses it no longer, whoever may still have it open.  Does not wait. */
void srv_swap_leave(struct srv_swap_file *file);

/* What is known of a file at a moment */
struct srv_swap_info {
	char name[SRV_SWAP_NAME_MAX + 1];
	struct srv_swap_owner owner;
	uint64_t size;
	unsigned int users;
	int64_t left; /* milliseconds until it is removed, if nobody comes */
};

/*
 * The next file after info->name in a section's directory, also one that only
 * an older name of the section matches; false past the last
 */
bool srv_swap_next_file(const struct srv_export *export, struct srv_swap_info *info);

/* All files of a section's directory together */
struct srv_swap_sums {
	unsigned int files;
	unsigned int used;
	uint64_t promised;
};

void srv_swap_sum(const struct srv_export *export, struct srv_swap_sums *sums);

/* The next name after @name that a section has a file for, into @name; false past the last */
bool srv_swap_next(const struct srv_export *export, char name[SRV_SWAP_NAME_MAX + 1]);

#endif /* SRV_SWAP_H */
