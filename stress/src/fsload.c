// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * fsload: create, write, punch, truncate, rename, remove and map files at
 * random, verify what was written, and leave a manifest by which everything
 * can be verified again after a remount.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHUNK	   4096u
#define WORDS	   (CHUNK / sizeof(uint64_t))
#define MAX_CHUNKS 128u
#define MAX_FILES  40u
#define GOLDEN	   0x9e3779b97f4a7c15ull

/* What a file must contain: a generation a chunk, 0 for zeros */
struct file {
	uint32_t name;	 /* 0: no such file */
	uint32_t chunks; /* its size */
	uint32_t generation[MAX_CHUNKS];
};

struct load {
	unsigned int id;
	uint64_t x;
	uint32_t names, generations;
	uint64_t ops, bad;
	struct file file[MAX_FILES];
};

static uint64_t mix(uint64_t x)
{
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	return x;
}

static uint64_t next(struct load *l)
{
	l->x = mix(l->x + GOLDEN);
	return l->x >> 11;
}

static void chunk_fill(uint64_t *c, uint32_t name, uint32_t i, uint32_t generation)
{
	uint64_t x = ((uint64_t)name << 32 | i) * GOLDEN ^ generation;

	memset(c, 0, CHUNK);
	for (unsigned int w = 0; generation && w < WORDS; w++)
		c[w] = x = mix(x + GOLDEN);
}

static void path_of(const struct load *l, uint32_t name, char *path)
{
	sprintf(path, "p%u/d%u/f%u", l->id, name % 4, name);
}

static void bad(struct load *l, const char *what, const char *path)
{
	if (l->bad++ < 5)
		printf("# fsload: %s %s: %s\n", what, path, strerror(errno));
}

static void verify(struct load *l, const struct file *f)
{
	uint64_t buf[WORDS], want[WORDS];
	struct stat st;
	char path[64];
	int fd;

	path_of(l, f->name, path);
	fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) || st.st_size != (off_t)f->chunks * CHUNK) {
		bad(l, "size of", path);
	} else {
		for (uint32_t i = 0; i < f->chunks; i++) {
			chunk_fill(want, f->name, i, f->generation[i]);
			errno = 0;
			if (pread(fd, buf, CHUNK, (off_t)i * CHUNK) != CHUNK ||
			    memcmp(buf, want, CHUNK)) {
				bad(l, "content of", path);
				break;
			}
		}
	}
	if (fd >= 0)
		close(fd);
}

/* Write a range of chunks: by write, with O_DIRECT, or through a mapping */
static void write_range(struct load *l, struct file *f, int fd, bool mapped)
{
	uint32_t first = (uint32_t)(next(l) % MAX_CHUNKS);
	uint32_t n = (uint32_t)(1 + next(l) % 32);
	void *mem;

	if (first + n > MAX_CHUNKS)
		n = MAX_CHUNKS - first;
	if (f->chunks < first + n) {
		if (ftruncate(fd, (off_t)(first + n) * CHUNK))
			return bad(l, "extend", "file");
		f->chunks = first + n;
	}
	if (mapped)
		mem = mmap(NULL, (size_t)n * CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			   (off_t)first * CHUNK);
	else if (posix_memalign(&mem, CHUNK, (size_t)n * CHUNK))
		mem = MAP_FAILED;
	if (mem == MAP_FAILED)
		return bad(l, "memory for", "write");
	for (uint32_t i = 0; i < n; i++) {
		f->generation[first + i] = ++l->generations;
		chunk_fill((uint64_t *)((char *)mem + (size_t)i * CHUNK), f->name, first + i,
			   l->generations);
	}
	if (mapped) {
		munmap(mem, (size_t)n * CHUNK);
		return;
	}
	if (pwrite(fd, mem, (size_t)n * CHUNK, (off_t)first * CHUNK) != (ssize_t)n * CHUNK)
		bad(l, "write", "file");
	free(mem);
}

static void create(struct load *l, struct file *f)
{
	char path[64];
	int fd;

	memset(f, 0, sizeof(*f));
	f->name = ++l->names;
	path_of(l, f->name, path);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644);
	if (fd < 0)
		return bad(l, "create", path);
	write_range(l, f, fd, false);
	close(fd);
}

/* The content names the file by number, so a renamed file is written anew */
static void rename_over(struct load *l, struct file *f)
{
	uint32_t old = f->name;
	char from[64], to[64];
	int fd;

	path_of(l, old, from);
	f->name = ++l->names;
	path_of(l, f->name, to);
	if (rename(from, to))
		bad(l, "rename", from);
	fd = open(to, O_RDWR | O_TRUNC);
	if (fd < 0)
		return bad(l, "open", to);
	f->chunks = 0;
	memset(f->generation, 0, sizeof(f->generation));
	write_range(l, f, fd, false);
	close(fd);
}

