// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/listen.h"

#include <errno.h>
#include <glib.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/connection.h"
#include "server/socket.h"
#include "server/systemd.h"

#define BACKLOG 1024

static int add_socket(struct srv_listener *l, int family, const struct sockaddr *addr,
		      socklen_t len)
{
	int on = 1, err, fd;

	if (l->n == SRV_MAX_LISTEN)
		return -ENOSPC;
	fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* A killed server must be able to come back to its port at once */
	if (family != AF_UNIX && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		goto err_socket;
	/* IPv4 has a socket of its own */
	if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
		goto err_socket;
	if (bind(fd, addr, len) < 0 || listen(fd, BACKLOG) < 0)
		goto err_socket;
	l->fd[l->n++] = fd;
	return 0;

err_socket:
	err = errno;
	close(fd);
	return -err;
}

/* Has the address been in the list before?  A hosts file may well name one twice. */
static bool seen_before(const struct addrinfo *list, const struct addrinfo *ai)
{
	for (; list != ai; list = list->ai_next) {
		if (list->ai_addrlen == ai->ai_addrlen &&
		    !memcmp(list->ai_addr, ai->ai_addr, ai->ai_addrlen))
			return true;
	}
	return false;
}

int srv_listen_tcp(struct srv_listener *l, const char *host, const char *port)
{
	const struct addrinfo hints = {
		.ai_flags = AI_PASSIVE,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *list, *ai;
	unsigned int before = l->n;
	int ret, err = 0, absent = 0;

	ret = getaddrinfo(host, port, &hints, &list);
	if (ret) {
		nbd_err("cannot listen on %s port %s: %s", host ? host : "any address", port,
			ret == EAI_SYSTEM ? strerror(errno) : gai_strerror(ret));
		return -1;
	}
	for (ai = list; ai; ai = ai->ai_next) {
		if (seen_before(list, ai))
			continue;
		ret = add_socket(l, ai->ai_family, ai->ai_addr, ai->ai_addrlen);
		/* Machines without IPv6 (or IPv4) still serve the other */
		if (ret == -EAFNOSUPPORT || ret == -EADDRNOTAVAIL)
			absent = ret;
		else if (ret)
			err = ret;
	}
	freeaddrinfo(list);
	if (l->n == before && !err)
		err = absent;
	if (!err)
		return 0;
	nbd_err("cannot listen on %s port %s: %s", host ? host : "any address", port,
		strerror(-err));
	return -1;
}

static int listen_addresses(struct srv_listener *l, const struct srv_config *config)
{
	g_auto(GStrv) hosts = NULL;
	unsigned int n = 0;
	char **host;

	if (!config->listenaddr)
		return srv_listen_tcp(l, NULL, config->port);
	hosts = g_strsplit(config->listenaddr, ",", -1);
	for (host = hosts; *host; host++) {
		if (!*g_strstrip(*host))
			continue;
		n++;
		if (srv_listen_tcp(l, *host, config->port))
			return -1;
	}
	if (!n) {
		nbd_err("listenaddr = %s: no address", config->listenaddr);
		return -1;
	}
	return 0;
}

static int listen_unix(struct srv_listener *l, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int ret;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		nbd_err("cannot listen on %s: a Unix socket's path has at most %zu bytes", path,
			sizeof(addr.sun_path) - 1);
		return -1;
	}
	strcpy(addr.sun_path, path);
	if (srv_socket_stale(&addr))
		unlink(path);
	ret = add_socket(l, AF_UNIX, (const struct sockaddr *)&addr, sizeof(addr));
	if (ret) {
		nbd_err("cannot listen on %s: %s", path, strerror(-ret));
		return -1;
	}
	l->unix_path = g_strdup(path);
	return 0;
}

int srv_listen_open(struct srv_listener *l, const struct srv_config *config)
{
	*l = (struct srv_listener){ 0 };
	if (config->unixsock && listen_unix(l, config->unixsock))
		goto err;
	if ((!config->unixsock || config->duallisten) && listen_addresses(l, config))
		goto err;
	return 0;
err:
	srv_listen_close(l);
	return -1;
}

void srv_listen_close(struct srv_listener *l)
{
	while (l->n)
		close(l->fd[--l->n]);
	if (l->unix_path)
		unlink(l->unix_path);
	g_free(l->unix_path);
	l->unix_path = NULL;
}

/* They keep their place in the queue until others have left */
static enum srv_accept_result no_room(struct srv_server *srv)
{
	int err = errno;

	if (srv_server_may_log(srv))
		nbd_warn("new clients have to wait: %s", strerror(err));
	return SRV_ACCEPT_PAUSE;
}

static const char *why_turned_away(int err)
{
	if (err == -EUSERS)
		return "max_clients clients are connected";
	if (err == -EDQUOT)
		return "its address has maxperaddress connections";
	return strerror(-err);
}

enum srv_accept_result srv_listen_accept(struct srv_server *srv, struct srv_loop *own, int fd)
{
	struct sockaddr_storage addr = { 0 };
	socklen_t len = sizeof(addr);
	char peer[SRV_PEER_LEN];
	int ret, conn;

	if (!srv_server_has_place(srv)) {
		errno = EMFILE;
		return no_room(srv);
	}
	conn = accept4(fd, (struct sockaddr *)&addr, &len, SOCK_CLOEXEC);
	if (conn >= 0) {
		ret = srv_conn_start(srv, own, conn, &addr);
		if (ret && srv_server_may_log(srv)) {
			srv_peer_name(&addr, peer, sizeof(peer));
			nbd_log_about(peer, NULL, LOG_WARNING, "client %s turned away: %s", peer,
				      why_turned_away(ret));
		}
		return SRV_ACCEPTED;
	}
	switch (errno) {
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		return no_room(srv);
	case EAGAIN:
		return SRV_ACCEPT_NONE;
	default:
		/* A client that has given up in the meantime */
		return SRV_ACCEPTED;
	}
}

static void reload_config(struct srv_server *srv, srv_reload_fn reload, void *ctx)
{
	struct srv_config *config;
	unsigned int n;

	srv_systemd_notify_reload();
	config = reload(ctx);
	n = config ? config->exports->len : 0;
	if (config && !srv_server_reload(srv, config)) {
		/* In force, and nobody else replaces it */
		srv_config_log(config);
		nbd_info("configuration reloaded, %u exports", n);
	} else {
		nbd_err("configuration not reloaded; what was in force stays so");
	}
	srv_systemd_notify("READY=1");
}

/* Is there a signal that asks for the end?  SIGHUP does not, this late. */
static bool told_to_end(int signal_fd)
{
	struct signalfd_siginfo si;

	return read(signal_fd, &si, sizeof(si)) == sizeof(si) && si.ssi_signo != SIGHUP;
}

/* Wait for every connection to end; -1 when some do not in time, or before a second signal */
static int drain(struct srv_server *srv, struct srv_listener *l, int signal_fd)
{
	struct pollfd p[2] = {
		{ .fd = srv->idle_fd, .events = POLLIN },
		{ .fd = signal_fd, .events = POLLIN },
	};
	int64_t deadline = srv_now_ms() + SRV_DRAIN_MS + SRV_LINGER_MS;
	unsigned int clients;
	int64_t left;
	eventfd_t count;

	srv_systemd_notify("STOPPING=1");
	srv_server_stop(srv);
	srv_listen_close(l);
	for (;;) {
		pthread_mutex_lock(&srv->lock);
		clients = srv->clients;
		pthread_mutex_unlock(&srv->lock);
		if (!clients)
			return 0;
		left = deadline - srv_now_ms();
		if (left <= 0)
			break;
		if (poll(p, 2, (int)left) <= 0)
			continue;
		if (p[0].revents)
			eventfd_read(srv->idle_fd, &count);
		if (p[1].revents && told_to_end(signal_fd))
			break;
	}
	nbd_err("%u client%s cut off: not at the end of a request in time", clients,
		clients == 1 ? "" : "s");
	return -1;
}

/* One turn of the main thread; true when the server is to stop */
static bool turn(struct srv_server *srv, bool listening, int signal_fd, srv_reload_fn reload,
		 void *ctx)
{
	struct pollfd p[2] = {
		{ .fd = signal_fd, .events = POLLIN },
		{ .fd = srv->idle_fd, .events = POLLIN },
	};
	struct signalfd_siginfo si;
	eventfd_t count;

	if (poll(p, 2, -1) < 0)
		return false;
	if (p[1].revents) {
		eventfd_read(srv->idle_fd, &count);
		if (!listening)
			return true;
	}
	if (p[0].revents && read(signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo != SIGHUP)
			return true;
		reload_config(srv, reload, ctx);
	}
	return false;
}

int srv_run(struct srv_server *srv, struct srv_listener *l, int signal_fd, srv_reload_fn reload,
	    void *ctx)
{
	while (!turn(srv, l->n, signal_fd, reload, ctx))
		;
	return drain(srv, l, signal_fd);
}
