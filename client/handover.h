/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections made and negotiated by nbd-client, to be handed to the driver. */
#ifndef CLIENT_HANDOVER_H
#define CLIENT_HANDOVER_H

#include "args.h"
#include "hosts.h"
#include "negotiate.h"

struct client_handover {
	unsigned int n;
	int fd[NBDX_MAX_LINKS];
	struct client_address peer;
	uint64_t size, block_size; /* for the driver */
	uint16_t flags;		   /* transmission flags, with READ_ONLY if asked for */
};

/*
 * What the device shall be, from what the server offers and the options ask for;
 * page is the largest block the kernel can have.  Pure.
 */
int client_handover_geometry(const struct client_args *args, const struct client_export *export,
			     uint64_t page, struct client_handover *handover,
			     struct client_error *err);

/* The addresses are tried in turn; all connections go to the first that works */
int client_handover_open(const struct client_args *args, const struct client_addresses *addresses,
			 struct client_handover *handover, struct client_error *err);
void client_handover_close(struct client_handover *handover);

#endif /* CLIENT_HANDOVER_H */
