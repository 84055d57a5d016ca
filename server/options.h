/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line. */
#ifndef SRV_OPTIONS_H
#define SRV_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "server/config.h"

enum srv_option_result {
	SRV_OPTIONS_RUN,
	SRV_OPTIONS_HELP,
	SRV_OPTIONS_VERSION,
	SRV_OPTIONS_BAD, /* and the reason has been given */
};

struct srv_options {
	char *config_file; /* NULL: not given */
	char *listen;	   /* IP, or NULL; unix:PATH is in @unix_path instead */
	char *port;	   /* NULL: no export on the command line */
	char *unix_path;
	char *path; /* the file to export, absolute; NULL: none */
	char *authfile;
	char *pid_file;
	char *control;
	char *metrics;
	char *output_section; /* -o: print the export as a section and exit */
	uint64_t size;
	uint64_t max_connections;
	uint64_t handshake_timeout; /* 0: not given */
	uint64_t loops;		    /* the same */
	enum srv_io io;
	bool io_given;
	int log_level;
	bool log_level_given;
	enum nbd_log_format log_format;
	bool log_format_given;
	bool readonly;
	bool mlock;
	bool copyonwrite;
	bool multifile;
	bool foreground;
	bool inetd; /* port 0: the client is on standard input */
};

enum srv_option_result srv_options_parse(struct srv_options *o, int argc, char **argv);
void srv_options_free(struct srv_options *o);
void srv_options_help(void);

/* What file and command line ask for together, or NULL when that makes no sense */
struct srv_config *srv_options_config(const struct srv_options *o);

/* -o: the command line's export as a configuration file */
void srv_options_print(const struct srv_options *o);

#endif /* SRV_OPTIONS_H */
