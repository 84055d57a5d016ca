// SPDX-License-Identifier: GPL-2.0-or-later
/* The metrics port: just enough HTTP for GET /metrics, and Prometheus' text format. */
#include <stdio.h>
#include <string.h>

#include "common/escape.h"
#include "server/connection.h"
#include "server/monitor.h"

/* Of a request with all its headers, none of which matters */
#define LONGEST 16384

/* What the first line of a request leads to */
enum what { OK, OK_HEAD, BAD, NO_PAGE, NO_METHOD };

static const struct {
	const char *status, *more, *body;
} answers[] = {
	[OK] = { "200 OK", "", "" },
	[OK_HEAD] = { "200 OK", "", "" },
	[BAD] = { "400 Bad Request", "", "expected GET /metrics HTTP/1.0\n" },
	[NO_PAGE] = { "404 Not Found", "", "there is only /metrics\n" },
	[NO_METHOD] = { "405 Method Not Allowed", "Allow: GET, HEAD\r\n",
			"there is only GET /metrics\n" },
};

int srv_metrics_open(struct srv_listener *l, const char *address)
{
	const char *colon = strrchr(address, ':');
	g_autofree char *host = colon ? g_strndup(address, (gsize)(colon - address)) : NULL;
	char *name = host;
	guint64 port;
	gsize len;

	if (!host || !*host || !g_ascii_string_to_unsigned(colon + 1, 10, 1, 65535, &port, NULL))
		goto bad;
	len = strlen(host);
	if (*host == '[' && len > 2 && host[len - 1] == ']') {
		host[len - 1] = 0;
		name++;
	} else if (strpbrk(host, "[:]")) {
		goto bad;
	}
	return srv_listen_tcp(l, name, colon + 1);
bad:
	nbd_err("metrics = %s: expected ADDRESS:PORT, with an IPv6 address in brackets", address);
	return -1;
}

/* What the first line asks for: METHOD PATH HTTP/1.x */
static enum what first_line(const char *line)
{
	g_auto(GStrv) words = g_strsplit(line, " ", -1);
	bool head;

	if (g_strv_length(words) != 3 || !g_str_has_prefix(words[2], "HTTP/1."))
		return BAD;
	head = !strcmp(words[0], "HEAD");
	if (!head && strcmp(words[0], "GET"))
		return NO_METHOD;
	words[1][strcspn(words[1], "?")] = 0;
	if (strcmp(words[1], "/metrics"))
		return NO_PAGE;
	return head ? OK_HEAD : OK;
}

static void take_line(struct srv_visitor *v, const char *line)
{
	if (!v->lines++)
		v->what = first_line(line);
	/* Of junk the end need not be waited for */
	if (*line && v->what != BAD)
		return;
	v->answering = true;
	v->last = true;
}

void srv_metrics_label(GString *out, const char *text)
{
	unsigned int n;

	while (*text) {
		n = nbd_utf8_len(text);
		if (*text == '\n')
			g_string_append(out, "\\n");
		else if (*text == '"' || *text == '\\')
			g_string_append_printf(out, "\\%c", *text);
		else if (n)
			g_string_append_len(out, text, n);
		else
			g_string_append(out, "\xef\xbf\xbd");
		text += n ? n : 1;
	}
}

/* Metrics of one name, of every export */
struct family {
	const char *name, *type, *help;
	bool by_command;
	void (*put)(struct srv_visitor *v, const char *name);
};

/* name{export="...",command="..."; what else there is, and the value, follow */
static void begin_line(struct srv_visitor *v, const char *name, const char *suffix, bool command)
{
	g_string_append_printf(v->out, "%s%s{export=\"", name, suffix);
	srv_metrics_label(v->out, v->at->name);
	g_string_append_c(v->out, '"');
	if (command)
		g_string_append_printf(v->out, ",command=\"%s\"", srv_command_name(v->command));
}

