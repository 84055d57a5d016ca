// SPDX-License-Identifier: GPL-2.0-or-later
/* Netlink messages, built and parsed in memory: both directions, and broken ones. */
#include <errno.h>
#include <linux/genetlink.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <netlink/genl/genl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/format.h"
#include "client/genl.h"
#include "client/netlink.h"

#define FAMILY 0x1d

static struct nlattr *attrs[NBDX_ATTR_MAX + 1];

static void parse(struct nl_msg *msg, int command)
{
	struct nlmsghdr *hdr = nlmsg_hdr(msg);

	assert_non_null(msg);
	assert_int_equal(hdr->nlmsg_type, FAMILY);
	assert_int_equal(genlmsg_hdr(hdr)->cmd, command);
	assert_int_equal(genlmsg_hdr(hdr)->version, NBD_GENL_VERSION);
	assert_int_equal(genlmsg_parse(hdr, 0, attrs, NBDX_ATTR_MAX, NULL), 0);
}

static void add_address(struct client_addresses *addresses, const char *host)
{
	struct client_hosts hosts;
	struct client_error err;

	assert_int_equal(client_hosts_parse(host, 10809, &hosts, &err), 0);
	assert_int_equal(client_hosts_resolve(&hosts, addresses, client_warn, &err), 0);
}

#define NOTHING                                                \
	{                                                      \
		UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX \
	}

static void test_connect_managed(void **state)
{
	struct client_addresses addresses;
	struct client_connect connect = {
		.index = 3,
		.addresses = &addresses,
		.export = "swap",
		.identifier = "id",
		.links = 4,
		.connect_timeout = 500,
		.flags = NBDX_FLAG_SWAP,
		.size = 1 << 20,
		.block_size = 4096,
		.timeouts = { 7, 8, 2500, 0 },
	};
	struct nlattr *item, *items[4];
	struct nl_msg *msg;
	int n = 0, rest;

	(void)state;
	add_address(&addresses, "192.0.2.1,[2001:db8::1]:7");
	msg = client_netlink_connect(FAMILY, &connect);
	parse(msg, NBD_CMD_CONNECT);
	assert_int_equal(nla_get_u32(attrs[NBD_ATTR_INDEX]), 3);
	assert_int_equal(nla_get_u64(attrs[NBD_ATTR_SIZE_BYTES]), 1 << 20);
	assert_int_equal(nla_get_u64(attrs[NBD_ATTR_BLOCK_SIZE_BYTES]), 4096);
	assert_int_equal(nla_get_u64(attrs[NBD_ATTR_TIMEOUT]), 7);
	assert_int_equal(nla_get_u64(attrs[NBD_ATTR_DEAD_CONN_TIMEOUT]), 8);
	assert_int_equal(nla_get_u32(attrs[NBDX_ATTR_LINK_TIMEOUT]), 2500);
	assert_int_equal(nla_get_u32(attrs[NBDX_ATTR_FENCE_DELAY]), 0);
	assert_string_equal(nla_get_string(attrs[NBD_ATTR_BACKEND_IDENTIFIER]), "id");
	assert_string_equal(nla_get_string(attrs[NBDX_ATTR_EXPORT]), "swap");
	assert_int_equal(nla_get_u32(attrs[NBDX_ATTR_LINKS]), 4);
	assert_int_equal(nla_get_u32(attrs[NBDX_ATTR_CONNECT_TIMEOUT]), 500);
	assert_int_equal(nla_get_u32(attrs[NBDX_ATTR_FLAGS]), NBDX_FLAG_SWAP);
	assert_null(attrs[NBD_ATTR_SOCKETS]);
	assert_null(attrs[NBD_ATTR_SERVER_FLAGS]);
	nla_for_each_nested(item, attrs[NBDX_ATTR_ADDRESSES], rest)
		items[n++] = item;
	assert_int_equal(n, 2);
	assert_int_equal(nla_type(items[0]), NBDX_ADDRESS_ITEM);
	assert_int_equal(nla_len(items[0]), sizeof(struct sockaddr_in));
	assert_int_equal(ntohs(((struct sockaddr_in *)nla_data(items[0]))->sin_port), 10809);
	assert_int_equal(nla_len(items[1]), sizeof(struct sockaddr_in6));
	assert_int_equal(ntohs(((struct sockaddr_in6 *)nla_data(items[1]))->sin6_port), 7);
	nlmsg_free(msg);
}

