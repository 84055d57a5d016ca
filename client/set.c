// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdio.h>

#include "commands.h"
#include "device.h"

int client_set(const struct client_args *args, struct client_error *err)
{
	const struct client_timeouts timeouts = {
		.timeout = args->timeout,
		.dead_timeout = args->dead_timeout,
		.link_timeout = args->link_timeout,
		.fence_delay = args->fence_delay,
	};
	int index = client_device_index(args->device);
	char name[CLIENT_DEVICE_NAME];
	struct client_answer answer;
	struct client_genl genl;
	int ret;

	client_device_called(CLIENT_SYSFS, args->device, name);
	if (client_genl_open(&genl, err))
		return -1;
	if (!genl.extended) {
		client_genl_close(&genl);
		return client_error_set(
			err, CLIENT_NO_DRIVER,
			"cannot change %s: this is the mainline nbd driver, which takes timeouts when a device is connected",
			name);
	}
	ret = client_genl_ask(&genl, client_netlink_set(genl.family, index, &timeouts), NULL, NULL,
			      NULL, &answer, err);
	if (!ret && answer.error)
		ret = client_genl_explain(CLIENT_OP_SET, name, &answer, err);
	client_genl_close(&genl);
	return ret;
}
