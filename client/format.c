// SPDX-License-Identifier: GPL-2.0-or-later
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/nbd-wire.h"
#include "format.h"
#include "text.h"

struct bit {
	uint32_t bit;
	const char *name;
};

static const struct bit server_flags[] = {
	{ NBD_WIRE_FLAG_READ_ONLY, "read-only" },
	{ NBD_WIRE_FLAG_SEND_FLUSH, "flush" },
	{ NBD_WIRE_FLAG_SEND_FUA, "fua" },
	{ NBD_WIRE_FLAG_ROTATIONAL, "rotational" },
	{ NBD_WIRE_FLAG_SEND_TRIM, "trim" },
	{ NBD_WIRE_FLAG_SEND_WRITE_ZEROES, "write-zeroes" },
	{ NBD_WIRE_FLAG_SEND_DF, "df" },
	{ NBD_WIRE_FLAG_CAN_MULTI_CONN, "multi-conn" },
	{ NBD_WIRE_FLAG_SEND_RESIZE, "resize" },
	{ NBD_WIRE_FLAG_SEND_CACHE, "cache" },
	{ NBD_WIRE_FLAG_SEND_FAST_ZERO, "fast-zero" },
	{ 0, NULL },
};

static const struct bit device_flags[] = {
	{ NBDX_FLAG_READ_ONLY, "read-only" },
	{ NBDX_FLAG_SWAP, "swap" },
	{ NBDX_FLAG_NO_GO, "no-optgo" },
	{ NBDX_FLAG_SPREAD, "spread" },
	{ 0, NULL },
};

static const char *const device_states[] = {
	[NBDX_STATE_FREE] = "not connected",
	[NBDX_STATE_SETUP] = "connecting",
	[NBDX_STATE_LIVE] = "live",
	[NBDX_STATE_TEARDOWN] = "disconnecting",
};

static const char *const link_states[] = {
	[NBDX_LS_DOWN] = "down",
	[NBDX_LS_CONNECTING] = "connecting",
	[NBDX_LS_NEGOTIATING] = "negotiating",
	[NBDX_LS_READY] = "ready",
	[NBDX_LS_LOST] = "lost",
	[NBDX_LS_STOPPED] = "stopped",
};

static const char *const fences[] = {
	[NBDX_FENCE_NONE] = "none",
	[NBDX_FENCE_SESSION] = "session",
	[NBDX_FENCE_DELAY] = "delay",
};

static const char *const severities[] = {
	[NBDX_SEVERITY_NOTE] = "note",
	[NBDX_SEVERITY_WARNING] = "warning",
	[NBDX_SEVERITY_UNSAFE] = "unsafe",
};

