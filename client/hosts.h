/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HOST[:PORT][,HOST[:PORT]...] and the socket addresses it stands for. */
#ifndef CLIENT_HOSTS_H
#define CLIENT_HOSTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "error.h"
#include "nbswap-netlink.h"

#define CLIENT_HOST_NAME    256
#define CLIENT_ADDRESS_TEXT 80

struct client_host {
	char name[CLIENT_HOST_NAME]; /* without brackets */
	uint16_t port;
};

struct client_hosts {
	unsigned int n;
	struct client_host host[NBDX_MAX_ADDRESSES];
};

struct client_address {
	socklen_t len;
	union {
		struct sockaddr sa;
		struct sockaddr_storage storage;
		struct sockaddr_un un;
	};
};

struct client_addresses {
	unsigned int n;
	bool too_many; /* some were left out */
	struct client_address address[NBDX_MAX_ADDRESSES];
};

/* port is for hosts that carry none */
int client_hosts_parse(const char *list, uint16_t port, struct client_hosts *hosts,
		       struct client_error *err);

/*
 * All addresses of all hosts, in order, none twice.  A host without an address
 * is told of by warn() when others have one.
 */
int client_hosts_resolve(const struct client_hosts *hosts, struct client_addresses *addresses,
			 void (*warn)(const char *fmt, ...), struct client_error *err);

int client_address_unix(const char *path, struct client_address *address, struct client_error *err);

/* "192.0.2.1:10809", "[2001:db8::1]:10809", "unix:/path" */
const char *client_address_text(const struct sockaddr *sa, socklen_t len,
				char text[CLIENT_ADDRESS_TEXT]);

/* Does it lead to this machine? */
bool client_address_is_local(const struct sockaddr *sa);

#endif /* CLIENT_HOSTS_H */
