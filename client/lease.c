// SPDX-License-Identifier: GPL-2.0-or-later
/* Is the address that we have towards a server one that the network can take back? */
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "diagnosis.h"

struct search {
	const void *address;
	int len;
	int ifindex; /* 0: not found, or it stays */
	bool done;
};

static int on_address(struct nl_msg *msg, void *arg)
{
	static struct nla_policy policy[IFA_MAX + 1] = {
		[IFA_FLAGS] = { .type = NLA_U32 },
	};
	struct nlattr *attr[IFA_MAX + 1], *address;
	const struct ifaddrmsg *ifa = nlmsg_data(nlmsg_hdr(msg));
	struct search *search = arg;
	uint32_t flags;

	if (nlmsg_hdr(msg)->nlmsg_type != RTM_NEWADDR ||
	    nlmsg_parse(nlmsg_hdr(msg), sizeof(*ifa), attr, IFA_MAX, policy))
		return NL_OK;
	address = attr[IFA_LOCAL] ? attr[IFA_LOCAL] : attr[IFA_ADDRESS];
	if (!address || nla_len(address) != search->len ||
	    memcmp(nla_data(address), search->address, (size_t)search->len))
		return NL_OK;
	flags = attr[IFA_FLAGS] ? nla_get_u32(attr[IFA_FLAGS]) : ifa->ifa_flags;
	search->ifindex = flags & IFA_F_PERMANENT ? 0 : (int)ifa->ifa_index;
	return NL_OK;
}

static int on_done(struct nl_msg *msg, void *arg)
{
	(void)msg;
	((struct search *)arg)->done = true;
	return NL_STOP;
}

static void look_up(int family, struct search *search)
{
	struct ifaddrmsg ifa = { .ifa_family = (uint8_t)family };
	struct nl_sock *sk = nl_socket_alloc();

	if (!sk)
		return;
	nl_socket_modify_cb(sk, NL_CB_VALID, NL_CB_CUSTOM, on_address, search);
	nl_socket_modify_cb(sk, NL_CB_FINISH, NL_CB_CUSTOM, on_done, search);
	if (!nl_connect(sk, NETLINK_ROUTE) &&
	    nl_send_simple(sk, RTM_GETADDR, NLM_F_DUMP, &ifa, sizeof(ifa)) >= 0)
		while (!search->done && nl_recvmsgs_default(sk) >= 0)
			;
	nl_socket_free(sk);
}

/* Our end of a connection to the server, without making one */
static int own_address(const struct client_address *server, struct client_address *own)
{
	int fd = socket(server->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int ret = -1;

	own->len = sizeof(own->storage);
	if (fd >= 0 && !connect(fd, &server->sa, server->len))
		ret = getsockname(fd, &own->sa, &own->len);
	if (fd >= 0)
		close(fd);
	return ret;
}

bool client_lease_expires(const struct client_address *server, char interface[IF_NAMESIZE])
{
	const struct sockaddr_in6 *in6;
	const struct sockaddr_in *in;
	struct client_address own;
	struct search search = { .ifindex = 0 };

	if (own_address(server, &own))
		return false;
	in = (const struct sockaddr_in *)&own.storage;
	in6 = (const struct sockaddr_in6 *)&own.storage;
	search.address = own.sa.sa_family == AF_INET ? (const void *)&in->sin_addr :
						       (const void *)&in6->sin6_addr;
	search.len = own.sa.sa_family == AF_INET ? sizeof(in->sin_addr) : sizeof(in6->sin6_addr);
	look_up(own.sa.sa_family, &search);
	return search.ifindex && if_indextoname((unsigned int)search.ifindex, interface);
}
