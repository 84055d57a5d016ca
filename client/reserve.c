// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The state directory has a file for each device, named by its number, with the
 * kB it holds, and a file "before" with two numbers: what the sysctl was before
 * the first device and what we made of it last.  If it is no longer that, the
 * administrator has changed it, and his word stands.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "reserve.h"

#define FIRST_LINK   8192ul /* kB */
#define FURTHER_LINK 2048ul /* kB */

const struct client_reserve client_reserve_system = {
	.sysctl = "/proc/sys/vm/min_free_kbytes",
	.state = "/run/nbd-client",
};

unsigned long client_reserve_need(unsigned int links)
{
	return FIRST_LINK + (links > 1 ? (links - 1) * FURTHER_LINK : 0);
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

/* What all devices hold, kB */
static unsigned long sum(int dir)
{
	unsigned long total = 0, kb, rest;
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	if (!list)
		return 0;
	while ((entry = readdir(list)))
		if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' &&
		    !read_numbers(dir, entry->d_name, &kb, &rest))
			total += kb;
	closedir(list);
	return total;
}

static unsigned long bounded(unsigned long kb)
{
	struct sysinfo info;
	unsigned long most;

	if (sysinfo(&info))
		return kb;
	most = (unsigned long)((unsigned long long)info.totalram * info.mem_unit / 1024 / 4);
	return kb < most ? kb : most;
}

int client_reserve_hold(const struct client_reserve *where, int index, unsigned int links,
			unsigned long *from, unsigned long *to)
{
	unsigned long now, none, before, set, want;
	int dir = open_state(where, 1), ret = -1;
	char name[16];

	if (dir < 0)
		return -1;
	snprintf(name, sizeof(name), "%d", index);
	if (read_numbers(AT_FDCWD, where->sysctl, &now, &none))
		goto out;
	if (read_numbers(dir, "before", &before, &set))
		before = now;
	if (write_numbers(dir, name, client_reserve_need(links), 0))
		goto out;
	want = bounded(sum(dir));
	*from = *to = now;
	if (want > now) {
		if (write_numbers(AT_FDCWD, where->sysctl, want, 0) ||
		    write_numbers(dir, "before", before, want))
			goto out;
		*to = want;
	}
	ret = 0;
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
	if (unlinkat(dir, name, 0) || read_numbers(dir, "before", &before, &set))
		goto out;
	want = bounded(sum(dir));
	if (want < before)
		want = before;
	if (!read_numbers(AT_FDCWD, where->sysctl, &now, &none) && now == set && want < now)
		ret = write_numbers(AT_FDCWD, where->sysctl, want, 0);
	if (want == before)
		unlinkat(dir, "before", 0);
	else if (now == set)
		ret = write_numbers(dir, "before", before, want);
out:
	close(dir);
	return ret;
}
