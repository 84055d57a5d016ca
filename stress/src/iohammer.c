// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * iohammer: every type of request at every size, verified.
 *
 * Threads own disjoint parts of a block device and keep a model of it in
 * memory: for each 512-byte sector the stamp it must carry, 0 for zeros, or
 * UNKNOWN after a discard.  A stamped sector names itself and its stamp, so the
 * other half of the test, run on the server's raw file, needs the digest alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SECTOR	    512u
#define WORDS	    (SECTOR / sizeof(uint64_t))
#define UNKNOWN	    UINT64_MAX
#define MAX_THREADS 16
#define MAX_LEN	    (6u << 20)
#define GOLDEN	    0x9e3779b97f4a7c15ull

enum op {
	OP_READ,
	OP_WRITE,
	OP_WRITE_FUA,
	OP_VECTOR,
	OP_FSYNC,
	OP_DISCARD,
	OP_ZEROOUT,
	OP_PUNCH,
	OP_ZERO_RANGE,
	OP_BUFFERED,
	OP_COUNT
};

static const char *const op_name[OP_COUNT] = {
	"read",	   "write",   "write_fua",  "write_vector", "fsync",
	"discard", "zeroout", "punch_hole", "zero_range",   "buffered",
};

/* How often each comes up, of 100 */
static const unsigned int op_weight[OP_COUNT] = { 36, 26, 6, 6, 3, 5, 5, 4, 4, 5 };

struct hammer {
	int direct, buffered; /* two ways to the same device */
	uint64_t sectors;
	unsigned int block; /* logical block size in sectors */
	uint64_t *model;    /* a stamp a sector */
	_Atomic uint64_t done[OP_COUNT], unsupported[OP_COUNT];
	_Atomic uint64_t bytes, bad;
	_Atomic bool stop;
};

struct thread {
	struct hammer *h;
	unsigned int id;
	uint64_t first, count; /* its sectors */
	uint64_t x;	       /* random state */
	uint64_t stamps;
	uint8_t *buf;
};

static uint64_t mix(uint64_t x)
{
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	return x;
}

static uint64_t next(struct thread *t)
{
	t->x = mix(t->x + GOLDEN);
	return t->x >> 11;
}

static void sector_fill(uint64_t *s, uint64_t sector, uint64_t stamp)
{
	uint64_t x = sector * GOLDEN ^ stamp;

	s[0] = sector;
	s[1] = stamp;
	for (unsigned int i = 2; i < WORDS; i++)
		s[i] = x = mix(x + GOLDEN);
}

static bool sector_good(const uint64_t *s, uint64_t sector, uint64_t stamp)
{
	uint64_t want[WORDS] = { 0 };

	if (stamp)
		sector_fill(want, sector, stamp);
	return !memcmp(s, want, SECTOR);
}

/* Of the whole model: the same on both sides only if every stamp is */
static uint64_t digest_add(uint64_t digest, uint64_t sector, uint64_t stamp)
{
	return digest + mix((sector + 1) * GOLDEN ^ mix(stamp * GOLDEN + 1));
}

static void fail(struct thread *t, const char *what, uint64_t sector, uint64_t count)
{
	if (t->h->bad++ < 5)
		printf("# iohammer: %s of %llu sectors at %llu: %s\n", what,
		       (unsigned long long)count, (unsigned long long)sector, strerror(errno));
}

/* Where and how much: small ones often, large ones sometimes, block-aligned */
static void choose(struct thread *t, uint64_t *sector, uint64_t *count)
{
	static const uint64_t limit[] = { 8, 8, 16, 128, 256, 2048, MAX_LEN / SECTOR };
	unsigned int b = t->h->block;
	uint64_t max = limit[next(t) % (sizeof(limit) / sizeof(limit[0]))], n, s;

	if (max > t->count)
		max = t->count;
	n = (1 + next(t) % max + b - 1) / b * b;
	if (n > t->count)
		n = t->count / b * b;
	s = next(t) % (t->count - n + 1) / b * b;
	*sector = t->first + s;
	*count = n;
}

static void check(struct thread *t, uint64_t sector, uint64_t count, const uint8_t *buf)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t stamp = t->h->model[sector + i];
		const uint64_t *s = (const uint64_t *)(buf + i * SECTOR);

		if (stamp == UNKNOWN || sector_good(s, sector + i, stamp))
			continue;
		if (t->h->bad++ < 5)
			printf("# iohammer: sector %llu: wanted stamp %llx, found sector %llu stamp %llx\n",
			       (unsigned long long)(sector + i), (unsigned long long)stamp,
			       (unsigned long long)s[0], (unsigned long long)s[1]);
	}
}

