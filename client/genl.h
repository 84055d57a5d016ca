/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The socket to the driver. */
#ifndef CLIENT_GENL_H
#define CLIENT_GENL_H

#include <netlink/netlink.h>
#include <stdbool.h>

#include "netlink.h"

struct client_genl {
	struct nl_sock *sk;
	int family;
	bool extended; /* our driver, not mainline's */
};

/* What the kernel made of a message */
struct client_answer {
	int error;	/* errno, 0: done */
	char text[512]; /* extended ack, "" if there is none */
};

int client_genl_open(struct client_genl *genl, struct client_error *err);
void client_genl_close(struct client_genl *genl);

/*
 * Send a message, which is freed, and hand the replies to reply(), which may be
 * NULL.  -1 if that fails; what the kernel says is in *answer, ENOMEM if it had
 * no memory to say it with.
 */
int client_genl_call(struct client_genl *genl, struct nl_msg *msg,
		     int (*reply)(struct nlmsghdr *hdr, void *arg), void *arg,
		     struct client_answer *answer, struct client_error *err);

/*
 * The same for what may be asked twice: it is, up to ten times, while the kernel has no
 * memory to answer.  forget(), which may be NULL, is to undo what reply() did.
 */
int client_genl_ask(struct client_genl *genl, struct nl_msg *msg,
		    int (*reply)(struct nlmsghdr *hdr, void *arg), void (*forget)(void *arg),
		    void *arg, struct client_answer *answer, struct client_error *err);

enum client_operation { CLIENT_OP_CONNECT, CLIENT_OP_DISCONNECT, CLIENT_OP_STATUS, CLIENT_OP_SET };

/* The sentence for an answer with an error; always -1 */
int client_genl_explain(enum client_operation operation, const char *name,
			const struct client_answer *answer, struct client_error *err);

#endif /* CLIENT_GENL_H */
