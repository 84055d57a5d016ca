// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A store as one connection sees it.  Blocks that the map has are in the store's
 * file, at the place where they are in the export; others are what lies under it.
 *
 * A block goes there with its first change, as a whole: what the change leaves
 * out is copied, and only then the map says so, all of that with the store's lock
 * held.  So two changes of one block never lose each other, and who finds a block
 * in the map finds its data.  Blocks that are there need no lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/backend-part.h"
#include "server/private.h"

/* On the stack of a thread of the pool */
#define COPY_LEN 16384u

struct view {
	struct srv_backend base;
	struct srv_store *store;
	struct srv_backend *file; /* the store's, of this connection */
};

static struct view *to_view(struct srv_backend *b)
{
	return (struct view *)b;
}

static bool is_mapped(const struct srv_store *s, uint64_t block)
{
	return atomic_load_explicit(&s->map[block / 64], memory_order_acquire) >> block % 64 & 1;
}

/* How far what begins at @offset is in the file, or is not, up to @len */
static uint64_t run(const struct srv_store *s, uint64_t offset, uint64_t len, bool *mapped)
{
	uint64_t block = offset / s->block, end = offset + len, next;

	*mapped = is_mapped(s, block);
	for (next = (block + 1) * s->block; next < end; next += s->block) {
		if (is_mapped(s, ++block) != *mapped)
			return next - offset;
	}
	return len;
}

/* Copy what lies under, up to a block's bound: at most one block */
static int copy(struct view *v, uint64_t from, uint64_t to)
{
	struct srv_backend *under = v->store->under;
	uint8_t buf[COPY_LEN];
	uint32_t n;
	int ret;

	if (to > under->size)
		to = under->size;
	for (; from < to; from += n) {
		n = to - from < sizeof(buf) ? (uint32_t)(to - from) : (uint32_t)sizeof(buf);
		ret = under->ops->read(under, buf, n, from);
		if (!ret)
			ret = v->file->ops->write(v->file, buf, n, from, false);
		if (ret)
			return ret;
	}
	return 0;
}

/* A change of blocks of which none is in the file.  The store's lock is held. */
static int first_change(struct view *v, const struct srv_work *w, uint64_t done, uint64_t len,
			uint64_t offset)
{
	struct srv_store *s = v->store;
	uint64_t first = offset / s->block, last = (offset + len - 1) / s->block;
	int ret;

	ret = copy(v, first * s->block, offset);
	if (!ret)
		ret = copy(v, offset + len, (last + 1) * s->block);
	if (!ret)
		ret = srv_work_do(w, done, v->file, len, offset);
	for (; !ret && first <= last; first++)
		atomic_fetch_or_explicit(&s->map[first / 64], 1ull << first % 64,
					 memory_order_release);
	return ret;
}

static int change(struct srv_backend *b, const struct srv_work *w, uint64_t len, uint64_t offset)
{
	struct view *v = to_view(b);
	struct srv_store *s = v->store;
	uint64_t done, n;
	bool mapped;
	int ret = 0;

	for (done = 0; done < len && !ret; done += n) {
		if (srv_backend_cancelled(b))
			return -ECANCELED;
		n = run(s, offset + done, len - done, &mapped);
		if (mapped) {
			ret = srv_work_do(w, done, v->file, n, offset + done);
			continue;
		}
		pthread_mutex_lock(&s->lock);
		/* Once more: others may have been faster */
		n = run(s, offset + done, len - done, &mapped);
		ret = mapped ? srv_work_do(w, done, v->file, n, offset + done) :
			       first_change(v, w, done, n, offset + done);
		pthread_mutex_unlock(&s->lock);
	}
	return ret;
}

/* What changes nothing, or only what is in the file already */
static int each(struct srv_backend *b, const struct srv_work *w, uint64_t len, uint64_t offset)
{
	struct view *v = to_view(b);
	uint64_t done, n;
	bool mapped;
	int ret = 0;

	for (done = 0; done < len && !ret; done += n) {
		if (srv_backend_cancelled(b))
			return -ECANCELED;
		n = run(v->store, offset + done, len - done, &mapped);
		if (mapped || w->kind != SRV_WORK_TRIM)
			ret = srv_work_do(w, done, mapped ? v->file : v->store->under, n,
					  offset + done);
	}
	return ret;
}

