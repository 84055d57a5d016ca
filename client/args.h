/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line, as a pure function from argv to a struct.  Options have one
 * table, which also serves nbdtab and --help.
 */
#ifndef CLIENT_ARGS_H
#define CLIENT_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "error.h"

enum client_command {
	CLIENT_CONNECT,	    /* HOST [PORT] DEVICE, -unix PATH DEVICE */
	CLIENT_CONNECT_TAB, /* DEVICE, the rest from nbdtab */
	CLIENT_DISCONNECT,
	CLIENT_CHECK,
	CLIENT_LIST,
	CLIENT_STATUS,
	CLIENT_DOCTOR,
	CLIENT_SET,
	CLIENT_HELP,
	CLIENT_VERSION,
};

#define CLIENT_MAX_WARNINGS 16
#define CLIENT_MAX_DEVICES  16 /* on one command line */

/* A number that was not given, where 0 means something */
#define CLIENT_NOT_GIVEN    UINT64_MAX

struct client_args {
	enum client_command command;
	char *host;			   /* HOST[,HOST...] */
	char *unix_path;		   /* in place of host */
	char *device;			   /* as given */
	char *devices[CLIENT_MAX_DEVICES]; /* doctor: as given */
	unsigned int ndevices;
	char *export; /* NULL: "" */
	char *identifier;
	uint64_t port;		  /* 0: not given */
	uint64_t block_size;	  /* 0: the server's */
	uint64_t size;		  /* 0: the server's */
	uint64_t timeout;	  /* seconds */
	uint64_t dead_timeout;	  /* seconds */
	uint64_t link_timeout;	  /* ms */
	uint64_t fence_delay;	  /* ms */
	uint64_t links;		  /* 1... */
	uint64_t connect_timeout; /* ms */
	bool no_go;
	bool read_only;
	bool spread;
	bool swap;
	bool persist;
	bool no_fork;
	bool no_netlink;
	bool preinit;
	bool systemd_mark;
	bool force;
	bool json;
	bool details;	/* list: sizes and flags too */
	uint64_t given; /* bit i: option i of the table stands on the command line */
	unsigned int nwarnings;
	char warnings[CLIENT_MAX_WARNINGS][200];
};

#define CLIENT_DEFAULT_CONNECT_TIMEOUT 10000

void client_args_init(struct client_args *args);
void client_args_free(struct client_args *args);

/* 0, or -1 with *err filled in; to be freed in both cases */
int client_args_parse(int argc, char *argv[], struct client_args *args, struct client_error *err);

/*
 * Option key[=value] of an nbdtab line.  What stands on the command line wins.
 * 1: no such key.
 */
int client_args_tab_option(struct client_args *args, const char *key, const char *value,
			   struct client_error *err);

void client_args_warn(struct client_args *args, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* For --help */
void client_args_help(FILE *out);

#endif /* CLIENT_ARGS_H */
