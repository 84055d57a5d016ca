// SPDX-License-Identifier: GPL-2.0-or-later
/* nbd-server: start-up, from the command line to the main loop. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "server/connection.h"
#include "server/ctl.h"
#include "server/listen.h"
#include "server/monitor.h"
#include "server/options.h"
#include "server/sandbox.h"
#include "server/systemd.h"

/* Exit codes, as nbd-server(1) lists them */
#define EXIT_CUT_OFF 1 /* clients were cut off at the end */
#define EXIT_USAGE   2
#define EXIT_CONFIG  3
#define EXIT_START   4

/* Signals are read from a descriptor: nothing ever runs in a handler */
static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -1;
	/* Both come as errors of the call that caused them */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	/* Whoever ignored it when starting us would make every command's status unknown */
	signal(SIGCHLD, SIG_DFL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Every client takes two descriptors: have as many as we may; and memory to lock */
static void raise_limits(const struct srv_config *config)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	/* Whether that was enough is looked at once we are who we will be */
	if (config->mlock)
		(void)setrlimit(RLIMIT_MEMLOCK, &limit);
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		nbd_warn("cannot raise the limit of open files: %s", strerror(errno));
}

static int drop_group(const char *name, const struct passwd *pw)
{
	const struct group *gr;
	gid_t gid;

	if (name) {
		gr = getgrnam(name);
		if (!gr) {
			nbd_err("group = %s: no such group", name);
			return -1;
		}
		gid = gr->gr_gid;
	} else {
		gid = pw->pw_gid;
	}
	/* With a user come the groups it is in, else none is left but the one named */
	if ((pw ? initgroups(pw->pw_name, gid) : setgroups(0, NULL)) < 0 || setgid(gid) < 0) {
		nbd_err("cannot change to group %s: %s", name ? name : pw->pw_name,
			strerror(errno));
		return -1;
	}
	return 0;
}

static int drop_privileges(const struct srv_config *config)
{
	const struct passwd *pw = NULL;

	if (config->user) {
		pw = getpwnam(config->user);
		if (!pw) {
			nbd_err("user = %s: no such user", config->user);
			return -1;
		}
	}
	if ((config->group || pw) && drop_group(config->group, pw))
		return -1;
	if (pw && setuid(pw->pw_uid) < 0) {
		nbd_err("cannot change to user %s: %s", config->user, strerror(errno));
		return -1;
	}
	return 0;
}

/* Is it not bound to RLIMIT_MEMLOCK? */
static bool may_lock(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	return !syscall(SYS_capget, &head, data) &&
	       (data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK));
}

/*
 * All there is now, so that no code has to be read from a disk later; and what is
 * mapped from here on, stacks and buffers, once it is touched (MCL_ONFAULT): far
 * more is set aside for requests than they ever need at a time.
 */
static int lock_memory(const struct srv_config *config)
{
	struct rlimit limit = { 0, 0 };

	if (!config->mlock)
		return 0;
	/* All that is mapped counts, and a server that cannot map any more ends in the middle */
	if (!may_lock() &&
	    (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur != RLIM_INFINITY)) {
		nbd_err("mlock: no more than %llu bytes may be locked (RLIMIT_MEMLOCK); raise that to "
			"unlimited, as LimitMEMLOCK=infinity does in a unit",
			(unsigned long long)limit.rlim_cur);
		return -1;
	}
	if (!mlockall(MCL_CURRENT) && !mlockall(MCL_FUTURE | MCL_ONFAULT))
		return 0;
	nbd_err("mlock: the server cannot be locked into memory: %s; free some, or start it "
		"without mlock",
		strerror(errno));
	return -1;
}

/* Opened before privileges are dropped, written when the process ID is known */
static FILE *open_pid_file(const struct srv_options *o, const char **path)
{
	FILE *f;

	*path = o->pid_file ? o->pid_file : SRV_DEF_PID_FILE;
	f = fopen(*path, "we");
	if (!f && o->pid_file)
		nbd_err("cannot write %s: %s", *path, strerror(errno));
	else if (!f)
		nbd_warn("cannot write %s: %s; -p names another file", *path, strerror(errno));
	return f;
}

/* Closes the file, if there is one */
static void write_pid(FILE *f, const char *path, pid_t pid)
{
	if (!f)
		return;
	fprintf(f, "%ld\n", (long)pid);
	if (fclose(f))
		nbd_warn("cannot write %s: %s", path, strerror(errno));
}

/*
 * Leave the terminal; the parent has seen every error of the start by now.  It
 * writes the process ID: whoever started the server may look for it right away.
 */
static int become_daemon(FILE *pid_file, const char *pid_path)
{
	pid_t pid = fork();
	int fd;

	if (pid < 0) {
		nbd_err("cannot fork: %s", strerror(errno));
		return -1;
	}
	if (pid) {
		write_pid(pid_file, pid_path, pid);
		_exit(EXIT_SUCCESS);
	}
	if (pid_file)
		fclose(pid_file);
	setsid();
	if (chdir("/") < 0)
		nbd_warn("cannot change to /: %s", strerror(errno));
	nbd_log_to_syslog();
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return 0;
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
	return 0;
}

static struct srv_config *reload(void *ctx)
{
	return srv_options_config(ctx);
}

