// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a netlink message asks for, checked: from attributes to a configuration.
 */
#include <linux/file.h>
#include <linux/in6.h>
#include <linux/slab.h>
#include <net/genetlink.h>
#include <net/ipv6.h>

#include "attributes.h"
#include "internal.h"

/* Bounds of what the administrator may ask for */
#define CONNECT_TIMEOUT_DEFAULT	10000	/* ms */
#define CONNECT_TIMEOUT_MAX	600000	/* ms */
#define TIMEOUT_DEFAULT		30	/* s */
#define TIMEOUT_MAX		86400	/* s */
#define LINK_TIMEOUT_MIN	1000	/* ms */
#define LINK_TIMEOUT_MAX	600000	/* ms */
#define FENCE_DELAY_MAX		60000	/* ms */

static const struct nla_policy sock_item_policy[NBD_SOCK_ITEM_MAX + 1] = {
	[NBD_SOCK_ITEM]			= { .type = NLA_NESTED },
};

static const struct nla_policy sock_policy[NBD_SOCK_MAX + 1] = {
	[NBD_SOCK_FD]			= { .type = NLA_U32 },
};

/**
 * nbd_attr_say() - tell whoever asked what is wrong
 * @info: the message
 * @fmt: a clause, for those who may do something about it
 *
 * The text outlives the handler: netlink copies it when the handler is done.
 * A few buffers in turn do: what two errors of one moment could spoil is the
 * text of one of them, and it always ends.
 */
void nbd_attr_say(struct genl_info *info, const char *fmt, ...)
{
	static char texts[16][256];
	static atomic_t turn = ATOMIC_INIT(0);
	char *text = texts[(unsigned int)atomic_inc_return(&turn) % ARRAY_SIZE(texts)];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(texts[0]), fmt, args);
	va_end(args);
	if (info->extack)
		info->extack->_msg = text;
}

/**
 * nbd_attr_u64() - a number
 * @info: the message
 * @attr: the attribute
 * @missing: what it is if it was not given
 *
 * Return: the number.
 */
u64 nbd_attr_u64(struct genl_info *info, int attr, u64 missing)
{
	return info->attrs[attr] ? nla_get_u64(info->attrs[attr]) : missing;
}

/**
 * nbd_attr_u32() - a number
 * @info: the message
 * @attr: the attribute
 * @missing: what it is if it was not given
 *
 * Return: the number.
 */
u32 nbd_attr_u32(struct genl_info *info, int attr, u32 missing)
{
	return info->attrs[attr] ? nla_get_u32(info->attrs[attr]) : missing;
}

static int get_string(struct genl_info *info, int attr, char **to)
{
	*to = NULL;
	if (!info->attrs[attr])
		return 0;
	*to = nla_strdup(info->attrs[attr], GFP_KERNEL);
	return *to ? 0 : -ENOMEM;
}

/* An IPv4 address in IPv6 clothes would change the functions of its socket */
static void unmap(struct sockaddr_storage *address)
{
	const struct sockaddr_in6 six = *(struct sockaddr_in6 *)address;
	struct sockaddr_in *four = (struct sockaddr_in *)address;

	if (address->ss_family != AF_INET6 || !ipv6_addr_v4mapped(&six.sin6_addr))
		return;
	memset(address, 0, sizeof(*address));
	four->sin_family = AF_INET;
	four->sin_port = six.sin6_port;
	four->sin_addr.s_addr = six.sin6_addr.s6_addr32[3];
}

static int get_address(struct genl_info *info, struct nlattr *attr, struct sockaddr_storage *to)
{
	size_t len = nla_len(attr);

	if (nla_type(attr) != NBDX_ADDRESS_ITEM || len < sizeof(sa_family_t) || len > sizeof(*to)) {
		nbd_attr_say(info, "malformed address");
		return -EINVAL;
	}
	memset(to, 0, sizeof(*to));
	nla_memcpy(to, attr, sizeof(*to));
	if ((to->ss_family == AF_INET && len == sizeof(struct sockaddr_in)) ||
	    (to->ss_family == AF_INET6 && len == sizeof(struct sockaddr_in6))) {
		unmap(to);
		return 0;
	}
	nbd_attr_say(info, "address is neither IPv4 nor IPv6");
	return -EAFNOSUPPORT;
}

