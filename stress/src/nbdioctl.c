// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What processes may do to each other with the NBD_* ioctls, for tests:
 *
 *   nbdioctl DEVICE
 *   nbdioctl -p PARTITION
 *
 * The device is not connected and nobody else has it open.  It is connected to
 * nothing but the other ends of socket pairs.  The partition is of a device that
 * netlink has connected.  One line of TAP for each check.
 *
 * Exit status: 0 all ran, whatever came of it, 1 not all could run, 2 usage.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/nbd.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TRIES 500 /* of 10 ms each */

/* ours goes to the driver, peer is what a server would have */
struct pair {
	int ours, peer;
};

static const char *device_path;

static void tap(bool ok, const char *text)
{
	printf("%s %s\n", ok ? "ok" : "not ok", text);
	fflush(stdout);
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
}

static int open_device(void)
{
	int fd = open(device_path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		err(1, "%s", device_path);
	return fd;
}

static struct pair new_pair(void)
{
	struct pair pair;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		err(1, "socketpair");
	pair.ours = fds[0];
	pair.peer = fds[1];
	return pair;
}

static void free_pair(struct pair *pair)
{
	close(pair->ours);
	close(pair->peer);
}

/* 0, or what the ioctl says: not an error of the test */
static int try(int device, unsigned long cmd, unsigned long arg)
{
	return ioctl(device, cmd, arg) < 0 ? errno : 0;
}

static void must(int device, unsigned long cmd, unsigned long arg, const char *name)
{
	if (ioctl(device, cmd, arg) < 0)
		err(1, "%s", name);
}

/* Nobody has the other end of it any longer */
static bool hung_up(int peer)
{
	char byte;

	return recv(peer, &byte, 1, MSG_DONTWAIT) == 0;
}

/* A file that was put once too often is gone, though it has a descriptor */
static bool is_whole(const struct pair *pair)
{
	char byte = 0;

	return write(pair->ours, "x", 1) == 1 && recv(pair->peer, &byte, 1, MSG_DONTWAIT) == 1 &&
	       byte == 'x';
}

/* A file of the device's in sysfs; overwritten by the next call */
static const char *sysfs_file(const char *file)
{
	static char path[96];
	const char *name = strrchr(device_path, '/');

	snprintf(path, sizeof(path), "/sys/block/%s/%s", name ? name + 1 : device_path, file);
	return path;
}

/* It has a file with its process while it is connected */
static bool is_connected(void)
{
	return !access(sysfs_file("pid"), F_OK);
}

/* NBD_DO_IT in a process of its own; it has failed or is going to be ended by us */
static pid_t start(int device, int *error)
{
	int status, i;
	pid_t pid;

	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid)
		_exit(try(device, NBD_DO_IT, 0));
	for (i = 0; i < TRIES; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			*error = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
			return 0;
		}
		if (is_connected())
			return pid;
		nap();
	}
	errx(1, "NBD_DO_IT neither fails nor goes on");
}

static void stop(pid_t pid)
{
	if (pid)
		kill(pid, SIGKILL);
	if (pid && waitpid(pid, NULL, 0) != pid)
		err(1, "waitpid");
}

/* A device of 1 MiB over the socket, in a process of its own */
static pid_t must_start(int device, const struct pair *pair)
{
	int error = 0;
	pid_t pid;

	must(device, NBD_SET_SIZE, 1 << 20, "NBD_SET_SIZE");
	must(device, NBD_SET_SOCK, (unsigned long)pair->ours, "NBD_SET_SOCK");
	pid = start(device, &error);
	if (pid <= 0)
		errx(1, "NBD_DO_IT: %s", strerror(error));
	return pid;
}

/* Does the file of the device in sysfs hold that? */
static bool reads(const char *file, const char *wanted)
{
	const char *path = sysfs_file(file);
	char line[64] = "";
	FILE *f;

	f = fopen(path, "r");
	if (!f || !fgets(line, sizeof(line), f))
		err(1, "%s", path);
	fclose(f);
	line[strcspn(line, "\n")] = '\0';
	return !strcmp(line, wanted);
}

