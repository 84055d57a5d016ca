// SPDX-License-Identifier: GPL-2.0-or-later
/* Regular files and block devices, through the page cache unless they are to do without. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/nbd-wire.h"
#include "server/backend.h"

#define ZEROES_LEN 65536
#define ZEROES_IOV 16

struct file {
	struct srv_backend base;
	int fd;
	bool block_device;
	bool direct;
	uint32_t sector; /* what fallocate and discard are bound to; 1 for files */
	/* What the file system turned out not to do; set once, never cleared */
	atomic_bool no_nowait;
	atomic_bool no_dsync;
	atomic_bool no_punch;
	atomic_bool no_zero_range;
};

/* Aligned for files without the page cache */
_Alignas(SRV_DIRECT_MAX) static const uint8_t zeroes[ZEROES_LEN];

static struct file *to_file(struct srv_backend *b)
{
	return (struct file *)b;
}

static int file_read(struct srv_backend *b, void *buf, uint32_t len, uint64_t offset)
{
	struct file *f = to_file(b);
	uint8_t *p = buf;
	ssize_t n;

	while (len) {
		n = pread(f->fd, p, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -EIO; /* the file has been cut short under us */
		p += n;
		len -= (uint32_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static int file_read_cached(struct srv_backend *b, void *buf, uint32_t len, uint64_t offset)
{
	struct file *f = to_file(b);
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	ssize_t n;

	if (atomic_load_explicit(&f->no_nowait, memory_order_relaxed))
		return -EOPNOTSUPP;
	n = preadv2(f->fd, &iov, 1, (off_t)offset, RWF_NOWAIT);
	if (n == (ssize_t)len)
		return 0;
	if (n < 0 && errno == EOPNOTSUPP) {
		atomic_store(&f->no_nowait, true);
		return -EOPNOTSUPP;
	}
	/* Missing, in part or as a whole, or an error that the plain read will tell */
	return -EAGAIN;
}

/* pwritev2() of @iov as a whole; @iov is used up */
static int write_all(struct file *f, struct iovec *iov, int count, uint64_t offset, int flags)
{
	ssize_t n;

	while (count) {
		if (srv_backend_cancelled(&f->base))
			return -ECANCELED;
		n = pwritev2(f->fd, iov, count, (off_t)offset, flags);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -ENOSPC;
		offset += (uint64_t)n;
		while (count && (size_t)n >= iov->iov_len) {
			n -= (ssize_t)iov->iov_len;
			iov++;
			count--;
		}
		if (count) {
			iov->iov_base = (uint8_t *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

static int file_flush(struct srv_backend *b)
{
	int ret;

	/* It changes nothing, but takes long: nobody is to wait for it */
	if (srv_backend_cancelled(b))
		return -ECANCELED;
	do {
		ret = fdatasync(to_file(b)->fd);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

static int file_write(struct srv_backend *b, const void *buf, uint32_t len, uint64_t offset,
		      bool fua)
{
	struct file *f = to_file(b);
	struct iovec iov = { .iov_base = (void *)buf, .iov_len = len };
	int ret;

	if (fua && !atomic_load_explicit(&f->no_dsync, memory_order_relaxed)) {
		ret = write_all(f, &iov, 1, offset, RWF_DSYNC);
		if (ret != -EOPNOTSUPP)
			return ret;
		atomic_store(&f->no_dsync, true);
		iov = (struct iovec){ .iov_base = (void *)buf, .iov_len = len };
	}
	ret = write_all(f, &iov, 1, offset, 0);
	if (!ret && fua)
		ret = file_flush(b);
	return ret;
}

static int do_fallocate(struct file *f, int mode, uint64_t offset, uint64_t len)
{
	int ret;

	if (srv_backend_cancelled(&f->base))
		return -ECANCELED;
	do {
		ret = fallocate(f->fd, mode, (off_t)offset, (off_t)len);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

/* A mode this file system does not have; -EINVAL is how some block devices say it */
static bool unsupported(int err)
{
	return err == -EOPNOTSUPP || err == -ENOSYS || err == -EINVAL || err == -ENODEV;
}

static int write_zeroes(struct file *f, uint64_t offset, uint64_t len)
{
	struct iovec iov[ZEROES_IOV];
	uint64_t done;
	int i, ret;

	while (len) {
		done = 0;
		for (i = 0; i < ZEROES_IOV && done < len; i++) {
			iov[i].iov_base = (void *)zeroes;
			iov[i].iov_len = len - done < ZEROES_LEN ? len - done : ZEROES_LEN;
			done += iov[i].iov_len;
		}
		ret = write_all(f, iov, i, offset, 0);
		if (ret)
			return ret;
		offset += done;
		len -= done;
	}
	return 0;
}

/* Zero a range that suits f->sector in the cheapest way there is */
static int zero_aligned(struct file *f, uint64_t offset, uint64_t len, bool keep)
{
	int ret;

	if (!keep && !atomic_load_explicit(&f->no_punch, memory_order_relaxed)) {
		ret = do_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len);
		if (!unsupported(ret))
			return ret;
		atomic_store(&f->no_punch, true);
	}
	if (!atomic_load_explicit(&f->no_zero_range, memory_order_relaxed)) {
		ret = do_fallocate(f, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, len);
		if (!unsupported(ret))
			return ret;
		atomic_store(&f->no_zero_range, true);
	}
	return write_zeroes(f, offset, len);
}

static int file_zero(struct srv_backend *b, uint64_t len, uint64_t offset, bool keep, bool fua)
{
	struct file *f = to_file(b);
	uint64_t end = offset + len;
	uint64_t first = (offset + f->sector - 1) / f->sector * f->sector;
	uint64_t last = end / f->sector * f->sector;
	int ret = 0;

	if (first < last) {
		/* Whole sectors in the middle, and what is left at the two ends */
		ret = write_zeroes(f, offset, first - offset);
		if (!ret)
			ret = zero_aligned(f, first, last - first, keep);
		if (!ret)
			ret = write_zeroes(f, last, end - last);
	} else {
		ret = write_zeroes(f, offset, len);
	}
	if (!ret && fua)
		ret = file_flush(b);
	return ret;
}

static int file_fast_zero(struct srv_backend *b, uint64_t len, uint64_t offset, bool keep, bool fua)
{
	int mode = keep ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
	struct file *f = to_file(b);
	int ret;

	/* The ends would have to be written, or all of it, as devices keep space in that way only */
	if ((offset | len) % f->sector || (keep && f->block_device))
		return -EOPNOTSUPP;
	ret = do_fallocate(f, mode | FALLOC_FL_KEEP_SIZE, offset, len);
	if (unsupported(ret))
		return -EOPNOTSUPP;
	if (!ret && fua)
		ret = file_flush(b);
	return ret;
}

static int file_cache(struct srv_backend *b, uint64_t len, uint64_t offset)
{
	struct file *f = to_file(b);
	int ret;

	if (f->direct)
		return 0;
	ret = posix_fadvise(f->fd, (off_t)offset, (off_t)len, POSIX_FADV_WILLNEED);

	/* What cannot be had sooner is had when it is read */
	return unsupported(-ret) ? 0 : -ret;
}

static int file_extent(struct srv_backend *b, uint64_t *len, uint64_t offset, bool *hole)
{
	struct file *f = to_file(b);
	off_t next, data;

	/* The descriptor's position, which these change, is used by nobody */
	*hole = false;
	data = lseek(f->fd, (off_t)offset, SEEK_DATA);
	if (data < 0 && errno != ENXIO)
		return unsupported(-errno) ? 0 : -errno;
	if (data == (off_t)offset) {
		next = lseek(f->fd, (off_t)offset, SEEK_HOLE);
		if (next < 0)
			return unsupported(-errno) ? 0 : -errno;
	} else {
		/* ENXIO: no data from here to the end */
		*hole = true;
		next = data < 0 ? (off_t)b->size : data;
	}
	if ((uint64_t)next > offset && (uint64_t)next - offset < *len)
		*len = (uint64_t)next - offset;
	return 0;
}

/* A hint: what cannot be done is left undone, rounded inwards */
static int file_trim(struct srv_backend *b, uint64_t len, uint64_t offset, bool fua)
{
	struct file *f = to_file(b);
	uint64_t first = (offset + f->sector - 1) / f->sector * f->sector;
	uint64_t last = (offset + len) / f->sector * f->sector;
	uint64_t range[2] = { first, last - first };
	int ret = 0;

	if (first < last) {
		if (f->block_device)
			ret = ioctl(f->fd, BLKDISCARD, range) < 0 ? -errno : 0;
		else
			ret = do_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first,
					   last - first);
		if (unsupported(ret))
			ret = 0;
	}
	if (!ret && fua)
		ret = file_flush(b);
	return ret;
}

static void file_close(struct srv_backend *b)
{
	close(to_file(b)->fd);
	free(b);
}

static const struct srv_backend_ops file_ops = {
	.read = file_read,
	.read_cached = file_read_cached,
	.write = file_write,
	.flush = file_flush,
	.trim = file_trim,
	.zero = file_zero,
	.fast_zero = file_fast_zero,
	.cache = file_cache,
	.extent = file_extent,
	.close = file_close,
};

static int find_block_size(struct file *f, uint64_t want, const char **what)
{
	unsigned int physical = 0;
	uint64_t bytes;
	int sector;

	*what = "read the size of";
	if (ioctl(f->fd, BLKGETSIZE64, &bytes) < 0 || ioctl(f->fd, BLKSSZGET, &sector) < 0)
		return -errno;
	if (want > bytes) {
		*what = "find the configured size in";
		return -ENOSPC;
	}
	f->block_device = true;
	f->sector = (uint32_t)sector;
	f->base.size = want ? want : bytes;
	/* Only a better preference is lost when the device does not say */
	if (!ioctl(f->fd, BLKPBSZGET, &physical) && physical > f->base.preferred_block &&
	    physical <= NBD_WIRE_DEF_MAX_PAYLOAD && !(physical & (physical - 1)))
		f->base.preferred_block = physical;
	return 0;
}

static int find_file_size(struct file *f, uint64_t have, uint64_t want, bool readonly,
			  const char **what)
{
	f->sector = 1;
	f->base.size = want ? want : have;
	if (want <= have)
		return 0;
	*what = readonly ? "find the configured size in" : "extend";
	if (readonly)
		return -ENOSPC;
	return ftruncate(f->fd, (off_t)want) < 0 ? -errno : 0;
}

static int find_size(struct file *f, uint64_t want, bool readonly, const char **what)
{
	struct stat st;

	*what = "examine";
	if (fstat(f->fd, &st) < 0)
		return -errno;
	f->base.id[0] = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	f->base.id[1] = S_ISBLK(st.st_mode) ? 0 : st.st_ino;
	if (S_ISBLK(st.st_mode))
		return find_block_size(f, want, what);
	if (S_ISREG(st.st_mode))
		return find_file_size(f, (uint64_t)st.st_size, want, readonly, what);
	*what = "export something that is neither a file nor a block device:";
	return -EINVAL;
}

/* A backend for what is open; 0 or a negative errno */
static int adopt(struct file *f, bool readonly, uint64_t size, const char **what)
{
	struct statfs fs;
	int ret;

	f->base.ops = &file_ops;
	f->base.min_block = 1;
	f->base.preferred_block = NBD_WIRE_DEF_PREFERRED;
	ret = find_size(f, size, readonly, what);
	if (ret)
		return ret;
	f->base.ring_fd = f->fd;
	f->base.in_memory = !fstatfs(f->fd, &fs) && fs.f_type == TMPFS_MAGIC;
	return 0;
}

struct srv_backend *srv_file_open(const char *path, bool readonly, uint64_t size, const char **what)
{
	/* O_NONBLOCK: opening a FIFO by mistake must not hang */
	int flags = (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	struct file *f;
	int ret;

	*what = "allocate memory for";
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	*what = "open";
	if (size && !readonly)
		flags |= O_CREAT;
	f->fd = open(path, flags, 0600);
	if (f->fd < 0) {
		ret = -errno;
		goto err_open;
	}
	ret = adopt(f, readonly, size, what);
	if (ret)
		goto err_adopt;
	return &f->base;

err_adopt:
	close(f->fd);
err_open:
	free(f);
	errno = -ret;
	return NULL;
}

struct srv_backend *srv_file_adopt(int fd, const char **what)
{
	struct file *f = calloc(1, sizeof(*f));
	int ret;

	*what = "allocate memory for";
	if (!f)
		return NULL;
	f->fd = fd;
	ret = adopt(f, false, 0, what);
	if (!ret)
		return &f->base;
	free(f);
	errno = -ret;
	return NULL;
}

/* What offsets and lengths must be multiples of without the page cache; 0: that cannot be done */
static uint32_t direct_block(const struct file *f)
{
	struct statx st;

	if (f->block_device)
		return f->sector;
	if (statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) < 0 ||
	    !(st.stx_mask & STATX_DIOALIGN))
		/* It is not told: this does wherever less would */
		return SRV_DIRECT_MAX;
	return st.stx_dio_mem_align <= SRV_DIRECT_MAX ? st.stx_dio_offset_align : 0;
}

int srv_file_direct(struct srv_backend *b, const char **what)
{
	struct file *f = to_file(b);
	int flags = fcntl(f->fd, F_GETFL);
	uint32_t block;

	*what = "do without the page cache for";
	if (flags < 0 || fcntl(f->fd, F_SETFL, flags | O_DIRECT) < 0)
		return -errno;
	block = direct_block(f);
	if (!block || block > SRV_DIRECT_MAX)
		return -EOPNOTSUPP;
	*what = "divide into blocks for direct I/O";
	if (b->size % block)
		return -EMSGSIZE;
	b->min_block = block;
	f->sector = block;
	f->direct = true;
	b->in_memory = false;
	/* That would be a read from the disk, on the spot */
	atomic_store(&f->no_nowait, true);
	return 0;
}
