// SPDX-License-Identifier: GPL-2.0-or-later
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "negotiate.h"

static uint16_t get16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return be16toh(v);
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

static void put(struct client_nego *nego, const void *data, size_t len)
{
	memcpy(nego->out + nego->out_len, data, len);
	nego->out_len += len;
}

static void put16(struct client_nego *nego, uint16_t v)
{
	v = htobe16(v);
	put(nego, &v, sizeof(v));
}

static void put32(struct client_nego *nego, uint32_t v)
{
	v = htobe32(v);
	put(nego, &v, sizeof(v));
}

static void put64(struct client_nego *nego, uint64_t v)
{
	v = htobe64(v);
	put(nego, &v, sizeof(v));
}

static void wait_for(struct client_nego *nego, enum client_nego_state state, size_t need)
{
	nego->state = state;
	nego->need = need;
}

#define fail(nego, ...)                                                      \
	do {                                                                 \
		client_error_set(&(nego)->err, CLIENT_REFUSED, __VA_ARGS__); \
		wait_for((nego), CLIENT_NEGO_FAILED, 0);                     \
	} while (0)

#define PROTOCOL "the server breaks the NBD protocol: "

void client_export_free(struct client_export *export)
{
	free(export->name);
	free(export->description);
	free(export->problem);
	memset(export, 0, sizeof(*export));
}

void client_export_list_free(struct client_export_list *list)
{
	unsigned int i;

	for (i = 0; i < list->n; i++)
		client_export_free(&list->export[i]);
	free(list->export);
	memset(list, 0, sizeof(*list));
}

void client_nego_free(struct client_nego *nego)
{
	client_export_free(&nego->export);
}

void client_nego_init(struct client_nego *nego, enum client_nego_goal goal, const char *name,
		      struct client_export_list *list)
{
	memset(nego, 0, sizeof(*nego));
	nego->goal = goal;
	nego->list = list;
	snprintf(nego->name, sizeof(nego->name), "%s", name);
	wait_for(nego, CLIENT_NEGO_GREETING, NBD_WIRE_GREETING_LEN);
}

static void put_option(struct client_nego *nego, uint32_t option, uint32_t len)
{
	nego->option = option;
	nego->items = 0;
	put64(nego, NBD_WIRE_OPTION_MAGIC);
	put32(nego, option);
	put32(nego, len);
}

static void send_export_name(struct client_nego *nego)
{
	size_t len = strlen(nego->name);

	put_option(nego, NBD_WIRE_OPT_EXPORT_NAME, (uint32_t)len);
	put(nego, nego->name, len);
	wait_for(nego, CLIENT_NEGO_EXPORT,
		 NBD_WIRE_EXPORT_REPLY_LEN + (nego->no_zeroes ? 0 : NBD_WIRE_EXPORT_ZEROES));
}

/* GO or INFO, with a request for the block size */
static void send_info(struct client_nego *nego, uint32_t option)
{
	size_t len = strlen(nego->name);

	client_export_free(&nego->export);
	put_option(nego, option, (uint32_t)len + 4 + 2 + 2);
	put32(nego, (uint32_t)len);
	put(nego, nego->name, len);
	put16(nego, 1);
	put16(nego, NBD_WIRE_INFO_BLOCK_SIZE);
	wait_for(nego, CLIENT_NEGO_REPLY, NBD_WIRE_OPT_REPLY_LEN);
}

void client_nego_info(struct client_nego *nego, const char *name)
{
	snprintf(nego->name, sizeof(nego->name), "%s", name);
	send_info(nego, NBD_WIRE_OPT_INFO);
}

void client_nego_abort(struct client_nego *nego)
{
	put_option(nego, NBD_WIRE_OPT_ABORT, 0);
}

static void greeting(struct client_nego *nego)
{
	uint16_t flags = get16(nego->in + 16);

	if (get64(nego->in) != NBD_WIRE_INIT_MAGIC) {
		fail(nego, "what answers is no NBD server: check host and port");
		return;
	}
	if (get64(nego->in + 8) == NBD_WIRE_OLDSTYLE_MAGIC) {
		fail(nego, "the server speaks the oldstyle protocol alone: use a newer one");
		return;
	}
	if (get64(nego->in + 8) != NBD_WIRE_OPTION_MAGIC) {
		fail(nego, PROTOCOL "unknown magic number in its greeting");
		return;
	}
	nego->fixed = flags & NBD_WIRE_FIXED_NEWSTYLE;
	nego->no_zeroes = flags & NBD_WIRE_NO_ZEROES;
	put32(nego, flags & (NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES));
	if (nego->goal == CLIENT_NEGO_LIST && !nego->fixed) {
		fail(nego, "the server is too old to list its exports (no fixed newstyle)");
	} else if (nego->goal == CLIENT_NEGO_LIST) {
		put_option(nego, NBD_WIRE_OPT_LIST, 0);
		wait_for(nego, CLIENT_NEGO_REPLY, NBD_WIRE_OPT_REPLY_LEN);
	} else if (nego->goal == CLIENT_NEGO_GO && nego->fixed) {
		send_info(nego, NBD_WIRE_OPT_GO);
	} else {
		send_export_name(nego);
	}
}