static void test_connect_minimal(void **state)
{
	struct client_addresses addresses;
	struct client_connect connect = {
		.addresses = &addresses, .export = "", .links = 1, .timeouts = NOTHING
	};
	struct nl_msg *msg;

	(void)state;
	add_address(&addresses, "192.0.2.1");
	msg = client_netlink_connect(FAMILY, &connect);
	parse(msg, NBD_CMD_CONNECT);
	/* what is not given is the driver's to choose */
	assert_null(attrs[NBD_ATTR_SIZE_BYTES]);
	assert_null(attrs[NBD_ATTR_BLOCK_SIZE_BYTES]);
	assert_null(attrs[NBD_ATTR_TIMEOUT]);
	assert_null(attrs[NBD_ATTR_DEAD_CONN_TIMEOUT]);
	assert_null(attrs[NBDX_ATTR_LINK_TIMEOUT]);
	assert_null(attrs[NBDX_ATTR_FENCE_DELAY]);
	assert_null(attrs[NBD_ATTR_BACKEND_IDENTIFIER]);
	nlmsg_free(msg);
}

/* Sixteen addresses, the longest name and the longest identifier fit */
static void test_connect_largest(void **state)
{
	char name[4097];
	struct client_addresses addresses;
	struct client_connect connect = {
		.addresses = &addresses, .export = name, .identifier = name, .links = 16
	};
	struct nl_msg *msg;

	(void)state;
	memset(name, 'x', sizeof(name));
	name[4096] = '\0';
	add_address(&addresses, "::1,::2,::3,::4,::5,::6,::7,::8,::9,::a,::b,::c,::d,::e,::f,::10");
	assert_int_equal(addresses.n, NBDX_MAX_ADDRESSES);
	msg = client_netlink_connect(FAMILY, &connect);
	parse(msg, NBD_CMD_CONNECT);
	assert_int_equal(strlen(nla_get_string(attrs[NBDX_ATTR_EXPORT])), 4096);
	nlmsg_free(msg);
}

static void test_connect_sockets(void **state)
{
	static const int sockets[] = { 5, 9 };
	struct client_connect connect = {
		.index = 1,
		.sockets = sockets,
		.nsockets = 2,
		.size = 512,
		.block_size = 512,
		.server_flags = 0x101,
	};
	struct nlattr *item, *fd[NBD_SOCK_MAX + 1];
	struct nl_msg *msg = client_netlink_connect(FAMILY, &connect);
	int n = 0, rest;

	(void)state;
	parse(msg, NBD_CMD_CONNECT);
	assert_int_equal(nla_get_u64(attrs[NBD_ATTR_SERVER_FLAGS]), 0x101);
	assert_null(attrs[NBDX_ATTR_ADDRESSES]);
	assert_null(attrs[NBDX_ATTR_EXPORT]);
	assert_null(attrs[NBDX_ATTR_LINKS]);
	nla_for_each_nested(item, attrs[NBD_ATTR_SOCKETS], rest) {
		assert_int_equal(nla_type(item), NBD_SOCK_ITEM);
		assert_int_equal(nla_parse_nested(fd, NBD_SOCK_MAX, item, NULL), 0);
		assert_int_equal(nla_get_u32(fd[NBD_SOCK_FD]), sockets[n++]);
	}
	assert_int_equal(n, 2);
	nlmsg_free(msg);
}

static void test_small_messages(void **state)
{
	struct nl_msg *msg;

	(void)state;
	msg = client_netlink_disconnect(FAMILY, 2, false);
	parse(msg, NBD_CMD_DISCONNECT);
	assert_int_equal(nla_get_u32(attrs[NBD_ATTR_INDEX]), 2);
	assert_null(attrs[NBDX_ATTR_FORCE]);
	nlmsg_free(msg);
	msg = client_netlink_disconnect(FAMILY, 2, true);
	parse(msg, NBD_CMD_DISCONNECT);
	assert_non_null(attrs[NBDX_ATTR_FORCE]);
	nlmsg_free(msg);
	msg = client_netlink_status(FAMILY, -1);
	parse(msg, NBD_CMD_STATUS);
	assert_null(attrs[NBD_ATTR_INDEX]);
	nlmsg_free(msg);
	msg = client_netlink_get(FAMILY, -1);
	parse(msg, NBDX_CMD_GET);
	assert_int_equal(nlmsg_hdr(msg)->nlmsg_flags & NLM_F_DUMP, NLM_F_DUMP);
	nlmsg_free(msg);
	msg = client_netlink_get(FAMILY, 6);
	parse(msg, NBDX_CMD_GET);
	assert_int_equal(nlmsg_hdr(msg)->nlmsg_flags & NLM_F_DUMP, 0);
	assert_int_equal(nla_get_u32(attrs[NBD_ATTR_INDEX]), 6);
	nlmsg_free(msg);
}

