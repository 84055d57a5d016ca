// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/genetlink.h>
#include <netlink/attr.h>
#include <netlink/genl/genl.h>
#include <stdlib.h>
#include <string.h>

#include "netlink.h"

static struct nl_msg *new_message(int family, int flags, uint8_t command, uint8_t version)
{
	/* addresses, a name of 4096 bytes and an identifier fit */
	struct nl_msg *msg = nlmsg_alloc_size(16384);

	if (msg &&
	    !genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, flags, command, version)) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

static int put_addresses(struct nl_msg *msg, const struct client_addresses *addresses)
{
	struct nlattr *nest = nla_nest_start(msg, NBDX_ATTR_ADDRESSES);
	unsigned int i;
	int ret = nest ? 0 : -1;

	for (i = 0; i < addresses->n && !ret; i++)
		ret = nla_put(msg, NBDX_ADDRESS_ITEM, (int)addresses->address[i].len,
			      &addresses->address[i].sa);
	if (ret)
		return -1;
	nla_nest_end(msg, nest);
	return 0;
}

static int put_sockets(struct nl_msg *msg, const int *sockets, unsigned int n)
{
	struct nlattr *nest = nla_nest_start(msg, NBD_ATTR_SOCKETS);
	struct nlattr *item;
	unsigned int i;

	for (i = 0; nest && i < n; i++) {
		item = nla_nest_start(msg, NBD_SOCK_ITEM);
		if (!item || nla_put_u32(msg, NBD_SOCK_FD, (uint32_t)sockets[i]))
			return -1;
		nla_nest_end(msg, item);
	}
	if (!nest)
		return -1;
	nla_nest_end(msg, nest);
	return 0;
}

static int put_managed(struct nl_msg *msg, const struct client_connect *connect)
{
	return put_addresses(msg, connect->addresses) ||
	       nla_put_string(msg, NBDX_ATTR_EXPORT, connect->export) ||
	       nla_put_u32(msg, NBDX_ATTR_LINKS, connect->links) ||
	       nla_put_u32(msg, NBDX_ATTR_CONNECT_TIMEOUT, connect->connect_timeout) ||
	       nla_put_u32(msg, NBDX_ATTR_FLAGS, connect->flags);
}

static int put_handed_over(struct nl_msg *msg, const struct client_connect *connect)
{
	return put_sockets(msg, connect->sockets, connect->nsockets) ||
	       nla_put_u64(msg, NBD_ATTR_SERVER_FLAGS, connect->server_flags);
}

static int put_if(struct nl_msg *msg, int attr, uint64_t value)
{
	return value ? nla_put_u64(msg, attr, value) : 0;
}

static int put_given(struct nl_msg *msg, int attr, uint64_t value)
{
	return value == UINT64_MAX ? 0 : nla_put_u64(msg, attr, value);
}

static int put_given_u32(struct nl_msg *msg, int attr, uint64_t value)
{
	return value == UINT64_MAX ? 0 : nla_put_u32(msg, attr, (uint32_t)value);
}

static int put_timeouts(struct nl_msg *msg, const struct client_timeouts *timeouts)
{
	return put_given(msg, NBD_ATTR_TIMEOUT, timeouts->timeout) ||
	       put_given(msg, NBD_ATTR_DEAD_CONN_TIMEOUT, timeouts->dead_timeout) ||
	       put_given_u32(msg, NBDX_ATTR_LINK_TIMEOUT, timeouts->link_timeout) ||
	       put_given_u32(msg, NBDX_ATTR_FENCE_DELAY, timeouts->fence_delay);
}

struct nl_msg *client_netlink_connect(int family, const struct client_connect *connect)
{
	struct nl_msg *msg = new_message(family, 0, NBD_CMD_CONNECT, NBD_GENL_VERSION);

	if (!msg)
		return NULL;
	if (nla_put_u32(msg, NBD_ATTR_INDEX, (uint32_t)connect->index) ||
	    put_if(msg, NBD_ATTR_SIZE_BYTES, connect->size) ||
	    put_if(msg, NBD_ATTR_BLOCK_SIZE_BYTES, connect->block_size) ||
	    put_timeouts(msg, &connect->timeouts) ||
	    (connect->identifier &&
	     nla_put_string(msg, NBD_ATTR_BACKEND_IDENTIFIER, connect->identifier)) ||
	    (connect->addresses ? put_managed(msg, connect) : put_handed_over(msg, connect))) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

static struct nl_msg *index_message(int family, int flags, uint8_t command, int index)
{
	struct nl_msg *msg = new_message(family, flags, command, NBD_GENL_VERSION);

