// SPDX-License-Identifier: GPL-2.0-or-later
/* Images of Ceph: what is done with them; rbd-image.c has how they are had. */
#include "server/backend-rbd.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

bool srv_rbd_check_path(const char *path)
{
	g_auto(GStrv) part = g_strsplit(path + strlen(SRV_RBD_PREFIX), "/", -1);
	guint i, n = g_strv_length(part);

	for (i = 0; i < n; i++) {
		if (!*part[i] || strchr(part[i], '@'))
			return false;
	}
	return n == 2 || n == 3;
}

#ifdef SRV_RBD

#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>

#include "common/nbd-wire.h"
#include "server/backend.h"
#include "server/rbd-calls.h"
#include "server/rbd-image.h"

/* As much is asked for at once, of a map that is read from every object in the worst case */
#define LOOK_MAX   (1ull << 30)
/* as much of a request without data, so that the end of its connection is heeded in between */
#define CHANGE_MAX (64ull << 20)

struct rbd {
	struct srv_backend base;
	struct srv_image *image;
};

static struct rbd *to_rbd(struct srv_backend *b)
{
	return (struct rbd *)b;
}

/* May it be begun?  0 or a negative errno. */
static int ready(struct srv_backend *b)
{
	if (srv_backend_cancelled(b))
		return -ECANCELED;
	if (!atomic_load(&to_rbd(b)->image->lost))
		return 0;
	atomic_store(&b->lost, true);
	return -ESHUTDOWN;
}

/* What librbd says: 0 or a negative errno */
static int result(struct srv_backend *b, ssize_t ret)
{
	struct srv_image *im = to_rbd(b)->image;

	if (ret >= 0)
		return 0;
	/* Shut out, or the lock is somebody else's */
	if (ret == -ESHUTDOWN || ret == -EROFS) {
		srv_image_lose(im);
		atomic_store(&b->lost, true);
	}
	return (int)ret;
}

static int rbd_backend_read(struct srv_backend *b, void *buf, uint32_t len, uint64_t offset)
{
	int ret = ready(b);
	ssize_t n;

	if (ret)
		return ret;
	n = srv_ceph.rbd_read(to_rbd(b)->image->image, offset, len, buf);
	if (n >= 0 && n < (ssize_t)len)
		return -EIO; /* the image has been cut short under us */
	return result(b, n);
}

static int rbd_backend_read_cached(struct srv_backend *b, void *buf, uint32_t len, uint64_t offset)
{
	(void)b;
	(void)buf;
	(void)len;
	(void)offset;
	return -EOPNOTSUPP;
}

static int rbd_backend_flush(struct srv_backend *b)
{
	int ret = ready(b);

	return ret ? ret : result(b, srv_ceph.rbd_flush(to_rbd(b)->image->image));
}

static int rbd_backend_write(struct srv_backend *b, const void *buf, uint32_t len, uint64_t offset,
			     bool fua)
{
	int ret = ready(b);

	if (!ret)
		ret = result(b, srv_ceph.rbd_write(to_rbd(b)->image->image, offset, len, buf));
	if (!ret && fua)
		ret = rbd_backend_flush(b);
	return ret;
}

static int rbd_backend_trim(struct srv_backend *b, uint64_t len, uint64_t offset, bool fua)
{
	uint64_t done, n;
	int ret = 0;

	for (done = 0; done < len && !ret; done += n) {
		n = MIN(len - done, CHANGE_MAX);
		ret = ready(b);
		if (!ret)
			ret = result(b, srv_ceph.rbd_discard(to_rbd(b)->image->image, offset + done,
							     n));
	}
	if (!ret && fua)
		ret = rbd_backend_flush(b);
	return ret;
}

static int rbd_backend_zero(struct srv_backend *b, uint64_t len, uint64_t offset, bool keep,
			    bool fua)
{
	int flags = keep ? RBD_WRITE_ZEROES_FLAG_THICK_PROVISION : 0;
	uint64_t done, n;
	int ret = 0;

	for (done = 0; done < len && !ret; done += n) {
		n = MIN(len - done, CHANGE_MAX);
		ret = ready(b);
		if (!ret)
			ret = result(b, srv_ceph.rbd_write_zeroes(to_rbd(b)->image->image,
								  offset + done, n, flags, 0));
	}
	if (!ret && fua)
		ret = rbd_backend_flush(b);
	return ret;
}

static int rbd_backend_fast_zero(struct srv_backend *b, uint64_t len, uint64_t offset, bool keep,
				 bool fua)
{
	uint64_t unit = to_rbd(b)->image->unit;

	/* Whole objects are removed; parts may have to be copied from a parent first, or written */
	if (keep || offset % unit || (len % unit && offset + len != b->size))
		return -EOPNOTSUPP;
	return rbd_backend_zero(b, len, offset, keep, fua);
}

static int rbd_backend_cache(struct srv_backend *b, uint64_t len, uint64_t offset)
{
	/* There is nothing that could keep it */
	(void)b;
	(void)len;
	(void)offset;
	return 0;
}

/* What the map says of the range that is looked at */
struct look {
	uint64_t unit;
	uint64_t start; /* of what is asked for */
	uint64_t end;	/* of what is known to be data from there on; @start: none of it */
	uint64_t next;	/* where the first data behind a hole begins; 0: none has been seen */
};

