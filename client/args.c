// SPDX-License-Identifier: GPL-2.0-or-later
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "device.h"
#include "options.h"
#include "text.h"
#include "uri.h"

#define MAX_WORDS CLIENT_MAX_DEVICES
#define LONG_BASE 256 /* getopt's value of option i is LONG_BASE + i */

/*
 * Prefixes that mean one option to the reference client and would be ambiguous
 * here, because there are more options.  getopt prefers an exact name.  And the
 * name that the driver has for one of them.
 */
static const struct {
	const char *prefix, *name;
} old_prefixes[] = {
	{ "co", "connections" },
	{ "con", "connections" },
	{ "conn", "connections" },
	{ "conne", "connections" },
	{ "connec", "connections" },
	{ "connect", "connections" },
	{ "li", "list" },
	{ "dead-conn-timeout", "dead-timeout" },
};

#define NPREFIXES (sizeof(old_prefixes) / sizeof(old_prefixes[0]))

void client_args_init(struct client_args *args)
{
	memset(args, 0, sizeof(*args));
	args->links = 1;
	args->connect_timeout = CLIENT_DEFAULT_CONNECT_TIMEOUT;
	args->timeout = args->dead_timeout = CLIENT_NOT_GIVEN;
	args->link_timeout = args->fence_delay = CLIENT_NOT_GIVEN;
}

void client_args_free(struct client_args *args)
{
	free(args->host);
	free(args->unix_path);
	free(args->device);
	free(args->export);
	free(args->identifier);
	while (args->ndevices)
		free(args->devices[--args->ndevices]);
	memset(args, 0, sizeof(*args));
}

void client_args_warn(struct client_args *args, const char *fmt, ...)
{
	va_list ap;

	if (args->nwarnings == CLIENT_MAX_WARNINGS)
		return;
	va_start(ap, fmt);
	vsnprintf(args->warnings[args->nwarnings++], sizeof(args->warnings[0]), fmt, ap);
	va_end(ap);
}

static int apply(struct client_args *args, unsigned int i, const char *value,
		 struct client_error *err)
{
	args->given |= 1ULL << i;
	return client_option_apply(&client_options[i], value, args, err);
}

static unsigned int find(const char *name)
{
	unsigned int i;

	for (i = 0; i < client_noptions; i++)
		if (!strcmp(client_options[i].name, name))
			break;
	return i;
}

int client_args_tab_option(struct client_args *args, const char *key, const char *value,
			   struct client_error *err)
{
	const struct client_option *option;
	unsigned int i;

	for (i = 0; i < client_noptions; i++)
		if (client_options[i].tab && !strcmp(client_options[i].tab, key))
			break;
	if (i == client_noptions)
		return 1;
	option = &client_options[i];
	if (!option->arg != !value)
		return client_error_set(err, CLIENT_USAGE, "option '%s' takes %s value", key,
					option->arg ? "a" : "no");
	if (args->given & 1ULL << i)
		return 0;
	return client_option_apply(option, value, args, err);
}

/* getopt's tables, made from ours; short_options has room for two bytes an option and more */
static void make_tables(struct option *long_options, char *short_options)
{
	char *p = short_options;
	unsigned int i, n;

	/* words in the order given, and ':' for a missing value */
	*p++ = '-';
	*p++ = ':';
	for (i = 0; i < client_noptions; i++) {
		long_options[i] = (struct option){
			.name = client_options[i].name,
			.has_arg = client_options[i].arg ? required_argument : no_argument,
			.val = LONG_BASE + (int)i,
		};
		if (client_options[i].letter)
			*p++ = client_options[i].letter;
		if (client_options[i].letter && client_options[i].arg)
			*p++ = ':';
	}
	*p = '\0';
	for (n = 0; n < NPREFIXES; n++, i++) {
		long_options[i] = long_options[find(old_prefixes[n].name)];
		long_options[i].name = old_prefixes[n].prefix;
	}
	memset(&long_options[i], 0, sizeof(long_options[i]));
}

static unsigned int index_of(int c)
{
	unsigned int i;

	if (c >= LONG_BASE)
		return (unsigned int)(c - LONG_BASE);
	for (i = 0; i < client_noptions; i++)
		if (client_options[i].letter == c)
			break;
	return i;
}

static int bad_option(int c, const char *word, struct client_error *err)
{
	unsigned int i = optopt ? index_of(optopt) : client_noptions;

	if (i < client_noptions && c == ':')
		return client_error_set(err, CLIENT_USAGE, "-%s needs a value: %s",
					client_options[i].name, client_options[i].arg);
	if (i < client_noptions && optopt >= LONG_BASE)
		return client_error_set(err, CLIENT_USAGE, "-%s takes no value: '%s'",
					client_options[i].name, word);
	return client_error_set(err, CLIENT_USAGE,
				"option '%s' is unknown or ambiguous: see nbd-client --help", word);
}