static void test_set(void **state)
{
	const struct client_timeouts some = { UINT64_MAX, 0, 20000, UINT64_MAX };
	const struct client_timeouts others = { 5, UINT64_MAX, UINT64_MAX, 0 };
	struct nl_msg *msg;

	(void)state;
	msg = client_netlink_set(FAMILY, 4, &some);
	parse(msg, NBD_CMD_RECONFIGURE);
	assert_int_equal(nla_get_u32(attrs[NBD_ATTR_INDEX]), 4);
	assert_null(attrs[NBD_ATTR_TIMEOUT]);
	assert_int_equal(nla_get_u64(attrs[NBD_ATTR_DEAD_CONN_TIMEOUT]), 0);
	assert_int_equal(nla_get_u32(attrs[NBDX_ATTR_LINK_TIMEOUT]), 20000);
	assert_null(attrs[NBDX_ATTR_FENCE_DELAY]);
	nlmsg_free(msg);
	msg = client_netlink_set(FAMILY, 4, &others);
	parse(msg, NBD_CMD_RECONFIGURE);
	assert_int_equal(nla_get_u64(attrs[NBD_ATTR_TIMEOUT]), 5);
	assert_null(attrs[NBD_ATTR_DEAD_CONN_TIMEOUT]);
	assert_null(attrs[NBDX_ATTR_LINK_TIMEOUT]);
	assert_int_equal(nla_get_u32(attrs[NBDX_ATTR_FENCE_DELAY]), 0);
	nlmsg_free(msg);
}

static struct nl_msg *message(int command)
{
	struct nl_msg *msg = nlmsg_alloc_size(16384);

	genlmsg_put(msg, 0, 0, FAMILY, 0, 0, (uint8_t)command, 1);
	return msg;
}

static void put_counters(struct nl_msg *msg, int attr, uint64_t base)
{
	struct nlattr *nest = nla_nest_start(msg, attr);
	int i;

	for (i = NBDX_COUNTER_READS; i < NBDX_COUNTER_PAD; i++)
		nla_put_u64(msg, i, base + (uint64_t)i);
	/* of a newer driver */
	nla_put_u64(msg, NBDX_COUNTER_MAX + 5, 1);
	nla_nest_end(msg, nest);
}

static void put_link(struct nl_msg *msg, uint32_t index, uint32_t link_state, const char *error)
{
	struct sockaddr_in peer = { .sin_family = AF_INET,
				    .sin_port = htons(10809),
				    .sin_addr.s_addr = htonl(0xc0000201) };
	struct nlattr *nest = nla_nest_start(msg, NBDX_DEVICE_LINK);

	nla_put_u32(msg, NBDX_LINK_INDEX, index);
	nla_put_u32(msg, NBDX_LINK_STATE, link_state);
	nla_put(msg, NBDX_LINK_PEER, sizeof(peer), &peer);
	nla_put_u64(msg, NBDX_LINK_STATE_MS, 12345);
	nla_put_u32(msg, NBDX_LINK_INFLIGHT, 2);
	if (error)
		nla_put_string(msg, NBDX_LINK_ERROR, error);
	nla_put_u32(msg, NBDX_LINK_FENCE, error ? NBDX_FENCE_DELAY : NBDX_FENCE_SESSION);
	nla_put_u32(msg, NBDX_LINK_HELD, error ? 3 : 0);
	put_counters(msg, NBDX_LINK_COUNTERS, 200);
	nla_nest_end(msg, nest);
}

