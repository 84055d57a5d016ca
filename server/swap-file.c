// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Names have passed srv_swap_bad_name(): they stay inside of the directory.
 * What is in it is not trusted any further than that: links are not followed,
 * and a file must be of this server's user and have no other name.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "server/swap.h"

/* The session that has the file, as it is on the wire */
#define SESSION	   "user.nbswap.session"
#define UNFINISHED ".new"
#define FILE_NAME  (SRV_SWAP_NAME_MAX + 16)

/* NAME.swap, and .NAME.new while it is being made: no client's name begins with a dot */
static void file_name(char *out, const char *name)
{
	snprintf(out, FILE_NAME, "%s" SRV_SWAP_SUFFIX, name);
}

static void unfinished_name(char *out, const char *name)
{
	snprintf(out, FILE_NAME, ".%s" UNFINISHED, name);
}

int srv_swap_dir_open(const char *path, const char **what)
{
	int fd, err;

	*what = "open";
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*what = "write to";
	if (faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		goto err_dir;
	*what = "lock";
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		goto err_dir;
	return fd;

err_dir:
	err = errno;
	close(fd);
	return -err;
}

/* Is it a file that this server has made? */
static int check(const struct stat *st)
{
	if (!S_ISREG(st->st_mode) || st->st_nlink != 1 || st->st_uid != geteuid() || !st->st_size)
		return -EPERM;
	return 0;
}

int srv_swap_file_open(int dir, const char *name, uint64_t *size, const char **what)
{
	char file[FILE_NAME];
	struct stat st;
	int fd, ret;

	file_name(file, name);
	*what = "open";
	fd = openat(dir, file, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*what = "use what is no file made by this server:";
	ret = fstat(fd, &st) < 0 ? -errno : check(&st);
	if (ret) {
		close(fd);
		return ret;
	}
	*size = (uint64_t)st.st_size;
	return fd;
}

static int reserve(int fd, uint64_t size)
{
	struct statvfs fs;
	int ret;

	/* One that fails takes all there is first, and meanwhile others get none */
	if (!fstatvfs(fd, &fs) && fs.f_bavail < size / fs.f_frsize) {
		errno = ENOSPC;
		return -1;
	}
	do {
		ret = fallocate(fd, 0, 0, (off_t)size);
	} while (ret < 0 && errno == EINTR);
	return ret;
}

int srv_swap_file_create(int dir, const char *name, uint64_t size, bool preallocate,
			 const char **what)
{
	char file[FILE_NAME], unfinished[FILE_NAME];
	int fd, err;

	file_name(file, name);
	unfinished_name(unfinished, name);
	*what = "create";
	/* There is none of this name: one thread makes it, and what a crash left is gone */
	fd = openat(dir, unfinished, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	*what = "set the size of";
	if (ftruncate(fd, (off_t)size) < 0)
		goto err_file;
	*what = "reserve the space of";
	if (preallocate && reserve(fd, size) < 0)
		goto err_file;
	*what = "name";
	if (linkat(dir, unfinished, dir, file, 0) < 0)
		goto err_file;
	*what = "unlink the first name of";
	if (unlinkat(dir, unfinished, 0) < 0)
		goto err_name;
	return fd;

err_name:
	err = errno;
	unlinkat(dir, file, 0);
	close(fd);
	return -err;
err_file:
	err = errno;
	unlinkat(dir, unfinished, 0);
	close(fd);
	return -err;
}

int srv_swap_file_remove(int dir, const char *name)
{
	char file[FILE_NAME];

	file_name(file, name);
	return unlinkat(dir, file, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int srv_swap_file_note(int fd, const uint8_t *session, const char **what)
{
	*what = "note the session with";
	if (session && !fsetxattr(fd, SESSION, session, SRV_SWAP_ID_LEN, 0))
		return 0;
	/* At least nobody must be told there whose it is not */
	if (!fremovexattr(fd, SESSION) || errno == ENODATA || errno == EOPNOTSUPP)
		return 0;
	return -errno;
}

/* The session that was noted with a file; false when there is none */
static bool noted(int dir, const char *file, uint8_t *session)
{
	int fd = openat(dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	bool found;

	if (fd < 0)
		return false;
	found = fgetxattr(fd, SESSION, session, SRV_SWAP_ID_LEN) == SRV_SWAP_ID_LEN;
	close(fd);
	return found;
}

/* The client's name in a file's; false when there is none */
static bool stem(const char *file, const char *prefix, const char *suffix,
		 char name[SRV_SWAP_NAME_MAX + 1])
{
	size_t before = strlen(prefix), after = strlen(suffix), len = strlen(file);

	if (len <= before + after || len - before - after > SRV_SWAP_NAME_MAX ||
	    memcmp(file, prefix, before) || memcmp(file + len - after, suffix, after))
		return false;
	len -= before + after;
	memcpy(name, file + before, len);
	name[len] = 0;
	return !srv_swap_bad_name(name);
}

/* Those first: a file that was being given its name has two */
static void remove_unfinished(DIR *entries, int dir)
{
	char name[SRV_SWAP_NAME_MAX + 1];
	const struct dirent *e;

	while ((e = readdir(entries))) {
		if (stem(e->d_name, ".", UNFINISHED, name))
			unlinkat(dir, e->d_name, 0);
	}
	rewinddir(entries);
}

int srv_swap_dir_scan(int dir, srv_swap_found_fn found, void *ctx, const char **what)
{
	uint8_t session[SRV_SWAP_ID_LEN];
	char name[SRV_SWAP_NAME_MAX + 1];
	const struct dirent *e;
	struct stat st;
	DIR *entries;
	int fd;

	*what = "read";
	/* A descriptor of its own: its position is the listing's */
	fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	entries = fdopendir(fd);
	if (!entries) {
		close(fd);
		return -ENOMEM;
	}
	remove_unfinished(entries, dir);
	while ((e = readdir(entries))) {
		if (stem(e->d_name, "", SRV_SWAP_SUFFIX, name) &&
		    !fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) && !check(&st))
			found(ctx, name, (uint64_t)st.st_size,
			      noted(dir, e->d_name, session) ? session : NULL);
	}
	closedir(entries);
	return 0;
}
