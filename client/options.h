/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of options: for the command line, nbdtab and --help. */
#ifndef CLIENT_OPTIONS_H
#define CLIENT_OPTIONS_H

#include "args.h"

enum client_option_kind {
	CLIENT_OPT_FLAG,     /* bool */
	CLIENT_OPT_NUMBER,   /* uint64_t, within min...max */
	CLIENT_OPT_BYTES,    /* the same, with k, M, G, T */
	CLIENT_OPT_DURATION, /* the same in ms, given as 5, 5s or 500ms */
	CLIENT_OPT_STRING,   /* char * */
	CLIENT_OPT_COMMAND,  /* min is the command; a value names the device */
	CLIENT_OPT_REFUSED,  /* help says why */
};

struct client_option {
	const char *name; /* long name */
	char letter;	  /* 0: none */
	const char *arg;  /* name of the value, NULL: takes none */
	const char *tab;  /* key in nbdtab, NULL: none */
	enum client_option_kind kind;
	size_t field; /* offset in struct client_args */
	uint64_t min, max;
	const char *help;
};

extern const struct client_option client_options[];
extern const unsigned int client_noptions;

/* Sub-commands: the first word of the command line */
struct client_subcommand {
	const char *name;
	enum client_command command;
	const char *words;
	const char *help;
};

extern const struct client_subcommand client_subcommands[];
extern const unsigned int client_nsubcommands;

/* Set what the option means; value is NULL for options without */
int client_option_apply(const struct client_option *option, const char *value,
			struct client_args *args, struct client_error *err);

#endif /* CLIENT_OPTIONS_H */
