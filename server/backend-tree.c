// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A directory with a file for each block.  In each directory there are at most
 * FANOUT files FILExxxx or directories TREExxxx; how many levels of the latter
 * there are depends on the size.  A block without a file holds zeroes.
 *
 * Nothing is kept open but the directory itself, so every block costs an open():
 * this is for file systems that cannot do better, not for speed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/nbd-wire.h"
#include "server/backend.h"

#define BLOCK	   4096u
#define FANOUT	   1024u
/* More would be beyond 2^63 bytes */
#define MAX_LEVELS 5
#define NAME_LEN   (sizeof("TREE03FF/") - 1)

struct tree {
	struct srv_backend base;
	int dir;
	unsigned int levels;
};

struct tree_path {
	char text[(MAX_LEVELS + 1) * NAME_LEN + 1];
};

static struct tree *to_tree(struct srv_backend *b)
{
	return (struct tree *)b;
}

static struct tree_path path_of(const struct tree *t, uint64_t block)
{
	unsigned int level = t->levels;
	uint64_t index = block;
	struct tree_path p;
	char *at = p.text + level * NAME_LEN;

	snprintf(at, NAME_LEN, "FILE%04X", (unsigned int)(index % FANOUT));
	while (level--) {
		char name[NAME_LEN + 1];

		index /= FANOUT;
		at -= NAME_LEN;
		snprintf(name, sizeof(name), "TREE%04X/", (unsigned int)(index % FANOUT));
		memcpy(at, name, NAME_LEN);
	}
	return p;
}

