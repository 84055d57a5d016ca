// SPDX-License-Identifier: GPL-2.0-or-later
#include <glib.h>
#include <string.h>

#include "server/ctl.h"

#define BAR	       40 /* characters of the longest one */
/* Of the names in a table: longer ones are cut */
#define NAME_MAX_CHARS 40

char *srv_ctl_bytes(char *text, double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned int i = 0;

	while (bytes >= 1023.95 && i < G_N_ELEMENTS(units) - 1) {
		bytes /= 1024;
		i++;
	}
	g_snprintf(text, SRV_CTL_TEXT, i ? "%.1f %s" : "%.0f %s", bytes, units[i]);
	return text;
}

char *srv_ctl_us(char *text, double us)
{
	if (us < 1000)
		g_snprintf(text, SRV_CTL_TEXT, us < 10 && us != (int)us ? "%.1f us" : "%.0f us",
			   us);
	else if (us < 1000000)
		g_snprintf(text, SRV_CTL_TEXT, "%.1f ms", us / 1000);
	else
		g_snprintf(text, SRV_CTL_TEXT, "%.1f s", us / 1000000);
	return text;
}

char *srv_ctl_age(char *text, double seconds)
{
	static const struct {
		double seconds;
		const char *unit;
	} units[] = { { 86400, "d" }, { 3600, "h" }, { 60, "min" }, { 1, "s" } };
	unsigned int i = 0;

	if (seconds < 0)
		seconds = 0;
	/* Two of a unit at least: "90 min" tells more than "1 h" */
	while (i < G_N_ELEMENTS(units) - 1 && seconds < 2 * units[i].seconds)
		i++;
	g_snprintf(text, SRV_CTL_TEXT, "%d %s", (int)(seconds / units[i].seconds), units[i].unit);
	return text;
}

/* Text of others, as one word for a terminal */
static char *printable(const char *text)
{
	GString *out = g_string_new(NULL);
	g_autofree char *valid = g_utf8_make_valid(text, -1);
	const char *p;
	glong n = 0;
	gunichar c;

	for (p = valid; *p && n < NAME_MAX_CHARS; p = g_utf8_next_char(p), n++) {
		c = g_utf8_get_char(p);
		g_string_append_unichar(out, g_unichar_isprint(c) ? c : '?');
	}
	if (*p)
		g_string_append(out, "...");
	return g_string_free(out, FALSE);
}

/* Cells row by row; l or r for each column says to which side it is set */
struct table {
	const char *columns;
	GPtrArray *cells;
};

static void table_begin(struct table *t, const char *columns)
{
	*t = (struct table){ columns, g_ptr_array_new_with_free_func(g_free) };
}

static void add(struct table *t, const char *cell)
{
	g_ptr_array_add(t->cells, printable(cell));
}

static void add_number(struct table *t, json_int_t n)
{
	g_ptr_array_add(t->cells, g_strdup_printf("%" JSON_INTEGER_FORMAT, n));
}

static void add_heads(struct table *t, const char *const *heads)
{
	size_t i;

	for (i = 0; t->columns[i]; i++)
		add(t, heads[i]);
}

static int width(const struct table *t, size_t column)
{
	size_t n = strlen(t->columns), i;
	glong len, most = 0;

	for (i = column; i < t->cells->len; i += n) {
		len = g_utf8_strlen(g_ptr_array_index(t->cells, i), -1);
		most = MAX(most, len);
	}
	return (int)most;
}

static void table_end(struct table *t, FILE *out)
{
	size_t n = strlen(t->columns), i;
	const char *cell;
	int pad;

	for (i = 0; i < t->cells->len; i++) {
		cell = g_ptr_array_index(t->cells, i);
		pad = width(t, i % n) - (int)g_utf8_strlen(cell, -1);
		if (t->columns[i % n] == 'r')
			fprintf(out, "%*s%s", pad, "", cell);
		else
			fprintf(out, "%s%*s", cell, i % n + 1 < n ? pad : 0, "");
		fputs(i % n + 1 < n ? "  " : "\n", out);
	}
	g_ptr_array_unref(t->cells);
}