static int cow_flush(struct srv_backend *b)
{
	struct view *v = to_view(b);

	return v->file->ops->flush(v->file);
}

static int flush_if(struct srv_backend *b, int ret, bool fua)
{
	return ret || !fua ? ret : cow_flush(b);
}

static int cow_read(struct srv_backend *b, void *buf, uint32_t len, uint64_t offset)
{
	return each(b, &(struct srv_work){ .kind = SRV_WORK_READ, .in = buf }, len, offset);
}

static int cow_read_cached(struct srv_backend *b, void *buf, uint32_t len, uint64_t offset)
{
	return each(b, &(struct srv_work){ .kind = SRV_WORK_READ_CACHED, .in = buf }, len, offset);
}

static int cow_write(struct srv_backend *b, const void *buf, uint32_t len, uint64_t offset,
		     bool fua)
{
	struct srv_work w = { .kind = SRV_WORK_WRITE, .out = buf };

	return flush_if(b, change(b, &w, len, offset), fua);
}

static int cow_trim(struct srv_backend *b, uint64_t len, uint64_t offset, bool fua)
{
	return flush_if(b, each(b, &(struct srv_work){ .kind = SRV_WORK_TRIM }, len, offset), fua);
}

static int cow_zero(struct srv_backend *b, uint64_t len, uint64_t offset, bool keep, bool fua)
{
	struct srv_work w = { .kind = SRV_WORK_ZERO, .keep = keep };

	return flush_if(b, change(b, &w, len, offset), fua);
}

static int cow_fast_zero(struct srv_backend *b, uint64_t len, uint64_t offset, bool keep, bool fua)
{
	(void)b, (void)len, (void)offset, (void)keep, (void)fua;
	return -EOPNOTSUPP; /* blocks may have to be copied */
}

static int cow_cache(struct srv_backend *b, uint64_t len, uint64_t offset)
{
	return each(b, &(struct srv_work){ .kind = SRV_WORK_CACHE }, len, offset);
}

static int cow_extent(struct srv_backend *b, uint64_t *len, uint64_t offset, bool *hole)
{
	struct view *v = to_view(b);
	struct srv_backend *part = v->store->under;
	bool mapped = is_mapped(v->store, offset / v->store->block);
	int ret;

	if (mapped)
		part = v->file;
	/* The part's first: a long run is not gone through for each of many short extents */
	ret = part->ops->extent(part, len, offset, hole);
	if (!ret)
		*len = run(v->store, offset, *len, &mapped);
	return ret;
}

static void cow_close(struct srv_backend *b)
{
	struct view *v = to_view(b);

	v->file->ops->close(v->file);
	srv_store_put(v->store);
	free(v);
}

static const struct srv_backend_ops cow_ops = {
	.read = cow_read,
	.read_cached = cow_read_cached,
	.write = cow_write,
	.flush = cow_flush,
	.trim = cow_trim,
	.zero = cow_zero,
	.fast_zero = cow_fast_zero,
	.cache = cow_cache,
	.extent = cow_extent,
	.close = cow_close,
};

/* The store's file, with a descriptor of its own */
static struct srv_backend *open_file(const struct srv_store *store, const atomic_bool *cancelled,
				     const char **what)
{
	int fd = fcntl(store->fd, F_DUPFD_CLOEXEC, 0), error;
	struct srv_backend *file;

	*what = "open once more what is written beside";
	if (fd < 0)
		return NULL;
	file = srv_file_adopt(fd, what);
	if (file) {
		file->cancelled = cancelled;
		return file;
	}
	error = errno;
	close(fd);
	errno = error;
	return NULL;
}

struct srv_backend *srv_store_open(struct srv_store *store, const atomic_bool *cancelled,
				   const char **what)
{
	struct srv_backend *file = open_file(store, cancelled, what);
	struct view *v;

	/* With nothing under it, the file is all there is */
	if (!file || !store->under)
		return file;
	v = calloc(1, sizeof(*v));
	if (!v) {
		file->ops->close(file);
		*what = "allocate memory for";
		errno = ENOMEM;
		return NULL;
	}
	v->base = (struct srv_backend){
		.ops = &cow_ops,
		.size = store->under->size,
		.min_block = 1,
		.preferred_block = store->block,
		.ring_fd = -1,
		.id = { file->id[0], file->id[1] },
		.cancelled = cancelled,
	};
	v->store = srv_store_get(store);
	v->file = file;
	return &v->base;
}
