// SPDX-License-Identifier: GPL-2.0-or-later
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/nbd-wire.h"
#include "nbswap-netlink.h"
#include "options.h"
#include "text.h"

#define FIELD(name) offsetof(struct client_args, name)
#define NO_TLS	    "not supported: this version of nbd-client has no TLS"

#define FLAG(n, l, tab, field, help)                                       \
	{                                                                  \
		n, l, NULL, tab, CLIENT_OPT_FLAG, FIELD(field), 0, 0, help \
	}
#define STRING(n, l, arg, tab, field, help)                                 \
	{                                                                   \
		n, l, arg, tab, CLIENT_OPT_STRING, FIELD(field), 0, 0, help \
	}
#define COMMAND(n, l, arg, command, help)                                \
	{                                                                \
		n, l, arg, NULL, CLIENT_OPT_COMMAND, 0, command, 0, help \
	}
#define REFUSED(n, l, arg, tab, help)                             \
	{                                                         \
		n, l, arg, tab, CLIENT_OPT_REFUSED, 0, 0, 0, help \
	}

const struct client_option client_options[] = {
	STRING("name", 'N', "NAME", NULL, export, "name of the export; default: \"\""),
	{ "block-size", 'b', "BYTES", "bs", CLIENT_OPT_BYTES, FIELD(block_size), 512, 65536,
	  "logical block size; default: the server's minimum, at least 512" },
	{ "size", 'B', "BYTES", "size", CLIENT_OPT_BYTES, FIELD(size), 512, INT64_MAX,
	  "use only this much of the export" },
	{ "connections", 'C', "N", "conns", CLIENT_OPT_NUMBER, FIELD(links), 1, NBDX_MAX_LINKS,
	  "number of connections to the server; default: 1" },
	{ "timeout", 't', "SECONDS", "timeout", CLIENT_OPT_NUMBER, FIELD(timeout), 0, 86400 * 365,
	  "drop and remake a connection that owes an answer for so long; default: 30" },
	{ "dead-timeout", 'T', "SECONDS", "dead-timeout", CLIENT_OPT_NUMBER, FIELD(dead_timeout), 0,
	  86400 * 365, "requests fail after so long without a connection; default: never" },
	{ "connect-timeout", 0, "TIME", "connect-timeout", CLIENT_OPT_DURATION,
	  FIELD(connect_timeout), 1, 3600 * 1000,
	  "for one attempt at one address: 5, 0.5s or 500ms; default: 10s" },
	{ "link-timeout", 0, "TIME", "link-timeout", CLIENT_OPT_DURATION, FIELD(link_timeout), 1000,
	  600 * 1000, "remake a connection that acknowledges nothing for so long; default: 10s" },
	{ "fence-delay", 0, "TIME", "fence-delay", CLIENT_OPT_DURATION, FIELD(fence_delay), 0,
	  60 * 1000,
	  "wait before writing again after a reconnect to a server without sessions; default: 1s" },
	FLAG("spread", 0, "spread", spread,
	     "connections begin at different hosts, which must serve the same data"),
	FLAG("swap", 's', "swap", swap,
	     "the device is for swap: keep more memory free, check and warn"),
	FLAG("readonly", 'R', "readonly", read_only,
	     "refuse writes even if the export allows them"),
	FLAG("persist", 'p', "persist", persist,
	     "the normal behaviour: the driver reconnects (no effect with -nonetlink)"),
	FLAG("no-optgo", 'g', "no_optgo", no_go, "negotiate by EXPORT_NAME instead of GO"),
	STRING("unix", 'u', "PATH", NULL, unix_path,
	       "connect to this Unix socket in place of a host"),
	STRING("identifier", 'i', "TEXT", "identifier", identifier,
	       "kept by the driver, shown in /sys/block/DEVICE/backend"),
	FLAG("nonetlink", 'L', NULL, no_netlink,
	     "configure by ioctl; nbd-client stays, the driver does not reconnect"),
	FLAG("nofork", 'n', NULL, no_fork, "with -nonetlink: stay in the foreground"),
	FLAG("systemd-mark", 'm', NULL, systemd_mark,
	     "with -nonetlink: ask systemd not to kill nbd-client at shutdown"),
	FLAG("preinit", 'P', "preinit", preinit,
	     "do not negotiate (needs -size): the server serves the one export at once"),
	COMMAND("disconnect", 'd', "DEVICE", CLIENT_DISCONNECT, "disconnect the device"),
	FLAG("force", 0, NULL, force, "with -disconnect: even if the device is in use"),
	COMMAND("check", 'c', "DEVICE", CLIENT_CHECK,
		"print the PID of who connected it; exit status 0, 1 (not connected) or 2 (error)"),
	COMMAND("list", 'l', NULL, CLIENT_LIST, "list the names of the exports of HOST [PORT]"),
	FLAG("json", 0, NULL, json, "with list, status and doctor: as JSON"),
	COMMAND("help", 'h', NULL, CLIENT_HELP, "this text"),
	COMMAND("version", 'V', NULL, CLIENT_VERSION, "print the version"),
	REFUSED("sdp", 'S', NULL, "sdp", "not supported: use TCP instead of sockets direct"),
	REFUSED("enable-tls", 'x', NULL, "tls", NO_TLS),
	REFUSED("certfile", 'F', "FILE", "certfile", NO_TLS),
	REFUSED("keyfile", 'K', "FILE", "keyfile", NO_TLS),
	REFUSED("cacertfile", 'A', "FILE", "cacertfile", NO_TLS),
	REFUSED("tlshostname", 'H', "NAME", "tlshostname", NO_TLS),
	REFUSED("priority", 'y', "TEXT", "priority", NO_TLS),
};

