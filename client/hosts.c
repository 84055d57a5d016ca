// SPDX-License-Identifier: GPL-2.0-or-later
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "hosts.h"
#include "text.h"

static int bad(const char *word, size_t len, const char *why, struct client_error *err)
{
	return client_error_set(err, CLIENT_USAGE,
				"'%.*s' is no host: %s; give a name, an address or [IPv6]:PORT",
				(int)len, word, why);
}

/* One item of the list, s[0..len) */
static int parse_host(const char *s, size_t len, uint16_t port, struct client_host *host,
		      struct client_error *err)
{
	const char *name = s, *colon = NULL;
	size_t name_len = len;
	char digits[8] = "";
	uint64_t n;

	if (len && *s == '[') {
		const char *close = memchr(s, ']', len);

		if (!close)
			return bad(s, len, "no ']' follows the '['", err);
		name = s + 1;
		name_len = (size_t)(close - name);
		if (close + 1 < s + len)
			colon = close + 1;
	} else {
		colon = memchr(s, ':', len);
		/* more than one: an IPv6 address, which has no port */
		if (colon && memchr(colon + 1, ':', (size_t)(s + len - colon - 1)))
			colon = NULL;
		if (colon)
			name_len = (size_t)(colon - s);
	}
	if (!name_len)
		return bad(s, len, "its name is empty", err);
	if (name_len >= sizeof(host->name))
		return bad(s, 40, "its name is too long", err);
	host->port = port;
	if (colon) {
		len -= (size_t)(colon + 1 - s);
		if (*colon == ':' && len < sizeof(digits))
			memcpy(digits, colon + 1, len);
		if (!client_text_number(digits, &n) || n < 1 || n > 65535)
			return bad(s, strcspn(s, ","), "its port is not a number from 1 to 65535",
				   err);
		host->port = (uint16_t)n;
	}
	memcpy(host->name, name, name_len);
	host->name[name_len] = '\0';
	return 0;
}

int client_hosts_parse(const char *list, uint16_t port, struct client_hosts *hosts,
		       struct client_error *err)
{
	size_t len;

	memset(hosts, 0, sizeof(*hosts));
	for (;; list += len + 1) {
		len = strcspn(list, ",");
		if (hosts->n == NBDX_MAX_ADDRESSES)
			return client_error_set(err, CLIENT_USAGE, "more than %d hosts are given",
						NBDX_MAX_ADDRESSES);
		if (parse_host(list, len, port, &hosts->host[hosts->n], err))
			return -1;
		hosts->n++;
		if (!list[len])
			return 0;
	}
}

static void add(struct client_addresses *addresses, const struct sockaddr *sa, socklen_t len)
{
	struct client_address *address;
	unsigned int i;

	for (i = 0; i < addresses->n; i++) {
		address = &addresses->address[i];
		if (address->len == len && !memcmp(&address->sa, sa, len))
			return;
	}
	if (addresses->n == NBDX_MAX_ADDRESSES) {
		addresses->too_many = true;
		return;
	}
	address = &addresses->address[addresses->n++];
	memset(address, 0, sizeof(*address));
	address->len = len;
	memcpy(&address->storage, sa, len);
}

static int resolve(const struct client_host *host, struct client_addresses *addresses,
		   struct client_error *err)
{
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV,
	};
	struct addrinfo *list, *item;
	char port[8];
	int ret;

	snprintf(port, sizeof(port), "%u", host->port);
	ret = getaddrinfo(host->name, port, &hints, &list);
	if (ret)
		return client_error_set(
			err, CLIENT_UNREACHABLE,
			"host '%s' has no address: %s; check the name and the name server",
			host->name, ret == EAI_SYSTEM ? strerror(errno) : gai_strerror(ret));
	for (item = list; item; item = item->ai_next)
		if (item->ai_family == AF_INET || item->ai_family == AF_INET6)
			add(addresses, item->ai_addr, item->ai_addrlen);
	freeaddrinfo(list);
	return 0;
}

int client_hosts_resolve(const struct client_hosts *hosts, struct client_addresses *addresses,
			 void (*warn)(const char *fmt, ...), struct client_error *err)
{
	struct client_error errors[NBDX_MAX_ADDRESSES];
	unsigned int i, failed = 0;

	memset(addresses, 0, sizeof(*addresses));
	for (i = 0; i < hosts->n; i++)
		if (resolve(&hosts->host[i], addresses, &errors[failed]))
			failed++;
	if (!addresses->n) {
		*err = errors[0];
		return -1;
	}
	for (i = 0; i < failed; i++)
		warn("%s", errors[i].text);
	if (addresses->too_many)
		warn("only the first %d addresses are used", NBDX_MAX_ADDRESSES);
	return 0;
}

int client_address_unix(const char *path, struct client_address *address, struct client_error *err)
{
	memset(address, 0, sizeof(*address));
	if (!*path || strlen(path) >= sizeof(address->un.sun_path))
		return client_error_set(err, CLIENT_USAGE,
					"'%s' is no socket path: give 1 to %zu bytes", path,
					sizeof(address->un.sun_path) - 1);
	address->un.sun_family = AF_UNIX;
	strcpy(address->un.sun_path, path);
	address->len = sizeof(address->un);
	return 0;
}

const char *client_address_text(const struct sockaddr *sa, socklen_t len,
				char text[CLIENT_ADDRESS_TEXT])
{
	char name[INET6_ADDRSTRLEN];
	char scope[16] = "";

	if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)sa;

		inet_ntop(AF_INET, &in->sin_addr, name, sizeof(name));
		snprintf(text, CLIENT_ADDRESS_TEXT, "%s:%u", name, ntohs(in->sin_port));
	} else if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;

		inet_ntop(AF_INET6, &in6->sin6_addr, name, sizeof(name));
		if (in6->sin6_scope_id)
			snprintf(scope, sizeof(scope), "%%%u", in6->sin6_scope_id);
		snprintf(text, CLIENT_ADDRESS_TEXT, "[%s%s]:%u", name, scope,
			 ntohs(in6->sin6_port));
	} else if (sa->sa_family == AF_UNIX) {
		snprintf(text, CLIENT_ADDRESS_TEXT, "unix:%.70s",
			 ((const struct sockaddr_un *)sa)->sun_path);
	} else {
		snprintf(text, CLIENT_ADDRESS_TEXT, "(unknown)");
	}
	return text;
}

static bool same_host(const struct sockaddr *a, const struct sockaddr *b)
{
	if (a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
		       ((const struct sockaddr_in *)b)->sin_addr.s_addr;
	if (a->sa_family == AF_INET6)
		return !memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
			       &((const struct sockaddr_in6 *)b)->sin6_addr,
			       sizeof(struct in6_addr));
	return false;
}

bool client_address_is_local(const struct sockaddr *sa)
{
	struct ifaddrs *list, *item;
	bool found = false;

	if (sa->sa_family == AF_UNIX)
		return true;
	if (sa->sa_family == AF_INET &&
	    ntohl(((const struct sockaddr_in *)sa)->sin_addr.s_addr) >> 24 == 127)
		return true;
	if (getifaddrs(&list))
		return false;
	for (item = list; item && !found; item = item->ifa_next)
		found = item->ifa_addr && same_host(item->ifa_addr, sa);
	freeifaddrs(list);
	return found;
}
