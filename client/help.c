// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdio.h>

#include "args.h"
#include "options.h"

static const char head[] = "Usage: nbd-client HOST[,HOST...] [PORT] DEVICE [OPTIONS]\n"
			   "  or:  nbd-client -unix PATH DEVICE [OPTIONS]\n"
			   "  or:  nbd-client nbd://HOST[:PORT]/EXPORT DEVICE [OPTIONS]\n"
			   "  or:  nbd-client DEVICE                  as in /etc/nbdtab\n"
			   "  or:  nbd-client -d DEVICE [-force]      disconnect\n"
			   "  or:  nbd-client -c DEVICE               check\n"
			   "  or:  nbd-client -l HOST [PORT]          list exports\n";

static const char tail[] =
	"A DEVICE is /dev/nbN or /dev/nbdN, with or without /dev/. Options may be\n"
	"written with one dash or two, abbreviated, and anywhere on the line.\n"
	"\n"
	"Exit status: 0 done; 1 failed, or with -check not connected; 2 with -check\n"
	"cannot tell; 3 wrong command line or nbdtab; 4 no driver; 5 not permitted;\n"
	"6 device in use; 7 server cannot be reached; 8 server refuses.\n";

static void print_option(FILE *out, const struct client_option *option)
{
	char text[40];

	snprintf(text, sizeof(text), "%s%c%s -%s %s", option->letter ? "-" : " ",
		 option->letter ? option->letter : ' ', option->letter ? "," : " ", option->name,
		 option->arg ? option->arg : "");
	fprintf(out, "  %-28s %s\n", text, option->help);
}

void client_args_help(FILE *out)
{
	unsigned int i;

	fputs(head, out);
	for (i = 0; i < client_nsubcommands; i++)
		fprintf(out, "  or:  nbd-client %s %-*s %s\n", client_subcommands[i].name,
			(int)(24 - 1), client_subcommands[i].words, client_subcommands[i].help);
	fputs("\nOptions:\n", out);
	for (i = 0; i < client_noptions; i++)
		print_option(out, &client_options[i]);
	fputs("\n", out);
	fputs(tail, out);
}