static void put_finding(struct nl_msg *msg, const char *id, uint32_t severity, const char *subject,
			const char *text)
{
	struct nlattr *nest = nla_nest_start(msg, NBDX_DEVICE_FINDING);

	nla_put_string(msg, NBDX_FINDING_ID, id);
	nla_put_u32(msg, NBDX_FINDING_SEVERITY, severity);
	nla_put_string(msg, NBDX_FINDING_TEXT, text);
	if (subject)
		nla_put_string(msg, NBDX_FINDING_SUBJECT, subject);
	nla_nest_end(msg, nest);
}

static struct nl_msg *device_message(unsigned int nlinks, uint32_t device_state)
{
	struct nl_msg *msg = message(NBDX_CMD_GET);
	struct nlattr *nest = nla_nest_start(msg, NBDX_ATTR_DEVICE);
	unsigned int i;

	nla_put_u32(msg, NBDX_DEVICE_INDEX, 3);
	nla_put_string(msg, NBDX_DEVICE_NAME, "nb3");
	nla_put_u32(msg, NBDX_DEVICE_STATE, device_state);
	nla_put_string(msg, NBDX_DEVICE_EXPORT, "swap\033");
	nla_put_u64(msg, NBDX_DEVICE_SIZE, 1ULL << 30);
	nla_put_u32(msg, NBDX_DEVICE_BLOCK_SIZE, 512);
	nla_put_u32(msg, NBDX_DEVICE_OPT_BLOCK_SIZE, 4096);
	nla_put_u32(msg, NBDX_DEVICE_MAX_PAYLOAD, 32 << 20);
	nla_put_u32(msg, NBDX_DEVICE_SERVER_FLAGS, 0x105);
	nla_put_u32(msg, NBDX_DEVICE_FLAGS, NBDX_FLAG_SWAP | NBDX_FLAG_READ_ONLY);
	nla_put_u8(msg, NBDX_DEVICE_MANAGED, 1);
	nla_put_u32(msg, NBDX_DEVICE_OPENERS, 1);
	nla_put_u32(msg, NBDX_DEVICE_PID, 77);
	nla_put_u32(msg, NBDX_DEVICE_QUEUED, 5);
	nla_put_u32(msg, NBDX_DEVICE_INFLIGHT, 6);
	nla_put_u64(msg, NBDX_DEVICE_TIMEOUT, 30);
	nla_put_u64(msg, NBDX_DEVICE_DEAD_CONN_TIMEOUT, 0);
	put_counters(msg, NBDX_DEVICE_COUNTERS, 100);
	nla_put_u8(msg, NBDX_DEVICE_SWAP_SAFE, 0);
	nla_put_string(msg, NBDX_DEVICE_WHY, "no reserve");
	nla_put_string(msg, NBDX_DEVICE_BACKEND, "id");
	nla_put_u32(msg, NBDX_DEVICE_LINK_TIMEOUT, 10000);
	nla_put_u32(msg, NBDX_DEVICE_FENCE_DELAY, 500);
	nla_put_u64(msg, NBDX_DEVICE_RESERVE, 2893824);
	nla_put_u64(msg, NBDX_DEVICE_MIN_FREE, 23263750);
	nla_put_u64(msg, NBDX_DEVICE_REGISTERED, 3942400);
	nla_put_u32(msg, NBDX_DEVICE_GUARANTEES, NBDX_GUARANTEE_ENTITLED);
	put_finding(msg, "tls", NBDX_SEVERITY_UNSAFE, NULL, "no reserve");
	put_finding(msg, "nic-virtio", NBDX_SEVERITY_WARNING, "eth0", "eth0: waits");
	put_finding(msg, "nic-gro", 77, "eth0", "of a newer driver");
	for (i = 0; i < nlinks; i++)
		put_link(msg, i, i ? NBDX_LS_LOST : NBDX_LS_READY, i ? "reset by peer" : NULL);
	nla_nest_end(msg, nest);
	return msg;
}

