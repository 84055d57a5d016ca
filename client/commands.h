/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What nbd-client does.  Each returns the exit code, or -1 with *err filled in. */
#ifndef CLIENT_COMMANDS_H
#define CLIENT_COMMANDS_H

#include <stdio.h>

#include "args.h"
#include "genl.h"
#include "handover.h"
#include "hosts.h"

/* argv0 is for -systemd-mark */
int client_connect(struct client_args *args, char *argv0, struct client_error *err);
int client_disconnect(const struct client_args *args, struct client_error *err);
int client_check(const struct client_args *args, const char *sysfs, FILE *out,
		 struct client_error *err);
int client_list(const struct client_args *args, FILE *out, struct client_error *err);
int client_doctor(const struct client_args *args, FILE *out, struct client_error *err);
int client_set(const struct client_args *args, struct client_error *err);
int client_status(const struct client_args *args, FILE *out, struct client_error *err);

/* -nonetlink: set up by ioctl, then stay in the background (or not) */
int client_ioctl_connect(const struct client_args *args, struct client_handover *handover,
			 char *argv0, struct client_error *err);
int client_ioctl_disconnect(const struct client_args *args, struct client_error *err);

/* The line that says that a device is connected */
void client_connect_report(FILE *out, const char *name, const char *peer, const char *export,
			   uint64_t size, unsigned int links);
/* Warn if a swap device is fed by this very machine */
void client_connect_warn_local(const struct client_args *args, const struct sockaddr *peer);

/* What parsing has collected */
void client_print_warnings(struct client_args *args);

/* All addresses the arguments name: of hosts or of a Unix socket */
int client_connect_addresses(const struct client_args *args, struct client_addresses *addresses,
			     struct client_error *err);

/* What the driver tells of devices; of mainline's, what sysfs has as well */
struct client_devices {
	unsigned int n;
	struct client_status *status;
};

/* Add device index, or if that is -1 every one in use; to be freed in any case */
int client_devices_get(struct client_genl *genl, int index, struct client_devices *devices,
		       struct client_error *err);
void client_devices_free(struct client_devices *devices);

/* Device from the driver, to be freed; -1 also if the kernel says no */
int client_status_get(struct client_genl *genl, int index, struct client_status *status,
		      struct client_error *err);

#endif /* CLIENT_COMMANDS_H */