/* Port 0: the one client is on standard input */
static int start_inetd(struct srv_server *srv)
{
	struct sockaddr_storage addr = { 0 };
	socklen_t len = sizeof(addr);
	int fd, ret;

	if (getpeername(STDIN_FILENO, (struct sockaddr *)&addr, &len) < 0) {
		nbd_err("port 0: standard input is no connected socket: %s", strerror(errno));
		return -1;
	}
	fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	ret = fd < 0 ? -errno : srv_conn_start(srv, &srv->loops[0], fd, &addr);
	if (!ret)
		return 0;
	nbd_err("cannot serve the client on standard input: %s", strerror(-ret));
	return -1;
}

static int detach(const struct srv_options *o, struct srv_server *srv, const char **pid_path)
{
	FILE *pid_file = NULL;

	if (o->pid_file || !o->foreground) {
		pid_file = open_pid_file(o, pid_path);
		if (!pid_file) {
			*pid_path = NULL;
			if (o->pid_file)
				return -1;
		}
	}
	/* What is opened for swap must be the user's, and the terminal sees what is wrong with it */
	if (drop_privileges(srv->config) || srv_server_prepare(srv) || lock_memory(srv->config) ||
	    (!o->foreground && become_daemon(pid_file, *pid_path))) {
		if (pid_file)
			fclose(pid_file);
		return -1;
	}
	if (o->foreground)
		write_pid(pid_file, *pid_path, getpid());
	return 0;
}

/* The service manager's sockets if it has given us some, else our own */
static int open_listener(struct srv_listener *l, const struct srv_config *config)
{
	int n = srv_systemd_sockets(l);

	return n ? (n < 0 ? -1 : 0) : srv_listen_open(l, config);
}

static void say_where(const struct srv_listener *l, const struct srv_config *config)
{
	const char *plural = config->exports->len == 1 ? "" : "s";

	if (l->given)
		nbd_info("serving %u export%s on %u sockets of the service manager's",
			 config->exports->len, plural, l->n);
	else
		nbd_info("serving %u export%s on port %s", config->exports->len, plural,
			 config->unixsock && !config->duallisten ? config->unixsock : config->port);
}

static int serve(struct srv_options *o, struct srv_config *config)
{
	struct srv_listener listener = { 0 };
	struct srv_monitor monitor = { 0 };
	const char *pid_path = NULL;
	struct srv_server srv;
	int status = EXIT_START;
	int signal_fd, ret;

	signal_fd = open_signals();
	ret = srv_server_init(&srv, config);
	if (signal_fd < 0 || ret) {
		nbd_err("cannot start: %s", strerror(ret ? -ret : errno));
		goto out;
	}
	raise_limits(config);
	if (!o->inetd && (open_listener(&listener, config) || srv_monitor_open(&monitor, config)))
		goto out;
	srv.one_client = o->inetd;
	srv.monitor_fds = o->inetd ? 0 : srv_monitor_fds(&monitor);
	if (detach(o, &srv, &pid_path))
		goto out;
	/* Once more: what is locked is not passed on to the process in the background */
	if (!o->foreground && lock_memory(config))
		goto out;
	/* All that needs rights has been done, and every thread is to have it */
	if (config->seccomp && srv_sandbox_enter(config->io != SRV_IO_THREADS))
		goto out;
	if (srv_server_start(&srv, o->inetd ? NULL : &listener))
		goto out;
	if (o->inetd && start_inetd(&srv))
		goto out;
	/* There may be clients already: too late to end for that */
	if (!o->inetd && srv_monitor_start(&monitor, &srv))
		srv_monitor_end(&monitor);
	if (!o->inetd)
		say_where(&listener, config);
	srv_systemd_notify("READY=1");

	if (srv_run(&srv, &listener, signal_fd, reload, o)) {
		/* Its threads still use the server: end the process without touching it */
		if (pid_path)
			unlink(pid_path);
		srv_monitor_unlink(&monitor);
		_exit(EXIT_CUT_OFF);
	}
	status = EXIT_SUCCESS;
out:
	srv_monitor_end(&monitor);
	srv_listen_close(&listener);
	if (pid_path && unlink(pid_path) < 0 && errno != ENOENT && errno != EACCES)
		nbd_warn("cannot remove %s: %s", pid_path, strerror(errno));
	srv_server_destroy(&srv);
	if (signal_fd >= 0)
		close(signal_fd);
	return status;
}

int main(int argc, char **argv)
{
	struct srv_options o;
	struct srv_config *config;
	int status = EXIT_SUCCESS;

	nbd_log_open("nbd-server");
	if (argc > 1 && !strcmp(argv[1], "ctl"))
		return srv_ctl(argc - 1, argv + 1);
	switch (srv_options_parse(&o, argc, argv)) {
	case SRV_OPTIONS_BAD:
		status = EXIT_USAGE;
		goto out;
	case SRV_OPTIONS_HELP:
		srv_options_help();
		goto out;
	case SRV_OPTIONS_VERSION:
		printf("nbd-server (nbswap) %s\n", NBSWAP_VERSION);
		goto out;
	case SRV_OPTIONS_RUN:
		break;
	}
	if (o.output_section) {
		srv_options_print(&o);
		goto out;
	}
	/* Before anything of the file is complained about */
	if (o.log_format_given)
		nbd_log_set_format(o.log_format);
	config = srv_options_config(&o);
	if (config)
		srv_config_log(config);
	status = config ? serve(&o, config) : EXIT_CONFIG;
out:
	srv_options_free(&o);
	return status;
}