static void test_device(void **state)
{
	struct nl_msg *msg = device_message(2, NBDX_STATE_LIVE);
	struct client_status status;

	(void)state;
	assert_int_equal(client_netlink_parse_device(nlmsg_hdr(msg), &status), 0);
	assert_int_equal(status.index, 3);
	assert_string_equal(status.name, "nb3");
	assert_int_equal(status.state, NBDX_STATE_LIVE);
	assert_string_equal(status.export, "swap\033");
	assert_int_equal(status.size, 1ULL << 30);
	assert_int_equal(status.queued, 5);
	assert_int_equal(status.inflight, 6);
	assert_int_equal(status.counter[NBDX_COUNTER_TIMEOUTS], 100 + NBDX_COUNTER_TIMEOUTS);
	assert_true(status.managed);
	assert_false(status.swap_safe);
	assert_int_equal(status.link_timeout, 10000);
	assert_int_equal(status.fence_delay, 500);
	assert_int_equal(status.reserve, 2893824);
	assert_int_equal(status.min_free, 23263750);
	assert_int_equal(status.registered, 3942400);
	assert_int_equal(status.guarantees, NBDX_GUARANTEE_ENTITLED);
	assert_int_equal(status.nfindings, 3);
	assert_string_equal(status.finding[0].id, "tls");
	assert_int_equal(status.finding[0].severity, NBDX_SEVERITY_UNSAFE);
	assert_null(status.finding[0].subject);
	assert_string_equal(status.finding[0].text, "no reserve");
	assert_string_equal(status.finding[1].subject, "eth0");
	assert_int_equal(status.link[0].fence, NBDX_FENCE_SESSION);
	assert_int_equal(status.link[1].held, 3);
	assert_int_equal(status.link[1].address.len, sizeof(struct sockaddr_in));
	assert_int_equal(status.nlinks, 2);
	assert_string_equal(status.link[0].peer, "192.0.2.1:10809");
	assert_null(status.link[0].error);
	assert_int_equal(status.link[1].state, NBDX_LS_LOST);
	assert_string_equal(status.link[1].error, "reset by peer");
	assert_int_equal(status.link[1].counter[NBDX_COUNTER_READS], 201);
	client_status_free(&status);
	nlmsg_free(msg);
	/* more links than there can be are not stored */
	msg = device_message(20, NBDX_STATE_LIVE);
	assert_int_equal(client_netlink_parse_device(nlmsg_hdr(msg), &status), 0);
	assert_int_equal(status.nlinks, NBDX_MAX_LINKS);
	client_status_free(&status);
	nlmsg_free(msg);
}

static const char want_text[] =
	"nb3: live, export \"swap\\x1b\", 1024 MiB, 1 of 2 links ready\n"
	"  swap-safe: no: no reserve\n"
	"  findings: 1 unsafe, 1 warnings, 0 notes: see nbd-client doctor nb3\n"
	"  identifier: \"id\"\n"
	"  configured by: process 77\n"
	"  connections: made by the driver\n"
	"  block size: 512 bytes, preferred 4096, largest request 33554432\n"
	"  server flags: flush multi-conn\n"
	"  device flags: read-only swap\n"
	"  timeouts: 30 s for an answer, 10 s for an acknowledgement, none without a connection\n"
	"  fence delay: 0.5 s\n"
	"  reserve: 2826 kB at most, kept by the kernel\n"
	"  guaranteed by the kernel: entitlement\n"
	"  openers: 1\n"
	"  requests: 5 queued, 6 in flight\n"
	"  counters: reads 101, writes 102, flushes 103, trims 104, zeroes 105, read_bytes 106, "
	"write_bytes 107, errors 108, connects 109, losses 110, replays 111, "
	"protocol_errors 112, timeouts 113\n"
	"  link 0: ready for 12.3 s, 192.0.2.1:10809, 2 in flight, 0 held, fence: session\n"
	"    counters: reads 201, writes 202, flushes 203, trims 204, zeroes 205, read_bytes 206, "
	"write_bytes 207, errors 208, connects 209, losses 210, replays 211, "
	"protocol_errors 212, timeouts 213\n"
	"  link 1: lost for 12.3 s, 192.0.2.1:10809, 2 in flight, 3 held, fence: delay\n"
	"    last error: reset by peer\n"
	"    counters: reads 201, writes 202, flushes 203, trims 204, zeroes 205, read_bytes 206, "
	"write_bytes 207, errors 208, connects 209, losses 210, replays 211, "
	"protocol_errors 212, timeouts 213\n";

static char *text_of(const struct client_status *status, bool extended)
{
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	client_format_status(out, status, extended);
	fclose(out);
	return text;
}

