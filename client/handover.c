// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "handover.h"
#include "session.h"

int client_handover_geometry(const struct client_args *args, const struct client_export *export,
			     uint64_t page, struct client_handover *handover,
			     struct client_error *err)
{
	uint64_t least = export->has_block_size ? export->min_block : 512;
	uint64_t block = args->block_size;
	uint64_t size = args->size ? args->size : export->size;

	if (!block)
		block = least > 512 ? least : 512;
	if (block < least)
		return client_error_set(err, CLIENT_REFUSED,
					"-block-size %" PRIu64
					" is less than the server's minimum %" PRIu64,
					block, least);
	if (block > page)
		return client_error_set(err, CLIENT_REFUSED,
					"blocks of %" PRIu64
					" bytes are more than the kernel's page of %" PRIu64,
					block, page);
	if (size > export->size && !args->preinit)
		return client_error_set(err, CLIENT_REFUSED,
					"-size %" PRIu64 " is more than the export has: %" PRIu64
					" bytes",
					size, export->size);
	if (size < block)
		return client_error_set(err, CLIENT_REFUSED,
					"the export has %" PRIu64
					" bytes, less than one block of %" PRIu64,
					size, block);
	if (args->links > 1 && !(export->flags & NBD_WIRE_FLAG_CAN_MULTI_CONN) && !args->preinit)
		return client_error_set(
			err, CLIENT_REFUSED,
			"the server does not allow several connections to this export: use -connections 1");
	handover->size = size - size % block;
	handover->block_size = block;
	handover->flags = export->flags;
	if (args->read_only)
		handover->flags |= NBD_WIRE_FLAG_HAS_FLAGS | NBD_WIRE_FLAG_READ_ONLY;
	return 0;
}

/* One connection; what the server offers in *export */
static int open_one(const struct client_args *args, const struct client_address *address,
		    struct client_export *export, struct client_error *err)
{
	int64_t deadline = client_clock_ms() + (int64_t)args->connect_timeout;
	struct client_nego *nego;
	int fd, ret;

	memset(export, 0, sizeof(*export));
	fd = client_session_connect(address, deadline, err);
	if (fd < 0)
		return -1;
	if (args->preinit) {
		export->flags = NBD_WIRE_FLAG_HAS_FLAGS;
		goto out_blocking;
	}
	nego = malloc(sizeof(*nego));
	if (!nego) {
		close(fd);
		return client_error_set(err, CLIENT_FAILED, "out of memory");
	}
	client_nego_init(nego, args->no_go ? CLIENT_NEGO_EXPORT_NAME : CLIENT_NEGO_GO,
			 args->export ? args->export : "", NULL);
	ret = client_session_run(fd, nego, deadline, err);
	*export = nego->export;
	memset(&nego->export, 0, sizeof(nego->export));
	free(nego);
	if (ret) {
		char text[CLIENT_ADDRESS_TEXT];

		client_export_free(export);
		close(fd);
		return client_error_prefix(err,
					   client_address_text(&address->sa, address->len, text));
	}
out_blocking:
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	return fd;
}

static int open_first(const struct client_args *args, const struct client_addresses *addresses,
		      struct client_handover *handover, struct client_export *export,
		      struct client_error *err)
{
	struct client_error last;
	unsigned int i;
	int fd = -1;

	for (i = 0; i < addresses->n && fd < 0; i++) {
		handover->peer = addresses->address[i];
		fd = open_one(args, &handover->peer, export, &last);
		if (fd < 0 && !i)
			*err = last;
		else if (fd < 0)
			client_warn("%s", last.text);
	}
	return fd;
}

int client_handover_open(const struct client_args *args, const struct client_addresses *addresses,
			 struct client_handover *handover, struct client_error *err)
{
	struct client_export first, next;
	bool same;
	int fd, ret;

	memset(handover, 0, sizeof(*handover));
	fd = open_first(args, addresses, handover, &first, err);
	if (fd < 0)
		return -1;
	handover->fd[handover->n++] = fd;
	ret = client_handover_geometry(args, &first, (uint64_t)sysconf(_SC_PAGESIZE), handover,
				       err);
	while (!ret && handover->n < args->links) {
		fd = open_one(args, &handover->peer, &next, err);
		if (fd < 0) {
			ret = -1;
			break;
		}
		handover->fd[handover->n++] = fd;
		same = next.size == first.size && next.flags == first.flags;
		client_export_free(&next);
		if (!same)
			ret = client_error_set(
				err, CLIENT_REFUSED,
				"the server offers another size or other flags on connection %u",
				handover->n);
	}
	client_export_free(&first);
	if (ret)
		client_handover_close(handover);
	return ret;
}

void client_handover_close(struct client_handover *handover)
{
	while (handover->n)
		close(handover->fd[--handover->n]);
}
