// SPDX-License-Identifier: GPL-2.0-or-later
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "reserve.h"
#include "device.h"
#include "nbdtab.h"
#include "text.h"

#define NODE_TIMEOUT 10000 /* ms for udev to make the node */

void client_connect_report(FILE *out, const char *name, const char *peer, const char *export,
			   uint64_t size, unsigned int links)
{
	char text[CLIENT_SIZE_TEXT];
	char *quoted = client_text_quote(export);

	fprintf(out, "%s: connected to %s, export %s, %s, %u link%s\n", name, peer,
		quoted ? quoted : "?", client_text_size(size, text), links, links == 1 ? "" : "s");
	fflush(out);
	free(quoted);
}

void client_connect_warn_local(const struct client_args *args, const struct sockaddr *peer)
{
	if (args->swap && client_address_is_local(peer))
		client_warn(
			"the server is on this machine: swap on it can deadlock, as the server needs memory to free memory");
}

void client_print_warnings(struct client_args *args)
{
	unsigned int i;

	for (i = 0; i < args->nwarnings; i++)
		client_warn("%s", args->warnings[i]);
	args->nwarnings = 0;
}

int client_connect_addresses(const struct client_args *args, struct client_addresses *addresses,
			     struct client_error *err)
{
	struct client_hosts hosts;

	if (args->unix_path) {
		memset(addresses, 0, sizeof(*addresses));
		addresses->n = 1;
		return client_address_unix(args->unix_path, &addresses->address[0], err);
	}
	if (client_hosts_parse(args->host, args->port ? (uint16_t)args->port : NBD_WIRE_PORT,
			       &hosts, err))
		return -1;
	return client_hosts_resolve(&hosts, addresses, client_warn, err);
}

/* The node opens: partitions have been looked for */
static int wait_for_node(int index, struct client_error *err)
{
	char name[CLIENT_DEVICE_NAME], prefix[CLIENT_DEVICE_NAME + 32];
	bool exists;

	if (!client_device_settle(CLIENT_SYSFS, CLIENT_DEV, index, NODE_TIMEOUT, err))
		return CLIENT_OK;
	snprintf(prefix, sizeof(prefix), "%s is connected but cannot be used",
		 client_device_name(CLIENT_SYSFS, index, name, &exists));
	return client_error_prefix(err, prefix);
}

static int on_index(struct nlmsghdr *hdr, void *arg)
{
	return client_netlink_parse_index(hdr, arg);
}

static int call_connect(struct client_genl *genl, const struct client_args *args,
			const struct client_connect *connect, int *index, struct client_error *err)
{
	struct client_answer answer;
	char name[CLIENT_DEVICE_NAME];

	*index = connect->index;
	if (client_genl_call(genl, client_netlink_connect(genl->family, connect), on_index, index,
			     &answer, err))
		return -1;
	if (!answer.error)
		return 0;
	return client_genl_explain(CLIENT_OP_CONNECT,
				   client_device_called(CLIENT_SYSFS, args->device, name), &answer,
				   err);
}

static uint32_t driver_flags(const struct client_args *args)
{
	return (args->read_only ? NBDX_FLAG_READ_ONLY : 0) | (args->swap ? NBDX_FLAG_SWAP : 0) |
	       (args->no_go ? NBDX_FLAG_NO_GO : 0) | (args->spread ? NBDX_FLAG_SPREAD : 0);
}

/* As ever, 0 leaves it to the driver */
static uint64_t or_default(uint64_t seconds)
{
	return seconds ? seconds : CLIENT_NOT_GIVEN;
}

static struct client_timeouts timeouts_of(const struct client_args *args)
{
	return (struct client_timeouts){
		.timeout = or_default(args->timeout),
		.dead_timeout = or_default(args->dead_timeout),
		.link_timeout = args->link_timeout,
		.fence_delay = args->fence_delay,
	};
}

static void report_managed(const struct client_args *args, const struct client_status *status)
{
	const char *peer = "an unknown address";
	unsigned int i;

	for (i = 0; i < status->nlinks; i++)
		if (status->link[i].peer[0]) {
			peer = status->link[i].peer;
			break;
		}
	client_connect_report(stdout, status->name, peer, status->export ? status->export : "",
			      status->size, status->nlinks);
	if (args->swap && !status->swap_safe)
		client_warn("%s is not safe for swap: %s", status->name,
			    status->why ? status->why : "the driver does not say why");
}

/* Before the first page goes out */
static void hold_reserve(struct client_genl *genl, const struct client_args *args, int index)
{
	struct client_reserve_change change;
	struct client_reserve_share share;
	struct client_status status;
	struct client_error ignored;

	if (!args->swap)
		return;
	/* Opening the device may take long: ask before, and again for what is reported */
	if (client_status_get(genl, index, &status, &ignored))
		memset(&status, 0, sizeof(status));
	share = client_reserve_share(status.reserve, status.min_free, status.registered,
				     (unsigned int)args->links);
	client_status_free(&status);
	if (client_reserve_hold(&client_reserve_system, index, &share, &change)) {
		client_warn(
			"cannot raise vm.min_free_kbytes (%m): see that it is %lu or more while this device carries swap",
			change.need);
		return;
	}
	if (change.to != change.from)
		fprintf(stderr, "nbd-client: vm.min_free_kbytes raised from %lu to %lu\n",
			change.from, change.to);
	if (change.need > change.to)
		client_warn(
			"the swap devices need a vm.min_free_kbytes of %lu, and a quarter of this machine's memory is %lu: swap may stall; use fewer connections, or a machine with more memory",
			change.need, change.to);
}

