/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages of the nbd netlink family, built and taken apart in memory; genl.h
 * sends them.
 */
#ifndef CLIENT_NETLINK_H
#define CLIENT_NETLINK_H

#include <linux/nbd-netlink.h>
#include <netlink/msg.h>
#include <stdbool.h>
#include <stdint.h>

#include "hosts.h"
#include "nbswap-netlink.h"

/* Each UINT64_MAX: not sent */
struct client_timeouts {
	uint64_t timeout, dead_timeout;	    /* s */
	uint64_t link_timeout, fence_delay; /* ms, not for mainline's driver */
};

/* NBD_CMD_CONNECT: with addresses the kernel connects, with sockets we have */
struct client_connect {
	int index;
	const struct client_addresses *addresses; /* NULL: sockets */
	const int *sockets;
	unsigned int nsockets;
	const char *export;			/* with addresses */
	const char *identifier;			/* NULL: none */
	uint32_t links, connect_timeout, flags; /* with addresses */
	uint64_t server_flags;			/* with sockets */
	uint64_t size, block_size;		/* 0: not sent */
	struct client_timeouts timeouts;
};

struct client_link {
	uint32_t index, state, inflight;
	uint32_t fence; /* NBDX_FENCE_* */
	uint32_t held;
	uint64_t state_ms;
	struct client_address address;	/* of the server, length 0: none */
	char peer[CLIENT_ADDRESS_TEXT]; /* the same as text, "": none */
	char *error;			/* NULL: none */
	uint64_t counter[NBDX_COUNTER_MAX + 1];
};

/* Something that weakens the promise, as the driver tells it */
struct client_finding {
	char *id;
	uint32_t severity; /* NBDX_SEVERITY_* */
	char *subject;	   /* network device, NULL: none */
	char *text;
};

/* What the driver tells of a device; of mainline's, what it tells and sysfs has */
struct client_status {
	uint32_t index;
	char name[32];
	uint32_t state; /* NBDX_STATE_* */
	bool managed;
	bool swap_safe;
	char *why;     /* why not, NULL: not said */
	char *export;  /* NULL: unknown */
	char *backend; /* NULL: none */
	uint64_t size;
	uint32_t block_size, opt_block_size, max_payload;
	uint32_t server_flags, flags;
	uint32_t openers, pid, queued, inflight;
	uint64_t timeout, dead_timeout;	    /* s */
	uint32_t link_timeout, fence_delay; /* ms */
	uint64_t reserve, min_free;	    /* bytes, 0: not told */
	uint64_t registered;		    /* bytes that the kernel keeps itself */
	uint32_t guarantees;		    /* NBDX_GUARANTEE_* */
	unsigned int nfindings;
	struct client_finding *finding;
	uint64_t counter[NBDX_COUNTER_MAX + 1];
	unsigned int nlinks;
	struct client_link link[NBDX_MAX_LINKS];
};

/* Each returns a message to be freed with nlmsg_free(), NULL without memory */
struct nl_msg *client_netlink_connect(int family, const struct client_connect *connect);
struct nl_msg *client_netlink_set(int family, int index, const struct client_timeouts *timeouts);
struct nl_msg *client_netlink_disconnect(int family, int index, bool force);
struct nl_msg *client_netlink_status(int family, int index);
/* index -1: dump of all devices in use */
struct nl_msg *client_netlink_get(int family, int index);
struct nl_msg *client_netlink_family(const char *name);

/* Replies: 0, or -1 if the message is not what it must be */
int client_netlink_parse_family(struct nlmsghdr *hdr, int *family, unsigned int *maxattr);
int client_netlink_parse_index(struct nlmsghdr *hdr, int *index);
/* The reply to client_netlink_get(); to be freed with client_status_free() */
int client_netlink_parse_device(struct nlmsghdr *hdr, struct client_status *status);

/* Mainline's STATUS: which device indexes are connected */
#define CLIENT_MAX_INDEXES 256
struct client_indexes {
	unsigned int n;
	struct {
		uint32_t index;
		bool connected;
	} item[CLIENT_MAX_INDEXES];
};
int client_netlink_parse_status(struct nlmsghdr *hdr, struct client_indexes *indexes);

/*
 * Text of an extended ack in an NLMSG_ERROR message, "" if it has none.  The
 * result is NUL-terminated whatever the message holds.
 */
void client_netlink_parse_ack(const struct nlmsghdr *hdr, char *text, size_t size);

void client_status_free(struct client_status *status);

#endif /* CLIENT_NETLINK_H */
