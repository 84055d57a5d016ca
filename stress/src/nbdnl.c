// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The driver's netlink commands that nbd-client does not send, for tests:
 *
 *   nbdnl connect N HOST PORT EXPORT     negotiate here, hand the socket over
 *   nbdnl reconnect N HOST PORT EXPORT   the same for a link that has lost its own
 *   nbdnl reconfigure N TIMEOUT DEAD [FLAGS]
 *                                        both in seconds; NBD_CFLAG_*
 *
 * A process stays behind that holds a copy of the socket: SIGTERM makes it shut
 * the connection down.  Its PID is printed.
 *
 * Exit status: 0 done, 1 refused or failed, with a line that says why, 2 usage.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define ANSWER_S 60

struct message {
	struct nlmsghdr nl;
	struct genlmsghdr genl;
	char attrs[2048];
};

static void die(const char *fmt, ...)
{
	va_list args;

	fputs("nbdnl: ", stdout);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	exit(1);
}

static struct nlattr *put(struct message *msg, int type, const void *data, size_t len)
{
	struct nlattr *attr = (struct nlattr *)((char *)msg + NLMSG_ALIGN(msg->nl.nlmsg_len));

	attr->nla_type = type;
	attr->nla_len = NLA_HDRLEN + len;
	if (len)
		memcpy((char *)attr + NLA_HDRLEN, data, len);
	msg->nl.nlmsg_len = NLMSG_ALIGN(msg->nl.nlmsg_len) + NLA_ALIGN(attr->nla_len);
	return attr;
}

static void put_u32(struct message *msg, int type, uint32_t value)
{
	put(msg, type, &value, sizeof(value));
}

static void put_u64(struct message *msg, int type, uint64_t value)
{
	put(msg, type, &value, sizeof(value));
}

static void close_nest(struct message *msg, struct nlattr *nest)
{
	nest->nla_len = (char *)msg + msg->nl.nlmsg_len - (char *)nest;
}

static void begin(struct message *msg, int family, int cmd)
{
	memset(msg, 0, sizeof(*msg));
	msg->nl.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	msg->nl.nlmsg_type = family;
	msg->nl.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	msg->genl.cmd = cmd;
	msg->genl.version = 1;
}

/* What the kernel says of a refusal, behind the header that it refuses */
static const char *reason(const struct nlmsghdr *nl)
{
	const struct nlmsgerr *err = NLMSG_DATA(nl);
	const char *end = (const char *)nl + nl->nlmsg_len;
	const char *at = (const char *)(err + 1);

	if (!(nl->nlmsg_flags & NLM_F_ACK_TLVS))
		return strerror(-err->error);
	if (!(nl->nlmsg_flags & NLM_F_CAPPED))
		at += NLMSG_ALIGN(err->msg.nlmsg_len) - sizeof(err->msg);
	while (at + NLA_HDRLEN <= end) {
		const struct nlattr *attr = (const struct nlattr *)at;

		if (attr->nla_type == NLMSGERR_ATTR_MSG)
			return at + NLA_HDRLEN;
		if (attr->nla_len < NLA_HDRLEN)
			break;
		at += NLA_ALIGN(attr->nla_len);
	}
	return strerror(-err->error);
}

/* Send, and read up to the acknowledgement.  The answer before it is left in *msg. */
static void talk(int nl, struct message *msg)
{
	char buf[8192];

	if (send(nl, msg, msg->nl.nlmsg_len, 0) < 0)
		die("cannot send to the kernel: %s", strerror(errno));
	for (;;) {
		ssize_t n = recv(nl, buf, sizeof(buf), 0);
		struct nlmsghdr *got = (struct nlmsghdr *)buf;

		if (n < 0)
			die("no answer from the kernel: %s", strerror(errno));
		for (; NLMSG_OK(got, (size_t)n); got = NLMSG_NEXT(got, n)) {
			if (got->nlmsg_type == NLMSG_ERROR) {
				if (((struct nlmsgerr *)NLMSG_DATA(got))->error)
					die("%s", reason(got));
				return;
			}
			if (got->nlmsg_len <= sizeof(*msg))
				memcpy(msg, got, got->nlmsg_len);
		}
	}
}

