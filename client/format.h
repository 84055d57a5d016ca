/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Status and lists as text and as JSON; nbd-client(8) documents both. */
#ifndef CLIENT_FORMAT_H
#define CLIENT_FORMAT_H

#include <jansson.h>
#include <stdio.h>

#include "negotiate.h"
#include "netlink.h"

/* Also for strings that are no UTF-8; NULL becomes null */
json_t *client_format_string(const char *s);

/* extended: our driver, which tells more */
void client_format_status(FILE *out, const struct client_status *status, bool extended);
json_t *client_format_status_json(const struct client_status *status, bool extended);

/* "note", "warning", "unsafe" */
const char *client_format_severity(uint32_t severity);

void client_format_export(FILE *out, const struct client_export *export);
json_t *client_format_export_json(const struct client_export *export);

/* Print and free; 0 or -1 without memory */
int client_format_print_json(FILE *out, json_t *json, struct client_error *err);

#endif /* CLIENT_FORMAT_H */
