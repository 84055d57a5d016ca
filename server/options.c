// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/parse.h"

static const struct option longopts[] = {
	{ "authorize-file", required_argument, NULL, 'l' },
	{ "config-file", required_argument, NULL, 'C' },
	{ "control", required_argument, NULL, 'S' },
	{ "copy-on-write", no_argument, NULL, 'c' },
	{ "dont-fork", no_argument, NULL, 'd' },
	{ "handshake-timeout", required_argument, NULL, 'H' },
	{ "help", no_argument, NULL, 'h' },
	{ "io", required_argument, NULL, 'I' },
	{ "log-format", required_argument, NULL, 'F' },
	{ "log-level", required_argument, NULL, 'v' },
	{ "loops", required_argument, NULL, 'L' },
	{ "max-connection", required_argument, NULL, 'M' },
	{ "max-connections", required_argument, NULL, 'M' },
	{ "metrics", required_argument, NULL, 'E' },
	{ "mlock", no_argument, NULL, 'K' },
	{ "multi-file", no_argument, NULL, 'm' },
	{ "nodaemon", no_argument, NULL, 'n' },
	{ "output-config", required_argument, NULL, 'o' },
	{ "pid-file", required_argument, NULL, 'p' },
	{ "read-only", no_argument, NULL, 'r' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

void srv_options_help(void)
{
	printf("Usage: nbd-server [IP@|IP:]PORT FILE [SIZE[kKmMgGtT]] [OPTION]...\n"
	       "       nbd-server unix:PATH FILE [SIZE] [OPTION]...\n"
	       "       nbd-server [-C FILE] [OPTION]...\n"
	       "       nbd-server ctl COMMAND; see nbd-server ctl --help\n"
	       "Serve files and block devices to NBD clients.  PORT 0 serves one client on\n"
	       "standard input.  Without PORT and FILE the exports are those of the\n"
	       "configuration file, " SRV_DEF_CONFIG " unless -C names another.\n\n"
	       "  -C, --config-file FILE         read the configuration from FILE\n"
	       "      --control PATH             answer nbd-server ctl on this socket\n"
	       "  -c, --copy-on-write            keep what a client writes apart, and drop it when\n"
	       "                                 the client goes\n"
	       "  -d, --dont-fork                stay in the foreground, the same as -n\n"
	       "      --handshake-timeout SECS   time a client has to open an export (default %d)\n"
	       "  -h, --help                     show this text\n"
	       "      --io auto|uring|threads    what does the disk's work (default auto)\n"
	       "  -l, --authorize-file FILE      addresses that may use the export\n"
	       "                                 (default " SRV_DEF_ALLOW ", if it exists)\n"
	       "      --log-format text|json     what the log's lines are (default text)\n"
	       "      --log-level LEVEL          error, warning, info (default) or debug\n"
	       "      --loops N                  event loops (default: one for each core)\n"
	       "  -M, --max-connections N        at most N connections to the export\n"
	       "      --metrics ADDRESS:PORT     serve counters to Prometheus\n"
	       "  -m, --multi-file               export FILE.0, FILE.1 and so on as one\n"
	       "      --mlock                    lock the server into memory\n"
	       "  -n, --nodaemon                 stay in the foreground, log to standard error\n"
	       "  -o, --output-config SECTION    print the export as a section of a configuration\n"
	       "                                 file and exit\n"
	       "  -p, --pid-file FILE            write the process ID to FILE\n"
	       "                                 (default when not in the foreground:\n"
	       "                                 " SRV_DEF_PID_FILE ")\n"
	       "  -r, --read-only                refuse writes\n"
	       "  -V, --version                  show the version\n\n"
	       "SIGHUP reads the configuration file again; SIGTERM finishes what is in flight\n"
	       "and exits.  See nbd-server(1) and nbd-server(5).\n",
	       SRV_DEF_HANDSHAKE);
}

void srv_options_free(struct srv_options *o)
{
	g_free(o->config_file);
	g_free(o->listen);
	g_free(o->port);
	g_free(o->unix_path);
	g_free(o->path);
	g_free(o->authfile);
	g_free(o->pid_file);
	g_free(o->control);
	g_free(o->metrics);
	g_free(o->output_section);
	*o = (struct srv_options){ 0 };
}

static void set(char **field, const char *value)
{
	g_free(*field);
	*field = g_strdup(value);
}

static char *absolute(const char *path)
{
	return g_canonicalize_filename(path, NULL);
}

static bool set_number(uint64_t *field, const char *option, const char *value, uint64_t min,
		       uint64_t max)
{
	uint64_t n;

	if (!nbd_parse_uint(value, max, &n) && n >= min) {
		*field = n;
		return true;
	}
	nbd_err("%s %s: expected a number from %llu to %llu", option, value,
		(unsigned long long)min, (unsigned long long)max);
	return false;
}

/* [IP@|IP:]PORT or unix:PATH */
static bool parse_address(struct srv_options *o, const char *text)
{
	const char *at = strchr(text, '@');
	uint64_t port;
	size_t len;

	if (g_str_has_prefix(text, "unix:")) {
		if (!text[5]) {
			nbd_err("%s: give the path of the socket after unix:", text);
			return false;
		}
		o->unix_path = absolute(text + 5);
		return true;
	}
	if (!at)
		at = strrchr(text, ':');
	if (at && *at == ':' && strchr(text, ':') != at && at[-1] != ']') {
		nbd_err("%s: write an IPv6 address as IP@PORT", text);
		return false;
	}
	if (at) {
		len = (size_t)(at - text);
		if (len > 2 && *text == '[' && text[len - 1] == ']')
			o->listen = g_strndup(text + 1, len - 2);
		else
			o->listen = g_strndup(text, len);
		text = at + 1;
	}
	if (nbd_parse_uint(text, 65535, &port) || (at && (!port || !*o->listen))) {
		nbd_err("%s: expected [IP@]PORT with a port from 1 to 65535, "
			"or 0 for a client on standard input",
			at ? at + 1 : text);
		return false;
	}
	o->inetd = !port;
	o->port = g_strdup(text);
	return true;
}

static bool parse_operands(struct srv_options *o, int n, char **arg)
{
	if (!n)
		return true;
	if (n < 2 || n > 3) {
		nbd_err("%s: expected PORT FILE [SIZE]; nbd-server --help shows the options",
			n < 2 ? arg[0] : arg[3]);
		return false;
	}
	if (!parse_address(o, arg[0]))
		return false;
	o->path = absolute(arg[1]);
	if (n == 3 && (nbd_parse_size(arg[2], &o->size) || !o->size)) {
		nbd_err("%s: expected a size in bytes, or with one of k m g t", arg[2]);
		return false;
	}
	return true;
}

static enum srv_option_result parse_option(struct srv_options *o, int c, const char *arg)
{
	switch (c) {
	case 'C':
		g_free(o->config_file);
		o->config_file = absolute(arg);
		break;
	case 'l':
		g_free(o->authfile);
		o->authfile = absolute(arg);
		break;
	case 'p':
		g_free(o->pid_file);
		o->pid_file = absolute(arg);
		break;
	case 'S':
		g_free(o->control);
		o->control = absolute(arg);
		break;
	case 'E':
		set(&o->metrics, arg);
		break;
	case 'o':
		set(&o->output_section, arg);
		break;
	case 'M':
		if (!set_number(&o->max_connections, "-M", arg, 0, 65536))
			return SRV_OPTIONS_BAD;
		break;
	case 'H':
		if (!set_number(&o->handshake_timeout, "--handshake-timeout", arg, 1, 3600))
			return SRV_OPTIONS_BAD;
		break;
	case 'I':
		o->io_given = true;
		if (srv_config_io(arg, &o->io)) {
			nbd_err("--io %s: expected auto, uring or threads", arg);
			return SRV_OPTIONS_BAD;
		}
		break;
	case 'F':
		o->log_format_given = true;
		if (nbd_log_parse_format(arg, &o->log_format)) {
			nbd_err("--log-format %s: expected text or json", arg);
			return SRV_OPTIONS_BAD;
		}
		break;
	case 'v':
		o->log_level_given = true;
		if (nbd_log_parse_level(arg, &o->log_level)) {
			nbd_err("--log-level %s: expected error, warning, info or debug", arg);
			return SRV_OPTIONS_BAD;
		}
		break;
	case 'L':
		if (!set_number(&o->loops, "--loops", arg, 1, SRV_MAX_LOOPS))
			return SRV_OPTIONS_BAD;
		break;
	case 'c':
		o->copyonwrite = true;
		break;
	case 'm':
		o->multifile = true;
		break;
	case 'r':
		o->readonly = true;
		break;
	case 'K':
		o->mlock = true;
		break;
	case 'd':
	case 'n':
		o->foreground = true;
		break;
	case 'h':
		return SRV_OPTIONS_HELP;
	case 'V':
		return SRV_OPTIONS_VERSION;
	case ':':
		nbd_err("%s: the option needs a value; nbd-server --help shows the options", arg);
		return SRV_OPTIONS_BAD;
	default:
		nbd_err("%s: no such option; nbd-server --help shows the options", arg);
		return SRV_OPTIONS_BAD;
	}
	return SRV_OPTIONS_RUN;
}

enum srv_option_result srv_options_parse(struct srv_options *o, int argc, char **argv)
{
	enum srv_option_result result;
	int c;

	*o = (struct srv_options){ 0 };
	optind = 0; /* for a second call, in tests */
	while ((c = getopt_long(argc, argv, ":C:M:Vcdhl:mno:p:r", longopts, NULL)) != -1) {
		result = parse_option(o, c, c == ':' || c == '?' ? argv[optind - 1] : optarg);
		if (result != SRV_OPTIONS_RUN)
			return result;
	}
	if (!parse_operands(o, argc - optind, argv + optind))
		return SRV_OPTIONS_BAD;
	if (!o->path && (o->output_section || o->authfile || o->readonly || o->copyonwrite ||
			 o->multifile || o->max_connections)) {
		nbd_err("-c, -l, -M, -m, -o and -r are about an export on the command line: "
			"give PORT and FILE");
		return SRV_OPTIONS_BAD;
	}
	if (o->inetd)
		o->foreground = true;
	return SRV_OPTIONS_RUN;
}

/* The export on the command line comes first, so that it is the default one */
static void add_export(const struct srv_options *o, struct srv_config *config)
{
	struct srv_export *export = srv_config_add(config, "");

	export->path = g_strdup(o->path);
	export->authfile = g_strdup(o->authfile ? o->authfile : SRV_DEF_ALLOW);
	export->size = o->size;
	export->max_connections = o->max_connections;
	export->readonly = o->readonly;
	/* What is only read needs no place for what is written */
	export->copyonwrite = o->copyonwrite && !o->readonly;
	export->multifile = o->multifile;
	/* A path on the command line means what it says */
	export->virtstyle = g_strdup("none");
	/* There is nothing to hide in one export without a name */
	config->allowlist = true;
}

/* Where to answer questions about the server itself */
static void add_services(const struct srv_options *o, struct srv_config *config)
{
	if (o->control)
		set(&config->control, o->control);
	if (o->metrics)
		set(&config->metrics, o->metrics);
	/* The machine's own server has a place of its own; others could be in each other's way */
	if (!config->control && !o->config_file && !o->path) {
		set(&config->control, SRV_DEF_CONTROL);
		config->control_default = true;
	}
	/* Empty: none is wanted */
	if (config->control && !*config->control)
		set(&config->control, NULL);
	if (config->metrics && !*config->metrics)
		set(&config->metrics, NULL);
}

struct srv_config *srv_options_config(const struct srv_options *o)
{
	const char *file = o->config_file ? o->config_file : SRV_DEF_CONFIG;
	struct srv_config *config = srv_config_new();

	if (o->path)
		add_export(o, config);
	if ((o->config_file || !o->path) && srv_config_load(config, file))
		goto err;
	if (o->unix_path) {
		set(&config->unixsock, o->unix_path);
		config->duallisten = false;
	} else if (o->port) {
		set(&config->port, o->port);
		set(&config->listenaddr, o->listen);
		set(&config->unixsock, NULL);
	}
	add_services(o, config);
	if (o->handshake_timeout)
		config->handshake_timeout = o->handshake_timeout;
	if (o->loops)
		config->loops = o->loops;
	if (o->mlock)
		config->mlock = true;
	if (o->io_given)
		config->io = o->io;
	if (o->log_level_given)
		config->log_level = o->log_level;
	if (o->log_format_given)
		config->log_format = o->log_format;
	if (!config->exports->len) {
		nbd_err("%s: no export; add a section with exportname = FILE", file);
		goto err;
	}
	if (srv_config_tls(config, file))
		goto err;
	return config;
err:
	srv_config_put(config);
	return NULL;
}

void srv_options_print(const struct srv_options *o)
{
	printf("[generic]\n");
	if (o->unix_path)
		printf("\tunixsock = %s\n", o->unix_path);
	if (o->port)
		printf("\tport = %s\n", o->port);
	if (o->listen)
		printf("\tlistenaddr = %s\n", o->listen);
	printf("[%s]\n\texportname = %s\n", o->output_section, o->path);
	if (strstr(o->path, "%s"))
		printf("\tvirtstyle = none\n");
	if (o->size)
		printf("\tfilesize = %llu\n", (unsigned long long)o->size);
	printf("\tauthfile = %s\n", o->authfile ? o->authfile : SRV_DEF_ALLOW);
	if (o->max_connections)
		printf("\tmaxconnections = %llu\n", (unsigned long long)o->max_connections);
	if (o->readonly)
		printf("\treadonly = true\n");
	if (o->copyonwrite)
		printf("\tcopyonwrite = true\n");
	if (o->multifile)
		printf("\tmultifile = true\n");
}