static int find_family(int nl)
{
	struct message msg;
	struct nlattr *attr;
	char *end;

	begin(&msg, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	put(&msg, CTRL_ATTR_FAMILY_NAME, "nbd", sizeof("nbd"));
	talk(nl, &msg);
	end = (char *)&msg + msg.nl.nlmsg_len;
	for (attr = (struct nlattr *)msg.attrs; (char *)attr < end;
	     attr = (struct nlattr *)((char *)attr + NLA_ALIGN(attr->nla_len)))
		if (attr->nla_type == CTRL_ATTR_FAMILY_ID)
			return *(uint16_t *)((char *)attr + NLA_HDRLEN);
	die("the kernel has no family nbd");
	return -1;
}

static int open_netlink(void)
{
	struct timeval wait = { .tv_sec = ANSWER_S };
	int on = 1;
	int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);

	if (nl < 0)
		die("cannot make a netlink socket: %s", strerror(errno));
	setsockopt(nl, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	setsockopt(nl, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	return nl;
}

static void get(int fd, void *buf, size_t len)
{
	if (recv(fd, buf, len, MSG_WAITALL) != (ssize_t)len)
		die("the server ends the handshake early");
}

/* The oldest way, EXPORT_NAME. Return: a socket that is past it. */
static int negotiate(const char *host, const char *port, const char *export, uint64_t *size,
		     uint16_t *flags)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	struct __attribute__((packed)) {
		uint32_t flags;
		uint64_t magic;
		uint32_t option, len;
	} ask = { htobe32(3), htobe64(0x49484156454f5054), htobe32(1), htobe32(strlen(export)) };
	char hello[18];
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	inet_pton(AF_INET, host, &to.sin_addr);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		die("cannot connect to %s port %s: %s", host, port, strerror(errno));
	get(fd, hello, sizeof(hello));
	if (send(fd, &ask, sizeof(ask), MSG_MORE) < 0 || send(fd, export, strlen(export), 0) < 0)
		die("cannot send to the server: %s", strerror(errno));
	get(fd, size, sizeof(*size));
	get(fd, flags, sizeof(*flags));
	*size = be64toh(*size);
	*flags = be16toh(*flags);
	return fd;
}

static void on_term(int signal)
{
	(void)signal;
}

/* A copy of the socket in a process of its own, until SIGTERM */
static void keep(int fd)
{
	struct sigaction action = { .sa_handler = on_term };
	sigset_t term, old;
	pid_t pid;

	sigaction(SIGTERM, &action, NULL);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &old);
	pid = fork();
	if (pid < 0)
		die("cannot fork: %s", strerror(errno));
	if (pid) {
		printf("%d\n", pid);
		return;
	}
	close(STDOUT_FILENO);
	close(STDERR_FILENO);
	sigsuspend(&old);
	shutdown(fd, SHUT_RDWR);
	_exit(0);
}

static void hand_over(int nl, int cmd, char **argv)
{
	struct nlattr *sockets, *item;
	struct message msg;
	uint64_t size;
	uint16_t flags;
	int fd = negotiate(argv[3], argv[4], argv[5], &size, &flags);

	begin(&msg, find_family(nl), cmd);
	put_u32(&msg, NBD_ATTR_INDEX, atoi(argv[2]));
	put_u64(&msg, NBD_ATTR_SIZE_BYTES, size);
	if (cmd == NBD_CMD_CONNECT) {
		put_u64(&msg, NBD_ATTR_BLOCK_SIZE_BYTES, 4096);
		put_u64(&msg, NBD_ATTR_SERVER_FLAGS, flags);
	}
	sockets = put(&msg, NBD_ATTR_SOCKETS | NLA_F_NESTED, NULL, 0);
	item = put(&msg, NBD_SOCK_ITEM | NLA_F_NESTED, NULL, 0);
	put_u32(&msg, NBD_SOCK_FD, fd);
	close_nest(&msg, item);
	close_nest(&msg, sockets);
	talk(nl, &msg);
	keep(fd);
}

static void reconfigure(int nl, char **argv)
{
	struct message msg;

	begin(&msg, find_family(nl), NBD_CMD_RECONFIGURE);
	put_u32(&msg, NBD_ATTR_INDEX, atoi(argv[2]));
	put_u64(&msg, NBD_ATTR_TIMEOUT, atoi(argv[3]));
	put_u64(&msg, NBD_ATTR_DEAD_CONN_TIMEOUT, atoi(argv[4]));
	if (argv[5])
		put_u64(&msg, NBD_ATTR_CLIENT_FLAGS, atoi(argv[5]));
	talk(nl, &msg);
}

int main(int argc, char **argv)
{
	int nl = open_netlink();

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 6 && !strcmp(argv[1], "connect"))
		hand_over(nl, NBD_CMD_CONNECT, argv);
	else if (argc == 6 && !strcmp(argv[1], "reconnect"))
		hand_over(nl, NBD_CMD_RECONFIGURE, argv);
	else if ((argc == 5 || argc == 6) && !strcmp(argv[1], "reconfigure"))
		reconfigure(nl, argv);
	else
		return fputs("usage: nbdnl connect|reconnect N HOST PORT EXPORT\n"
			     "       nbdnl reconfigure N TIMEOUT DEAD [FLAGS]\n",
			     stderr),
		       2;
	return 0;
}
