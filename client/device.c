// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "device.h"

#define MAX_INDEX ((1 << 20) - 1) /* the kernel's minor numbers */

/* Index at the start of name, what follows the digits in *rest; -1: none */
static int index_of(const char *name, const char **rest)
{
	int index = 0;

	if (!strncmp(name, CLIENT_DEV "/", 5))
		name += 5;
	if (strncmp(name, "nb", 2))
		return -1;
	name += name[2] == 'd' ? 3 : 2;
	if (*name < '0' || *name > '9' || (*name == '0' && name[1] >= '0' && name[1] <= '9'))
		return -1;
	for (; *name >= '0' && *name <= '9'; name++) {
		index = 10 * index + (*name - '0');
		if (index > MAX_INDEX)
			return -1;
	}
	*rest = name;
	return index;
}

int client_device_index(const char *name)
{
	const char *rest;
	int index = index_of(name, &rest);

	return index < 0 || *rest ? -1 : index;
}

int client_device_index_of_partition(const char *name)
{
	const char *rest;
	int index = index_of(name, &rest);

	if (index < 0 || (*rest && *rest != 'p'))
		return -1;
	if (*rest && (!rest[1] || rest[1 + strspn(rest + 1, "0123456789")]))
		return -1;
	return index;
}

const char *client_device_name(const char *sysfs, int index, char name[CLIENT_DEVICE_NAME],
			       bool *exists)
{
	static const char *const formats[] = { "nbd%d", "nb%d" };
	char path[512];
	unsigned int i;

	*exists = false;
	for (i = 0; i < 2 && !*exists; i++) {
		snprintf(name, CLIENT_DEVICE_NAME, formats[i], index);
		snprintf(path, sizeof(path), "%s/%s", sysfs, name);
		*exists = !access(path, F_OK);
	}
	return name;
}

const char *client_device_called(const char *sysfs, const char *given,
				 char name[CLIENT_DEVICE_NAME])
{
	bool exists;

	client_device_name(sysfs, client_device_index_of_partition(given), name, &exists);
	if (!exists)
		snprintf(name, CLIENT_DEVICE_NAME, "%s",
			 strncmp(given, CLIENT_DEV "/", 5) ? given : given + 5);
	return name;
}

int client_device_attr(const char *sysfs, const char *name, const char *attr, char *buf, int size)
{
	char path[512];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "%s/%s/%s", sysfs, name, attr);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	len = read(fd, buf, (size_t)size - 1);
	close(fd);
	if (len < 0)
		return -1;
	buf[len] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return 0;
}

static int open_block(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -1;
	if (!fstat(fd, &st) && S_ISBLK(st.st_mode))
		return fd;
	close(fd);
	errno = ENOTBLK;
	return -1;
}

/* The node with the driver's name, else the link with the other name */
static int open_node(const char *sysfs, const char *dev, int index, int flags, char path[512])
{
	static const char *const other[] = { "nb%d", "nbd%d" };
	char name[CLIENT_DEVICE_NAME];
	bool exists;
	int fd;

	client_device_name(sysfs, index, name, &exists);
	snprintf(path, 512, "%s/%s", dev, name);
	fd = open_block(path, flags);
	if (fd < 0 && errno == ENOENT) {
		char second[512];

		snprintf(name, sizeof(name), other[name[2] != 'd'], index);
		snprintf(second, sizeof(second), "%s/%s", dev, name);
		fd = open_block(second, flags);
	}
	return fd;
}

int client_device_open(const char *sysfs, const char *dev, int index, int flags,
		       unsigned int timeout_ms, struct client_error *err)
{
	int64_t deadline = client_clock_ms() + timeout_ms;
	char path[512];
	int fd;

	for (;;) {
		fd = open_node(sysfs, dev, index, flags, path);
		if (fd >= 0)
			return fd;
		/* These do not pass by waiting */
		if (errno == EACCES || errno == EPERM || errno == ENOTBLK || errno == EROFS)
			break;
		if (errno == EBUSY && (flags & O_EXCL))
			break;
		if (client_clock_ms() >= deadline)
			break;
		usleep(20000);
	}
	if (errno == EACCES || errno == EPERM)
		return client_error_set(err, CLIENT_NOT_PERMITTED,
					"cannot open %s: %s; run nbd-client as root", path,
					strerror(errno));
	if (errno == EBUSY)
		return client_error_set(
			err, CLIENT_BUSY,
			"%s is in use (swap or mounted): swapoff or umount it first, or use -force",
			path);
	if (errno == ENOENT)
		return client_error_set(
			err, CLIENT_NO_DRIVER,
			"there is no %s: load the driver (modprobe nbd), and see that /dev is a devtmpfs or run by udev",
			path);
	return client_error_set(err, CLIENT_FAILED, "cannot open %s: %s", path, strerror(errno));
}

/* The outcome goes through the pipe; the exit code says nothing */
static void settle_in_child(const char *sysfs, const char *dev, int index, unsigned int timeout_ms,
			    int pipe_fd)
{
	struct client_error result = { .code = CLIENT_OK };

	if (client_device_open(sysfs, dev, index, O_RDONLY, timeout_ms, &result) >= 0)
		result.code = CLIENT_OK;
	_exit(write(pipe_fd, &result, sizeof(result)) != sizeof(result));
}

int client_device_settle(const char *sysfs, const char *dev, int index, unsigned int timeout_ms,
			 struct client_error *err)
{
	struct client_error result;
	struct pollfd pfd = { .events = POLLIN };
	int pipes[2], ret;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC))
		return client_error_set(err, CLIENT_FAILED, "cannot make a pipe: %s",
					strerror(errno));
	pid = fork();
	if (!pid)
		settle_in_child(sysfs, dev, index, timeout_ms, pipes[1]);
	close(pipes[1]);
	pfd.fd = pipes[0];
	if (pid < 0) {
		ret = client_error_set(err, CLIENT_FAILED, "cannot fork: %s", strerror(errno));
	} else if (poll(&pfd, 1, 2 * (int)timeout_ms) <= 0 ||
		   read(pipes[0], &result, sizeof(result)) != sizeof(result)) {
		/* It may sleep in the kernel and not heed this before the device answers */
		kill(pid, SIGKILL);
		ret = client_error_set(
			err, CLIENT_FAILED,
			"reading from it takes too long: nbd-client status tells of its connections");
	} else {
		waitpid(pid, NULL, 0);
		*err = result;
		ret = result.code ? -1 : 0;
	}
	close(pipes[0]);
	return ret;
}