/* Programs give flags one by one, and not the one that says there are flags */
static void flags(void)
{
	struct pair pair = new_pair();
	int device = open_device();
	char command[128];
	pid_t pid;

	must(device, NBD_SET_BLKSIZE, 0, "NBD_SET_BLKSIZE");
	must(device, NBD_SET_FLAGS, NBD_FLAG_SEND_FLUSH | NBD_FLAG_READ_ONLY, "NBD_SET_FLAGS");
	pid = must_start(device, &pair);
	tap(reads("queue/write_cache", "write back"), "ioctl: NBD_FLAG_SEND_FLUSH is heeded");
	tap(reads("ro", "1"), "ioctl: and NBD_FLAG_READ_ONLY");
	tap(reads("queue/logical_block_size", "1024"), "ioctl: a block size of 0 is the default");
	snprintf(command, sizeof(command),
		 "nbd-client status %s --json | grep -q '\"timeout\": *86400'", device_path);
	tap(!system(command), "ioctl: no timeout is the longest there is");
	stop(pid);
	/* It was shut down with the device */
	free_pair(&pair);
	pair = new_pair();
	pid = must_start(device, &pair);
	tap(reads("queue/write_cache", "write through"), "ioctl: no flags are no flags");
	tap(reads("ro", "0"), "ioctl: and the next device can be written");
	stop(pid);
	close(device);
	free_pair(&pair);
}

/* For the caller and those it forks; with a policy that lets none of them run meanwhile */
static void occupy(int policy)
{
	struct sched_param param = { .sched_priority = policy == SCHED_FIFO };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	if (sched_setaffinity(0, sizeof(set), &set) || sched_setscheduler(0, policy, &param))
		err(1, "cannot take CPU 0");
}

/* From NBD_DISCONNECT on nobody comes to it, though the process in NBD_DO_IT has not run yet */
static void ending(void)
{
	int device, opened = -1, error = 0, again = 0, failed, i;
	pid_t pid = fork();
	int status;

	if (pid < 0)
		err(1, "fork");
	if (pid) {
		if (waitpid(pid, &status, 0) != pid || status)
			errx(1, "the process that disconnects failed");
		return;
	}
	occupy(SCHED_OTHER);
	device = open_device();
	for (i = 0; i < 5; i++) {
		struct pair pair = new_pair();

		pid = must_start(device, &pair);
		/* It is LIVE when it has a size */
		while (!reads("size", "2048"))
			nap();
		occupy(SCHED_FIFO);
		failed = try(device, NBD_DISCONNECT, 0);
		error = error ?: failed;
		opened = open(device_path, O_RDWR | O_CLOEXEC);
		if (opened >= 0)
			close(opened);
		else if (errno != ENXIO)
			err(1, "%s", device_path);
		failed = try(device, NBD_CLEAR_SOCK, 0);
		again = again ?: failed;
		occupy(SCHED_OTHER);
		failed = try(device, NBD_CLEAR_SOCK, 0);
		again = again ?: failed;
		if (error || opened >= 0) {
			stop(pid);
			break;
		}
		if (waitpid(pid, &status, 0) != pid)
			err(1, "waitpid");
		free_pair(&pair);
	}
	tap(!error, "ioctl: NBD_DISCONNECT ends NBD_DO_IT");
	tap(opened < 0, "ioctl: from then on nobody opens the device");
	tap(!again, "ioctl: and NBD_CLEAR_SOCK right after it has nothing to refuse");
	exit(0);
}

/* Its sockets are used up: begun anew it would use somebody else's */
static void stopped(void)
{
	struct pair pair = new_pair();
	int device = open_device(), status;
	pid_t pid = must_start(device, &pair);

	if (kill(pid, SIGSTOP) || waitpid(pid, &status, WUNTRACED) != pid || kill(pid, SIGCONT) ||
	    waitpid(pid, &status, 0) != pid)
		err(1, "cannot stop NBD_DO_IT");
	tap(WIFEXITED(status) && WEXITSTATUS(status) == EINTR,
	    "ioctl: NBD_DO_IT is ended by a signal and not begun anew");
	close(device);
	free_pair(&pair);
}

