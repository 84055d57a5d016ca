// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ioprobe: one verified read after the other, to memory that is locked.
 *
 * Direct I/O of single pages needs no page of the machine's: what stops it is
 * the driver, the network or the server.  So it shows what a device still does
 * when nobody else can get memory.  The pages are written first, and said to
 * be: a device that is swap takes no writes.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE  4096u
#define WORDS (PAGE / sizeof(uint64_t))

static struct {
	_Atomic uint64_t done, bad, errors;
	_Atomic uint64_t worst_ns; /* slowest request since the last line */
	_Atomic uint64_t since_ns; /* when the request under way began, 0: none */
	_Atomic bool stop;
} probe;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void page_fill(uint64_t *page, uint64_t index)
{
	for (unsigned int i = 0; i < WORDS; i++)
		page[i] = (index + 1) * 0x9e3779b97f4a7c15ull + i;
}

/* One page out or in; false if that failed */
static bool transfer(int fd, void *page, uint64_t offset, bool write)
{
	uint64_t t0 = now_ns(), ns;
	ssize_t n;

	probe.since_ns = t0;
	n = write ? pwrite(fd, page, PAGE, (off_t)offset) : pread(fd, page, PAGE, (off_t)offset);
	ns = now_ns() - t0;
	probe.since_ns = 0;
	if (ns > probe.worst_ns)
		probe.worst_ns = ns;
	probe.done++;
	if (n == PAGE)
		return true;
	if (!probe.errors++)
		printf("# ioprobe: %s at %llu: %s\n", write ? "write" : "read",
		       (unsigned long long)offset, n < 0 ? strerror(errno) : "short");
	return false;
}

/* A line a second, whatever the requests do */
static void *report(void *seconds)
{
	uint64_t start = now_ns(), last = 0;

	for (unsigned int s = 1; s <= *(unsigned int *)seconds; s++) {
		uint64_t due = start + s * 1000000000ull, now = now_ns(), worst, since, done;
		struct timespec ts;

		if (due > now) {
			ts.tv_sec = (time_t)((due - now) / 1000000000ull);
			ts.tv_nsec = (long)((due - now) % 1000000000ull);
			nanosleep(&ts, NULL);
		}
		now = now_ns();
		since = probe.since_ns;
		worst = atomic_exchange(&probe.worst_ns, 0);
		if (since && now > since && now - since > worst)
			worst = now - since;
		done = probe.done;
		printf("# probe t=%u ios=%llu worst_ms=%llu bad=%llu errors=%llu\n", s,
		       (unsigned long long)(done - last), (unsigned long long)(worst / 1000000),
		       (unsigned long long)probe.bad, (unsigned long long)probe.errors);
		last = done;
	}
	probe.stop = true;
	return NULL;
}

static void run(int fd, uint64_t first, uint64_t pages, uint64_t *page)
{
	uint64_t *want = page + WORDS, x = 88172645463325252ull;

	while (!probe.stop) {
		uint64_t i;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		i = (x >> 20) % pages;
		if (transfer(fd, page, first + i * PAGE, false)) {
			page_fill(want, i);
			probe.bad += memcmp(page, want, PAGE) != 0;
		}
	}
}

static int usage(FILE *f, int ret)
{
	fputs("usage: ioprobe [-t SECONDS] DEVICE FIRST_MB MB\n"
	      "Write this part of the device, say \"filled\", then read and verify single pages of it by\n"
	      "direct I/O for -t seconds (60), with a line a second about it.\n"
	      "Exit status: 0 all well, 1 bad data or errors, 2 cannot run.\n",
	      f);
	return ret;
}

int main(int argc, char **argv)
{
	unsigned int seconds = 60;
	uint64_t first, pages;
	pthread_t reporter;
	int c, fd;
	void *page;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((c = getopt(argc, argv, "t:h")) != -1) {
		if (c != 't')
			return usage(c == 'h' ? stdout : stderr, c == 'h' ? 0 : 2);
		seconds = (unsigned int)atoi(optarg);
	}
	if (argc != optind + 3 || !seconds)
		return usage(stderr, 2);
	first = strtoull(argv[optind + 1], NULL, 10) << 20;
	pages = strtoull(argv[optind + 2], NULL, 10) << 8;
	fd = open(argv[optind], O_RDWR | O_DIRECT);
	if (fd < 0 || !pages || posix_memalign(&page, PAGE, 2 * PAGE)) {
		fprintf(stderr, "ioprobe: %s: %s\n", argv[optind], strerror(errno));
		return 2;
	}
	for (uint64_t i = 0; i < pages; i++) {
		page_fill(page, i);
		transfer(fd, page, first + i * PAGE, true);
	}
	printf("say filled\n");
	if (mlockall(MCL_CURRENT | MCL_FUTURE) ||
	    pthread_create(&reporter, NULL, report, &seconds)) {
		fprintf(stderr, "ioprobe: cannot lock its memory: %s\n", strerror(errno));
		return 2;
	}
	run(fd, first, pages, page);
	pthread_join(reporter, NULL);
	printf("# metric probe_reads=%llu\n# metric probe_bad=%llu\n# metric probe_errors=%llu\n",
	       (unsigned long long)(probe.done - pages), (unsigned long long)probe.bad,
	       (unsigned long long)probe.errors);
	return probe.bad || probe.errors;
}
