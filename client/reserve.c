// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The state directory has a file for each device, named by its number, with the
 * two numbers of its share, and a file "before" with two numbers: what the sysctl was before
 * the first device and what we made of it last.  If it is no longer that, the
 * administrator has changed it, and his word stands.  The file "boost" has what
 * vm.watermark_boost_factor was before the first device made it 0.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "reserve.h"

#define FIRST_LINK   8192ul /* kB */
#define FURTHER_LINK 2048ul /* kB */
#define MAX_DEVICES  256

const struct client_reserve client_reserve_system = {
	.sysctl = "/proc/sys/vm/min_free_kbytes",
	.boost = "/proc/sys/vm/watermark_boost_factor",
	.state = "/run/nbd-client",
	.meminfo = "/proc/meminfo",
};

static unsigned long kb(uint64_t bytes)
{
	return (unsigned long)(bytes / 1024 + !!(bytes % 1024));
}

struct client_reserve_share client_reserve_share(uint64_t reserve, uint64_t min_free,
						 uint64_t registered, unsigned int links)
{
	unsigned long old = FIRST_LINK + (links > 1 ? (links - 1) * FURTHER_LINK : 0);

	if (registered)
		return (struct client_reserve_share){ 0, kb(min_free) };
	if (!min_free)
		return (struct client_reserve_share){ old * 3 / 8, old };
	return (struct client_reserve_share){ kb(reserve), kb(min_free) };
}

unsigned long client_reserve_sum(const struct client_reserve_share *share, unsigned int n)
{
	unsigned long all = 0, most = 0, need;
	unsigned int i;

	for (i = 0; i < n; i++) {
		all += share[i].reserve;
		if (share[i].reserve)
			most = CLIENT_RESERVE_FLOOR;
	}
	for (i = 0; i < n; i++) {
		need = share[i].min_free + ((all - share[i].reserve) * 8 + 2) / 3;
		if (need > most)
			most = need;
	}
	return most;
}

/* Numbers in a file; those that are not there are 0. -1 if there is no file. */
static int read_numbers(int dir, const char *name, unsigned long *a, unsigned long *b)
{
	char text[64] = "", *end = text;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	*a = *b = 0;
	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n < 0)
		return -1;
	*a = strtoul(text, &end, 10);
	*b = strtoul(end, NULL, 10);
	return 0;
}

static int write_numbers(int dir, const char *name, unsigned long a, unsigned long b)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int ret;

	if (fd < 0)
		return -1;
	ret = b ? dprintf(fd, "%lu %lu\n", a, b) : dprintf(fd, "%lu\n", a);
	return close(fd) || ret < 0 ? -1 : 0;
}

/* The directory, locked against other clients; made if need be */
static int open_state(const struct client_reserve *where, int make)
{
	int dir;

	if (make && mkdir(where->state, 0755) && errno != EEXIST) {
		/* an initramfs may be without /run */
		if (errno != ENOENT || mkdir("/run", 0755) || mkdir(where->state, 0755))
			return -1;
	}
	dir = open(where->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0 && flock(dir, LOCK_EX)) {
		close(dir);
		return -1;
	}
	return dir;
}

/* The devices that hold something, MAX_DEVICES at most: how many */
static unsigned int read_shares(int dir, struct client_reserve_share *share)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;
	unsigned int n = 0;

	if (!list) {
		if (copy >= 0)
			close(copy);
		return 0;
	}
	while (n < MAX_DEVICES && (entry = readdir(list)))
		if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' &&
		    !read_numbers(dir, entry->d_name, &share[n].reserve, &share[n].min_free))
			n++;
	closedir(list);
	return n;
}

/* What all devices need, kB */
static unsigned long sum(int dir)
{
	struct client_reserve_share share[MAX_DEVICES];

	return client_reserve_sum(share, read_shares(dir, share));
}

static int boost_hold(const struct client_reserve *where, int dir)
{
	unsigned long now, none;

	/* Kernels without it have nothing to switch off */
	if (read_numbers(AT_FDCWD, where->boost, &now, &none) || !now)
		return 0;
	if (faccessat(dir, "boost", F_OK, 0) && write_numbers(dir, "boost", now, 0))
		return -1;
	return write_numbers(AT_FDCWD, where->boost, 0, 0);
}

static int boost_drop(const struct client_reserve *where, int dir)
{
	struct client_reserve_share share[MAX_DEVICES];
	unsigned long now, before, none;
	int ret = 0;

	if (read_shares(dir, share) || read_numbers(dir, "boost", &before, &none))
		return 0;
	if (!read_numbers(AT_FDCWD, where->boost, &now, &none) && !now)
		ret = write_numbers(AT_FDCWD, where->boost, before, 0);
	unlinkat(dir, "boost", 0);
	return ret;
}

unsigned long client_reserve_most(const struct client_reserve *where)
{
	FILE *file = fopen(where->meminfo, "re");
	unsigned long total = 0;
	char line[128];

	while (file && !total && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemTotal: %lu", &total) != 1)
			total = 0;
	if (file)
		fclose(file);
	return total / 4;
}

static unsigned long bounded(const struct client_reserve *where, unsigned long need)
{
	unsigned long most = client_reserve_most(where);

	return most && need > most ? most : need;
}

int client_reserve_hold(const struct client_reserve *where, int index,
			const struct client_reserve_share *share,
			struct client_reserve_change *change)
{
	unsigned long now, none, before, set, want;
	int dir = open_state(where, 1), ret = -1;
	char name[16];

	change->need = client_reserve_sum(share, 1);
	if (dir < 0)
		return -1;
	snprintf(name, sizeof(name), "%d", index);
	if (read_numbers(AT_FDCWD, where->sysctl, &now, &none))
		goto out;
	if (read_numbers(dir, "before", &before, &set))
		before = now;
	if (write_numbers(dir, name, share->reserve, share->min_free))
		goto out;
	change->need = sum(dir);
	want = bounded(where, change->need);
	change->from = change->to = now;
	if (want > now) {
		if (write_numbers(AT_FDCWD, where->sysctl, want, 0) ||
		    write_numbers(dir, "before", before, want))
			goto out;
		change->to = want;
	}
	ret = boost_hold(where, dir);
out:
	close(dir);
	return ret;
}

int client_reserve_drop(const struct client_reserve *where, int index)
{
	unsigned long now, none, before, set, want;
	int dir = open_state(where, 0), ret = 0;
	char name[16];

	if (dir < 0)
		return errno == ENOENT ? 0 : -1;
	snprintf(name, sizeof(name), "%d", index);
	if (unlinkat(dir, name, 0))
		goto out;
	ret = boost_drop(where, dir);
	if (read_numbers(dir, "before", &before, &set))
		goto out;
	want = bounded(where, sum(dir));
	if (want < before)
		want = before;
	if (!read_numbers(AT_FDCWD, where->sysctl, &now, &none) && now == set && want < now)
		ret |= write_numbers(AT_FDCWD, where->sysctl, want, 0);
	if (want == before)
		unlinkat(dir, "before", 0);
	else if (now == set)
		ret |= write_numbers(dir, "before", before, want);
out:
	close(dir);
	return ret;
}