/* Our driver makes the connections */
static int connect_managed(struct client_genl *genl, const struct client_args *args,
			   const struct client_addresses *addresses, struct client_error *err)
{
	const struct client_connect connect = {
		.index = client_device_index(args->device),
		.addresses = addresses,
		.export = args->export ? args->export : "",
		.identifier = args->identifier,
		.links = (uint32_t)args->links,
		.connect_timeout = (uint32_t)args->connect_timeout,
		.flags = driver_flags(args),
		.size = args->size,
		.block_size = args->block_size,
		.timeouts = timeouts_of(args),
	};
	char name[CLIENT_DEVICE_NAME];
	struct client_status status;
	unsigned int i;
	bool exists;
	int index, ret;

	if (call_connect(genl, args, &connect, &index, err))
		return -1;
	hold_reserve(genl, args, index);
	ret = wait_for_node(index, err);
	if (ret)
		return -1;
	if (client_status_get(genl, index, &status, err)) {
		client_warn("%s is connected, and more is not known: %s",
			    client_device_name(CLIENT_SYSFS, index, name, &exists), err->text);
		return CLIENT_OK;
	}
	report_managed(args, &status);
	/* the driver knows loopback alone, not the machine's own addresses */
	for (i = 0; status.swap_safe && i < addresses->n; i++)
		client_connect_warn_local(args, &addresses->address[i].sa);
	client_status_free(&status);
	return CLIENT_OK;
}

/* We make them: mainline's driver, Unix sockets, no negotiation */
static int connect_handed_over(struct client_genl *genl, const struct client_args *args,
			       const struct client_addresses *addresses, struct client_error *err)
{
	struct client_handover handover;
	struct client_connect connect = {
		.index = client_device_index(args->device),
		.identifier = args->identifier,
		.timeouts = timeouts_of(args),
	};
	char name[CLIENT_DEVICE_NAME], peer[CLIENT_ADDRESS_TEXT];
	bool exists;
	int index, ret;

	if (client_handover_open(args, addresses, &handover, err))
		return -1;
	/* These are about what the driver does by itself */
	connect.timeouts.link_timeout = connect.timeouts.fence_delay = CLIENT_NOT_GIVEN;
	client_connect_warn_local(args, &handover.peer.sa);
	connect.sockets = handover.fd;
	connect.nsockets = handover.n;
	connect.size = handover.size;
	connect.block_size = handover.block_size;
	connect.server_flags = handover.flags;
	ret = call_connect(genl, args, &connect, &index, err);
	if (!ret)
		ret = wait_for_node(index, err);
	if (!ret)
		client_connect_report(
			stdout, client_device_name(CLIENT_SYSFS, index, name, &exists),
			client_address_text(&handover.peer.sa, handover.peer.len, peer),
			args->export ? args->export : "", handover.size, handover.n);
	client_handover_close(&handover);
	return ret;
}

static void warn_handed_over(const struct client_genl *genl)
{
	if (genl->extended)
		client_warn(
			"the driver cannot remake a connection over a Unix socket or without negotiation: recovery and swap safety are not provided");
	else
		client_warn(
			"this is the mainline nbd driver: recovery and swap safety are not provided");
}

static int connect_by_netlink(const struct client_args *args,
			      const struct client_addresses *addresses, struct client_error *err)
{
	struct client_genl genl;
	int ret;

	if (client_genl_open(&genl, err))
		return -1;
	if (genl.extended && !args->unix_path && !args->preinit) {
		ret = connect_managed(&genl, args, addresses, err);
	} else {
		ret = connect_handed_over(&genl, args, addresses, err);
		if (!ret)
			warn_handed_over(&genl);
	}
	client_genl_close(&genl);
	return ret;
}

int client_connect(struct client_args *args, char *argv0, struct client_error *err)
{
	struct client_addresses addresses;
	struct client_handover handover;
	int ret;

	if (args->command == CLIENT_CONNECT_TAB) {
		ret = client_nbdtab_load(args, err);
		client_print_warnings(args);
		if (ret)
			return -1;
	}
	if (client_connect_addresses(args, &addresses, err))
		return -1;
	if (!args->no_netlink)
		return connect_by_netlink(args, &addresses, err);

	if (client_handover_open(args, &addresses, &handover, err))
		return -1;
	client_connect_warn_local(args, &handover.peer.sa);
	client_warn(
		"with -nonetlink the driver does not remake connections: recovery and swap safety are not provided");
	ret = client_ioctl_connect(args, &handover, argv0, err);
	client_handover_close(&handover);
	return ret;
}