	if (msg && index >= 0 && nla_put_u32(msg, NBD_ATTR_INDEX, (uint32_t)index)) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

struct nl_msg *client_netlink_disconnect(int family, int index, bool force)
{
	struct nl_msg *msg = index_message(family, 0, NBD_CMD_DISCONNECT, index);

	if (msg && force && nla_put_flag(msg, NBDX_ATTR_FORCE)) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

struct nl_msg *client_netlink_set(int family, int index, const struct client_timeouts *timeouts)
{
	struct nl_msg *msg = index_message(family, 0, NBD_CMD_RECONFIGURE, index);

	if (msg && put_timeouts(msg, timeouts)) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

struct nl_msg *client_netlink_status(int family, int index)
{
	return index_message(family, 0, NBD_CMD_STATUS, index);
}

struct nl_msg *client_netlink_get(int family, int index)
{
	return index_message(family, index < 0 ? NLM_F_DUMP : 0, NBDX_CMD_GET, index);
}

struct nl_msg *client_netlink_family(const char *name)
{
	struct nl_msg *msg = new_message(GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, 1);

	if (msg && nla_put_string(msg, CTRL_ATTR_FAMILY_NAME, name)) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

int client_netlink_parse_family(struct nlmsghdr *hdr, int *family, unsigned int *maxattr)
{
	static struct nla_policy policy[CTRL_ATTR_MAX + 1] = {
		[CTRL_ATTR_FAMILY_ID] = { .type = NLA_U16 },
		[CTRL_ATTR_MAXATTR] = { .type = NLA_U32 },
	};
	struct nlattr *attr[CTRL_ATTR_MAX + 1];

	if (genlmsg_parse(hdr, 0, attr, CTRL_ATTR_MAX, policy) || !attr[CTRL_ATTR_FAMILY_ID])
		return -1;
	*family = nla_get_u16(attr[CTRL_ATTR_FAMILY_ID]);
	*maxattr = attr[CTRL_ATTR_MAXATTR] ? nla_get_u32(attr[CTRL_ATTR_MAXATTR]) : 0;
	return 0;
}

int client_netlink_parse_index(struct nlmsghdr *hdr, int *index)
{
	static struct nla_policy policy[NBD_ATTR_MAX + 1] = {
		[NBD_ATTR_INDEX] = { .type = NLA_U32 },
	};
	struct nlattr *attr[NBD_ATTR_MAX + 1];

	if (genlmsg_parse(hdr, 0, attr, NBD_ATTR_MAX, policy) || !attr[NBD_ATTR_INDEX])
		return -1;
	*index = (int)nla_get_u32(attr[NBD_ATTR_INDEX]);
	return 0;
}

static uint64_t get_u64(struct nlattr *attr)
{
	return attr ? nla_get_u64(attr) : 0;
}

static uint32_t get_u32(struct nlattr *attr)
{
	return attr ? nla_get_u32(attr) : 0;
}

static char *get_string(struct nlattr *attr)
{
	return attr ? strdup(nla_get_string(attr)) : NULL;
}

static int parse_counters(struct nlattr *nest, uint64_t counter[NBDX_COUNTER_MAX + 1])
{
	struct nlattr *attr[NBDX_COUNTER_MAX + 1];
	struct nla_policy policy[NBDX_COUNTER_MAX + 1] = { 0 };
	unsigned int i;

	for (i = NBDX_COUNTER_READS; i < NBDX_COUNTER_PAD; i++)
		policy[i].type = NLA_U64;
	if (!nest)
		return 0;
	if (nla_parse_nested(attr, NBDX_COUNTER_MAX, nest, policy))
		return -1;
	for (i = NBDX_COUNTER_READS; i < NBDX_COUNTER_PAD; i++)
		counter[i] = get_u64(attr[i]);
	return 0;
}

static int parse_link(struct nlattr *nest, struct client_link *link)
{
	static struct nla_policy policy[NBDX_LINK_MAX + 1] = {
		[NBDX_LINK_INDEX] = { .type = NLA_U32 },
		[NBDX_LINK_STATE] = { .type = NLA_U32 },
		[NBDX_LINK_PEER] = { .minlen = sizeof(sa_family_t) },
		[NBDX_LINK_STATE_MS] = { .type = NLA_U64 },
		[NBDX_LINK_INFLIGHT] = { .type = NLA_U32 },
		[NBDX_LINK_ERROR] = { .type = NLA_STRING },
		[NBDX_LINK_COUNTERS] = { .type = NLA_NESTED },
		[NBDX_LINK_FENCE] = { .type = NLA_U32 },
		[NBDX_LINK_HELD] = { .type = NLA_U32 },
	};
	struct nlattr *attr[NBDX_LINK_MAX + 1];

	if (nla_parse_nested(attr, NBDX_LINK_MAX, nest, policy))
		return -1;
	link->index = get_u32(attr[NBDX_LINK_INDEX]);
	link->state = get_u32(attr[NBDX_LINK_STATE]);
	link->state_ms = get_u64(attr[NBDX_LINK_STATE_MS]);
	link->inflight = get_u32(attr[NBDX_LINK_INFLIGHT]);
	link->fence = get_u32(attr[NBDX_LINK_FENCE]);
	link->held = get_u32(attr[NBDX_LINK_HELD]);
	link->error = get_string(attr[NBDX_LINK_ERROR]);
	if (attr[NBDX_LINK_PEER]) {
		link->address.len = (socklen_t)nla_memcpy(&link->address.storage,
							  attr[NBDX_LINK_PEER],
							  sizeof(link->address.storage));
		client_address_text(&link->address.sa, link->address.len, link->peer);
	}
	return parse_counters(attr[NBDX_LINK_COUNTERS], link->counter);
}

static int parse_finding(struct nlattr *nest, struct client_status *status)
{
	static struct nla_policy policy[NBDX_FINDING_MAX + 1] = {
		[NBDX_FINDING_ID] = { .type = NLA_STRING },
		[NBDX_FINDING_SEVERITY] = { .type = NLA_U32 },
		[NBDX_FINDING_TEXT] = { .type = NLA_STRING },
		[NBDX_FINDING_SUBJECT] = { .type = NLA_STRING },
	};
	struct nlattr *attr[NBDX_FINDING_MAX + 1];
	struct client_finding *finding;

	if (nla_parse_nested(attr, NBDX_FINDING_MAX, nest, policy) || !attr[NBDX_FINDING_ID] ||
	    !attr[NBDX_FINDING_TEXT])
		return -1;
	finding = reallocarray(status->finding, status->nfindings + 1, sizeof(*finding));
	if (!finding)
		return -1;
	status->finding = finding;
	finding += status->nfindings++;
	finding->id = get_string(attr[NBDX_FINDING_ID]);
	finding->severity = get_u32(attr[NBDX_FINDING_SEVERITY]);
	finding->subject = get_string(attr[NBDX_FINDING_SUBJECT]);
	finding->text = get_string(attr[NBDX_FINDING_TEXT]);
	return finding->id && finding->text ? 0 : -1;
}

static struct nla_policy device_policy[NBDX_DEVICE_MAX + 1] = {
	[NBDX_DEVICE_INDEX] = { .type = NLA_U32 },
	[NBDX_DEVICE_NAME] = { .type = NLA_STRING },
	[NBDX_DEVICE_STATE] = { .type = NLA_U32 },
	[NBDX_DEVICE_EXPORT] = { .type = NLA_STRING },
	[NBDX_DEVICE_SIZE] = { .type = NLA_U64 },
	[NBDX_DEVICE_BLOCK_SIZE] = { .type = NLA_U32 },
	[NBDX_DEVICE_OPT_BLOCK_SIZE] = { .type = NLA_U32 },
	[NBDX_DEVICE_MAX_PAYLOAD] = { .type = NLA_U32 },
	[NBDX_DEVICE_SERVER_FLAGS] = { .type = NLA_U32 },
	[NBDX_DEVICE_FLAGS] = { .type = NLA_U32 },
	[NBDX_DEVICE_MANAGED] = { .type = NLA_U8 },
	[NBDX_DEVICE_OPENERS] = { .type = NLA_U32 },
	[NBDX_DEVICE_PID] = { .type = NLA_U32 },
	[NBDX_DEVICE_QUEUED] = { .type = NLA_U32 },
	[NBDX_DEVICE_INFLIGHT] = { .type = NLA_U32 },
	[NBDX_DEVICE_TIMEOUT] = { .type = NLA_U64 },
	[NBDX_DEVICE_DEAD_CONN_TIMEOUT] = { .type = NLA_U64 },
	[NBDX_DEVICE_COUNTERS] = { .type = NLA_NESTED },
	[NBDX_DEVICE_LINK] = { .type = NLA_NESTED },
	[NBDX_DEVICE_SWAP_SAFE] = { .type = NLA_U8 },
	[NBDX_DEVICE_WHY] = { .type = NLA_STRING },
	[NBDX_DEVICE_BACKEND] = { .type = NLA_STRING },
	[NBDX_DEVICE_LINK_TIMEOUT] = { .type = NLA_U32 },
	[NBDX_DEVICE_FENCE_DELAY] = { .type = NLA_U32 },
	[NBDX_DEVICE_RESERVE] = { .type = NLA_U64 },
	[NBDX_DEVICE_MIN_FREE] = { .type = NLA_U64 },
	[NBDX_DEVICE_FINDING] = { .type = NLA_NESTED },
	[NBDX_DEVICE_GUARANTEES] = { .type = NLA_U32 },
	[NBDX_DEVICE_REGISTERED] = { .type = NLA_U64 },
};

static void parse_plain(struct nlattr *attr[], struct client_status *status)
{
	status->index = get_u32(attr[NBDX_DEVICE_INDEX]);
	if (attr[NBDX_DEVICE_NAME])
		nla_strlcpy(status->name, attr[NBDX_DEVICE_NAME], sizeof(status->name));
	status->state = get_u32(attr[NBDX_DEVICE_STATE]);
	status->export = get_string(attr[NBDX_DEVICE_EXPORT]);
	status->size = get_u64(attr[NBDX_DEVICE_SIZE]);
	status->block_size = get_u32(attr[NBDX_DEVICE_BLOCK_SIZE]);
	status->opt_block_size = get_u32(attr[NBDX_DEVICE_OPT_BLOCK_SIZE]);
	status->max_payload = get_u32(attr[NBDX_DEVICE_MAX_PAYLOAD]);
	status->server_flags = get_u32(attr[NBDX_DEVICE_SERVER_FLAGS]);
	status->flags = get_u32(attr[NBDX_DEVICE_FLAGS]);
	status->managed = attr[NBDX_DEVICE_MANAGED] && nla_get_u8(attr[NBDX_DEVICE_MANAGED]);
	status->openers = get_u32(attr[NBDX_DEVICE_OPENERS]);
	status->pid = get_u32(attr[NBDX_DEVICE_PID]);
	status->queued = get_u32(attr[NBDX_DEVICE_QUEUED]);
	status->inflight = get_u32(attr[NBDX_DEVICE_INFLIGHT]);
	status->timeout = get_u64(attr[NBDX_DEVICE_TIMEOUT]);
	status->dead_timeout = get_u64(attr[NBDX_DEVICE_DEAD_CONN_TIMEOUT]);
	status->link_timeout = get_u32(attr[NBDX_DEVICE_LINK_TIMEOUT]);
	status->fence_delay = get_u32(attr[NBDX_DEVICE_FENCE_DELAY]);
	status->reserve = get_u64(attr[NBDX_DEVICE_RESERVE]);
	status->min_free = get_u64(attr[NBDX_DEVICE_MIN_FREE]);
	status->registered = get_u64(attr[NBDX_DEVICE_REGISTERED]);
	status->guarantees = get_u32(attr[NBDX_DEVICE_GUARANTEES]);
	status->swap_safe = attr[NBDX_DEVICE_SWAP_SAFE] && nla_get_u8(attr[NBDX_DEVICE_SWAP_SAFE]);
	status->why = get_string(attr[NBDX_DEVICE_WHY]);
	status->backend = get_string(attr[NBDX_DEVICE_BACKEND]);
}

int client_netlink_parse_device(struct nlmsghdr *hdr, struct client_status *status)
{
	static struct nla_policy policy[NBDX_ATTR_MAX + 1] = {
		[NBDX_ATTR_DEVICE] = { .type = NLA_NESTED },
	};
	struct nlattr *top[NBDX_ATTR_MAX + 1], *attr[NBDX_DEVICE_MAX + 1], *item;
	int rest;

	memset(status, 0, sizeof(*status));
	if (genlmsg_parse(hdr, 0, top, NBDX_ATTR_MAX, policy) || !top[NBDX_ATTR_DEVICE] ||
	    nla_parse_nested(attr, NBDX_DEVICE_MAX, top[NBDX_ATTR_DEVICE], device_policy) ||
	    !attr[NBDX_DEVICE_INDEX])
		return -1;
	parse_plain(attr, status);
	if (parse_counters(attr[NBDX_DEVICE_COUNTERS], status->counter))
		goto err_parse;
	nla_for_each_nested(item, top[NBDX_ATTR_DEVICE], rest) {
		if (nla_type(item) == NBDX_DEVICE_FINDING && parse_finding(item, status))
			goto err_parse;
		if (nla_type(item) != NBDX_DEVICE_LINK || status->nlinks == NBDX_MAX_LINKS)
			continue;
		if (parse_link(item, &status->link[status->nlinks++]))
			goto err_parse;
	}
	return 0;

err_parse:
	client_status_free(status);
	return -1;
}

void client_status_free(struct client_status *status)
{
	unsigned int i;

	for (i = 0; i < status->nlinks; i++)
		free(status->link[i].error);
	for (i = 0; i < status->nfindings; i++) {
		free(status->finding[i].id);
		free(status->finding[i].subject);
		free(status->finding[i].text);
	}
	free(status->finding);
	free(status->why);
	free(status->export);
	free(status->backend);
	memset(status, 0, sizeof(*status));
}

int client_netlink_parse_status(struct nlmsghdr *hdr, struct client_indexes *indexes)
{
	static struct nla_policy policy[NBD_ATTR_MAX + 1] = {
		[NBD_ATTR_DEVICE_LIST] = { .type = NLA_NESTED },
	};
	static struct nla_policy item_policy[NBD_DEVICE_ATTR_MAX + 1] = {
		[NBD_DEVICE_INDEX] = { .type = NLA_U32 },
		[NBD_DEVICE_CONNECTED] = { .type = NLA_U8 },
	};
	struct nlattr *top[NBD_ATTR_MAX + 1], *attr[NBD_DEVICE_ATTR_MAX + 1], *item;
	int rest;

	indexes->n = 0;
	if (genlmsg_parse(hdr, 0, top, NBD_ATTR_MAX, policy) || !top[NBD_ATTR_DEVICE_LIST])
		return -1;
	nla_for_each_nested(item, top[NBD_ATTR_DEVICE_LIST], rest) {
		if (nla_type(item) != NBD_DEVICE_ITEM || indexes->n == CLIENT_MAX_INDEXES)
			continue;
		if (nla_parse_nested(attr, NBD_DEVICE_ATTR_MAX, item, item_policy) ||
		    !attr[NBD_DEVICE_INDEX])
			return -1;
		indexes->item[indexes->n].index = nla_get_u32(attr[NBD_DEVICE_INDEX]);
		indexes->item[indexes->n++].connected = attr[NBD_DEVICE_CONNECTED] &&
							nla_get_u8(attr[NBD_DEVICE_CONNECTED]);
	}
	return 0;
}

void client_netlink_parse_ack(const struct nlmsghdr *hdr, char *text, size_t size)
{
	static struct nla_policy policy[NLMSGERR_ATTR_MAX + 1] = {
		[NLMSGERR_ATTR_MSG] = { .type = NLA_STRING },
	};
	struct nlattr *attr[NLMSGERR_ATTR_MAX + 1];
	const struct nlmsgerr *error = nlmsg_data(hdr);
	size_t skip = sizeof(*error);

	text[0] = '\0';
	if (!(hdr->nlmsg_flags & NLM_F_ACK_TLVS) || hdr->nlmsg_len < NLMSG_HDRLEN + sizeof(*error))
		return;
	/* Our request comes first, unless the kernel has cut it off */
	if (!(hdr->nlmsg_flags & NLM_F_CAPPED)) {
		if (error->msg.nlmsg_len < NLMSG_HDRLEN || error->msg.nlmsg_len > hdr->nlmsg_len)
			return;
		skip += NLMSG_ALIGN(error->msg.nlmsg_len - NLMSG_HDRLEN);
	}
	if (hdr->nlmsg_len < NLMSG_HDRLEN + skip)
		return;
	if (!nla_parse(attr, NLMSGERR_ATTR_MAX, (struct nlattr *)((char *)error + skip),
		       (int)(hdr->nlmsg_len - NLMSG_HDRLEN - skip), policy) &&
	    attr[NLMSGERR_ATTR_MSG])
		nla_strlcpy(text, attr[NLMSGERR_ATTR_MSG], size);
}