static void put_value(struct srv_visitor *v, uint64_t value)
{
	g_string_append_printf(v->out, "} %llu\n", (unsigned long long)value);
}

static struct srv_sums get_sums(const struct srv_visitor *v)
{
	struct srv_sums sums = { 0 };

	srv_counted_add(&v->srv->stats, v->at, &sums);
	return sums;
}

static void put_clients(struct srv_visitor *v, const char *name)
{
	begin_line(v, name, "", false);
	put_value(v, v->clients);
}

static void put_in_flight(struct srv_visitor *v, const char *name)
{
	begin_line(v, name, "", false);
	put_value(v, get_sums(v).in_flight);
}

static void put_dropped(struct srv_visitor *v, const char *name)
{
	begin_line(v, name, "", false);
	put_value(v, get_sums(v).dropped);
}

static void put_requests(struct srv_visitor *v, const char *name)
{
	begin_line(v, name, "", true);
	put_value(v, get_sums(v).requests[v->command]);
}

static void put_errors(struct srv_visitor *v, const char *name)
{
	begin_line(v, name, "", true);
	put_value(v, get_sums(v).errors[v->command]);
}

static void put_bytes(struct srv_visitor *v, const char *name)
{
	begin_line(v, name, "", true);
	put_value(v, get_sums(v).bytes[v->command]);
}

static void put_duration(struct srv_visitor *v, const char *name)
{
	struct srv_latency latency;
	uint64_t us, n = 0;
	unsigned int i;

	srv_counted_latency(&v->srv->stats, v->at, v->command, &latency);
	if (!latency.count)
		return;
	for (i = 0; i < SRV_BUCKETS - 1; i++) {
		us = srv_bucket_us(i);
		n += latency.bucket[i];
		begin_line(v, name, "_bucket", true);
		g_string_append_printf(v->out, ",le=\"%llu.%06llu\"",
				       (unsigned long long)(us / 1000000),
				       (unsigned long long)(us % 1000000));
		put_value(v, n);
	}
	begin_line(v, name, "_bucket", true);
	g_string_append(v->out, ",le=\"+Inf\"");
	put_value(v, latency.count);
	begin_line(v, name, "_sum", true);
	g_string_append_printf(v->out, "} %llu.%09llu\n",
			       (unsigned long long)(latency.sum_ns / 1000000000),
			       (unsigned long long)(latency.sum_ns % 1000000000));
	begin_line(v, name, "_count", true);
	put_value(v, latency.count);
}

static const struct family families[] = {
	{ "nbd_server_export_clients", "gauge", "Clients that use the export.", false,
	  put_clients },
	{ "nbd_server_requests_in_flight", "gauge", "Requests received and not yet answered.",
	  false, put_in_flight },
	{ "nbd_server_requests_dropped_total", "counter",
	  "Requests received that were never answered, because their client had gone.", false,
	  put_dropped },
	{ "nbd_server_requests_total", "counter", "Requests answered, well or with an error.", true,
	  put_requests },
	{ "nbd_server_request_errors_total", "counter", "Requests answered with an error.", true,
	  put_errors },
	{ "nbd_server_bytes_total", "counter", "Bytes in the ranges of requests answered well.",
	  true, put_bytes },
	{ "nbd_server_request_duration_seconds", "histogram",
	  "Time from the last byte of a request to its answer.", true, put_duration },
};