static void do_read(struct thread *t, int fd, uint64_t sector, uint64_t count)
{
	/* Memory that starts in the middle of a page must do too */
	uint8_t *buf = t->buf + next(t) % 8 * SECTOR;

	if (pread(fd, buf, count * SECTOR, (off_t)(sector * SECTOR)) != (ssize_t)(count * SECTOR))
		fail(t, "read", sector, count);
	else
		check(t, sector, count, buf);
}

static void do_write(struct thread *t, int fd, uint64_t sector, uint64_t count, int flags,
		     bool split)
{
	uint8_t *buf = t->buf + next(t) % 8 * SECTOR;
	uint64_t stamp = (uint64_t)(t->id + 1) << 40 | ++t->stamps;
	size_t len = count * SECTOR, half = count / 2 / t->h->block * t->h->block * SECTOR;
	struct iovec iov[2] = { { buf, len }, { NULL, 0 } };

	for (uint64_t i = 0; i < count; i++) {
		sector_fill((uint64_t *)(buf + i * SECTOR), sector + i, stamp);
		t->h->model[sector + i] = stamp;
	}
	if (split && half) {
		iov[0].iov_len = half;
		iov[1] = (struct iovec){ buf + half, len - half };
	}
	if (pwritev2(fd, iov, iov[1].iov_len ? 2 : 1, (off_t)(sector * SECTOR), flags) !=
	    (ssize_t)len)
		fail(t, "write", sector, count);
}

/* Discards and their kin: what the device cannot do at all is counted apart */
static void do_range(struct thread *t, enum op op, uint64_t sector, uint64_t count)
{
	uint64_t range[2] = { sector * SECTOR, count * SECTOR };
	int fd = t->h->direct, mode, ret;

	switch (op) {
	case OP_DISCARD:
		ret = ioctl(fd, BLKDISCARD, range);
		break;
	case OP_ZEROOUT:
		ret = ioctl(fd, BLKZEROOUT, range);
		break;
	default:
		mode = op == OP_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
		ret = fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)range[0], (off_t)range[1]);
	}
	if (ret && errno == EOPNOTSUPP && op != OP_ZEROOUT) {
		t->h->unsupported[op]++;
		return;
	}
	for (uint64_t i = 0; i < count; i++)
		t->h->model[sector + i] = op == OP_DISCARD ? UNKNOWN : 0;
	if (ret)
		fail(t, op_name[op], sector, count);
}

static void do_buffered(struct thread *t, uint64_t sector, uint64_t count)
{
	/* Whole pages: what is cached must not reach into a neighbour's part */
	uint64_t start = (sector + 7) / 8 * 8, end = (sector + count) / 8 * 8;

	if (end <= start)
		return;
	do_write(t, t->h->buffered, start, end - start, 0, false);
	if (fdatasync(t->h->buffered))
		fail(t, "fdatasync", start, end - start);
	do_read(t, t->h->buffered, start, end - start);
}

static enum op pick(struct thread *t)
{
	unsigned int n = (unsigned int)(next(t) % 100);

	for (enum op op = 0; op < OP_COUNT; op++) {
		if (n < op_weight[op])
			return op;
		n -= op_weight[op];
	}
	return OP_READ;
}

static void step(struct thread *t)
{
	uint64_t sector, count;
	enum op op = pick(t);

	choose(t, &sector, &count);
	switch (op) {
	case OP_READ:
		do_read(t, t->h->direct, sector, count);
		break;
	case OP_WRITE:
	case OP_WRITE_FUA:
	case OP_VECTOR:
		do_write(t, t->h->direct, sector, count, op == OP_WRITE_FUA ? RWF_DSYNC : 0,
			 op == OP_VECTOR);
		break;
	case OP_FSYNC:
		if (fsync(t->h->direct))
			fail(t, "fsync", 0, 0);
		break;
	case OP_BUFFERED:
		do_buffered(t, sector, count);
		break;
	default:
		do_range(t, op, sector, count);
	}
	t->h->done[op]++;
	t->h->bytes += op == OP_FSYNC ? 0 : count * SECTOR;
}

static void *run(void *arg)
{
	struct thread *t = arg;
	const uint64_t chunk = 2048;

	/* All zeros to begin with, and all known at the end */
	do_range(t, OP_ZEROOUT, t->first, t->count);
	while (!t->h->stop)
		step(t);
	for (uint64_t s = 0; s < t->count; s += chunk) {
		uint64_t n = t->count - s < chunk ? t->count - s : chunk;

		for (uint64_t i = s; i < s + n; i++) {
			if (t->h->model[t->first + i] != UNKNOWN)
				continue;
			do_write(t, t->h->direct, t->first + s, n, 0, false);
			break;
		}
		do_read(t, t->h->direct, t->first + s, n);
	}
	return NULL;
}