static void reply_header(struct client_nego *nego)
{
	if (get64(nego->in) != NBD_WIRE_OPT_REPLY_MAGIC) {
		fail(nego, PROTOCOL "unknown magic number in an option reply");
		return;
	}
	if (get32(nego->in + 8) != nego->option) {
		fail(nego, PROTOCOL "it answers option %" PRIu32 " when asked %" PRIu32,
		     get32(nego->in + 8), nego->option);
		return;
	}
	nego->reply = get32(nego->in + 12);
	nego->reply_len = get32(nego->in + 16);
	if (nego->reply_len > CLIENT_NEGO_MAX_REPLY) {
		fail(nego, PROTOCOL "an option reply of %" PRIu32 " bytes", nego->reply_len);
		return;
	}
	wait_for(nego, CLIENT_NEGO_DATA, nego->reply_len);
}

/* A string of the server's, without bytes behind a NUL; NULL: no memory */
static char *string(const uint8_t *data, size_t len)
{
	return strndup((const char *)data, len);
}

static void add_export(struct client_nego *nego)
{
	struct client_export_list *list = nego->list;
	struct client_export *export;
	uint32_t len = nego->reply_len >= 4 ? get32(nego->in) : UINT32_MAX;
	uint32_t rest;

	if (len > NBD_WIRE_MAX_STRING || len > nego->reply_len - 4) {
		fail(nego, PROTOCOL "a list item of wrong length");
		return;
	}
	if (list->n == CLIENT_NEGO_MAX_EXPORTS) {
		fail(nego, "the server lists more than %d exports", CLIENT_NEGO_MAX_EXPORTS);
		return;
	}
	if (list->n == list->allocated) {
		unsigned int n = list->allocated ? 2 * list->allocated : 16;

		export = reallocarray(list->export, n, sizeof(*export));
		if (!export) {
			fail(nego, "out of memory");
			return;
		}
		list->export = export;
		list->allocated = n;
	}
	export = &list->export[list->n++];
	memset(export, 0, sizeof(*export));
	rest = nego->reply_len - 4 - len;
	export->name = string(nego->in + 4, len);
	export->description = rest ? string(nego->in + 4 + len, rest) : NULL;
	if (!export->name || (rest && !export->description)) {
		fail(nego, "out of memory");
		return;
	}
	wait_for(nego, CLIENT_NEGO_REPLY, NBD_WIRE_OPT_REPLY_LEN);
}

static bool power_of_two(uint32_t n)
{
	return n && !(n & (n - 1));
}

static bool set_size(struct client_nego *nego, const uint8_t *p)
{
	struct client_export *export = &nego->export;

	export->size = get64(p);
	export->flags = get16(p + 8);
	export->known = true;
	if (export->size > INT64_MAX) {
		fail(nego, PROTOCOL "an export of %" PRIu64 " bytes", export->size);
		return false;
	}
	return true;
}

static bool set_block_size(struct client_nego *nego, const uint8_t *p)
{
	struct client_export *export = &nego->export;

	export->min_block = get32(p);
	export->preferred_block = get32(p + 4);
	export->max_payload = get32(p + 8);
	export->has_block_size = true;
	if (power_of_two(export->min_block) && export->min_block <= NBD_WIRE_MAX_MIN_BLOCK &&
	    power_of_two(export->preferred_block) && export->preferred_block >= export->min_block &&
	    export->max_payload >= export->min_block)
		return true;
	fail(nego, PROTOCOL "block sizes %" PRIu32 ", %" PRIu32 ", %" PRIu32, export->min_block,
	     export->preferred_block, export->max_payload);
	return false;
}

/* An item of NBD_WIRE_REP_INFO; types we do not know are skipped */
static void info_item(struct client_nego *nego)
{
	uint32_t len = nego->reply_len;
	int type = len >= 2 ? get16(nego->in) : -1;
	bool ok = true;

	if (++nego->items > CLIENT_NEGO_MAX_ITEMS) {
		fail(nego, PROTOCOL "more than %d information replies", CLIENT_NEGO_MAX_ITEMS);
		return;
	}
	if (type < 0 || (type == NBD_WIRE_INFO_EXPORT && len != NBD_WIRE_INFO_EXPORT_LEN) ||
	    (type == NBD_WIRE_INFO_BLOCK_SIZE && len != NBD_WIRE_INFO_BLOCK_SIZE_LEN)) {
		fail(nego, PROTOCOL "an information reply of wrong length");
		return;
	}
	if (type == NBD_WIRE_INFO_EXPORT) {
		ok = set_size(nego, nego->in + 2);
	} else if (type == NBD_WIRE_INFO_BLOCK_SIZE) {
		ok = set_block_size(nego, nego->in + 2);
	} else if (type == NBD_WIRE_INFO_DESCRIPTION) {
		free(nego->export.description);
		nego->export.description = string(nego->in + 2, len - 2);
	}
	if (ok)
		wait_for(nego, CLIENT_NEGO_REPLY, NBD_WIRE_OPT_REPLY_LEN);
}