static void test_format_text(void **state)
{
	struct nl_msg *msg = device_message(2, NBDX_STATE_LIVE);
	struct client_status status;
	char *text;

	(void)state;
	assert_int_equal(client_netlink_parse_device(nlmsg_hdr(msg), &status), 0);
	text = text_of(&status, true);
	assert_string_equal(text, want_text);
	free(text);
	status.guarantees = 0;
	status.registered = 0;
	text = text_of(&status, true);
	assert_non_null(strstr(text, "  reserve: 2826 kB at most, which a vm.min_free_kbytes of "
				     "22719 keeps for it alone\n"));
	assert_non_null(strstr(text, "guaranteed by the kernel: nothing\n"));
	free(text);
	status.guarantees = NBDX_GUARANTEE_ENTITLED | NBDX_GUARANTEE_BOUNDED;
	text = text_of(&status, true);
	assert_non_null(strstr(text, "guaranteed by the kernel: entitlement, bound\n"));
	free(text);
	status.state = NBDX_STATE_FREE;
	text = text_of(&status, true);
	assert_string_equal(text, "nb3: not connected\n");
	free(text);
	status.state = 99;
	status.link[0].state = 99;
	text = text_of(&status, true);
	assert_non_null(strstr(text, "nb3: unknown"));
	assert_non_null(strstr(text, "link 0: unknown"));
	free(text);
	client_status_free(&status);
	nlmsg_free(msg);
}

static void test_format_json(void **state)
{
	struct nl_msg *msg = device_message(2, NBDX_STATE_LIVE);
	struct client_status status;
	json_t *json, *link, *finding;

	(void)state;
	assert_int_equal(client_netlink_parse_device(nlmsg_hdr(msg), &status), 0);
	json = client_format_status_json(&status, true);
	assert_string_equal(json_string_value(json_object_get(json, "name")), "nb3");
	assert_string_equal(json_string_value(json_object_get(json, "state")), "live");
	assert_string_equal(json_string_value(json_object_get(json, "export")), "swap\033");
	assert_int_equal(json_integer_value(json_object_get(json, "size")), 1 << 30);
	assert_true(json_is_false(json_object_get(json, "swap_safe")));
	assert_int_equal(json_array_size(json_object_get(json, "server_flags")), 2);
	assert_int_equal(json_array_size(json_object_get(json, "links")), 2);
	link = json_array_get(json_object_get(json, "links"), 1);
	assert_string_equal(json_string_value(json_object_get(link, "state")), "lost");
	assert_string_equal(json_string_value(json_object_get(link, "peer")), "192.0.2.1:10809");
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(link, "counters"), "timeouts")),
		213);
	assert_int_equal(json_integer_value(json_object_get(link, "held")), 3);
	assert_string_equal(json_string_value(json_object_get(link, "fence")), "delay");
	assert_int_equal(json_integer_value(json_object_get(json, "reserve")), 2893824);
	assert_int_equal(json_integer_value(json_object_get(json, "min_free")), 23263750);
	assert_int_equal(json_integer_value(json_object_get(json, "registered")), 3942400);
	assert_true(json_is_true(json_object_get(json, "entitled")));
	assert_true(json_is_false(json_object_get(json, "bounded")));
	assert_int_equal(json_integer_value(json_object_get(json, "link_timeout_ms")), 10000);
	assert_int_equal(json_integer_value(json_object_get(json, "fence_delay_ms")), 500);
	finding = json_array_get(json_object_get(json, "findings"), 1);
	assert_string_equal(json_string_value(json_object_get(finding, "id")), "nic-virtio");
	assert_string_equal(json_string_value(json_object_get(finding, "severity")), "warning");
	assert_string_equal(json_string_value(json_object_get(finding, "subject")), "eth0");
	assert_string_equal(json_string_value(json_object_get(finding, "text")), "eth0: waits");
	finding = json_array_get(json_object_get(json, "findings"), 2);
	assert_string_equal(json_string_value(json_object_get(finding, "severity")), "unknown");
	json_decref(json);
	/* mainline tells less */
	json = client_format_status_json(&status, false);
	assert_null(json_object_get(json, "links"));
	json_decref(json);
	client_status_free(&status);
	nlmsg_free(msg);
	json = client_format_string("caf\xe9");
	assert_string_equal(json_string_value(json), "caf\\xe9");
	json_decref(json);
}