static int report(struct hammer *h, unsigned int seconds)
{
	uint64_t digest = 0, ops = 0;

	for (enum op op = 0; op < OP_COUNT; op++) {
		printf("# metric %s=%llu\n", op_name[op], (unsigned long long)h->done[op]);
		if (h->unsupported[op])
			printf("# metric %s_unsupported=%llu\n", op_name[op],
			       (unsigned long long)h->unsupported[op]);
		ops += h->done[op];
	}
	for (uint64_t s = 0; s < h->sectors; s++)
		digest = digest_add(digest, s, h->model[s]);
	printf("# metric ops=%llu\n", (unsigned long long)ops);
	printf("# metric mb_per_s=%.1f\n", (double)h->bytes / 1e6 / seconds);
	printf("# metric bad=%llu\n", (unsigned long long)h->bad);
	printf("digest %016llx\n", (unsigned long long)digest);
	return h->bad != 0;
}

static int hammer(const char *path, unsigned int threads, unsigned int seconds)
{
	static struct hammer h;
	struct thread t[MAX_THREADS] = { 0 };
	pthread_t id[MAX_THREADS];
	int block = 512;
	uint64_t part;

	h.direct = open(path, O_RDWR | O_DIRECT);
	h.buffered = open(path, O_RDWR);
	if (h.direct < 0 || h.buffered < 0 || ioctl(h.direct, BLKSSZGET, &block)) {
		fprintf(stderr, "iohammer: %s: %s\n", path, strerror(errno));
		return 2;
	}
	h.block = (unsigned int)block / SECTOR;
	part = (uint64_t)lseek(h.direct, 0, SEEK_END) / SECTOR / threads / 8 * 8;
	if (!part) {
		fprintf(stderr, "iohammer: %s is too small for %u threads\n", path, threads);
		return 2;
	}
	h.sectors = part * threads;
	h.model = calloc(h.sectors, sizeof(*h.model));
	for (unsigned int i = 0; i < threads; i++) {
		t[i] = (struct thread){
			.h = &h, .id = i, .first = i * part, .count = part, .x = (i + 1) * GOLDEN
		};
		if (posix_memalign((void **)&t[i].buf, 4096, MAX_LEN + 8 * SECTOR) ||
		    pthread_create(&id[i], NULL, run, &t[i]))
			return 2;
	}
	sleep(seconds);
	h.stop = true;
	for (unsigned int i = 0; i < threads; i++)
		pthread_join(id[i], NULL);
	if (fsync(h.direct))
		fail(&t[0], "fsync", 0, 0);
	return report(&h, seconds);
}

/* The raw file: each sector zero or naming itself, all together the digest */
static int compare(const char *path, const char *wanted, unsigned int threads)
{
	uint64_t sum = 0, bad = 0, part, want = strtoull(wanted, NULL, 16), s;
	uint64_t buf[WORDS];
	struct stat st;
	FILE *f = fopen(path, "rb");

	if (!f || fstat(fileno(f), &st)) {
		fprintf(stderr, "iohammer: %s: %s\n", path, strerror(errno));
		return 2;
	}
	part = (uint64_t)st.st_size / SECTOR / threads / 8 * 8;
	for (s = 0; s < part * threads && fread(buf, SECTOR, 1, f) == 1; s++) {
		if (!sector_good(buf, s, buf[1]) || buf[1] == UNKNOWN)
			bad++;
		sum = digest_add(sum, s, buf[1]);
	}
	fclose(f);
	if (s != part * threads || bad || sum != want) {
		printf("%llu of %llu sectors damaged, digest %016llx, wanted %016llx\n",
		       (unsigned long long)bad, (unsigned long long)s, (unsigned long long)sum,
		       (unsigned long long)want);
		return 1;
	}
	return 0;
}

static int usage(FILE *f, int ret)
{
	fputs("usage: iohammer [-n THREADS] [-t SECONDS] DEVICE\n"
	      "       iohammer [-n THREADS] -c DIGEST FILE\n"
	      "Verified random I/O on a block device; or compare the raw file behind it with\n"
	      "the digest that the first form printed (same -n).\n"
	      "Exit status: 0 all well, 1 bad data or errors, 2 cannot run.\n",
	      f);
	return ret;
}

int main(int argc, char **argv)
{
	unsigned int threads = 4, seconds = 20;
	const char *digest = NULL;
	int c;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((c = getopt(argc, argv, "n:t:c:h")) != -1) {
		if (c == 'n')
			threads = (unsigned int)atoi(optarg);
		else if (c == 't')
			seconds = (unsigned int)atoi(optarg);
		else if (c == 'c')
			digest = optarg;
		else
			return usage(c == 'h' ? stdout : stderr, c == 'h' ? 0 : 2);
	}
	if (optind + 1 != argc || !threads || threads > MAX_THREADS || !seconds)
		return usage(stderr, 2);
	if (digest)
		return compare(argv[optind], digest, threads);
	return hammer(argv[optind], threads, seconds);
}
