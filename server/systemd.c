// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/parse.h"

#define FIRST_FD 3

/* Is it a socket that clients can come to, of a kind that we would open ourselves? */
static bool is_listening(int fd)
{
	int domain = -1, type = -1, listening = 0;
	socklen_t len = sizeof(int);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) &&
	       !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) &&
	       !getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) && listening &&
	       type == SOCK_STREAM &&
	       (domain == AF_INET || domain == AF_INET6 || domain == AF_UNIX);
}

int srv_systemd_sockets(struct srv_listener *l)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	uint64_t number, n;
	int fd, flags;

	*l = (struct srv_listener){ 0 };
	/* Meant for another process: a variable outlives the one it was set for */
	if (!pid || !fds || nbd_parse_uint(pid, INT32_MAX, &number) || number != (uint64_t)getpid())
		return 0;
	if (nbd_parse_uint(fds, SRV_MAX_LISTEN, &n)) {
		nbd_err("LISTEN_FDS=%s: expected a number from 0 to %d", fds, SRV_MAX_LISTEN);
		return -1;
	}
	for (fd = FIRST_FD; fd < FIRST_FD + (int)n; fd++) {
		if (!is_listening(fd)) {
			nbd_err("LISTEN_FDS: descriptor %d is no listening stream socket; "
				"the socket unit needs ListenStream= and Accept=no",
				fd);
			return -1;
		}
		flags = fcntl(fd, F_GETFL);
		if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
		    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
			nbd_err("LISTEN_FDS: cannot set up descriptor %d: %s", fd, strerror(errno));
			return -1;
		}
		l->fd[l->n++] = fd;
		l->given = true;
	}
	return (int)n;
}

void srv_systemd_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t len;
	int fd;

	if (!path || !*path)
		return;
	if (strlen(path) >= sizeof(addr.sun_path)) {
		nbd_warn("NOTIFY_SOCKET=%s is too long for a socket; nothing is told", path);
		return;
	}
	strcpy(addr.sun_path, path);
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	/* A name, not a file */
	if (*path == '@')
		addr.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&addr, len) < 0)
		nbd_warn("cannot tell NOTIFY_SOCKET=%s %s: %s", path, state, strerror(errno));
	if (fd >= 0)
		close(fd);
}

void srv_systemd_notify_reload(void)
{
	struct timespec ts;
	char state[80];

	clock_gettime(CLOCK_MONOTONIC, &ts);
	snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%lld",
		 (long long)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
	srv_systemd_notify(state);
}
