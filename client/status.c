// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "device.h"
#include "format.h"
#include "text.h"

/* A device more; NULL: no memory */
static struct client_status *add(struct client_devices *devices)
{
	struct client_status *status;

	status = reallocarray(devices->status, devices->n + 1, sizeof(*status));
	if (!status)
		return NULL;
	devices->status = status;
	memset(&status[devices->n], 0, sizeof(*status));
	return &status[devices->n++];
}

void client_devices_free(struct client_devices *devices)
{
	unsigned int i;

	for (i = 0; i < devices->n; i++)
		client_status_free(&devices->status[i]);
	free(devices->status);
}

/* Devices that are being told of, behind those that were there before */
struct told {
	struct client_devices *devices;
	unsigned int before;
};

static int on_device(struct nlmsghdr *hdr, void *arg)
{
	struct client_status *status = add(((struct told *)arg)->devices);

	return status ? client_netlink_parse_device(hdr, status) : -1;
}

static void forget_devices(void *arg)
{
	struct told *told = arg;

	while (told->devices->n > told->before)
		client_status_free(&told->devices->status[--told->devices->n]);
}

/* Of our driver: index -1 is every device in use */
static int get(struct client_genl *genl, int index, struct client_devices *devices,
	       struct client_error *err)
{
	struct told told = { .devices = devices, .before = devices->n };
	struct client_answer answer;
	char name[CLIENT_DEVICE_NAME];
	bool exists;

	if (client_genl_ask(genl, client_netlink_get(genl->family, index), on_device,
			    forget_devices, &told, &answer, err))
		return -1;
	if (!answer.error)
		return 0;
	if (index < 0)
		return client_genl_explain(CLIENT_OP_STATUS, "the devices", &answer, err);
	client_device_name(CLIENT_SYSFS, index, name, &exists);
	return client_genl_explain(CLIENT_OP_STATUS, name, &answer, err);
}

int client_status_get(struct client_genl *genl, int index, struct client_status *status,
		      struct client_error *err)
{
	struct client_devices devices = { 0 };
	int ret = get(genl, index, &devices, err);

	if (!ret && devices.n != 1)
		ret = client_error_set(err, CLIENT_FAILED, "the driver tells nothing of device %d",
				       index);
	if (!ret) {
		*status = devices.status[0];
		devices.n = 0;
	}
	client_devices_free(&devices);
	return ret;
}

static int on_indexes(struct nlmsghdr *hdr, void *arg)
{
	return client_netlink_parse_status(hdr, arg);
}

static void forget_indexes(void *arg)
{
	memset(arg, 0, sizeof(struct client_indexes));
}

static uint64_t sysfs_number(const char *name, const char *attr)
{
	char text[32];
	uint64_t n;

	if (client_device_attr(CLIENT_SYSFS, name, attr, text, sizeof(text)) ||
	    !client_text_number(text, &n))
		return 0;
	return n;
}

/* What mainline lets us know of a device */
static int fill_in(struct client_status *status, uint32_t index, bool connected,
		   struct client_error *err)
{
	char backend[NBD_WIRE_MAX_STRING];
	bool exists;

	status->index = index;
	client_device_name(CLIENT_SYSFS, (int)index, status->name, &exists);
	status->state = connected ? NBDX_STATE_LIVE : NBDX_STATE_FREE;
	if (!connected)
		return 0;
	status->size = sysfs_number(status->name, "size") * 512;
	status->pid = (uint32_t)sysfs_number(status->name, "pid");
	if (sysfs_number(status->name, "ro"))
		status->flags |= NBDX_FLAG_READ_ONLY;
	if (!client_device_attr(CLIENT_SYSFS, status->name, "backend", backend, sizeof(backend)) &&
	    *backend)
		status->backend = strdup(backend);
	status->why = strdup(
		"the mainline nbd driver drops requests when a connection breaks and needs memory to send");
	return status->why ? 0 : client_error_set(err, CLIENT_FAILED, "out of memory");
}

static int get_mainline(struct client_genl *genl, int index, struct client_devices *devices,
			struct client_error *err)
{
	struct client_indexes *indexes = calloc(1, sizeof(*indexes));
	struct client_answer answer = { 0 };
	struct client_status *status;
	unsigned int i;
	int ret;

	if (!indexes)
		return client_error_set(err, CLIENT_FAILED, "out of memory");
	ret = client_genl_ask(genl, client_netlink_status(genl->family, index), on_indexes,
			      forget_indexes, indexes, &answer, err);
	if (!ret && answer.error)
		ret = client_genl_explain(CLIENT_OP_STATUS, "the devices", &answer, err);
	for (i = 0; !ret && i < indexes->n; i++) {
		if (index < 0 && !indexes->item[i].connected)
			continue;
		status = add(devices);
		ret = status ? fill_in(status, indexes->item[i].index, indexes->item[i].connected,
				       err) :
			       client_error_set(err, CLIENT_FAILED, "out of memory");
	}
	if (!ret && index >= 0 && !indexes->n)
		ret = client_error_set(err, CLIENT_FAILED, "there is no device %d", index);
	free(indexes);
	return ret;
}

int client_devices_get(struct client_genl *genl, int index, struct client_devices *devices,
		       struct client_error *err)
{
	return genl->extended ? get(genl, index, devices, err) :
				get_mainline(genl, index, devices, err);
}

static int print(const struct client_args *args, const struct client_devices *devices,
		 bool extended, FILE *out, struct client_error *err)
{
	json_t *array;
	unsigned int i;

	if (!args->json) {
		for (i = 0; i < devices->n; i++)
			client_format_status(out, &devices->status[i], extended);
		return 0;
	}
	array = json_array();
	for (i = 0; i < devices->n; i++)
		json_array_append_new(array,
				      client_format_status_json(&devices->status[i], extended));
	return client_format_print_json(out,
					json_pack("{s:s, s:o}", "driver",
						  extended ? "nbswap" : "mainline", "devices",
						  array),
					err);
}

int client_status(const struct client_args *args, FILE *out, struct client_error *err)
{
	int index = args->device ? client_device_index(args->device) : -1;
	struct client_devices devices = { 0 };
	struct client_genl genl;
	int ret;

	if (client_genl_open(&genl, err))
		return -1;
	ret = client_devices_get(&genl, index, &devices, err);
	if (!ret)
		ret = print(args, &devices, genl.extended, out, err);
	client_devices_free(&devices);
	client_genl_close(&genl);
	return ret;
}
