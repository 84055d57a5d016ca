// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <glib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "common/parse.h"
#include "server/config.h"

/* The server gives up sooner, see monitor.h */
#define TIMEOUT_S 15

struct command {
	const char *name;
	const char *help;
	const char *member; /* of each line of the answer; what is shown is a list of them */
	bool list;
};

static const struct command commands[] = {
	{ "status", "the server as a whole", "status", false },
	{ "clients", "each connection, and what it has done", "client", true },
	{ "counters", "each export, and what was done, by command", "export", true },
	{ "latency", "each export, and how long it took", "export", true },
	{ "swap", "each file of swap exports, and who has it", "swap", true },
	{ "log-level", "show the log's level, or change it to LEVEL", "log_level", false },
};

struct ctl {
	const struct command *command;
	const char *socket;
	const char *level;
	bool json;
	uint64_t watch; /* seconds, 0: once */
};

static void help(void)
{
	size_t i;

	printf("Usage: nbd-server ctl [OPTION]... COMMAND\n"
	       "Ask a server that runs, through its control socket.\n\n");
	for (i = 0; i < G_N_ELEMENTS(commands); i++)
		printf("  %-9s %-7s %s\n", commands[i].name,
		       i == G_N_ELEMENTS(commands) - 1 ? "[LEVEL]" : "", commands[i].help);
	printf("\n"
	       "      --json           for programs\n"
	       "      --socket PATH    the server's control socket\n"
	       "                       (default " SRV_DEF_CONTROL ")\n"
	       "      --watch SECONDS  again and again\n"
	       "  -h, --help           show this text\n\n"
	       "LEVEL is error, warning, info or debug.  See nbd-server(1).\n");
}

/* What to ask, and of whom; SRV_CTL_OK with a command, or the exit code */
static int parse_words(struct ctl *ctl, int n, char **word)
{
	size_t i;

	if (!n) {
		nbd_err("ctl: give a command: status, clients, counters, latency, swap or log-level");
		return SRV_CTL_USAGE;
	}
	for (i = 0; i < G_N_ELEMENTS(commands); i++) {
		if (!strcmp(commands[i].name, word[0]))
			ctl->command = &commands[i];
	}
	if (!ctl->command) {
		nbd_err("ctl %s: no such command; nbd-server ctl --help shows them", word[0]);
		return SRV_CTL_USAGE;
	}
	if (n > 1 && !strcmp(word[0], "log-level"))
		ctl->level = word[1];
	if (n > (ctl->level ? 2 : 1)) {
		nbd_err("ctl %s: %s is too much", word[0], word[n - 1]);
		return SRV_CTL_USAGE;
	}
	if (ctl->level && ctl->watch) {
		nbd_err("ctl log-level %s: --watch cannot change the level again and again",
			ctl->level);
		return SRV_CTL_USAGE;
	}
	return SRV_CTL_OK;
}

static int parse(struct ctl *ctl, int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' },
		{ "socket", required_argument, NULL, 's' },
		{ "watch", required_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	optind = 0;
	while ((c = getopt_long(argc, argv, ":h", longopts, NULL)) != -1) {
		switch (c) {
		case 'h':
			help();
			return SRV_CTL_OK;
		case 'j':
			ctl->json = true;
			break;
		case 's':
			ctl->socket = optarg;
			break;
		case 'w':
			if (nbd_parse_uint(optarg, 86400, &ctl->watch) || !ctl->watch) {
				nbd_err("--watch %s: expected a number from 1 to 86400", optarg);
				return SRV_CTL_USAGE;
			}
			break;
		default:
			nbd_err("%s: %s; nbd-server ctl --help shows the options", argv[optind - 1],
				c == ':' ? "the option needs a value" : "no such option");
			return SRV_CTL_USAGE;
		}
	}
	return parse_words(ctl, argc - optind, argv + optind);
}

static FILE *reach(const char *path)
{
	struct timeval timeout = { .tv_sec = TIMEOUT_S };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = -1;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		nbd_err("%s: a Unix socket's path has at most %zu bytes", path,
			sizeof(addr.sun_path) - 1);
		return NULL;
	}
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) &&
	    !setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) &&
	    !connect(fd, (const struct sockaddr *)&addr, sizeof(addr)))
		return fdopen(fd, "r+");
	if (errno == ENOENT || errno == ECONNREFUSED)
		nbd_err("no server answers on %s: start one with control = %s, "
			"or name the socket of one by --socket",
			path, path);
	else
		nbd_err("cannot ask the server on %s: %s%s", path, strerror(errno),
			errno == EACCES ? "; only root may, and who started it" : "");
	if (fd >= 0)
		close(fd);
	return NULL;
}

