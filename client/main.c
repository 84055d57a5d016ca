// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdio.h>

#include "args.h"
#include "commands.h"
#include "device.h"

static int run(struct client_args *args, char *argv0, struct client_error *err)
{
	switch (args->command) {
	case CLIENT_CONNECT:
	case CLIENT_CONNECT_TAB:
		return client_connect(args, argv0, err);
	case CLIENT_DISCONNECT:
		return client_disconnect(args, err);
	case CLIENT_CHECK:
		return client_check(args, CLIENT_SYSFS, stdout, err);
	case CLIENT_LIST:
		return client_list(args, stdout, err);
	case CLIENT_STATUS:
		return client_status(args, stdout, err);
	case CLIENT_DOCTOR:
		return client_doctor(args, stdout, err);
	case CLIENT_SET:
		return client_set(args, err);
	case CLIENT_HELP:
		client_args_help(stdout);
		return CLIENT_OK;
	case CLIENT_VERSION:
		puts("nbd-client (nbswap) " NBSWAP_VERSION);
		return CLIENT_OK;
	}
	return CLIENT_FAILED;
}

int main(int argc, char *argv[])
{
	struct client_args args;
	struct client_error err;
	int ret;

	ret = client_args_parse(argc, argv, &args, &err);
	client_print_warnings(&args);
	if (!ret)
		ret = run(&args, argv[0], &err);
	if (ret < 0) {
		/* 3 is what it finds */
		if (args.command == CLIENT_DOCTOR && err.code == CLIENT_USAGE)
			err.code = CLIENT_CANNOT_TELL;
		client_error_print(&err);
		ret = err.code;
	}
	client_args_free(&args);
	if (fflush(stdout) || ferror(stdout)) {
		fputs("nbd-client: cannot write to standard output\n", stderr);
		ret = ret ? ret : CLIENT_FAILED;
	}
	return ret;
}
