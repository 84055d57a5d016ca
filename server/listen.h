/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listening sockets and the main loop. */
#ifndef SRV_LISTEN_H
#define SRV_LISTEN_H

#include <stdbool.h>

#include "server/server.h"

#define SRV_MAX_LISTEN 32

struct srv_listener {
	unsigned int n;
	int fd[SRV_MAX_LISTEN];
	bool given;	 /* by a service manager: addresses and ports are its business */
	char *unix_path; /* removed at the end; NULL: none */
};

/* Open the sockets the configuration asks for; says what fails.  0 or -1. */
int srv_listen_open(struct srv_listener *l, const struct srv_config *config);
/* All addresses a host (NULL: any) stands for; at least one must do.  The same. */
int srv_listen_tcp(struct srv_listener *l, const char *host, const char *port);
void srv_listen_close(struct srv_listener *l);

enum srv_accept_result {
	SRV_ACCEPTED,
	SRV_ACCEPT_NONE,  /* nobody is waiting */
	SRV_ACCEPT_PAUSE, /* there is no room: it is better to pause a little */
};

/* Accept one client that is waiting on a socket, for a loop */
enum srv_accept_result srv_listen_accept(struct srv_server *srv, struct srv_loop *own, int fd);

/* A new configuration for SIGHUP, or NULL to keep the one in force */
typedef struct srv_config *(*srv_reload_fn)(void *ctx);

/*
 * Serve until SIGTERM or SIGINT (read from @signal_fd), or, with no listening
 * socket, until the last client has gone.  Returns 0, or -1 when clients had to be cut off.
 */
int srv_run(struct srv_server *srv, struct srv_listener *l, int signal_fd, srv_reload_fn reload,
	    void *ctx);

#endif /* SRV_LISTEN_H */
