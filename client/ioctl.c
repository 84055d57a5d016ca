// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * -nonetlink: the interface of old.  A process stays in NBD_DO_IT as long as
 * the device is connected; another one opens the device, which makes the kernel
 * look for partitions, and reports.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/nbd.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "commands.h"
#include "device.h"

#define LIVE_TIMEOUT 10000 /* ms from NBD_DO_IT until the device is live */
#define NODE_TIMEOUT 5000

static int failed(const char *what, const char *device, struct client_error *err)
{
	char name[CLIENT_DEVICE_NAME];
	int error = errno;

	client_device_called(CLIENT_SYSFS, device, name);
	if (error == EBUSY)
		return client_error_set(
			err, CLIENT_BUSY,
			"cannot %s %s: it is connected already; disconnect it with nbd-client -d",
			what, name);
	return client_error_set(err, CLIENT_FAILED, "cannot %s %s: %s", what, name,
				strerror(error));
}

/* First of all: a device that is connected refuses this, and has not been touched yet */
static int set_sockets(int device, const struct client_args *args,
		       const struct client_handover *handover, struct client_error *err)
{
	unsigned int i;

	for (i = 0; i < handover->n; i++) {
		if (!ioctl(device, NBD_SET_SOCK, handover->fd[i]))
			continue;
		failed("set a connection of", args->device, err);
		if (i)
			ioctl(device, NBD_CLEAR_SOCK);
		return -1;
	}
	return 0;
}

static int set_up(int device, const struct client_args *args,
		  const struct client_handover *handover, struct client_error *err)
{
	int read_only = !!(handover->flags & NBD_WIRE_FLAG_READ_ONLY);

	if (ioctl(device, NBD_SET_BLKSIZE, (unsigned long)handover->block_size) ||
	    ioctl(device, NBD_SET_SIZE_BLOCKS,
		  (unsigned long)(handover->size / handover->block_size)))
		return failed("set the size of", args->device, err);
	if (ioctl(device, NBD_SET_FLAGS, (unsigned long)handover->flags) ||
	    ioctl(device, BLKROSET, &read_only))
		return failed("set the flags of", args->device, err);
	if (args->timeout && args->timeout != CLIENT_NOT_GIVEN &&
	    ioctl(device, NBD_SET_TIMEOUT, (unsigned long)args->timeout))
		return failed("set the timeout of", args->device, err);
	return 0;
}

/* For -swap: this process must neither be paged out nor be killed to free memory */
static void become_unkillable(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "-1000", 5) != 5)
		client_warn("cannot protect nbd-client from the OOM killer: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		client_warn("cannot lock nbd-client in memory: %s", strerror(errno));
}

static void detach(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	if (chdir("/"))
		client_warn("cannot go to /: %s", strerror(errno));
	if (null < 0)
		return;
	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
}

/* Until the device is disconnected */
static int serve(int device, const struct client_args *args, struct client_handover *handover,
		 char *argv0, struct client_error *err)
{
	int ret;

	if (args->systemd_mark)
		argv0[0] = '@';
	if (set_sockets(device, args, handover, err))
		return -1;
	if (set_up(device, args, handover, err)) {
		ioctl(device, NBD_CLEAR_SOCK);
		return -1;
	}
	/* the driver holds the sockets now */
	client_handover_close(handover);
	/* locks do not survive a fork: this is the process that stays */
	if (args->swap)
		become_unkillable();
	ret = ioctl(device, NBD_DO_IT);
	if (ret)
		failed("run", args->device, err);
	ioctl(device, NBD_CLEAR_SOCK);
	return ret ? -1 : CLIENT_OK;
}

/*
 * The sysfs attribute pid is there while the device is connected, and comes a moment
 * before its size
 */
static bool is_live(int index)
{
	char name[CLIENT_DEVICE_NAME], pid[16], size[24];
	bool exists;

	client_device_name(CLIENT_SYSFS, index, name, &exists);
	return exists && !client_device_attr(CLIENT_SYSFS, name, "pid", pid, sizeof(pid)) &&
	       !client_device_attr(CLIENT_SYSFS, name, "size", size, sizeof(size)) &&
	       strcmp(size, "0") != 0;
}

/*
 * Wait until the device is live and opens, then tell.  If the other process
 * fails first, what it writes to the pipe is the error.
 */
static int report(int pipe_fd, const struct client_args *args,
		  const struct client_address *peer_address, uint64_t size, unsigned int links,
		  struct client_error *err)
{
	int64_t deadline = client_clock_ms() + LIVE_TIMEOUT;
	int index = client_device_index(args->device);
	struct pollfd pfd = { .fd = pipe_fd, .events = POLLIN };
	char name[CLIENT_DEVICE_NAME], peer[CLIENT_ADDRESS_TEXT];
	bool exists;

