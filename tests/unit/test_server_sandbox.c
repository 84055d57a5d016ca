// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/sandbox.h"

static int refused(int ret)
{
	return ret == -1 && errno == EPERM;
}

static void *nothing(void *arg)
{
	return arg;
}

static int forbidden(void)
{
	static char *const argv[] = { "true", NULL };
	struct rlimit limit = { 1, 1 };

	if (!refused(execv("/bin/true", argv)))
		return 1;
	if (!refused(mount("none", "/mnt", "tmpfs", 0, NULL)))
		return 2;
	if (!refused(socket(AF_INET, SOCK_STREAM, 0)) || !refused(socket(AF_NETLINK, SOCK_RAW, 0)))
		return 3;
	if (!refused(unshare(CLONE_NEWNS)))
		return 4;
	if (!refused(setrlimit(RLIMIT_CORE, &limit)))
		return 5;
	if (!refused(kill(getpid(), 0)))
		return 6;
	if (!refused((int)syscall(SYS_tgkill, getppid(), getppid(), 0)))
		return 12;
	if (!refused(ioctl(0, TIOCSTI, "x")))
		return 7;
	if (!refused(symlink("/", "/var/tmp/nbd-sandbox")) || !refused(chmod("/", 0755)))
		return 8;
	if (!refused(setuid(0)))
		return 9;
	if (!refused((int)syscall(SYS_io_uring_setup, 1, NULL)))
		return 11;
#ifndef __SANITIZE_ADDRESS__
	if (!refused(fork()))
		return 10;
#endif
	return 0;
}

static int permitted(void)
{
	pthread_t thread;
	struct rlimit limit;
	struct stat st;
	int fd;

	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd < 0 || write(fd, "x", 1) != 1 || fstat(fd, &st) < 0)
		return 20;
	if (socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) < 0)
		return 21;
	if (pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL))
		return 22;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 23;
	if (syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0) < 0)
		return 24;
	return 0;
}

/* In a child: there is no way back */
static int in_sandbox(int (*what)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(srv_sandbox_enter(false) ? 99 : what());
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void forbids(void **state)
{
	(void)state;
#ifndef SRV_SECCOMP
	skip();
#endif
	assert_int_equal(in_sandbox(forbidden), 0);
}

static void permits(void **state)
{
	(void)state;
	assert_int_equal(in_sandbox(permitted), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forbids),
		cmocka_unit_test(permits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
