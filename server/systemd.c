// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "common/log.h"

/* Is it a socket that clients can come to, of a kind that we would open ourselves? */
static bool is_listening(int fd)
{
	return sd_is_socket(fd, AF_INET, SOCK_STREAM, 1) > 0 ||
	       sd_is_socket(fd, AF_INET6, SOCK_STREAM, 1) > 0 ||
	       sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) > 0;
}

int srv_systemd_sockets(struct srv_listener *l)
{
	int n = sd_listen_fds(0), fd, flags;

	*l = (struct srv_listener){ 0 };
	if (n < 0 || n > SRV_MAX_LISTEN) {
		nbd_err("LISTEN_FDS=%s: %s: expected how many sockets there are from descriptor %d "
			"on, 0 to %d",
			getenv("LISTEN_FDS"), n < 0 ? strerror(-n) : "too many",
			SD_LISTEN_FDS_START, SRV_MAX_LISTEN);
		return -1;
	}
	for (fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + n; fd++) {
		if (!is_listening(fd)) {
			nbd_err("LISTEN_FDS: descriptor %d is no listening stream socket; "
				"the socket unit needs ListenStream= and Accept=no",
				fd);
			return -1;
		}
		flags = fcntl(fd, F_GETFL);
		if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
			nbd_err("LISTEN_FDS: cannot set up descriptor %d: %s", fd, strerror(errno));
			return -1;
		}
		l->fd[l->n++] = fd;
		l->given = true;
	}
	return n;
}

void srv_systemd_notify(const char *state)
{
	int ret = sd_notify(0, state);

	if (ret < 0)
		nbd_warn("cannot tell NOTIFY_SOCKET=%s %s: %s", getenv("NOTIFY_SOCKET"), state,
			 strerror(-ret));
}

void srv_systemd_notify_reload(void)
{
	struct timespec ts;
	int ret;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ret = sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld",
			 (long long)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
	if (ret < 0)
		nbd_warn("cannot tell NOTIFY_SOCKET=%s that the configuration is read again: %s",
			 getenv("NOTIFY_SOCKET"), strerror(-ret));
}
