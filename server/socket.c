// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEEPALIVE_IDLE	   60 /* seconds */
#define KEEPALIVE_INTERVAL 10
#define KEEPALIVE_PROBES   6
/* A machine that has come back refuses the first probe of its old connection */
#define KEEPALIVE_PROBE	   2

static void set_option(int fd, int level, int name, int value)
{
	/* Each is an improvement, none a condition: a failure is not worth a client */
	(void)setsockopt(fd, level, name, &value, sizeof(value));
}

void srv_socket_tune(int fd, int family)
{
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	if (family != AF_INET && family != AF_INET6)
		return;
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
}

void srv_socket_probe(int fd, int family)
{
	if (family == AF_INET || family == AF_INET6)
		set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_PROBE);
}

bool srv_socket_stale(const struct sockaddr_un *addr)
{
	struct stat st;
	bool stale;
	int fd;

	if (stat(addr->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	stale = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 &&
		errno == ECONNREFUSED;
	close(fd);
	return stale;
}

void srv_peer_name(const struct sockaddr_storage *addr, char *text, size_t len)
{
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (addr->ss_family == AF_UNIX) {
		snprintf(text, len, "on the Unix socket");
		return;
	}
	if (getnameinfo((const struct sockaddr *)addr, sizeof(*addr), host, sizeof(host), port,
			sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV)) {
		snprintf(text, len, "of unknown address");
		return;
	}
	snprintf(text, len, "%.80s port %.8s", host, port);
}
