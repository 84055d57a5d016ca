// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/server.h"

/* How often it is looked whether a command has ended */
#define ASK_MS 10

bool srv_hook_check(const char *command, char **why)
{
	g_autoptr(GError) error = NULL;

	if (g_shell_parse_argv(command, NULL, NULL, &error))
		return true;
	*why = g_strdup(error->message);
	return false;
}

/* Program and arguments; a file's name stays one argument whatever is in it */
static char **arguments(const char *command, const char *file)
{
	char **argv = NULL, **arg;

	if (!g_shell_parse_argv(command, NULL, &argv, NULL))
		return NULL;
	for (arg = argv; *arg; arg++) {
		g_auto(GStrv) pieces = g_strsplit(*arg, "%s", -1);

		g_free(*arg);
		*arg = g_strjoinv(file, pieces);
	}
	return argv;
}

/*
 * Nothing of ours is left to the command but standard error: standard input may
 * be a client.  Signals are as at a program's start, and it has a process group,
 * so that what it has started can be killed with it.
 */
static int spawn(char **argv, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int ret;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
						POSIX_SPAWN_SETPGROUP);
	ret = posix_spawnp(pid, argv[0], &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -ret;
}

/*
 * Until the process has ended; false when the time was up first.  It is asked for
 * again and again: a descriptor to wait for may not be had when many clients are
 * there, and that is no reason to kill a command.
 */
static bool wait_until(pid_t pid, int64_t deadline)
{
	siginfo_t info;
	int64_t left;

	for (;;) {
		info.si_pid = 0;
		if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 &&
		    errno != EINTR)
			return true; /* the caller's waitpid() says what is wrong */
		if (info.si_pid)
			return true;
		left = deadline - srv_now_ms();
		if (left <= 0)
			return false;
		poll(NULL, 0, left < ASK_MS ? (int)left : ASK_MS);
	}
}

bool srv_hook_run(const char *command, const char *file, int64_t deadline, char *why, size_t len)
{
	g_auto(GStrv) argv = arguments(command, file);
	int ret, status = 0;
	bool ended;
	pid_t pid;

	if (!argv) {
		snprintf(why, len, "cannot be taken apart");
		return false;
	}
	if (srv_now_ms() >= deadline) {
		snprintf(why, len, "was not begun in time");
		return false;
	}
	ret = spawn(argv, &pid);
	if (ret) {
		snprintf(why, len, "cannot be started: %s", strerror(-ret));
		return false;
	}
	ended = wait_until(pid, deadline);
	if (!ended)
		kill(-pid, SIGKILL);
	do {
		ret = waitpid(pid, &status, 0);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0) {
		snprintf(why, len, "cannot be waited for: %s", strerror(errno));
		return false;
	}
	if (!ended)
		snprintf(why, len, "took too long and was killed");
	else if (WIFSIGNALED(status))
		snprintf(why, len, "was ended by signal %d", WTERMSIG(status));
	else
		snprintf(why, len, "ended with status %d", WEXITSTATUS(status));
	return ended && WIFEXITED(status) && !WEXITSTATUS(status);
}