/* Open a block's file; -ENOENT when it has none */
static int open_block(const struct tree *t, const struct tree_path *p, int flags)
{
	int fd;

	do {
		fd = openat(t->dir, p->text, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

/* The directories that a block's file is in */
static int make_dirs(const struct tree *t, const struct tree_path *p)
{
	struct tree_path part = *p;
	unsigned int level;

	for (level = 1; level <= t->levels; level++) {
		part.text[level * NAME_LEN - 1] = 0;
		if (mkdirat(t->dir, part.text, 0700) < 0 && errno != EEXIST)
			return -errno;
		part.text[level * NAME_LEN - 1] = '/';
	}
	return 0;
}

/* Open a block's file to write it, made if need be */
static int create_block(const struct tree *t, const struct tree_path *p)
{
	int fd = open_block(t, p, O_WRONLY | O_CREAT), ret;

	if (fd != -ENOENT)
		return fd;
	ret = make_dirs(t, p);
	return ret ? ret : open_block(t, p, O_WRONLY | O_CREAT);
}

static int pread_all(int fd, uint8_t *buf, uint32_t len, uint32_t offset)
{
	ssize_t n;

	while (len) {
		n = pread(fd, buf, len, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n) {
			/* Its end is where it has been written last */
			memset(buf, 0, len);
			return 0;
		}
		buf += n;
		offset += (uint32_t)n;
		len -= (uint32_t)n;
	}
	return 0;
}

static int pwrite_all(int fd, const uint8_t *buf, uint32_t len, uint32_t offset)
{
	ssize_t n;

	while (len) {
		n = pwrite(fd, buf, len, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENOSPC;
		buf += n;
		offset += (uint32_t)n;
		len -= (uint32_t)n;
	}
	return 0;
}

/* What of the range is in its first block */
static uint32_t piece(uint64_t offset, uint64_t len)
{
	uint32_t n = BLOCK - (uint32_t)(offset % BLOCK);

	return n < len ? n : (uint32_t)len;
}

/* Is the directory so many levels below the top missing that the block's file would be in? */
static bool is_missing(const struct tree *t, struct tree_path p, unsigned int level)
{
	p.text[level * NAME_LEN - 1] = 0;
	return faccessat(t->dir, p.text, F_OK, 0) < 0 && errno == ENOENT;
}

/*
 * How much of a range that begins with a block's first byte lies in a directory
 * that is not there, the highest one, so that there is no need to look for each
 * file; 0: none
 */
static uint64_t absent(const struct tree *t, uint64_t offset, uint64_t len)
{
	uint64_t span = (uint64_t)FANOUT * BLOCK, left;
	unsigned int level = t->levels;
	struct tree_path p;

	if (!level || offset % BLOCK)
		return 0;
	p = path_of(t, offset / BLOCK);
	if (!is_missing(t, p, level))
		return 0;
	for (; level > 1 && is_missing(t, p, level - 1); level--)
		span *= FANOUT;
	left = span - offset % span;
	return left < len ? left : len;
}

static int tree_read(struct srv_backend *b, void *buf, uint32_t len, uint64_t offset)
{
	struct tree *t = to_tree(b);
	struct tree_path p;
	uint32_t done, n;
	int fd, ret;

	for (done = 0; done < len; done += n, offset += n) {
		n = piece(offset, len - done);
		p = path_of(t, offset / BLOCK);
		fd = open_block(t, &p, O_RDONLY);
		if (fd == -ENOENT) {
			memset((uint8_t *)buf + done, 0, n);
			continue;
		}
		if (fd < 0)
			return fd;
		ret = pread_all(fd, (uint8_t *)buf + done, n, (uint32_t)(offset % BLOCK));
		close(fd);
		if (ret)
			return ret;
	}
	return 0;
}

static int tree_read_cached(struct srv_backend *b, void *buf, uint32_t len, uint64_t offset)
{
	(void)b, (void)buf, (void)len, (void)offset;
	return -EOPNOTSUPP; /* an open() may wait for anything */
}

/* Files, directories and their data: there is no telling which of them are on the disk already */
static int tree_flush(struct srv_backend *b)
{
	if (srv_backend_cancelled(b))
		return -ECANCELED;
	return syncfs(to_tree(b)->dir) < 0 ? -errno : 0;
}

/* The reference implementation's files are whole blocks, and so are ours */
static int write_block(int fd, const uint8_t *buf, uint32_t len, uint32_t offset, bool fua)
{
	struct stat st;
	int ret;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < BLOCK && ftruncate(fd, BLOCK) < 0)
		return -errno;
	ret = pwrite_all(fd, buf, len, offset);
	/* Beside tree_flush(): some file systems over a network know nothing else */
	if (!ret && fua && fsync(fd) < 0)
		ret = -errno;
	return ret;
}

static int tree_write(struct srv_backend *b, const void *buf, uint32_t len, uint64_t offset,
		      bool fua)
{
	struct tree *t = to_tree(b);
	struct tree_path p;
	uint32_t done, n;
	int fd, ret;

	for (done = 0; done < len; done += n, offset += n) {
		if (srv_backend_cancelled(b))
			return -ECANCELED;
		n = piece(offset, len - done);
		p = path_of(t, offset / BLOCK);
		fd = create_block(t, &p);
		if (fd < 0)
			return fd;
		ret = write_block(fd, (const uint8_t *)buf + done, n, (uint32_t)(offset % BLOCK),
				  fua);
		/* Where it says what has failed, if the file system is one over a network */
		if (close(fd) < 0 && !ret && errno != EINTR)
			ret = -errno;
		if (ret)
			return ret;
	}
	return fua ? tree_flush(b) : 0;
}

/* A part of a block, if it has a file */
static int zero_part(const struct tree *t, const struct tree_path *p, uint64_t offset, uint32_t len)
{
	static const uint8_t zeroes[BLOCK];
	int fd = open_block(t, p, O_WRONLY), ret;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	ret = write_block(fd, zeroes, len, (uint32_t)(offset % BLOCK), false);
	if (close(fd) < 0 && !ret && errno != EINTR)
		ret = -errno;
	return ret;
}

/* Remove the files of whole blocks; with @zero, the rest is zeroed */
static int clear(struct srv_backend *b, uint64_t len, uint64_t offset, bool zero)
{
	struct tree *t = to_tree(b);
	struct tree_path p;
	uint64_t done, n;
	int ret;

	for (done = 0; done < len; done += n, offset += n) {
		if (srv_backend_cancelled(b))
			return -ECANCELED;
		n = absent(t, offset, len - done);
		if (n)
			continue;
		n = piece(offset, len - done);
		p = path_of(t, offset / BLOCK);
		ret = 0;
		if (n == BLOCK)
			ret = unlinkat(t->dir, p.text, 0) < 0 && errno != ENOENT ? -errno : 0;
		else if (zero)
			ret = zero_part(t, &p, offset, (uint32_t)n);
		if (ret)
			return ret;
	}
	return 0;
}

static int tree_trim(struct srv_backend *b, uint64_t len, uint64_t offset, bool fua)
{
	int ret = clear(b, len, offset, false);

	return ret || !fua ? ret : tree_flush(b);
}

static int write_zeroes(struct srv_backend *b, uint64_t len, uint64_t offset)
{
	static const uint8_t zeroes[16 * BLOCK];
	uint64_t done;
	uint32_t n;
	int ret = 0;

	for (done = 0; done < len && !ret; done += n) {
		n = len - done < sizeof(zeroes) ? (uint32_t)(len - done) : (uint32_t)sizeof(zeroes);
		ret = tree_write(b, zeroes, n, offset + done, false);
	}
	return ret;
}

static int tree_zero(struct srv_backend *b, uint64_t len, uint64_t offset, bool keep, bool fua)
{
	int ret = keep ? write_zeroes(b, len, offset) : clear(b, len, offset, true);

	return ret || !fua ? ret : tree_flush(b);
}

static int tree_fast_zero(struct srv_backend *b, uint64_t len, uint64_t offset, bool keep, bool fua)
{
	(void)b, (void)len, (void)offset, (void)keep, (void)fua;
	return -EOPNOTSUPP;
}

static int tree_cache(struct srv_backend *b, uint64_t len, uint64_t offset)
{
	(void)b, (void)len, (void)offset;
	return 0;
}

static int tree_extent(struct srv_backend *b, uint64_t *len, uint64_t offset, bool *hole)
{
	struct tree *t = to_tree(b);
	struct tree_path p;
	uint64_t n;

	/* It is asked for each block: nobody is to wait for all of them */
	if (srv_backend_cancelled(b))
		return -ECANCELED;
	n = absent(t, offset, *len);
	*hole = n;
	if (!n) {
		p = path_of(t, offset / BLOCK);
		n = piece(offset, *len);
		*hole = faccessat(t->dir, p.text, F_OK, 0) < 0 && errno == ENOENT;
	}
	*len = n;
	return 0;
}

static void tree_close(struct srv_backend *b)
{
	close(to_tree(b)->dir);
	free(b);
}

static const struct srv_backend_ops tree_ops = {
	.read = tree_read,
	.read_cached = tree_read_cached,
	.write = tree_write,
	.flush = tree_flush,
	.trim = tree_trim,
	.zero = tree_zero,
	.fast_zero = tree_fast_zero,
	.cache = tree_cache,
	.extent = tree_extent,
	.close = tree_close,
};

static int open_dir(struct tree *t, const char *path, bool readonly, const char **what)
{
	struct stat st;

	*what = "make the directory";
	if (!readonly && mkdirat(AT_FDCWD, path, 0700) < 0 && errno != EEXIST)
		return -errno;
	*what = "open the directory";
	t->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dir < 0)
		return -errno;
	*what = "examine";
	if (fstat(t->dir, &st) < 0)
		return -errno;
	t->base.id[0] = st.st_dev;
	t->base.id[1] = st.st_ino;
	return 0;
}

struct srv_backend *srv_tree_open(const char *path, bool readonly, uint64_t size, const char **what)
{
	struct tree *t = calloc(1, sizeof(*t));
	uint64_t left = size;
	int ret;

	*what = "allocate memory for";
	if (!t)
		return NULL;
	t->base.ops = &tree_ops;
	t->base.size = size;
	t->base.min_block = 1;
	t->base.preferred_block = NBD_WIRE_DEF_PREFERRED;
	t->base.ring_fd = -1;
	t->dir = -1;
	/* As the reference implementation counts them, so that its directories can be used */
	for (; left >= FANOUT * BLOCK; left /= FANOUT)
		t->levels++;
	ret = open_dir(t, path, readonly, what);
	if (!ret)
		return &t->base;
	if (t->dir >= 0)
		close(t->dir);
	free(t);
	errno = -ret;
	return NULL;
}
