/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /etc/nbdtab: one line a device, "device host export [option[=value],...]". */
#ifndef CLIENT_NBDTAB_H
#define CLIENT_NBDTAB_H

#include <stdio.h>

#include "args.h"

#define CLIENT_NBDTAB "/etc/nbdtab"

/*
 * Complete args from the line for args->device.  The environment variable
 * NBDTAB names another file.
 */
int client_nbdtab_load(struct client_args *args, struct client_error *err);
/* The same from an open file, which messages call name */
int client_nbdtab_read(FILE *file, const char *name, struct client_args *args,
		       struct client_error *err);

#endif /* CLIENT_NBDTAB_H */
