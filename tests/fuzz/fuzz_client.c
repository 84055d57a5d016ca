// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The client's half of the handshake, fed with whatever: the first byte says
 * what the client wants, the rest is what the server sends.  The lists and
 * descriptions that come out are printed as text and as JSON, and netlink
 * replies are parsed from the same bytes.
 */
#include <netlink/netlink.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/format.h"
#include "client/negotiate.h"
#include "client/netlink.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct client_nego nego;

/* Feed what the handshake asks for; what is left in *size */
static const uint8_t *feed(const uint8_t *data, size_t *size)
{
	while (client_nego_busy(&nego)) {
		if (!nego.need || nego.need > CLIENT_NEGO_MAX_REPLY ||
		    nego.out_len > sizeof(nego.out))
			abort();
		if (nego.need > *size)
			break;
		memcpy(nego.in, data, nego.need);
		data += nego.need;
		*size -= nego.need;
		client_nego_input(&nego);
	}
	return data;
}

static void print(FILE *out, struct client_export *export)
{
	struct client_error err;

	client_format_export(out, export);
	if (client_format_print_json(out, client_format_export_json(export), &err))
		abort();
}

static void handshake(FILE *out, const uint8_t *data, size_t size, unsigned int goal)
{
	struct client_export_list list = { 0 };
	unsigned int i;

	client_nego_init(&nego, goal % 3, "export", &list);
	data = feed(data, &size);
	for (i = 0; i < list.n; i++) {
		print(out, &list.export[i]);
		if (nego.state != CLIENT_NEGO_READY)
			continue;
		client_nego_info(&nego, list.export[i].name);
		data = feed(data, &size);
	}
	if (nego.state == CLIENT_NEGO_FAILED && !nego.err.text[0])
		abort();
	if (nego.state == CLIENT_NEGO_TRANSMISSION && !nego.export.known)
		abort();
	client_nego_free(&nego);
	client_export_list_free(&list);
}

static void netlink(FILE *out, const uint8_t *data, size_t size)
{
	struct nlmsghdr *hdr = malloc(NLMSG_HDRLEN + size);
	struct client_indexes indexes;
	struct client_status status;
	char text[64];

	memset(hdr, 0, NLMSG_HDRLEN);
	memcpy((uint8_t *)hdr + NLMSG_HDRLEN, data, size);
	hdr->nlmsg_len = (uint32_t)(NLMSG_HDRLEN + size);
	hdr->nlmsg_flags = NLM_F_ACK_TLVS;
	client_netlink_parse_ack(hdr, text, sizeof(text));
	client_netlink_parse_status(hdr, &indexes);
	if (!client_netlink_parse_device(hdr, &status)) {
		client_format_status(out, &status, true);
		json_decref(client_format_status_json(&status, true));
		client_status_free(&status);
	}
	free(hdr);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static FILE *out;

	if (!out)
		out = fopen("/dev/null", "w");
	if (!size)
		return 0;
	if (data[0] % 4 == 3)
		netlink(out, data + 1, size - 1);
	else
		handshake(out, data + 1, size - 1, data[0] % 4);
	return 0;
}