static int get_addresses(struct genl_info *info, struct nbd_config *config)
{
	struct nlattr *list = info->attrs[NBDX_ATTR_ADDRESSES];
	unsigned int n = 0;
	struct nlattr *attr;
	int rem, err;

	nla_for_each_nested(attr, list, rem)
		n++;
	if (!n || n > NBDX_MAX_ADDRESSES) {
		nbd_attr_say(info, "%u addresses: must be 1 to %u", n, NBDX_MAX_ADDRESSES);
		return -EINVAL;
	}
	config->addresses = kcalloc(n, sizeof(*config->addresses), GFP_KERNEL);
	if (!config->addresses)
		return -ENOMEM;
	nla_for_each_nested(attr, list, rem) {
		err = get_address(info, attr, &config->addresses[config->nr_addresses]);
		if (err)
			return err;
		config->nr_addresses++;
	}
	return 0;
}

/**
 * nbd_attr_timeouts() - bounds of timeout and dead_conn_timeout
 * @info: the message
 * @timeout: as given, s; a default in place of 0
 * @dead: as given, s
 *
 * Return: 0 or -ERANGE.
 */
int nbd_attr_timeouts(struct genl_info *info, u64 *timeout, u64 *dead)
{
	if (*timeout > TIMEOUT_MAX || *dead > TIMEOUT_MAX) {
		nbd_attr_say(info, "timeout: must be at most %u s", TIMEOUT_MAX);
		return -ERANGE;
	}
	/* 0 is mainline's "for ever", of which a silent link makes no sense */
	if (!*timeout)
		*timeout = TIMEOUT_DEFAULT;
	return 0;
}

/**
 * nbd_attr_recovery() - link_timeout and fence_delay
 * @info: the message
 * @link_timeout: what it is if not given, ms; set to what was given
 * @fence_delay: the same, ms
 *
 * Return: 0 or -ERANGE.
 */
int nbd_attr_recovery(struct genl_info *info, unsigned int *link_timeout,
		      unsigned int *fence_delay)
{
	*link_timeout = nbd_attr_u32(info, NBDX_ATTR_LINK_TIMEOUT, *link_timeout);
	*fence_delay = nbd_attr_u32(info, NBDX_ATTR_FENCE_DELAY, *fence_delay);
	if (*link_timeout < LINK_TIMEOUT_MIN || *link_timeout > LINK_TIMEOUT_MAX) {
		nbd_attr_say(info, "link timeout %u ms: must be %u to %u", *link_timeout,
			     LINK_TIMEOUT_MIN, LINK_TIMEOUT_MAX);
		return -ERANGE;
	}
	if (*fence_delay > FENCE_DELAY_MAX) {
		nbd_attr_say(info, "fence delay %u ms: must be at most %u", *fence_delay,
			     FENCE_DELAY_MAX);
		return -ERANGE;
	}
	return 0;
}

/**
 * nbd_attr_config() - all that CONNECT asks for but its sockets
 * @info: the message
 * @config: empty; nbd_config_clear() it, even after an error
 *
 * Return: 0 or -errno.
 */