/* There is something; in the order of the image, whole objects of it.  Nonzero: enough is known. */
static int seen(uint64_t offset, size_t len, int exists, void *arg)
{
	struct look *look = arg;
	uint64_t from = offset / look->unit * look->unit;
	uint64_t to = (offset + len + look->unit - 1) / look->unit * look->unit;

	if (!exists || to <= look->end)
		return 0;
	if (from > look->end) {
		look->next = from;
		return -ECANCELED;
	}
	look->end = to;
	return 0;
}

static int rbd_backend_extent(struct srv_backend *b, uint64_t *len, uint64_t offset, bool *hole)
{
	struct srv_image *im = to_rbd(b)->image;
	struct look look = { .unit = im->unit, .start = offset, .end = offset };
	/* From the beginning of an object: libraries differ on what they say of a part of one */
	uint64_t from = offset / im->unit * im->unit;
	uint64_t to = MIN(offset + *len, from + LOOK_MAX / im->unit * im->unit + im->unit);
	uint64_t known;
	int ret = ready(b);

	if (ret)
		return ret;
	ret = srv_ceph.rbd_diff_iterate2(im->image, NULL, from, to - from, 1, 1, seen, &look);
	if (ret < 0 && (ret != -ECANCELED || !look.next))
		return result(b, ret);
	*hole = look.end == look.start;
	known = *hole ? (look.next ? look.next : to) : MIN(look.end, to);
	*len = MIN(known, offset + *len) - offset;
	return 0;
}

static void rbd_backend_close(struct srv_backend *b)
{
	srv_image_leave(to_rbd(b)->image);
	free(b);
}

static const struct srv_backend_ops rbd_ops = {
	.read = rbd_backend_read,
	.read_cached = rbd_backend_read_cached,
	.write = rbd_backend_write,
	.flush = rbd_backend_flush,
	.trim = rbd_backend_trim,
	.zero = rbd_backend_zero,
	.fast_zero = rbd_backend_fast_zero,
	.cache = rbd_backend_cache,
	.extent = rbd_backend_extent,
	.close = rbd_backend_close,
};

static int find_size(struct rbd *r, uint64_t want, const char **what)
{
	uint64_t have;
	int ret;

	*what = "read the size of";
	ret = srv_ceph.rbd_get_size(r->image->image, &have);
	if (ret < 0)
		return ret;
	*what = "find the configured size in";
	if (want > have)
		return -ENOSPC;
	r->base.size = want ? want : have;
	return 0;
}

/* A backend for an image that has been joined; 0 or a negative errno */
static int set_up(struct rbd *r, const struct srv_rbd *want, const char **what)
{
	struct srv_backend *b = &r->base;

	b->ops = &rbd_ops;
	b->min_block = 1;
	b->preferred_block = NBD_WIRE_DEF_PREFERRED;
	b->ring_fd = -1;
	b->remote = true;
	memcpy(b->id, r->image->id, sizeof(b->id));
	return find_size(r, want->size, what);
}

struct srv_backend *srv_rbd_open(const struct srv_rbd *want, const char **what)
{
	struct rbd *r = calloc(1, sizeof(*r));
	int ret;

	*what = "allocate memory for";
	if (!r)
		return NULL;
	r->image = srv_image_join(want, what);
	ret = r->image ? set_up(r, want, what) : -errno;
	if (!ret)
		return &r->base;
	if (r->image)
		srv_image_leave(r->image);
	free(r);
	errno = -ret;
	return NULL;
}

int srv_rbd_use(struct srv_backend *b, bool takeover, const char **what)
{
	struct srv_image *im = to_rbd(b)->image;

	return im->readonly ? 0 : srv_image_use(im, takeover, what);
}

void srv_rbd_end(void)
{
	srv_images_end();
}

struct srv_rbd_calls srv_ceph;

const char *srv_rbd_missing(void)
{
#define NAME_AND_PLACE(name) { #name, offsetof(struct srv_rbd_calls, name) },
	static const struct {
		const char *name;
		size_t offset;
	} calls[] = { SRV_RBD_CALLS(NAME_AND_PLACE) };
	static bool loaded;
	void *library, *address;
	size_t i;

	if (loaded)
		return NULL;
	library = dlopen(SRV_RBD_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return "Ceph's library " SRV_RBD_LIBRARY " cannot be loaded; install it";
	for (i = 0; i < G_N_ELEMENTS(calls); i++) {
		/* Also what librados has, on which librbd depends */
		address = dlsym(library, calls[i].name);
		if (!address) {
			dlclose(library);
			return "Ceph's library " SRV_RBD_LIBRARY " is too old; install version 16";
		}
		memcpy((char *)&srv_ceph + calls[i].offset, &address, sizeof(address));
	}
	loaded = true;
	return NULL;
}

#else

struct srv_backend *srv_rbd_open(const struct srv_rbd *want, const char **what)
{
	(void)want;
	*what = "open, as the server was built without librbd,";
	errno = EOPNOTSUPP;
	return NULL;
}

int srv_rbd_use(struct srv_backend *b, bool takeover, const char **what)
{
	(void)b;
	(void)takeover;
	(void)what;
	return 0;
}

void srv_rbd_end(void)
{
}

const char *srv_rbd_missing(void)
{
	return "the server was built without librbd; build it where librbd-dev is installed";
}

#endif
