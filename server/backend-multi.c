// SPDX-License-Identifier: GPL-2.0-or-later
/* Several files, PATH.0, PATH.1 and so on, one behind the other. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/backend-part.h"

struct part {
	struct srv_backend *file;
	uint64_t start;
};

struct multi {
	struct srv_backend base;
	unsigned int n;
	struct part part[SRV_MULTI_MAX];
};

static struct multi *to_multi(struct srv_backend *b)
{
	return (struct multi *)b;
}

/*
 * The file with what is at *@offset, which becomes its own; *@len is cut to what
 * it holds.  An empty file is never the last one that begins before an offset.
 */
static struct srv_backend *find(struct srv_backend *b, uint64_t *offset, uint64_t *len)
{
	struct multi *m = to_multi(b);
	unsigned int low = 0, high = m->n, mid;
	struct srv_backend *file;

	while (high - low > 1) {
		mid = (low + high) / 2;
		if (m->part[mid].start <= *offset)
			low = mid;
		else
			high = mid;
	}
	file = m->part[low].file;
	*offset -= m->part[low].start;
	if (*len > file->size - *offset)
		*len = file->size - *offset;
	return file;
}

static int each(struct srv_backend *b, const struct srv_work *w, uint64_t len, uint64_t offset)
{
	struct srv_backend *file;
	uint64_t done, n, at;
	int ret = 0;

	for (done = 0; done < len && !ret; done += n) {
		if (srv_backend_cancelled(b))
			return -ECANCELED;
		at = offset + done;
		n = len - done;
		file = find(b, &at, &n);
		ret = srv_work_do(w, done, file, n, at);
	}
	return ret;
}

static int multi_read(struct srv_backend *b, void *buf, uint32_t len, uint64_t offset)
{
	return each(b, &(struct srv_work){ .kind = SRV_WORK_READ, .in = buf }, len, offset);
}

static int multi_read_cached(struct srv_backend *b, void *buf, uint32_t len, uint64_t offset)
{
	return each(b, &(struct srv_work){ .kind = SRV_WORK_READ_CACHED, .in = buf }, len, offset);
}

static int multi_write(struct srv_backend *b, const void *buf, uint32_t len, uint64_t offset,
		       bool fua)
{
	struct srv_work w = { .kind = SRV_WORK_WRITE, .out = buf, .fua = fua };

	return each(b, &w, len, offset);
}

static int multi_flush(struct srv_backend *b)
{
	struct multi *m = to_multi(b);
	unsigned int i;
	int ret = 0;

	for (i = 0; i < m->n && !ret; i++)
		ret = m->part[i].file->ops->flush(m->part[i].file);
	return ret;
}

static int multi_trim(struct srv_backend *b, uint64_t len, uint64_t offset, bool fua)
{
	return each(b, &(struct srv_work){ .kind = SRV_WORK_TRIM, .fua = fua }, len, offset);
}

static int multi_zero(struct srv_backend *b, uint64_t len, uint64_t offset, bool keep, bool fua)
{
	struct srv_work w = { .kind = SRV_WORK_ZERO, .keep = keep, .fua = fua };

	return each(b, &w, len, offset);
}

static int multi_fast_zero(struct srv_backend *b, uint64_t len, uint64_t offset, bool keep,
			   bool fua)
{
	uint64_t n = len;
	struct srv_backend *file = find(b, &offset, &n);

	/* The second file could say no when the first one has been changed already */
	return n < len ? -EOPNOTSUPP : file->ops->fast_zero(file, len, offset, keep, fua);
}

static int multi_cache(struct srv_backend *b, uint64_t len, uint64_t offset)
{
	return each(b, &(struct srv_work){ .kind = SRV_WORK_CACHE }, len, offset);
}

static int multi_extent(struct srv_backend *b, uint64_t *len, uint64_t offset, bool *hole)
{
	struct srv_backend *file = find(b, &offset, len);

	return file->ops->extent(file, len, offset, hole);
}

static void multi_close(struct srv_backend *b)
{
	struct multi *m = to_multi(b);

	while (m->n--)
		m->part[m->n].file->ops->close(m->part[m->n].file);
	free(m);
}

static const struct srv_backend_ops multi_ops = {
	.read = multi_read,
	.read_cached = multi_read_cached,
	.write = multi_write,
	.flush = multi_flush,
	.trim = multi_trim,
	.zero = multi_zero,
	.fast_zero = multi_fast_zero,
	.cache = multi_cache,
	.extent = multi_extent,
	.close = multi_close,
};

/* One more file at the end */
static void add(struct multi *m, struct srv_backend *file)
{
	struct srv_backend *b = &m->base;

	b->in_memory = (!m->n || b->in_memory) && file->in_memory;
	m->part[m->n++] = (struct part){ file, b->size };
	b->size += file->size;
	if (file->preferred_block > b->preferred_block)
		b->preferred_block = file->preferred_block;
	/* Others with the same files in the same order have the same one */
	b->id[0] = b->id[0] * 31 + file->id[0];
	b->id[1] = b->id[1] * 31 + file->id[1];
}

/* Open PATH.0 and so on until there is none.  0 or a negative errno. */
static int open_parts(struct multi *m, const char *path, bool readonly, uint64_t create,
		      const char **what)
{
	struct srv_backend *file;
	char name[PATH_MAX];

	for (;;) {
		*what = "open a name that long, with the number of a file behind it:";
		if ((size_t)snprintf(name, sizeof(name), "%s.%u", path, m->n) >= sizeof(name))
			return -ENAMETOOLONG;
		file = srv_file_open(name, readonly, 0, what);
		/* Only when there is none at all */
		if (!file && errno == ENOENT && !m->n && create && !readonly)
			file = srv_file_open(name, readonly, create, what);
		if (!file && errno == ENOENT && m->n)
			return 0;
		*what = "open one of the files of";
		if (!file)
			return -errno;
		if (m->n == SRV_MULTI_MAX || m->base.size + file->size > INT64_MAX) {
			*what = m->n == SRV_MULTI_MAX ? "have that many files of" :
							"add up the sizes of the files of";
			file->ops->close(file);
			return -EFBIG;
		}
		file->cancelled = m->base.cancelled;
		add(m, file);
	}
}

struct srv_backend *srv_multi_open(const char *path, bool readonly, uint64_t size,
				   const atomic_bool *cancelled, const char **what)
{
	struct multi *m = calloc(1, sizeof(*m));
	int ret;

	*what = "allocate memory for";
	if (!m)
		return NULL;
	m->base.ops = &multi_ops;
	m->base.min_block = 1;
	m->base.ring_fd = -1;
	m->base.cancelled = cancelled;
	ret = open_parts(m, path, readonly, size, what);
	if (!ret && size > m->base.size) {
		*what = "find the configured size in all files of";
		ret = -ENOSPC;
	}
	if (ret) {
		multi_close(&m->base);
		errno = -ret;
		return NULL;
	}
	if (size)
		m->base.size = size;
	/* What one file can do in the ring, one alone can too */
	if (m->n == 1)
		m->base.ring_fd = m->part[0].file->ring_fd;
	return &m->base;
}