/* Cut a good message at every byte, and break every byte of it: no crash, no leak */
static void test_device_broken(void **state)
{
	struct nl_msg *msg = device_message(2, NBDX_STATE_LIVE);
	struct nlmsghdr *hdr = nlmsg_hdr(msg), *copy;
	struct client_status status;
	uint32_t len = hdr->nlmsg_len, i;

	(void)state;
	for (i = NLMSG_HDRLEN + GENL_HDRLEN; i < len; i++) {
		copy = malloc(i);
		memcpy(copy, hdr, i);
		copy->nlmsg_len = i;
		if (!client_netlink_parse_device(copy, &status))
			client_status_free(&status);
		free(copy);
		copy = malloc(len);
		memcpy(copy, hdr, len);
		((uint8_t *)copy)[i] ^= 0xff;
		if (!client_netlink_parse_device(copy, &status))
			client_status_free(&status);
		free(copy);
	}
	nlmsg_free(msg);
	/* without the index it is no device */
	msg = message(NBDX_CMD_GET);
	nla_nest_end(msg, nla_nest_start(msg, NBDX_ATTR_DEVICE));
	assert_int_equal(client_netlink_parse_device(nlmsg_hdr(msg), &status), -1);
	nlmsg_free(msg);
}

static void test_mainline_status(void **state)
{
	struct nl_msg *msg = message(NBD_CMD_STATUS);
	struct nlattr *list = nla_nest_start(msg, NBD_ATTR_DEVICE_LIST), *item;
	struct client_indexes indexes;
	uint32_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		item = nla_nest_start(msg, NBD_DEVICE_ITEM);
		nla_put_u32(msg, NBD_DEVICE_INDEX, 10 + i);
		nla_put_u8(msg, NBD_DEVICE_CONNECTED, i == 1);
		nla_nest_end(msg, item);
	}
	nla_nest_end(msg, list);
	assert_int_equal(client_netlink_parse_status(nlmsg_hdr(msg), &indexes), 0);
	assert_int_equal(indexes.n, 3);
	assert_int_equal(indexes.item[2].index, 12);
	assert_true(indexes.item[1].connected);
	assert_false(indexes.item[2].connected);
	nlmsg_free(msg);
	msg = message(NBD_CMD_STATUS);
	assert_int_equal(client_netlink_parse_status(nlmsg_hdr(msg), &indexes), -1);
	nlmsg_free(msg);
}

static void test_family(void **state)
{
	struct nl_msg *msg = message(CTRL_CMD_NEWFAMILY);
	unsigned int maxattr;
	int family, index;

	(void)state;
	assert_int_equal(client_netlink_parse_family(nlmsg_hdr(msg), &family, &maxattr), -1);
	assert_int_equal(client_netlink_parse_index(nlmsg_hdr(msg), &index), -1);
	nla_put_u16(msg, CTRL_ATTR_FAMILY_ID, 33);
	nla_put_u32(msg, CTRL_ATTR_MAXATTR, NBDX_ATTR_MAX);
	assert_int_equal(client_netlink_parse_family(nlmsg_hdr(msg), &family, &maxattr), 0);
	assert_int_equal(family, 33);
	assert_int_equal(maxattr, NBDX_ATTR_MAX);
	nlmsg_free(msg);
	msg = message(NBD_CMD_CONNECT);
	nla_put_u32(msg, NBD_ATTR_INDEX, 4);
	assert_int_equal(client_netlink_parse_index(nlmsg_hdr(msg), &index), 0);
	assert_int_equal(index, 4);
	nlmsg_free(msg);
}

/* An error message of the kernel: with our request in it or cut off */
static struct nl_msg *ack(int flags, const char *text)
{
	struct nlmsgerr error = { .error = -EBUSY };
	struct nl_msg *msg = nlmsg_alloc();
	struct nlmsghdr *hdr = nlmsg_put(msg, 0, 0, NLMSG_ERROR, 0, flags);

	(void)hdr;
	error.msg.nlmsg_len = NLMSG_HDRLEN + 20;
	nlmsg_append(msg, &error, sizeof(error), 0);
	if (!(flags & NLM_F_CAPPED))
		nlmsg_append(msg, "a request of 20 byte", 20, 0);
	nla_put_u32(msg, NLMSGERR_ATTR_OFFS, 20);
	if (text)
		nla_put_string(msg, NLMSGERR_ATTR_MSG, text);
	return msg;
}

