/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an export's data lives in.  Offsets and lengths have been checked
 * against the size.  Every operation returns 0 or a negative errno, has done
 * all of it or tells why not, and may be called by several threads at once.
 * Those made of several changes ask srv_backend_cancelled() before each, and
 * return -ECANCELED.
 */
#ifndef SRV_BACKEND_H
#define SRV_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct srv_backend;

struct srv_backend_ops {
	int (*read)(struct srv_backend *b, void *buf, uint32_t len, uint64_t offset);
	/* Only what costs no wait: -EAGAIN when it would, -EOPNOTSUPP when that is never known */
	int (*read_cached)(struct srv_backend *b, void *buf, uint32_t len, uint64_t offset);
	/* @fua: the data is stable before this returns */
	int (*write)(struct srv_backend *b, const void *buf, uint32_t len, uint64_t offset,
		     bool fua);
	int (*flush)(struct srv_backend *b);
	int (*trim)(struct srv_backend *b, uint64_t len, uint64_t offset, bool fua);
	/* @keep: space must stay allocated */
	int (*zero)(struct srv_backend *b, uint64_t len, uint64_t offset, bool keep, bool fua);
	/* The same, but only if that is faster than writing: or -EOPNOTSUPP, and nothing is changed */
	int (*fast_zero)(struct srv_backend *b, uint64_t len, uint64_t offset, bool keep, bool fua);
	/* A hint that the range will be read soon */
	int (*cache)(struct srv_backend *b, uint64_t len, uint64_t offset);
	/* How far what begins at @offset goes, up to @len; *@hole: it takes no space, and reads as zero */
	int (*extent)(struct srv_backend *b, uint64_t *len, uint64_t offset, bool *hole);
	void (*close)(struct srv_backend *b);
};

struct srv_backend {
	const struct srv_backend_ops *ops;
	uint64_t size;
	uint32_t min_block;	  /* powers of two: what offsets and lengths are multiples of */
	uint32_t preferred_block; /* and 4096 or more */
	/* Reads, writes and fdatasync() of this descriptor are what the operations do; or -1 */
	int ring_fd;
	bool in_memory;		      /* reading and writing it waits for no disk */
	bool remote;		      /* it waits for other machines, perhaps for very long */
	atomic_bool lost;	      /* it can never be used again: its connection is to end */
	uint64_t id[2];		      /* the same for two that share their data */
	const atomic_bool *cancelled; /* set by whoever opened it, or NULL */
};

/* Is nothing more to be changed, also not the rest of what has been begun? */
static inline bool srv_backend_cancelled(const struct srv_backend *b)
{
	return b->cancelled && atomic_load(b->cancelled);
}

/*
 * A file or block device.  With @create a missing file is made, of @size
 * bytes; @size 0 takes the size it has.  Returns NULL with errno set; *@what
 * then names the step that failed.
 */
struct srv_backend *srv_file_open(const char *path, bool readonly, uint64_t size,
				  const char **what);

/* The same for a file that is open, of the size it has; takes over @fd when it succeeds */
struct srv_backend *srv_file_adopt(int fd, const char **what);

/* The largest blocks that a file may need without the page cache */
#define SRV_DIRECT_MAX 4096

/*
 * Do without the page cache from now on: memory of requests is aligned to pages,
 * and ->min_block says what else is.  0 or a negative errno; -EMSGSIZE: the size
 * is not a multiple of that.
 */
int srv_file_direct(struct srv_backend *b, const char **what);
/* Files of one export; each takes a descriptor of every client */
#define SRV_MULTI_MAX 256

/*
 * The files PATH.0, PATH.1 and so on, one behind the other.  @size bytes of them;
 * if there is none PATH.0 is made with so many.  The same.
 */
struct srv_backend *srv_multi_open(const char *path, bool readonly, uint64_t size,
				   const atomic_bool *cancelled, const char **what);

/*
 * A directory with a file for each block that has been written, as the reference
 * implementation has them.  The same, except that @size is needed.
 */
struct srv_backend *srv_tree_open(const char *path, bool readonly, uint64_t size,
				  const char **what);

#endif /* SRV_BACKEND_H */