static void put_head(struct srv_visitor *v, const char *name, const char *type, const char *help)
{
	g_string_append_printf(v->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_server(struct srv_visitor *v)
{
	struct srv_server *srv = v->srv;
	unsigned int clients, i;
	uint64_t came;

	pthread_mutex_lock(&srv->lock);
	clients = srv->clients;
	came = srv->came;
	pthread_mutex_unlock(&srv->lock);
	put_head(v, "nbd_server_info", "gauge", "The server's version.");
	g_string_append_printf(v->out, "nbd_server_info{version=\"%s\"} 1\n", NBSWAP_VERSION);
	put_head(v, "nbd_server_start_time_seconds", "gauge", "When the server started.");
	g_string_append_printf(v->out, "nbd_server_start_time_seconds %lld.%03lld\n",
			       (long long)srv->started / 1000, (long long)srv->started % 1000);
	put_head(v, "nbd_server_clients", "gauge", "Connections, also those in the handshake.");
	g_string_append_printf(v->out, "nbd_server_clients %u\n", clients);
	put_head(v, "nbd_server_clients_total", "counter", "Connections since the start.");
	g_string_append_printf(v->out, "nbd_server_clients_total %llu\n", (unsigned long long)came);
	put_head(v, "nbd_server_refused_total", "counter", "Clients refused for a limit.");
	for (i = 0; i < SRV_REFUSALS; i++)
		g_string_append_printf(v->out, "nbd_server_refused_total{limit=\"%s\"} %llu\n",
				       srv_refusal_name(i),
				       (unsigned long long)atomic_load(&srv->refused[i]));
}

/* Of each section for swap; nothing at all when there is none */
static void put_swap(struct srv_visitor *v)
{
	static const char *const gauges[][2] = {
		{ "nbd_server_swap_files",
		  "Files of swap exports, also those that wait to be removed." },
		{ "nbd_server_swap_files_in_use", "Files of swap exports that have a client." },
		{ "nbd_server_swap_promised_bytes", "The sizes of all files of a section." },
		{ "nbd_server_swap_quota_bytes", "What they may come to at most; 0: no limit." },
	};
	struct srv_config *config = srv_server_config(v->srv);
	const struct srv_export *section;
	struct srv_swap_sums sums;
	bool begun;
	size_t k;
	guint i;

	for (k = 0; k < G_N_ELEMENTS(gauges); k++) {
		begun = false;
		for (i = 0; i < config->exports->len; i++) {
			section = g_ptr_array_index(config->exports, i);
			if (!section->swapdir)
				continue;
			if (!begun)
				put_head(v, gauges[k][0], "gauge", gauges[k][1]);
			begun = true;
			srv_swap_sum(section, &sums);
			g_string_append_printf(v->out, "%s{section=\"", gauges[k][0]);
			srv_metrics_label(v->out, section->name);
			g_string_append_c(v->out, '"');
			put_value(v, (const uint64_t[]){ sums.files, sums.used, sums.promised,
							 section->quota }[k]);
		}
	}
	srv_config_put(config);
}

/* The head of the answer, and all that is not of an export */
static bool put_begin(struct srv_visitor *v)
{
	bool ok = v->what == OK || v->what == OK_HEAD;

	g_string_append_printf(v->out,
			       "HTTP/1.0 %s\r\nContent-Type: text/plain; %scharset=utf-8\r\n%s"
			       "Connection: close\r\n\r\n%s",
			       answers[v->what].status, ok ? "version=0.0.4; " : "",
			       answers[v->what].more, answers[v->what].body);
	if (v->what != OK)
		return false;
	put_server(v);
	put_swap(v);
	v->step = 1;
	return true;
}

/* Step n is the family before the nth; each is of all exports, one after the other */
static bool more_of_page(struct srv_visitor *v)
{
	const struct family *family;

	if (!v->step)
		return put_begin(v);
	if (v->step > G_N_ELEMENTS(families))
		return false;
	family = &families[v->step - 1];
	if (v->at && family->by_command && ++v->command < SRV_COMMANDS) {
		family->put(v, family->name);
		return true;
	}
	if (!v->at)
		put_head(v, family->name, family->type, family->help);
	v->command = 0;
	v->at = srv_stats_next(&v->srv->stats, v->at, &v->clients);
	if (v->at)
		family->put(v, family->name);
	else
		v->step++;
	return true;
}

const struct srv_service srv_metrics = {
	.longest = LONGEST,
	.line = take_line,
	.more = more_of_page,
};