static void acknowledged(struct client_nego *nego)
{
	if (nego->reply_len) {
		fail(nego, PROTOCOL "an acknowledgement with data");
	} else if (nego->option == NBD_WIRE_OPT_LIST) {
		wait_for(nego, CLIENT_NEGO_READY, 0);
	} else if (!nego->export.known) {
		fail(nego, PROTOCOL "it does not tell the size of export '%s'", nego->name);
	} else {
		wait_for(nego,
			 nego->option == NBD_WIRE_OPT_GO ? CLIENT_NEGO_TRANSMISSION :
							   CLIENT_NEGO_READY,
			 0);
	}
}

static const char *meaning(uint32_t reply)
{
	switch (reply) {
	case NBD_WIRE_REP_ERR_UNSUP:
		return "the server does not support that";
	case NBD_WIRE_REP_ERR_POLICY:
		return "the server's configuration forbids it";
	case NBD_WIRE_REP_ERR_INVALID:
		return "the server calls the request invalid";
	case NBD_WIRE_REP_ERR_PLATFORM:
		return "the server's platform does not support it";
	case NBD_WIRE_REP_ERR_TLS_REQD:
		return "the server demands TLS, which this nbd-client does not support";
	case NBD_WIRE_REP_ERR_UNKNOWN:
		return "the server has no such export; nbd-client -l HOST lists what it has";
	case NBD_WIRE_REP_ERR_SHUTDOWN:
		return "the server is shutting down";
	case NBD_WIRE_REP_ERR_BLOCK_SIZE_REQD:
		return "the server demands a block size";
	case NBD_WIRE_REP_ERR_TOO_BIG:
		return "the server calls the request too big";
	}
	return "the server refuses for a reason unknown here";
}

static void refused(struct client_nego *nego)
{
	char said[256] = "";
	const char *why = meaning(nego->reply);

	nego->in[nego->reply_len] = '\0';
	if (nego->reply_len)
		snprintf(said, sizeof(said), " (it says: %.200s)", (char *)nego->in);
	if (nego->option == NBD_WIRE_OPT_GO && nego->reply == NBD_WIRE_REP_ERR_UNSUP) {
		send_export_name(nego);
	} else if (nego->option == NBD_WIRE_OPT_INFO) {
		client_export_free(&nego->export);
		if (asprintf(&nego->export.problem, "%s%s", why, said) < 0)
			nego->export.problem = NULL;
		wait_for(nego, CLIENT_NEGO_READY, 0);
	} else if (nego->option == NBD_WIRE_OPT_LIST) {
		fail(nego, "cannot list the exports: %s%s", why, said);
	} else {
		fail(nego, "cannot open export '%.200s': %s%s", nego->name, why, said);
	}
}

static void reply_data(struct client_nego *nego)
{
	bool info = nego->option == NBD_WIRE_OPT_GO || nego->option == NBD_WIRE_OPT_INFO;

	if (nego->reply & NBD_WIRE_REP_ERROR)
		refused(nego);
	else if (nego->reply == NBD_WIRE_REP_ACK)
		acknowledged(nego);
	else if (nego->reply == NBD_WIRE_REP_SERVER && nego->option == NBD_WIRE_OPT_LIST)
		add_export(nego);
	else if (nego->reply == NBD_WIRE_REP_INFO && info)
		info_item(nego);
	else
		fail(nego, PROTOCOL "reply type %" PRIu32 " to option %" PRIu32, nego->reply,
		     nego->option);
}

void client_nego_input(struct client_nego *nego)
{
	nego->out_len = 0;
	switch (nego->state) {
	case CLIENT_NEGO_GREETING:
		greeting(nego);
		break;
	case CLIENT_NEGO_REPLY:
		reply_header(nego);
		/* nothing to read: the reply is complete */
		if (nego->state == CLIENT_NEGO_DATA && !nego->need)
			reply_data(nego);
		break;
	case CLIENT_NEGO_DATA:
		reply_data(nego);
		break;
	case CLIENT_NEGO_EXPORT:
		if (set_size(nego, nego->in))
			wait_for(nego, CLIENT_NEGO_TRANSMISSION, 0);
		break;
	case CLIENT_NEGO_READY:
	case CLIENT_NEGO_TRANSMISSION:
	case CLIENT_NEGO_FAILED:
		break;
	}
}