static void test_ack(void **state)
{
	struct nl_msg *msg;
	char text[32];
	uint32_t len;

	(void)state;
	msg = ack(NLM_F_ACK_TLVS | NLM_F_CAPPED, "device is open");
	client_netlink_parse_ack(nlmsg_hdr(msg), text, sizeof(text));
	assert_string_equal(text, "device is open");
	nlmsg_free(msg);
	msg = ack(NLM_F_ACK_TLVS, "device is open");
	client_netlink_parse_ack(nlmsg_hdr(msg), text, sizeof(text));
	assert_string_equal(text, "device is open");
	for (len = NLMSG_HDRLEN; len < nlmsg_hdr(msg)->nlmsg_len; len++) {
		struct nlmsghdr *copy = malloc(len);

		memcpy(copy, nlmsg_hdr(msg), len);
		copy->nlmsg_len = len;
		client_netlink_parse_ack(copy, text, sizeof(text));
		free(copy);
	}
	nlmsg_free(msg);
	msg = ack(NLM_F_ACK_TLVS | NLM_F_CAPPED, NULL);
	client_netlink_parse_ack(nlmsg_hdr(msg), text, sizeof(text));
	assert_string_equal(text, "");
	nlmsg_free(msg);
	msg = ack(NLM_F_CAPPED, "not flagged");
	client_netlink_parse_ack(nlmsg_hdr(msg), text, sizeof(text));
	assert_string_equal(text, "");
	nlmsg_free(msg);
	/* longer than we keep */
	msg = ack(NLM_F_ACK_TLVS | NLM_F_CAPPED, "0123456789012345678901234567890123456789");
	client_netlink_parse_ack(nlmsg_hdr(msg), text, sizeof(text));
	assert_string_equal(text, "0123456789012345678901234567890");
	nlmsg_free(msg);
}

static void test_explain(void **state)
{
	static const struct {
		enum client_operation operation;
		int error;
		const char *text;
		enum client_exit code;
		const char *want;
	} cases[] = {
		{ CLIENT_OP_DISCONNECT, EBUSY, "nb0 is in use", CLIENT_BUSY,
		  "cannot disconnect nb0: nb0 is in use; swapoff or umount it first, or use -force" },
		{ CLIENT_OP_CONNECT, EBUSY, "nb0: device is connected already", CLIENT_BUSY,
		  "cannot connect nb0: device is connected already; disconnect it with nbd-client -d, or take another device" },
		{ CLIENT_OP_CONNECT, EBUSY, "", CLIENT_BUSY,
		  "cannot connect nb0: it is connected already; disconnect it with nbd-client -d, or take another device" },
		{ CLIENT_OP_CONNECT, EPERM, "", CLIENT_NOT_PERMITTED,
		  "cannot connect nb0: Operation not permitted; run nbd-client as root" },
		{ CLIENT_OP_CONNECT, ENOENT, "export 'x' unknown", CLIENT_REFUSED,
		  "cannot connect nb0: export 'x' unknown" },
		{ CLIENT_OP_CONNECT, ECONNREFUSED, "", CLIENT_UNREACHABLE,
		  "cannot connect nb0: Connection refused; check that the server runs there and that nothing blocks its port" },
		{ CLIENT_OP_CONNECT, EINVAL, "block size 3", CLIENT_FAILED,
		  "cannot connect nb0: block size 3" },
		{ CLIENT_OP_STATUS, EINVAL, "", CLIENT_FAILED,
		  "cannot get the status of nb0: Invalid argument; there may be no such device" },
	};
	struct client_answer answer;
	struct client_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		answer.error = cases[i].error;
		snprintf(answer.text, sizeof(answer.text), "%s", cases[i].text);
		assert_int_equal(client_genl_explain(cases[i].operation, "nb0", &answer, &err), -1);
		assert_string_equal(err.text, cases[i].want);
		assert_int_equal(err.code, cases[i].code);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connect_managed),
		cmocka_unit_test(test_connect_minimal),
		cmocka_unit_test(test_connect_largest),
		cmocka_unit_test(test_connect_sockets),
		cmocka_unit_test(test_small_messages),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_device),
		cmocka_unit_test(test_format_text),
		cmocka_unit_test(test_format_json),
		cmocka_unit_test(test_device_broken),
		cmocka_unit_test(test_mainline_status),
		cmocka_unit_test(test_family),
		cmocka_unit_test(test_ack),
		cmocka_unit_test(test_explain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