static const char *const counters[] = {
	[NBDX_COUNTER_READS] = "reads",
	[NBDX_COUNTER_WRITES] = "writes",
	[NBDX_COUNTER_FLUSHES] = "flushes",
	[NBDX_COUNTER_TRIMS] = "trims",
	[NBDX_COUNTER_ZEROES] = "zeroes",
	[NBDX_COUNTER_READ_BYTES] = "read_bytes",
	[NBDX_COUNTER_WRITE_BYTES] = "write_bytes",
	[NBDX_COUNTER_ERRORS] = "errors",
	[NBDX_COUNTER_CONNECTS] = "connects",
	[NBDX_COUNTER_LOSSES] = "losses",
	[NBDX_COUNTER_REPLAYS] = "replays",
	[NBDX_COUNTER_PROTOCOL_ERRORS] = "protocol_errors",
	[NBDX_COUNTER_TIMEOUTS] = "timeouts",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A newer driver may have states that we do not know */
static const char *state_name(const char *const names[], size_t n, uint32_t state)
{
	return state < n ? names[state] : "unknown";
}

const char *client_format_severity(uint32_t severity)
{
	return state_name(severities, COUNT(severities), severity);
}

static void print_bits(FILE *out, const char *title, const struct bit *bits, uint32_t value)
{
	bool any = false;

	fprintf(out, "  %s:", title);
	for (; bits->name; bits++) {
		if (!(value & bits->bit))
			continue;
		fprintf(out, " %s", bits->name);
		any = true;
	}
	fputs(any ? "\n" : " none\n", out);
}

static json_t *bits_json(const struct bit *bits, uint32_t value)
{
	json_t *array = json_array();

	for (; bits->name; bits++)
		if (value & bits->bit)
			json_array_append_new(array, json_string(bits->name));
	return array;
}

static void print_quoted(FILE *out, const char *before, const char *s, const char *after)
{
	char *quoted = client_text_quote(s);

	fprintf(out, "%s%s%s", before, quoted ? quoted : "?", after);
	free(quoted);
}

static void print_escaped(FILE *out, const char *before, const char *s, const char *after)
{
	char *escaped = client_text_escape(s);

	fprintf(out, "%s%s%s", before, escaped ? escaped : "?", after);
	free(escaped);
}

json_t *client_format_string(const char *s)
{
	json_t *json;
	char *escaped;

	if (!s)
		return json_null();
	json = json_string(s);
	if (json)
		return json;
	escaped = client_text_escape(s);
	json = escaped ? json_string(escaped) : NULL;
	free(escaped);
	return json;
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static void print_counters(FILE *out, const char *indent, const uint64_t *counter)
{
	unsigned int i;

	fputs(indent, out);
	for (i = NBDX_COUNTER_READS; i < COUNT(counters); i++)
		fprintf(out, "%s %" PRIu64 "%s", counters[i], counter[i],
			i + 1 < COUNT(counters) ? ", " : "\n");
}

static json_t *counters_json(const uint64_t *counter)
{
	json_t *object = json_object();
	unsigned int i;

	for (i = NBDX_COUNTER_READS; i < COUNT(counters); i++)
		json_object_set_new(object, counters[i], number(counter[i]));
	return object;
}

static void print_link(FILE *out, const struct client_link *link)
{
	fprintf(out,
		"  link %" PRIu32 ": %s for %" PRIu64 ".%" PRIu64 " s, %s, %" PRIu32
		" in flight, %" PRIu32 " held, fence: %s\n",
		link->index, state_name(link_states, COUNT(link_states), link->state),
		link->state_ms / 1000, link->state_ms % 1000 / 100,
		link->peer[0] ? link->peer : "no peer", link->inflight, link->held,
		state_name(fences, COUNT(fences), link->fence));
	if (link->error && *link->error)
		print_escaped(out, "    last error: ", link->error, "\n");
	print_counters(out, "    counters: ", link->counter);
}

static json_t *link_json(const struct client_link *link)
{
	json_t *object = json_object();

	json_object_set_new(object, "index", number(link->index));
	json_object_set_new(object, "state",
			    json_string(state_name(link_states, COUNT(link_states), link->state)));
	json_object_set_new(object, "state_ms", number(link->state_ms));
	json_object_set_new(object, "peer",
			    client_format_string(link->peer[0] ? link->peer : NULL));
	json_object_set_new(object, "in_flight", number(link->inflight));
	json_object_set_new(object, "held", number(link->held));
	json_object_set_new(object, "fence",
			    json_string(state_name(fences, COUNT(fences), link->fence)));
	json_object_set_new(object, "error", client_format_string(link->error));
	json_object_set_new(object, "counters", counters_json(link->counter));
	return object;
}

static unsigned int ready_links(const struct client_status *status)
{
	unsigned int i, n = 0;

	for (i = 0; i < status->nlinks; i++)
		n += status->link[i].state == NBDX_LS_READY;
	return n;
}

/* The first line, which is all there is to tell of a device that is not connected */
static void print_head(FILE *out, const struct client_status *status)
{
	char size[CLIENT_SIZE_TEXT];

	fprintf(out, "%s: %s", status->name,
		state_name(device_states, COUNT(device_states), status->state));
	if (status->state != NBDX_STATE_FREE) {
		if (status->export)
			print_quoted(out, ", export ", status->export, "");
		fprintf(out, ", %s", client_text_size(status->size, size));
		if (status->nlinks)
			fprintf(out, ", %u of %u links ready", ready_links(status), status->nlinks);
	}
	fputc('\n', out);
}

static void print_timeouts(FILE *out, const struct client_status *status)
{
	char text[CLIENT_SIZE_TEXT];

	fprintf(out, "  timeouts: %" PRIu64 " s for an answer, ", status->timeout);
	if (status->link_timeout)
		fprintf(out, "%s for an acknowledgement, ",
			client_text_ms(status->link_timeout, text));
	if (status->dead_timeout)
		fprintf(out, "%" PRIu64 " s without a connection\n", status->dead_timeout);
	else
		fputs("none without a connection\n", out);
	fprintf(out, "  fence delay: %s\n", client_text_ms(status->fence_delay, text));
}

static void print_reserve(FILE *out, const struct client_status *status)
{
	if (status->registered)
		fprintf(out, "  reserve: %" PRIu64 " kB at most, kept by the kernel\n",
			(status->reserve + 1023) / 1024);
	else if (status->reserve)
		fprintf(out,
			"  reserve: %" PRIu64 " kB at most, which a vm.min_free_kbytes of %" PRIu64
			" keeps for it alone\n",
			(status->reserve + 1023) / 1024, (status->min_free + 1023) / 1024);
	fprintf(out, "  guaranteed by the kernel: %s\n",
		status->guarantees & NBDX_GUARANTEE_BOUNDED  ? "entitlement, bound" :
		status->guarantees & NBDX_GUARANTEE_ENTITLED ? "entitlement" :
							       "nothing");
}

static void print_findings(FILE *out, const struct client_status *status)
{
	unsigned int count[COUNT(severities)] = { 0 };
	unsigned int i;

	for (i = 0; i < status->nfindings; i++)
		if (status->finding[i].severity < COUNT(severities))
			count[status->finding[i].severity]++;
	if (status->nfindings)
		fprintf(out,
			"  findings: %u unsafe, %u warnings, %u notes: see nbd-client doctor %s\n",
			count[NBDX_SEVERITY_UNSAFE], count[NBDX_SEVERITY_WARNING],
			count[NBDX_SEVERITY_NOTE], status->name);
	else
		fputs("  findings: none\n", out);
}

static json_t *findings_json(const struct client_status *status)
{
	json_t *array = json_array(), *object;
	unsigned int i;

	for (i = 0; i < status->nfindings; i++) {
		const struct client_finding *finding = &status->finding[i];

		object = json_object();
		json_object_set_new(object, "id", client_format_string(finding->id));
		json_object_set_new(object, "severity",
				    json_string(client_format_severity(finding->severity)));
		json_object_set_new(object, "subject", client_format_string(finding->subject));
		json_object_set_new(object, "text", client_format_string(finding->text));
		json_array_append_new(array, object);
	}
	return array;
}

static void print_extended(FILE *out, const struct client_status *status)
{
	unsigned int i;

	fprintf(out, "  connections: made by %s\n",
		status->managed ? "the driver" : "nbd-client, handed over");
	fprintf(out, "  block size: %" PRIu32 " bytes", status->block_size);
	/* a server need not state these */
	if (status->opt_block_size)
		fprintf(out, ", preferred %" PRIu32, status->opt_block_size);
	if (status->max_payload)
		fprintf(out, ", largest request %" PRIu32, status->max_payload);
	fputc('\n', out);
	print_bits(out, "server flags", server_flags, status->server_flags);
	print_bits(out, "device flags", device_flags, status->flags);
	print_timeouts(out, status);
	print_reserve(out, status);
	fprintf(out, "  openers: %" PRIu32 "\n", status->openers);
	fprintf(out, "  requests: %" PRIu32 " queued, %" PRIu32 " in flight\n", status->queued,
		status->inflight);
	print_counters(out, "  counters: ", status->counter);
	for (i = 0; i < status->nlinks; i++)
		print_link(out, &status->link[i]);
}

void client_format_status(FILE *out, const struct client_status *status, bool extended)
{
	print_head(out, status);
	if (status->state == NBDX_STATE_FREE)
		return;
	if (status->swap_safe)
		fputs("  swap-safe: yes\n", out);
	else
		print_escaped(out,
			      "  swap-safe: no: ", status->why ? status->why : "reason unknown",
			      "\n");
	if (extended)
		print_findings(out, status);
	if (status->backend)
		print_quoted(out, "  identifier: ", status->backend, "\n");
	if (status->pid)
		fprintf(out, "  configured by: process %" PRIu32 "\n", status->pid);
	if (extended)
		print_extended(out, status);
	else
		print_bits(out, "device flags", device_flags, status->flags);
}

json_t *client_format_status_json(const struct client_status *status, bool extended)
{
	json_t *object = json_object(), *links;
	unsigned int i;

	json_object_set_new(object, "index", number(status->index));
	json_object_set_new(object, "name", client_format_string(status->name));
	json_object_set_new(
		object, "state",
		json_string(state_name(device_states, COUNT(device_states), status->state)));
	json_object_set_new(object, "size", number(status->size));
	json_object_set_new(object, "flags", bits_json(device_flags, status->flags));
	json_object_set_new(object, "pid", number(status->pid));
	json_object_set_new(object, "identifier", client_format_string(status->backend));
	json_object_set_new(object, "swap_safe", json_boolean(status->swap_safe));
	json_object_set_new(object, "why", client_format_string(status->why));
	if (!extended)
		return object;
	json_object_set_new(object, "export", client_format_string(status->export));
	json_object_set_new(object, "managed", json_boolean(status->managed));
	json_object_set_new(object, "block_size", number(status->block_size));
	json_object_set_new(object, "preferred_block_size", number(status->opt_block_size));
	json_object_set_new(object, "max_payload", number(status->max_payload));
	json_object_set_new(object, "server_flags", bits_json(server_flags, status->server_flags));
	json_object_set_new(object, "timeout", number(status->timeout));
	json_object_set_new(object, "dead_timeout", number(status->dead_timeout));
	json_object_set_new(object, "link_timeout_ms", number(status->link_timeout));
	json_object_set_new(object, "fence_delay_ms", number(status->fence_delay));
	json_object_set_new(object, "reserve", number(status->reserve));
	json_object_set_new(object, "min_free", number(status->min_free));
	json_object_set_new(object, "registered", number(status->registered));
	json_object_set_new(object, "entitled",
			    json_boolean(status->guarantees & NBDX_GUARANTEE_ENTITLED));
	json_object_set_new(object, "bounded",
			    json_boolean(status->guarantees & NBDX_GUARANTEE_BOUNDED));
	json_object_set_new(object, "openers", number(status->openers));
	json_object_set_new(object, "queued", number(status->queued));
	json_object_set_new(object, "in_flight", number(status->inflight));
	json_object_set_new(object, "counters", counters_json(status->counter));
	links = json_array();
	for (i = 0; i < status->nlinks; i++)
		json_array_append_new(links, link_json(&status->link[i]));
	json_object_set_new(object, "links", links);
	json_object_set_new(object, "findings", findings_json(status));
	return object;
}

void client_format_export(FILE *out, const struct client_export *export)
{
	char size[CLIENT_SIZE_TEXT];

	print_quoted(out, "", export->name, ":");
	if (export->known)
		fprintf(out, " %s\n", client_text_size(export->size, size));
	else
		print_escaped(out, " size unknown: ",
			      export->problem ? export->problem : "the server does not tell", "\n");
	if (export->description)
		print_escaped(out, "  description: ", export->description, "\n");
	if (export->known)
		print_bits(out, "flags", server_flags, export->flags);
	if (export->has_block_size)
		fprintf(out,
			"  block size: %" PRIu32 " bytes minimum, %" PRIu32
			" preferred, largest request %" PRIu32 "\n",
			export->min_block, export->preferred_block, export->max_payload);
}

json_t *client_format_export_json(const struct client_export *export)
{
	json_t *object = json_object();

	json_object_set_new(object, "name", client_format_string(export->name));
	json_object_set_new(object, "description", client_format_string(export->description));
	json_object_set_new(object, "size", export->known ? number(export->size) : json_null());
	json_object_set_new(object, "flags",
			    export->known ? bits_json(server_flags, export->flags) : json_null());
	json_object_set_new(object, "min_block_size",
			    export->has_block_size ? number(export->min_block) : json_null());
	json_object_set_new(object, "preferred_block_size",
			    export->has_block_size ? number(export->preferred_block) : json_null());
	json_object_set_new(object, "max_payload",
			    export->has_block_size ? number(export->max_payload) : json_null());
	json_object_set_new(object, "problem", client_format_string(export->problem));
	return object;
}

int client_format_print_json(FILE *out, json_t *json, struct client_error *err)
{
	int ret = json ? json_dumpf(json, out, JSON_INDENT(2)) : -1;

	json_decref(json);
	if (ret)
		return client_error_set(err, CLIENT_FAILED, "out of memory");
	fputc('\n', out);
	return 0;
}