/* Words of before there were options: bs=N and timeout=N; 1: it is none of them */
static int old_word(struct client_args *args, const char *word, struct client_error *err)
{
	static const struct {
		const char *start, *name;
	} old[] = {
		{ "bs=", "block-size" },
		{ "timeout=", "timeout" },
	};
	unsigned int i;

	for (i = 0; i < 2; i++) {
		size_t len = strlen(old[i].start);

		if (strncmp(word, old[i].start, len))
			continue;
		client_args_warn(args, "'%s' is the old form: use -%s %s", word, old[i].name,
				 word + len);
		return apply(args, find(old[i].name), word + len, err);
	}
	return 1;
}

struct words {
	unsigned int n;
	const char *word[MAX_WORDS];
};

static int add_word(struct client_args *args, struct words *words, const char *word,
		    struct client_error *err)
{
	int ret = old_word(args, word, err);

	if (ret <= 0)
		return ret;
	if (words->n == MAX_WORDS)
		return client_error_set(err, CLIENT_USAGE,
					"'%s' is one word too many: see nbd-client --help", word);
	words->word[words->n++] = word;
	return 0;
}

static int parse_options(int argc, char *argv[], struct client_args *args, struct words *words,
			 struct client_error *err)
{
	struct option long_options[64 + NPREFIXES + 1] = { 0 };
	char short_options[2 * 64 + 3];
	unsigned int i;
	int c;

	make_tables(long_options, short_options);
	optind = 0; /* glibc: start anew */
	opterr = 0;
	while ((c = getopt_long_only(argc, argv, short_options, long_options, NULL)) != -1) {
		if (c == 1) {
			if (add_word(args, words, optarg, err))
				return -1;
			continue;
		}
		if (c == '?' || c == ':')
			return bad_option(c, argv[optind - 1], err);
		i = index_of(c);
		if (apply(args, i, client_options[i].arg ? optarg : NULL, err))
			return -1;
	}
	while (optind < argc)
		if (add_word(args, words, argv[optind++], err))
			return -1;
	return 0;
}

static int set(char **field, const char *value, struct client_error *err)
{
	free(*field);
	*field = strdup(value);
	return *field ? 0 : client_error_set(err, CLIENT_FAILED, "out of memory");
}

static int set_port(struct client_args *args, const char *word, struct client_error *err)
{
	uint64_t port;

	if (!client_text_number(word, &port) || port < 1 || port > 65535)
		return client_error_set(err, CLIENT_USAGE,
					"'%s' is no port: give a number from 1 to 65535", word);
	args->port = port;
	return 0;
}

/* HOST, possibly a URI that says more */
static int set_host(struct client_args *args, const char *word, struct client_error *err)
{
	struct client_uri uri;
	int ret;

	if (!client_uri_is(word))
		return set(&args->host, word, err);
	if (args->unix_path || args->export)
		return client_error_set(err, CLIENT_USAGE,
					"'%s' is a URI and says all: leave out -name and -unix",
					word);
	if (client_uri_parse(word, &uri, err))
		return -1;
	args->host = uri.host;
	args->unix_path = uri.unix_path;
	args->export = uri.export;
	ret = uri.port ? set_port(args, uri.port, err) : 0;
	free(uri.port);
	return ret;
}

static bool is_number(const char *word)
{
	return *word && !word[strspn(word, "0123456789")];
}

/* [HOST [PORT]] at the front of the words; returns how many there were */
static int take_server(struct client_args *args, const struct words *words,
		       struct client_error *err)
{
	unsigned int n = 0;

	if (!args->unix_path) {
		if (!words->n)
			return client_error_set(err, CLIENT_USAGE,
						"no host is given: see nbd-client --help");
		if (set_host(args, words->word[n++], err))
			return -1;
	}
	if (n < words->n && is_number(words->word[n])) {
		if (args->port)
			return client_error_set(err, CLIENT_USAGE, "the port is given twice: '%s'",
						words->word[n]);
		if (set_port(args, words->word[n++], err))
			return -1;
	}
	return (int)n;
}

static int check_device(const struct client_args *args, struct client_error *err)
{
	int index = args->command == CLIENT_CHECK ? client_device_index_of_partition(args->device) :
						    client_device_index(args->device);

	if (index >= 0)
		return 0;
	return client_error_set(err,
				args->command == CLIENT_CHECK ? CLIENT_CANNOT_TELL : CLIENT_USAGE,
				"'%s' is no NBD device: give one like /dev/nb0 or /dev/nbd0",
				args->device);
}