/* Take one line of the answer into @*all; 1 when it is the last one, 0, or -1 */
static int take_line(const struct ctl *ctl, const char *line, json_t **all)
{
	json_t *object = json_loads(line, 0, NULL);
	json_t *item = json_object_get(object, ctl->command->member);
	const char *error = json_string_value(json_object_get(object, "error"));
	int ret = 0;

	if (error || !object) {
		nbd_err("ctl %s: %s", ctl->command->name,
			error ? error : "the server's answer makes no sense");
		ret = -1;
	} else if (json_object_get(object, "done")) {
		ret = 1;
	} else if (ctl->command->list) {
		json_array_append(*all, item);
	} else {
		json_decref(*all);
		*all = json_incref(object);
	}
	json_decref(object);
	return ret;
}

/* The answer, or NULL with the exit code in *@status */
static json_t *ask(const struct ctl *ctl, int *status)
{
	json_t *all = ctl->command->list ? json_array() : NULL;
	FILE *server = reach(ctl->socket);
	size_t size = 0;
	char *text = NULL;
	int ret = 0;

	*status = SRV_CTL_NO_SERVER;
	if (!server)
		goto out;
	*status = SRV_CTL_FAILED;
	fprintf(server, ctl->level ? "%s %s\n" : "%s\n", ctl->command->name, ctl->level);
	fflush(server);
	while (!ret) {
		if (getline(&text, &size, server) < 0) {
			nbd_err("ctl %s: the server on %s has broken off its answer",
				ctl->command->name, ctl->socket);
			break;
		}
		ret = take_line(ctl, text, &all);
	}
	free(text);
	fclose(server);
	if (ret > 0 && all) {
		*status = SRV_CTL_OK;
		return all;
	}
out:
	json_decref(all);
	return NULL;
}

/* Without the name of its kind, which a program knows that has asked */
static void show_json(const struct ctl *ctl, json_t *answer)
{
	json_t *status = json_object_get(answer, "status");

	json_dumpf(status ? status : answer, stdout, ctl->watch ? JSON_COMPACT : JSON_INDENT(2));
	putchar('\n');
}

static void show(const struct ctl *ctl, json_t *answer, const json_t *before)
{
	const char *name = ctl->command->name;

	if (ctl->json)
		show_json(ctl, answer);
	else if (!strcmp(name, "status"))
		srv_ctl_show_status(stdout, json_object_get(answer, "status"));
	else if (!strcmp(name, "clients"))
		srv_ctl_show_clients(stdout, answer, (double)g_get_real_time() / 1000000);
	else if (!strcmp(name, "counters"))
		srv_ctl_show_counters(stdout, answer, before, (double)ctl->watch);
	else if (!strcmp(name, "latency"))
		srv_ctl_show_latency(stdout, answer);
	else if (!strcmp(name, "swap"))
		srv_ctl_show_swap(stdout, answer);
	else
		printf("%s\n", json_string_value(json_object_get(answer, "log_level")));
}

/* Again and again, until the server has gone or nobody reads it any longer */
static int watch(const struct ctl *ctl)
{
	bool screen = !ctl->json && isatty(STDOUT_FILENO);
	json_t *answer, *before = NULL;
	int status = SRV_CTL_OK;

	while ((answer = ask(ctl, &status))) {
		if (screen)
			printf("\033[H\033[2J");
		else if (before && !ctl->json)
			putchar('\n');
		show(ctl, answer, before);
		json_decref(before);
		before = answer;
		if (fflush(stdout))
			break;
		sleep((unsigned int)ctl->watch);
	}
	json_decref(before);
	return status;
}

int srv_ctl(int argc, char **argv)
{
	struct ctl ctl = { .socket = SRV_DEF_CONTROL };
	int status = parse(&ctl, argc, argv);
	json_t *answer;

	if (status || !ctl.command)
		return status;
	/* A server that hangs up is told of, and so is a reader that has gone */
	signal(SIGPIPE, SIG_IGN);
	if (ctl.watch)
		return watch(&ctl);
	answer = ask(&ctl, &status);
	if (answer)
		show(&ctl, answer, NULL);
	json_decref(answer);
	if (fflush(stdout) || ferror(stdout)) {
		nbd_err("ctl %s: cannot write: %s", ctl.command->name, strerror(errno));
		return SRV_CTL_FAILED;
	}
	return status;
}