int nbd_attr_config(struct genl_info *info, struct nbd_config *config)
{
	u64 timeout = nbd_attr_u64(info, NBD_ATTR_TIMEOUT, TIMEOUT_DEFAULT);
	u64 dead = nbd_attr_u64(info, NBD_ATTR_DEAD_CONN_TIMEOUT, 0);
	u64 block = nbd_attr_u64(info, NBD_ATTR_BLOCK_SIZE_BYTES, 0);
	u64 client_flags = nbd_attr_u64(info, NBD_ATTR_CLIENT_FLAGS, 0);
	u32 connect = nbd_attr_u32(info, NBDX_ATTR_CONNECT_TIMEOUT, CONNECT_TIMEOUT_DEFAULT);
	int err;

	if (!connect || connect > CONNECT_TIMEOUT_MAX) {
		nbd_attr_say(info, "connect timeout %u ms: must be 1 to %u", connect,
			     CONNECT_TIMEOUT_MAX);
		return -ERANGE;
	}
	if (client_flags & ~(u64)(NBD_CFLAG_DESTROY_ON_DISCONNECT |
				  NBD_CFLAG_DISCONNECT_ON_CLOSE)) {
		nbd_attr_say(info, "client flags 0x%llx: unknown", client_flags);
		return -EINVAL;
	}
	if (block && (block < 512 || block > PAGE_SIZE || block & (block - 1))) {
		nbd_attr_say(info, "block size %llu: must be a power of two from 512 to %lu", block,
			     PAGE_SIZE);
		return -EINVAL;
	}
	config->link_timeout = NBD_LINK_TIMEOUT_DEFAULT;
	config->fence_delay = NBD_FENCE_DELAY_DEFAULT;
	err = nbd_attr_timeouts(info, &timeout, &dead);
	if (!err)
		err = nbd_attr_recovery(info, &config->link_timeout, &config->fence_delay);
	if (!err)
		err = get_string(info, NBDX_ATTR_EXPORT, &config->export);
	if (!err)
		err = get_string(info, NBD_ATTR_BACKEND_IDENTIFIER, &config->backend);
	if (!err && info->attrs[NBDX_ATTR_ADDRESSES])
		err = get_addresses(info, config);
	if (err)
		return err;

	config->net = get_net(genl_info_net(info));
	config->timeout = timeout;
	config->dead_conn_timeout = dead;
	config->block_size = block;
	config->size = nbd_attr_u64(info, NBD_ATTR_SIZE_BYTES, 0);
	config->nr_links = nbd_attr_u32(info, NBDX_ATTR_LINKS, 1);
	config->connect_timeout = connect;
	config->flags = nbd_attr_u32(info, NBDX_ATTR_FLAGS, 0);
	config->client_flags = client_flags;
	config->pid = task_pid_nr(current);
	if (!config->export) {
		config->export = kstrdup("", GFP_KERNEL);
		if (!config->export)
			return -ENOMEM;
	}
	return 0;
}

/**
 * nbd_attr_put_sockets() - drop references
 * @socks: sockets; NULL where the reference has passed to somebody else
 * @n: their number
 */
void nbd_attr_put_sockets(struct socket **socks, unsigned int n)
{
	while (n--)
		if (socks[n])
			sockfd_put(socks[n]);
}

static int get_socket(struct genl_info *info, struct nlattr *item, struct socket **sock)
{
	struct nlattr *attrs[NBD_SOCK_MAX + 1];
	int fd, err;

	if (nla_type(item) != NBD_SOCK_ITEM) {
		nbd_attr_say(info, "malformed list of sockets");
		return -EINVAL;
	}
	err = nla_parse_nested_deprecated(attrs, NBD_SOCK_MAX, item, sock_policy, info->extack);
	if (err)
		return err;
	if (!attrs[NBD_SOCK_FD]) {
		nbd_attr_say(info, "socket without a file descriptor");
		return -EINVAL;
	}
	fd = nla_get_u32(attrs[NBD_SOCK_FD]);
	*sock = sockfd_lookup(fd, &err);
	if (!*sock) {
		nbd_attr_say(info, "file descriptor %d is no socket", fd);
		return err;
	}
	err = nbd_socket_check(*sock);
	if (err) {
		nbd_attr_say(info, "socket %d is not a connected TCP or UNIX stream socket", fd);
		fput((*sock)->file);
		*sock = NULL;
	}
	return err;
}

/**
 * nbd_attr_sockets() - NBD_ATTR_SOCKETS
 * @info: the message
 * @socks: room for NBDX_MAX_LINKS; set to sockets, with references
 * @n: set to their number
 *
 * Return: 0, or -errno and no socket.
 */
int nbd_attr_sockets(struct genl_info *info, struct socket **socks, unsigned int *n)
{
	struct nlattr *list = info->attrs[NBD_ATTR_SOCKETS], *attr;
	int rem, err;

	*n = 0;
	err = nla_validate_nested_deprecated(list, NBD_SOCK_ITEM_MAX, sock_item_policy,
					     info->extack);
	if (err)
		return err;
	nla_for_each_nested(attr, list, rem) {
		if (*n == NBDX_MAX_LINKS) {
			nbd_attr_say(info, "too many sockets: at most %u", NBDX_MAX_LINKS);
			err = -E2BIG;
			goto err_sockets;
		}
		err = get_socket(info, attr, &socks[*n]);
		if (err)
			goto err_sockets;
		(*n)++;
	}
	if (*n)
		return 0;
	nbd_attr_say(info, "no socket given");
	return -EINVAL;

err_sockets:
	nbd_attr_put_sockets(socks, *n);
	return err;
}