static json_int_t integer(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static double real(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static const char *string(const json_t *object, const char *key, const char *none)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : none;
}

/* The name of an export, which may be empty */
static const char *name_of(const json_t *object, const char *key)
{
	const char *name = string(object, key, "-");

	return *name ? name : "''";
}

/* The sum of a counter over all commands */
static json_int_t total(const json_t *object, const char *counter)
{
	json_t *commands = json_object_get(object, "commands"), *command;
	json_int_t sum = 0;
	const char *name;

	json_object_foreach(commands, name, command)
		sum += integer(command, counter);
	return sum;
}

static void show_sections(FILE *out, const json_t *sections)
{
	char a[SRV_CTL_TEXT], b[SRV_CTL_TEXT];
	const json_t *section;
	size_t i;

	for (i = 0; i < json_array_size(sections); i++) {
		g_autofree char *name = NULL;

		section = json_array_get(sections, i);
		name = printable(string(section, "section", "-"));
		fprintf(out, "swap         [%s] %d file%s, %d in use; %s promised%s%s\n", name,
			(int)integer(section, "files"), integer(section, "files") == 1 ? "" : "s",
			(int)integer(section, "in_use"),
			srv_ctl_bytes(a, (double)integer(section, "promised")),
			integer(section, "quota") ? " of " : "",
			integer(section, "quota") ?
				srv_ctl_bytes(b, (double)integer(section, "quota")) :
				"");
	}
}

/* A line for the limits that clients have run into, if they have */
static void show_refusals(FILE *out, json_t *refused)
{
	const char *limit, *before = "refused      ";
	json_t *n;

	json_object_foreach(refused, limit, n) {
		if (!json_integer_value(n))
			continue;
		fprintf(out, "%s%" JSON_INTEGER_FORMAT " for %s", before, json_integer_value(n),
			limit);
		before = ", ";
	}
	if (*before == ',')
		fprintf(out, "\n");
}

void srv_ctl_show_status(FILE *out, const json_t *s)
{
	char a[SRV_CTL_TEXT], b[SRV_CTL_TEXT];

	fprintf(out, "nbd-server %s, process %d, up %s%s\n", string(s, "version", "?"),
		(int)integer(s, "pid"), srv_ctl_age(a, real(s, "uptime")),
		json_is_true(json_object_get(s, "stopping")) ? ", stopping" : "");
	fprintf(out, "exports      %d configured\n", (int)integer(s, "exports"));
	fprintf(out, "clients      %d now, %" JSON_INTEGER_FORMAT " since the start",
		(int)integer(s, "clients"), integer(s, "clients_total"));
	if (integer(s, "fencing"))
		fprintf(out, ", %d waiting for older connections of their sessions",
			(int)integer(s, "fencing"));
	fprintf(out, "\n");
	show_refusals(out, json_object_get(s, "refused"));
	fprintf(out,
		"requests     %" JSON_INTEGER_FORMAT " answered, %" JSON_INTEGER_FORMAT
		" with an error; %" JSON_INTEGER_FORMAT " in flight, %" JSON_INTEGER_FORMAT
		" dropped\n",
		integer(s, "requests"), integer(s, "errors"), integer(s, "in_flight"),
		integer(s, "dropped"));
	fprintf(out, "data         %s read, %s written\n",
		srv_ctl_bytes(a, (double)integer(s, "bytes_read")),
		srv_ctl_bytes(b, (double)integer(s, "bytes_written")));
	show_sections(out, json_object_get(s, "swap"));
	fprintf(out, "event loops  %d, disk I/O by %s\n", (int)integer(s, "loops"),
		strcmp(string(s, "io", ""), "uring") ? "threads" : "io_uring");
	fprintf(out, "log level    %s\n", string(s, "log_level", "?"));
}

static void add_session(struct table *t, const json_t *client)
{
	const json_t *session = json_object_get(client, "session");
	g_autofree char *text = NULL;

	if (json_is_object(session))
		text = g_strdup_printf("%.8s/%d", string(session, "id", ""),
				       (int)integer(session, "link"));
	add(t, text ? text : "-");
}

static json_int_t bytes_of(const json_t *object, const char *command)
{
	return integer(json_object_get(json_object_get(object, "commands"), command), "bytes");
}

void srv_ctl_show_clients(FILE *out, const json_t *clients, double now)
{
	static const char *const heads[] = { "ID",	  "CLIENT",    "EXPORT",   "STATE",
					     "CONNECTED", "IN FLIGHT", "REQUESTS", "ERRORS",
					     "READ",	  "WRITTEN",   "SESSION" };
	char text[SRV_CTL_TEXT];
	struct table t;
	json_t *client;
	size_t i;

	table_begin(&t, "rlllrrrrrrl");
	add_heads(&t, heads);
	for (i = json_array_size(clients); i--;) {
		client = json_array_get(clients, i);
		add_number(&t, integer(client, "id"));
		add(&t, string(client, "peer", "-"));
		add(&t, name_of(client, "export"));
		add(&t, string(client, "state", "-"));
		add(&t, srv_ctl_age(text, now - real(client, "since")));
		add_number(&t, integer(client, "in_flight"));
		add_number(&t, total(client, "requests"));
		add_number(&t, total(client, "errors"));
		add(&t, srv_ctl_bytes(text, (double)bytes_of(client, "read")));
		add(&t, srv_ctl_bytes(text, (double)bytes_of(client, "write")));
		add_session(&t, client);
	}
	table_end(&t, out);
}

/* What the same command of the same export had done before; NULL: nothing yet */
static const json_t *earlier(const json_t *before, const char *export, const char *command)
{
	json_t *item;
	size_t i;

	json_array_foreach(before, i, item) {
		if (!strcmp(string(item, "name", ""), export))
			return json_object_get(json_object_get(item, "commands"), command);
	}
	return NULL;
}

void srv_ctl_show_counters(FILE *out, const json_t *exports, const json_t *before, double seconds)
{
	static const char *const heads[] = { "EXPORT", "COMMAND",    "REQUESTS", "ERRORS",
					     "BYTES",  "REQUESTS/S", "BYTES/S" };
	json_t *export, *commands, *counters;
	const char *command, *name;
	char text[SRV_CTL_TEXT];
	const json_t *old;
	struct table t;
	size_t i;

	table_begin(&t, before ? "llrrrrr" : "llrrr");
	add_heads(&t, heads);
	json_array_foreach(exports, i, export) {
		name = string(export, "name", "");
		commands = json_object_get(export, "commands");
		json_object_foreach(commands, command, counters) {
			add(&t, name_of(export, "name"));
			add(&t, command);
			add_number(&t, integer(counters, "requests"));
			add_number(&t, integer(counters, "errors"));
			add(&t, srv_ctl_bytes(text, (double)integer(counters, "bytes")));
			if (!before)
				continue;
			old = earlier(before, name, command);
			g_snprintf(
				text, sizeof(text), "%.1f",
				(double)(integer(counters, "requests") - integer(old, "requests")) /
					seconds);
			add(&t, text);
			add(&t, srv_ctl_bytes(text, (double)(integer(counters, "bytes") -
							     integer(old, "bytes")) /
							    seconds));
		}
	}
	table_end(&t, out);
}

/* The bound of the bucket in which the share @part of all requests has been reached */
static char *quantile(char *text, const json_t *bounds, const json_t *histogram, double part)
{
	const json_t *buckets = json_object_get(histogram, "buckets");
	double wanted = part * (double)integer(histogram, "requests"), sum = 0;
	char us[SRV_CTL_TEXT];
	size_t i, n = json_array_size(bounds);

	for (i = 0; i < n; i++) {
		sum += (double)json_integer_value(json_array_get(buckets, i));
		if (sum >= wanted)
			break;
	}
	srv_ctl_us(us, json_number_value(json_array_get(bounds, i < n ? i : n - 1)));
	g_snprintf(text, SRV_CTL_TEXT, "%s %s", i < n ? "<=" : ">", us);
	return text;
}

/* From the first bucket that has a request to the last one */
static void show_bars(FILE *out, const json_t *bounds, const json_t *buckets)
{
	size_t n = json_array_size(bounds), first = n, last = 0, i;
	char bar[BAR + 1], text[SRV_CTL_TEXT];
	json_int_t most = 1, count;
	int len;

	for (i = 0; i <= n; i++) {
		count = json_integer_value(json_array_get(buckets, i));
		most = MAX(most, count);
		if (count) {
			first = MIN(first, i);
			last = i;
		}
	}
	memset(bar, '#', BAR);
	for (i = first; i <= last; i++) {
		count = json_integer_value(json_array_get(buckets, i));
		/* Some of a bar even for the few: they are what one looks for */
		len = (int)((double)count / (double)most * BAR);
		len = count && !len ? 1 : len;
		bar[len] = 0;
		srv_ctl_us(text, json_number_value(json_array_get(bounds, i < n ? i : n - 1)));
		fprintf(out, "  %2s %8s %12" JSON_INTEGER_FORMAT "%s%s\n", i < n ? "<=" : ">", text,
			count, *bar ? "  " : "", bar);
		bar[len] = '#';
	}
}

void srv_ctl_show_latency(FILE *out, const json_t *exports)
{
	char mean[SRV_CTL_TEXT], half[SRV_CTL_TEXT], most[SRV_CTL_TEXT];
	json_t *export, *commands, *histogram, *bounds;
	const char *command, *between = "";
	json_int_t n;
	size_t i;

	json_array_foreach(exports, i, export) {
		g_autofree char *name = printable(name_of(export, "name"));

		bounds = json_object_get(export, "bounds_us");
		commands = json_object_get(export, "commands");
		json_object_foreach(commands, command, histogram) {
			n = integer(histogram, "requests");
			fprintf(out,
				"%sexport %s, %s: %" JSON_INTEGER_FORMAT
				" requests, mean %s, half %s, 99%% %s\n",
				between, name, command, n,
				srv_ctl_us(mean, real(histogram, "total_us") / (double)MAX(n, 1)),
				quantile(half, bounds, histogram, 0.5),
				quantile(most, bounds, histogram, 0.99));
			show_bars(out, bounds, json_object_get(histogram, "buckets"));
			between = "\n";
		}
	}
	if (!*between)
		fprintf(out, "no request yet\n");
}

void srv_ctl_show_swap(FILE *out, const json_t *files)
{
	static const char *const heads[] = { "EXPORT",	"SECTION", "SIZE",
					     "CLIENTS", "SESSION", "REMOVED IN" };
	char text[SRV_CTL_TEXT];
	const json_t *file, *left;
	struct table t;
	size_t i;

	table_begin(&t, "llrrlr");
	add_heads(&t, heads);
	for (i = 0; i < json_array_size(files); i++) {
		g_autofree char *session = NULL;

		file = json_array_get(files, i);
		left = json_object_get(file, "removed_in");
		session = g_strndup(string(file, "session", "-"), 8);
		add(&t, string(file, "name", "-"));
		add(&t, string(file, "section", "-"));
		add(&t, srv_ctl_bytes(text, (double)integer(file, "size")));
		add_number(&t, integer(file, "clients"));
		add(&t, session);
		add(&t, json_is_number(left) ? srv_ctl_age(text, json_number_value(left)) : "-");
	}
	table_end(&t, out);
}
