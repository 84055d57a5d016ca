// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "commands.h"
#include "device.h"
#include "reserve.h"

/* Mainline's driver would pull the device from under its users */
static int check_unused(int index, struct client_error *err)
{
	int fd = client_device_open(CLIENT_SYSFS, CLIENT_DEV, index, O_RDONLY | O_EXCL, 0, err);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	if (err->code != CLIENT_BUSY)
		return 0;
	client_error_prefix(err, "cannot disconnect");
	return -1;
}

/* What is taken down may be the swap that memory would come from: ask for none that waits for it */
static void do_without_swap(void)
{
	/* Only the administrator may, and nobody else can disconnect */
	(void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
}

static int by_netlink(const struct client_args *args, int index, const char *name,
		      struct client_error *err)
{
	struct client_answer answer;
	struct client_genl genl;
	int ret;

	do_without_swap();
	if (client_genl_open(&genl, err))
		return -1;
	ret = genl.extended || args->force ? 0 : check_unused(index, err);
	if (!ret)
		ret = client_genl_ask(&genl,
				      client_netlink_disconnect(genl.family, index,
								args->force && genl.extended),
				      NULL, NULL, NULL, &answer, err);
	if (!ret && answer.error)
		ret = client_genl_explain(CLIENT_OP_DISCONNECT, name, &answer, err);
	client_genl_close(&genl);
	return ret;
}

int client_disconnect(const struct client_args *args, struct client_error *err)
{
	int index = client_device_index(args->device);
	char name[CLIENT_DEVICE_NAME];
	int ret;

	client_device_called(CLIENT_SYSFS, args->device, name);
	if (args->no_netlink)
		ret = client_ioctl_disconnect(args, err);
	else
		ret = by_netlink(args, index, name, err);
	if (ret)
		return ret;
	printf("%s: disconnected\n", name);
	if (client_reserve_drop(&client_reserve_system, index))
		client_warn("cannot put vm.min_free_kbytes back: %m");
	return CLIENT_OK;
}

int client_check(const struct client_args *args, const char *sysfs, FILE *out,
		 struct client_error *err)
{
	char name[CLIENT_DEVICE_NAME], pid[16];

	client_device_called(sysfs, args->device, name);
	if (!client_device_attr(sysfs, name, "pid", pid, sizeof(pid))) {
		fprintf(out, "%s\n", pid);
		return CLIENT_OK;
	}
	/* no device at all is not connected either, as it always was */
	if (errno == ENOENT || errno == ENOTDIR)
		return CLIENT_FAILED;
	return client_error_set(err, CLIENT_CANNOT_TELL, "cannot tell whether %s is connected: %m",
				name);
}