/* What NBD_CLEAR_SOCK has dropped is not dropped again by the next NBD_DO_IT */
static void cleared(void)
{
	struct pair a = new_pair(), b = new_pair(), c = new_pair();
	int device = open_device(), error = 0;
	pid_t pid;

	must(device, NBD_SET_SOCK, (unsigned long)a.ours, "NBD_SET_SOCK");
	must(device, NBD_SET_SOCK, (unsigned long)b.ours, "NBD_SET_SOCK");
	must(device, NBD_CLEAR_SOCK, 0, "NBD_CLEAR_SOCK");
	must(device, NBD_SET_SOCK, (unsigned long)c.ours, "NBD_SET_SOCK");
	must(device, NBD_SET_SIZE, 1 << 20, "NBD_SET_SIZE");
	pid = start(device, &error);
	tap(pid > 0, "ioctl: connects after sockets were cleared");
	stop(pid);
	tap(is_whole(&a) && is_whole(&b), "ioctl: and cleared sockets are their owner's still");
	must(device, NBD_CLEAR_SOCK, 0, "NBD_CLEAR_SOCK");
	close(device);
	free_pair(&a);
	free_pair(&b);
	free_pair(&c);
}

/* A process that gives a socket, if any, and a size, and stays until it is killed */
static pid_t give(const struct pair *pair)
{
	int device, ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready))
		err(1, "pipe");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		device = open_device();
		if (pair)
			must(device, NBD_SET_SOCK, (unsigned long)pair->ours, "NBD_SET_SOCK");
		must(device, NBD_SET_SIZE, 1 << 20, "NBD_SET_SIZE");
		close(ready[0]);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		errx(1, "the process that sets a socket failed");
	close(ready[0]);
	return pid;
}

/* What two processes set never is one connection */
static void mixed(void)
{
	struct pair theirs = new_pair(), ours = new_pair();
	int device = open_device(), error = 0;
	pid_t pid = give(&theirs);

	close(theirs.ours);
	error = try(device, NBD_SET_SOCK, (unsigned long)ours.ours);
	tap(error == EBUSY, "ioctl: a socket beside those of another process is refused");
	error = try(device, NBD_SET_SIZE, 2 << 20);
	tap(error == EBUSY, "ioctl: and so is another size for them");
	error = try(device, NBD_CLEAR_SOCK, 0);
	tap(error == EBUSY, "ioctl: and to clear them");
	error = 0;
	stop(start(device, &error));
	tap(error == EBUSY, "ioctl: and to start with them");
	stop(pid);
	tap(!hung_up(theirs.peer), "ioctl: they wait while the device is open");
	error = try(device, NBD_SET_SOCK, (unsigned long)ours.ours);
	tap(!error && hung_up(theirs.peer), "ioctl: when that process has gone they go first");
	error = 0;
	stop(start(device, &error));
	tap(error == EINVAL, "ioctl: and so does the size it has set");
	must(device, NBD_SET_SIZE, 2 << 20, "NBD_SET_SIZE");
	pid = start(device, &error);
	tap(pid > 0, "ioctl: with one of our own we start");
	error = try(device, NBD_SET_SIZE, 1 << 20);
	tap(error == EBUSY, "ioctl: nothing is set while it is connected");
	stop(pid);
	free_pair(&ours);
	ours = new_pair();
	error = try(device, NBD_SET_SOCK, 1ul << 32 | (unsigned long)ours.ours);
	tap(error == EBADF, "ioctl: no descriptor is that large");
	must(device, NBD_SET_SOCK, (unsigned long)ours.ours, "NBD_SET_SOCK");
	close(device);
	close(ours.ours);
	/* A work item does that */
	sleep(1);
	tap(hung_up(ours.peer), "ioctl: the last close drops sockets that were never used");
	close(theirs.peer);
	close(ours.peer);
}

/* Sizes come before sockets with most clients: they belong to somebody as well */
static void sizes(void)
{
	int device = open_device(), error;
	pid_t pid = give(NULL);

	error = try(device, NBD_SET_SIZE, 2 << 20);
	tap(error == EBUSY, "ioctl: a size where another process has set one is refused");
	error = try(device, NBD_CLEAR_SOCK, 0);
	tap(!error, "ioctl: there are no sockets to be kept from clearing");
	stop(pid);
	error = try(device, NBD_SET_SIZE, 2 << 20);
	tap(!error, "ioctl: when that process has gone it is taken");
	close(device);
}