const unsigned int client_noptions = sizeof(client_options) / sizeof(client_options[0]);
_Static_assert(sizeof(client_options) / sizeof(client_options[0]) <= 64,
	       "args->given is too small");

const struct client_subcommand client_subcommands[] = {
	{ "status", CLIENT_STATUS, "[DEVICE] [--json]", "state of one device or of all" },
	{ "doctor", CLIENT_DOCTOR, "[DEVICE...] [--json]",
	  "what endangers swap on them, and how to mend it" },
	{ "set", CLIENT_SET, "DEVICE OPTIONS", "change timeouts of a connected device" },
	{ "list", CLIENT_LIST, "HOST [PORT] [--json]", "exports of a server, with size and flags" },
};

const unsigned int client_nsubcommands = sizeof(client_subcommands) / sizeof(client_subcommands[0]);

static int set_number(const struct client_option *option, const char *value, uint64_t *field,
		      struct client_error *err)
{
	uint64_t n;
	bool ok;

	if (option->kind == CLIENT_OPT_BYTES)
		ok = client_text_bytes(value, &n);
	else if (option->kind == CLIENT_OPT_DURATION)
		ok = client_text_duration(value, &n);
	else
		ok = client_text_number(value, &n);
	if (ok && n >= option->min && n <= option->max) {
		*field = n;
		return 0;
	}
	return client_error_set(
		err, CLIENT_USAGE,
		"'%s' is no value for -%s: give a number from %" PRIu64 " to %" PRIu64 "%s", value,
		option->name, option->min, option->max,
		option->kind == CLIENT_OPT_DURATION ? " ms (as 5, 0.5s or 500ms)" : "");
}

static int set_string(const struct client_option *option, const char *value, char **field,
		      struct client_error *err)
{
	if (strlen(value) > NBD_WIRE_MAX_STRING)
		return client_error_set(err, CLIENT_USAGE,
					"the value of -%s is longer than %d bytes", option->name,
					NBD_WIRE_MAX_STRING);
	free(*field);
	*field = strdup(value);
	if (!*field)
		return client_error_set(err, CLIENT_FAILED, "out of memory");
	return 0;
}

static int set_command(const struct client_option *option, const char *value,
		       struct client_args *args, struct client_error *err)
{
	/* -h and -V win over whatever else is said */
	if (args->command == CLIENT_HELP || args->command == CLIENT_VERSION)
		return 0;
	if (args->command != CLIENT_CONNECT && args->command != (enum client_command)option->min &&
	    option->min < CLIENT_HELP)
		return client_error_set(err, CLIENT_USAGE,
					"-%s does not go with the other command: give one of them",
					option->name);
	args->command = (enum client_command)option->min;
	return value ? set_string(option, value, &args->device, err) : 0;
}

int client_option_apply(const struct client_option *option, const char *value,
			struct client_args *args, struct client_error *err)
{
	void *field = (char *)args + option->field;

	switch (option->kind) {
	case CLIENT_OPT_FLAG:
		*(bool *)field = true;
		return 0;
	case CLIENT_OPT_NUMBER:
	case CLIENT_OPT_BYTES:
	case CLIENT_OPT_DURATION:
		return set_number(option, value, field, err);
	case CLIENT_OPT_STRING:
		return set_string(option, value, field, err);
	case CLIENT_OPT_COMMAND:
		return set_command(option, value, args, err);
	case CLIENT_OPT_REFUSED:
		break;
	}
	return client_error_set(err, CLIENT_USAGE, "-%s is %s", option->name, option->help);
}