	while (!is_live(index)) {
		if (poll(&pfd, 1, 20) > 0) {
			if (read(pipe_fd, err, sizeof(*err)) == sizeof(*err))
				return -1;
			return client_error_set(err, CLIENT_FAILED, "%s was disconnected at once",
						args->device);
		}
		if (client_clock_ms() > deadline)
			return client_error_set(err, CLIENT_FAILED, "%s does not become live",
						args->device);
	}
	if (client_device_settle(CLIENT_SYSFS, CLIENT_DEV, index, NODE_TIMEOUT, err))
		return -1;
	client_connect_report(stdout, client_device_name(CLIENT_SYSFS, index, name, &exists),
			      client_address_text(&peer_address->sa, peer_address->len, peer),
			      args->export ? args->export : "", size, links);
	return CLIENT_OK;
}

/* The child's outcome is its exit code; the parent's goes to main() */
static void leave(int ret, const struct client_error *err, int pipe_fd)
{
	if (ret < 0 && (pipe_fd < 0 || write(pipe_fd, err, sizeof(*err)) != sizeof(*err)))
		client_error_print(err);
	fflush(stdout);
	_exit(ret < 0 ? (int)err->code : ret);
}

/* Parent reports and ends, child serves in the background */
static int run_background(int device, const struct client_args *args,
			  struct client_handover *handover, char *argv0, int pipes[2],
			  struct client_error *err)
{
	struct client_address peer = handover->peer;
	unsigned int links = handover->n;
	pid_t pid = fork();
	int ret;

	if (pid < 0)
		return client_error_set(err, CLIENT_FAILED, "cannot fork: %s", strerror(errno));
	if (!pid) {
		close(pipes[0]);
		signal(SIGPIPE, SIG_IGN);
		detach();
		ret = serve(device, args, handover, argv0, err);
		leave(ret, err, pipes[1]);
	}
	close(pipes[1]);
	pipes[1] = -1;
	ret = report(pipes[0], args, &peer, handover->size, links, err);
	if (ret)
		kill(pid, SIGTERM);
	return ret;
}

/* Parent serves, child reports */
static int run_foreground(int device, const struct client_args *args,
			  struct client_handover *handover, char *argv0, int pipes[2],
			  struct client_error *err)
{
	pid_t pid = fork();
	int ret;

	if (pid < 0)
		return client_error_set(err, CLIENT_FAILED, "cannot fork: %s", strerror(errno));
	if (!pid) {
		unsigned int links = handover->n;

		close(pipes[1]);
		close(device);
		client_handover_close(handover);
		ret = report(pipes[0], args, &handover->peer, handover->size, links, err);
		leave(ret, err, -1);
	}
	ret = serve(device, args, handover, argv0, err);
	/* it waits for a device that will not come: its error is ours */
	if (ret)
		kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return ret;
}

int client_ioctl_connect(const struct client_args *args, struct client_handover *handover,
			 char *argv0, struct client_error *err)
{
	int device = client_device_open(CLIENT_SYSFS, CLIENT_DEV, client_device_index(args->device),
					O_RDWR, 0, err);
	int pipes[2];
	int ret;

	if (device < 0)
		return -1;
	if (is_live(client_device_index(args->device))) {
		close(device);
		errno = EBUSY;
		return failed("connect", args->device, err);
	}
	if (pipe2(pipes, O_CLOEXEC)) {
		close(device);
		return client_error_set(err, CLIENT_FAILED, "cannot make a pipe: %s",
					strerror(errno));
	}
	if (args->no_fork)
		ret = run_foreground(device, args, handover, argv0, pipes, err);
	else
		ret = run_background(device, args, handover, argv0, pipes, err);
	close(pipes[0]);
	if (pipes[1] >= 0)
		close(pipes[1]);
	close(device);
	return ret;
}

int client_ioctl_disconnect(const struct client_args *args, struct client_error *err)
{
	int device = client_device_open(CLIENT_SYSFS, CLIENT_DEV, client_device_index(args->device),
					args->force ? O_RDWR : O_RDWR | O_EXCL, 0, err);
	int ret = 0;

	if (device < 0)
		return -1;
	if (ioctl(device, NBD_DISCONNECT) && errno != EINVAL)
		ret = failed("disconnect", args->device, err);
	else if (ioctl(device, NBD_CLEAR_SOCK))
		ret = failed("clear the connections of", args->device, err);
	close(device);
	return ret;
}