static int check_connect(const struct client_args *args, struct client_error *err)
{
	if (args->preinit && !args->size)
		return client_error_set(err, CLIENT_USAGE, "-preinit needs -size");
	if (args->block_size & (args->block_size - 1))
		return client_error_set(err, CLIENT_USAGE, "-block-size %llu is not a power of two",
					(unsigned long long)args->block_size);
	if (args->size && args->size % (args->block_size ? args->block_size : 512))
		return client_error_set(err, CLIENT_USAGE,
					"-size %llu is not a multiple of the block size %llu",
					(unsigned long long)args->size,
					(unsigned long long)(args->block_size ?: 512));
	return 0;
}

static int words_connect(struct client_args *args, const struct words *words,
			 struct client_error *err)
{
	int n;

	if (words->n == 1 && !args->unix_path && !client_uri_is(words->word[0])) {
		if (client_device_index(words->word[0]) < 0)
			return client_error_set(
				err, CLIENT_USAGE,
				"'%s' is no NBD device, and to connect to a host of that name a device is needed: nbd-client %s /dev/nb0",
				words->word[0], words->word[0]);
		args->command = CLIENT_CONNECT_TAB;
		return set(&args->device, words->word[0], err);
	}
	n = take_server(args, words, err);
	if (n < 0)
		return -1;
	if ((unsigned int)n == words->n)
		return client_error_set(err, CLIENT_USAGE,
					"no device is given: add one like /dev/nb0");
	if ((unsigned int)n + 1 < words->n)
		return client_error_set(err, CLIENT_USAGE,
					"'%s' is one word too many: see nbd-client --help",
					words->word[n + 1]);
	if (set(&args->device, words->word[n], err) || check_device(args, err))
		return -1;
	return check_connect(args, err);
}

static int check_set(const struct client_args *args, struct client_error *err)
{
	if (args->timeout == CLIENT_NOT_GIVEN && args->dead_timeout == CLIENT_NOT_GIVEN &&
	    args->link_timeout == CLIENT_NOT_GIVEN && args->fence_delay == CLIENT_NOT_GIVEN)
		return client_error_set(
			err, CLIENT_USAGE,
			"nothing is to be set: give -timeout, -link-timeout, -fence-delay or -dead-timeout");
	if (!args->device)
		return client_error_set(err, CLIENT_USAGE,
					"no device is given: add one like /dev/nb0");
	return check_device(args, err);
}

static int words_doctor(struct client_args *args, const struct words *words,
			struct client_error *err)
{
	unsigned int i;

	for (i = 0; i < words->n; i++) {
		if (client_device_index(words->word[i]) < 0)
			return client_error_set(
				err, CLIENT_USAGE,
				"'%s' is no NBD device: give one like /dev/nb0 or /dev/nbd0",
				words->word[i]);
		if (set(&args->devices[args->ndevices++], words->word[i], err))
			return -1;
	}
	return 0;
}

static int take_words(struct client_args *args, const struct words *words, struct client_error *err)
{
	unsigned int used = 0;
	int n;

	switch (args->command) {
	case CLIENT_CONNECT:
	case CLIENT_CONNECT_TAB:
		return words_connect(args, words, err);
	case CLIENT_LIST:
		n = take_server(args, words, err);
		if (n < 0)
			return -1;
		used = (unsigned int)n;
		break;
	case CLIENT_STATUS:
		if (words->n && set(&args->device, words->word[used++], err))
			return -1;
		if (args->device && check_device(args, err))
			return -1;
		break;
	case CLIENT_SET:
		if (words->n && set(&args->device, words->word[used++], err))
			return -1;
		if (check_set(args, err))
			return -1;
		break;
	case CLIENT_DOCTOR:
		return words_doctor(args, words, err);
	case CLIENT_DISCONNECT:
	case CLIENT_CHECK:
		if (check_device(args, err))
			return -1;
		break;
	case CLIENT_HELP:
	case CLIENT_VERSION:
		return 0;
	}
	if (used < words->n)
		return client_error_set(err, CLIENT_USAGE,
					"'%s' is one word too many: see nbd-client --help",
					words->word[used]);
	return 0;
}

int client_args_parse(int argc, char *argv[], struct client_args *args, struct client_error *err)
{
	struct words words = { .n = 0 };
	unsigned int i;

	client_args_init(args);
	for (i = 0; argc > 1 && i < client_nsubcommands; i++) {
		if (strcmp(argv[1], client_subcommands[i].name))
			continue;
		args->command = client_subcommands[i].command;
		args->details = true;
		/* getopt skips argv[0], whatever it is */
		argc--;
		argv++;
		break;
	}
	if (parse_options(argc, argv, args, &words, err))
		return -1;
	return take_words(args, &words, err);
}
