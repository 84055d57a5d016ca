// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "nbdtab.h"
#include "text.h"

static const char blanks[] = " \t\r\n";

/* \040 is a space, as in fstab; in place */
static void unescape(char *s)
{
	char *p = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7' && strncmp(s + 1, "000", 3)) {
			*p++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*p++ = *s++;
		}
	}
	*p = '\0';
}

static int set(char **field, const char *value, struct client_error *err)
{
	free(*field);
	*field = strdup(value);
	return *field ? 0 : client_error_set(err, CLIENT_FAILED, "out of memory");
}

static int set_port(struct client_args *args, const char *value, struct client_error *err)
{
	uint64_t port;

	if (!value || !client_text_number(value, &port) || port < 1 || port > 65535)
		return client_error_set(err, CLIENT_USAGE,
					"'%s' is no port: give a number from 1 to 65535",
					value ? value : "");
	args->port = port;
	return 0;
}

static int parse_option(struct client_args *args, char *option, bool *is_unix,
			struct client_error *err)
{
	char *value = strchr(option, '=');
	int ret;

	/* reserved for local use */
	if (*option == '_')
		return 0;
	if (value)
		*value++ = '\0';
	if (!strcmp(option, "port"))
		return set_port(args, value, err);
	if (!strcmp(option, "unix") && !value) {
		*is_unix = true;
		return 0;
	}
	ret = client_args_tab_option(args, option, value, err);
	if (ret > 0)
		client_args_warn(args, "option '%s' of %s in nbdtab is unknown and ignored", option,
				 args->device);
	return ret < 0 ? -1 : 0;
}

/* The fields after the device name */
static int parse_fields(struct client_args *args, char *fields, struct client_error *err)
{
	char *save, *host, *export, *options, *option;
	bool is_unix = false;

	host = strtok_r(fields, blanks, &save);
	export = host ? strtok_r(NULL, blanks, &save) : NULL;
	if (!export)
		return client_error_set(err, CLIENT_USAGE, "a line needs device, host and export");
	options = strtok_r(NULL, blanks, &save);
	if (options && strtok_r(NULL, blanks, &save))
		return client_error_set(err, CLIENT_USAGE,
					"more than four fields (write options without spaces)");
	if (!strcmp(export, "\"\""))
		*export = '\0';
	unescape(host);
	unescape(export);
	if (!args->export && set(&args->export, export, err))
		return -1;
	for (option = options ? strtok_r(options, ",", &save) : NULL; option;
	     option = strtok_r(NULL, ",", &save))
		if (parse_option(args, option, &is_unix, err))
			return -1;
	if (args->preinit && !args->size)
		return client_error_set(err, CLIENT_USAGE, "option 'preinit' needs 'size=BYTES'");
	return set(is_unix ? &args->unix_path : &args->host, host, err);
}

int client_nbdtab_read(FILE *file, const char *name, struct client_args *args,
		       struct client_error *err)
{
	int wanted = client_device_index(args->device);
	char *line = NULL, *start, *end;
	unsigned int number = 0;
	char where[300];
	size_t size = 0;
	int ret = 1;

	while (ret == 1 && getline(&line, &size, file) >= 0) {
		number++;
		line[strcspn(line, "#")] = '\0';
		start = line + strspn(line, blanks);
		end = start + strcspn(start, blanks);
		if (start == end)
			continue;
		if (*end)
			*end++ = '\0';
		if (client_device_index(start) != wanted)
			continue;
		ret = parse_fields(args, end, err);
		if (ret) {
			snprintf(where, sizeof(where), "%s:%u", name, number);
			client_error_prefix(err, where);
		}
	}
	free(line);
	if (ret == 1)
		return client_error_set(
			err, CLIENT_USAGE,
			"%s has no line for %s: add one, or give host and export on the command line",
			name, args->device);
	return ret;
}

int client_nbdtab_load(struct client_args *args, struct client_error *err)
{
	const char *name = getenv("NBDTAB");
	FILE *file;
	int ret;

	if (!name || !*name)
		name = CLIENT_NBDTAB;
	file = fopen(name, "re");
	if (!file)
		return client_error_set(
			err, CLIENT_USAGE,
			"cannot read %s for %s: %s; give host and export on the command line, or write the file",
			name, args->device, strerror(errno));
	ret = client_nbdtab_read(file, name, args, err);
	fclose(file);
	return ret;
}