/* Who clears up behind others, or gives what cannot be used, keeps nobody from the device */
static void unowned(void)
{
	struct pair pair = new_pair();
	int device = open_device(), done[2], error = 0;
	char errors[4];
	pid_t pid;

	stop(give(&pair));
	if (pipe(done))
		err(1, "pipe");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		/* Else they were the child's as well */
		close(pair.ours);
		errors[0] = (char)try(device, NBD_CLEAR_SOCK, 0);
		errors[1] = (char)try(device, NBD_SET_SOCK, INT_MAX);
		errors[2] = (char)try(device, NBD_SET_BLKSIZE, 3);
		errors[3] = (char)try(device, NBD_SET_SIZE_BLOCKS, ULONG_MAX);
		if (write(done[1], errors, sizeof(errors)) != sizeof(errors))
			_exit(1);
		for (;;)
			pause();
	}
	close(done[1]);
	if (read(done[0], errors, sizeof(errors)) != sizeof(errors))
		err(1, "the process that clears up");
	tap(!errors[0], "ioctl: sockets of a process that has gone are cleared");
	tap(errors[1] == EBADF, "ioctl: no such socket");
	tap(errors[2] == EINVAL, "ioctl: no such block size");
	tap(errors[3] == EOVERFLOW, "ioctl: no such size");
	tap(!try(device, NBD_SET_SOCK, (unsigned long)pair.ours),
	    "ioctl: and none of it keeps others from setting");
	stop(start(device, &error));
	tap(error == EINVAL, "ioctl: the size has gone with the sockets");
	stop(pid);
	must(device, NBD_CLEAR_SOCK, 0, "NBD_CLEAR_SOCK");
	close(done[0]);
	close(device);
	free_pair(&pair);
}

/* A client that has set all forks, and goes away: its child connects */
static void daemonized(void)
{
	struct pair pair = new_pair();
	int device = open_device(), status, i;
	pid_t parent;

	parent = fork();
	if (parent < 0)
		err(1, "fork");
	if (!parent) {
		pid_t self = getpid(), child;

		must(device, NBD_SET_SIZE, 1 << 20, "NBD_SET_SIZE");
		must(device, NBD_SET_SOCK, (unsigned long)pair.ours, "NBD_SET_SOCK");
		child = fork();
		if (child < 0)
			err(1, "fork");
		if (child)
			_exit(0);
		while (getppid() == self)
			nap();
		close(pair.peer);
		must(device, NBD_SET_TIMEOUT, 60, "NBD_SET_TIMEOUT");
		_exit(try(device, NBD_DO_IT, 0));
	}
	if (waitpid(parent, &status, 0) != parent || status)
		errx(1, "the process that sets a socket failed");
	close(pair.ours);
	for (i = 0; i < TRIES && !is_connected(); i++)
		nap();
	tap(is_connected(),
	    "ioctl: the child of a process that has gone connects with its sockets");
	/* The connection ends with its server, and NBD_DO_IT with it */
	close(pair.peer);
	for (i = 0; i < TRIES && is_connected(); i++)
		nap();
	tap(!is_connected(), "ioctl: which ends when they break");
	/* The child's parent is gone, and it has the device open as long as it lives */
	if (wait(NULL) < 0)
		err(1, "wait");
	close(device);
}

/* Nor is a size left for whoever comes next */
static void left_over(void)
{
	struct pair pair = new_pair();
	int device = open_device(), error = 0;

	must(device, NBD_SET_SIZE, 1 << 20, "NBD_SET_SIZE");
	close(device);
	device = open_device();
	must(device, NBD_SET_SOCK, (unsigned long)pair.ours, "NBD_SET_SOCK");
	stop(start(device, &error));
	tap(error == EINVAL, "ioctl: a size is forgotten at the last close");
	must(device, NBD_CLEAR_SOCK, 0, "NBD_CLEAR_SOCK");
	close(device);
	free_pair(&pair);
}

/* Who has a partition open cannot be told from its mount */
static int on_partition(void)
{
	int partition = open_device(), error;

	error = try(partition, NBD_DISCONNECT, 0);
	tap(error == EINVAL, "ioctl: a partition is not the place for these");
	close(partition);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "-p")) {
		device_path = argv[2];
		return on_partition();
	}
	if (argc != 2 || argv[1][0] == '-') {
		fprintf(stderr, "usage: nbdioctl DEVICE\n       nbdioctl -p PARTITION\n");
		return 2;
	}
	device_path = argv[1];
	if (prctl(PR_SET_CHILD_SUBREAPER, 1))
		err(1, "prctl");
	cleared();
	flags();
	ending();
	stopped();
	mixed();
	sizes();
	unowned();
	daemonized();
	left_over();
	return 0;
}