static void change(struct load *l, struct file *f, unsigned int how)
{
	uint32_t n = (uint32_t)(next(l) % MAX_CHUNKS), m = (uint32_t)(1 + next(l) % 16);
	char path[64];
	int fd;

	path_of(l, f->name, path);
	fd = open(path, O_RDWR | (how == 1 ? O_DIRECT : 0));
	if (fd < 0)
		return bad(l, "open", path);
	if (how <= 2) {
		write_range(l, f, fd, how == 2);
	} else if (how == 3) {
		if (ftruncate(fd, (off_t)n * CHUNK))
			bad(l, "truncate", path);
		for (uint32_t i = n; i < MAX_CHUNKS; i++)
			f->generation[i] = 0;
		f->chunks = n;
	} else if (how == 4 && n < f->chunks) {
		if (fallocate(fd, 3, (off_t)n * CHUNK, (off_t)m * CHUNK) && errno != EOPNOTSUPP)
			bad(l, "punch", path);
		for (uint32_t i = n; i < n + m && i < MAX_CHUNKS; i++)
			f->generation[i] = 0;
	} else if (fsync(fd)) {
		bad(l, "fsync", path);
	}
	close(fd);
}

static void step(struct load *l)
{
	struct file *f = &l->file[next(l) % MAX_FILES];
	unsigned int how = (unsigned int)(next(l) % 12);
	char path[64];

	l->ops++;
	if (!f->name) {
		create(l, f);
	} else if (how <= 5) {
		change(l, f, how);
	} else if (how == 6) {
		rename_over(l, f);
	} else if (how == 7) {
		path_of(l, f->name, path);
		if (unlink(path))
			bad(l, "unlink", path);
		f->name = 0;
	} else {
		verify(l, f);
	}
}

static void work(struct load *l, time_t end)
{
	char path[64];
	int fd;

	l->x = (l->id + 1) * GOLDEN;
	sprintf(path, "p%u", l->id);
	mkdir(path, 0755);
	for (unsigned int d = 0; d < 4; d++) {
		sprintf(path, "p%u/d%u", l->id, d);
		if (mkdir(path, 0755))
			bad(l, "mkdir", path);
	}
	while (time(NULL) < end)
		step(l);
	sprintf(path, "p%u/manifest", l->id);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, l, sizeof(*l)) != (ssize_t)sizeof(*l) || fsync(fd))
		bad(l, "write", path);
	printf("# metric ops_%u=%llu\n", l->id, (unsigned long long)l->ops);
	exit(l->bad != 0);
}

static int verify_all(struct load *l, unsigned int id)
{
	char path[64];
	int fd;

	sprintf(path, "p%u/manifest", id);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, l, sizeof(*l)) != (ssize_t)sizeof(*l)) {
		printf("# fsload: %s: %s\n", path, strerror(errno));
		return 1;
	}
	close(fd);
	for (unsigned int i = 0; i < MAX_FILES; i++)
		if (l->file[i].name)
			verify(l, &l->file[i]);
	return l->bad != 0;
}

static int usage(FILE *f, int ret)
{
	fputs("usage: fsload [-n PROCESSES] [-t SECONDS] DIRECTORY\n"
	      "       fsload [-n PROCESSES] -v DIRECTORY\n"
	      "Verified file system load; or verify what an earlier run left (same -n).\n"
	      "Exit status: 0 all well, 1 bad data or errors, 2 cannot run.\n",
	      f);
	return ret;
}

int main(int argc, char **argv)
{
	unsigned int procs = 3, seconds = 10;
	static struct load load;
	bool again = false;
	int c, ret = 0;
	time_t end;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((c = getopt(argc, argv, "n:t:vh")) != -1) {
		if (c == 'n')
			procs = (unsigned int)atoi(optarg);
		else if (c == 't')
			seconds = (unsigned int)atoi(optarg);
		else if (c == 'v')
			again = true;
		else
			return usage(c == 'h' ? stdout : stderr, c == 'h' ? 0 : 2);
	}
	if (optind + 1 != argc || !procs || chdir(argv[optind]))
		return usage(stderr, 2);
	if (again) {
		for (unsigned int i = 0; i < procs; i++)
			ret |= verify_all(&load, i);
		return ret;
	}
	end = time(NULL) + (time_t)seconds;
	for (unsigned int i = 0; i < procs; i++) {
		load.id = i;
		if (!fork())
			work(&load, end);
	}
	for (int status; wait(&status) > 0;)
		ret |= status != 0;
	return ret;
}
