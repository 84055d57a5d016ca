// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netlink/genl/genl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "genl.h"

/* So often is asked when the kernel has no memory to answer, us apart */
#define ASK_TRIES    10
#define ASK_INTERVAL 100000

struct call {
	uint32_t seq; /* of the message sent */
	int (*reply)(struct nlmsghdr *hdr, void *arg);
	void *arg;
	struct client_answer *answer;
	bool replied;
	bool done;
	bool broken; /* reply() did not understand */
};

/* What comes late for a call that was given up is not for this one */
static int on_any(struct nl_msg *msg, void *arg)
{
	return nlmsg_hdr(msg)->nlmsg_seq == ((struct call *)arg)->seq ? NL_OK : NL_SKIP;
}

static int on_reply(struct nl_msg *msg, void *arg)
{
	struct call *call = arg;

	call->replied = true;
	if (call->reply && call->reply(nlmsg_hdr(msg), call->arg))
		call->broken = true;
	return NL_OK;
}

/* The kernel's word for want of memory differs with where it happened */
static int known_error(int error)
{
	return error == -ENOBUFS ? ENOMEM : -error;
}

static int on_done(struct nl_msg *msg, void *arg)
{
	const struct nlmsghdr *hdr = nlmsg_hdr(msg);
	struct call *call = arg;
	int error;

	/* A dump that broke off */
	if (hdr->nlmsg_type == NLMSG_DONE && nlmsg_datalen(hdr) >= (int)sizeof(error)) {
		memcpy(&error, nlmsg_data(hdr), sizeof(error));
		if (error < 0)
			call->answer->error = known_error(error);
	}
	call->done = true;
	return NL_STOP;
}

static int on_error(struct sockaddr_nl *peer, struct nlmsgerr *error, void *arg)
{
	const struct nlmsghdr *hdr = (const struct nlmsghdr *)((const char *)error - NLMSG_HDRLEN);
	struct call *call = arg;

	(void)peer;
	call->answer->error = known_error(error->error);
	client_netlink_parse_ack(hdr, call->answer->text, sizeof(call->answer->text));
	call->done = true;
	return NL_STOP;
}

static int receive(struct client_genl *genl, struct call *call)
{
	struct nl_cb *cb = nl_cb_alloc(NL_CB_CUSTOM);
	int ret = 0;

	if (!cb)
		return -NLE_NOMEM;
	nl_cb_set(cb, NL_CB_SEQ_CHECK, NL_CB_CUSTOM, on_any, call);
	nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_reply, call);
	nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, on_done, call);
	nl_cb_set(cb, NL_CB_FINISH, NL_CB_CUSTOM, on_done, call);
	nl_cb_err(cb, NL_CB_CUSTOM, on_error, call);
	while (!call->done && ret >= 0)
		ret = nl_recvmsgs(genl->sk, cb);
	nl_cb_put(cb);
	return call->done ? 0 : ret;
}

/*
 * The acknowledgment was lost for want of memory: has what it would have followed come?
 * It was queued before.
 */
static bool answered_already(struct client_genl *genl, struct call *call)
{
	int fd = nl_socket_get_fd(genl->sk), flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return false;
	receive(genl, call);
	fcntl(fd, F_SETFL, flags);
	return call->replied;
}

/* Once.  The message may be sent again. */
static int call_once(struct client_genl *genl, struct nl_msg *msg, struct call *call,
		     struct client_error *err)
{
	struct nlmsghdr *hdr = nlmsg_hdr(msg);
	int ret;

	memset(call->answer, 0, sizeof(*call->answer));
	call->replied = call->done = call->broken = false;
	hdr->nlmsg_seq = NL_AUTO_SEQ;
	hdr->nlmsg_pid = NL_AUTO_PORT;
	ret = nl_send_auto(genl->sk, msg);
	call->seq = hdr->nlmsg_seq;
	if (ret >= 0)
		ret = receive(genl, call);
	if (ret == -NLE_NOMEM && !(hdr->nlmsg_flags & NLM_F_DUMP) && answered_already(genl, call))
		ret = 0;
	if (ret < 0) {
		call->answer->error = ret == -NLE_NOMEM ? ENOMEM : EIO;
		return client_error_set(err, CLIENT_FAILED, "cannot talk to the kernel: %s",
					nl_geterror(ret));
	}
	if (call->broken)
		return client_error_set(
			err, CLIENT_FAILED,
			"the driver's answer makes no sense: driver and client do not fit together");
	return 0;
}

int client_genl_call(struct client_genl *genl, struct nl_msg *msg,
		     int (*reply)(struct nlmsghdr *hdr, void *arg), void *arg,
		     struct client_answer *answer, struct client_error *err)
{
	struct call call = { .reply = reply, .arg = arg, .answer = answer };
	int ret;

	if (!msg)
		return client_error_set(err, CLIENT_FAILED, "out of memory");
	ret = call_once(genl, msg, &call, err);
	nlmsg_free(msg);
	return ret;
}

static int connect_socket(struct client_genl *genl, struct client_error *err)
{
	const int on = 1;
	int ret = genl_connect(genl->sk);

	if (ret)
		return client_error_set(err, CLIENT_FAILED, "cannot open a netlink socket: %s",
					nl_geterror(ret));
	/* Both only make errors clearer: kernels without them are served as well */
	setsockopt(nl_socket_get_fd(genl->sk), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	setsockopt(nl_socket_get_fd(genl->sk), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	return 0;
}

int client_genl_ask(struct client_genl *genl, struct nl_msg *msg,
		    int (*reply)(struct nlmsghdr *hdr, void *arg), void (*forget)(void *arg),
		    void *arg, struct client_answer *answer, struct client_error *err)
{
	struct call call = { .reply = reply, .arg = arg, .answer = answer };
	unsigned int tries;
	int ret;

	if (!msg)
		return client_error_set(err, CLIENT_FAILED, "out of memory");
	for (tries = 1;; tries++) {
		/* There is none when there was no memory for it, either */
		ret = nl_socket_get_fd(genl->sk) < 0 ? connect_socket(genl, err) : 0;
		if (!ret)
			ret = call_once(genl, msg, &call, err);
		else
			answer->error = ENOMEM;
		if (answer->error != ENOMEM || tries == ASK_TRIES)
			break;
		usleep(ASK_INTERVAL);
		if (forget)
			forget(arg);
		/* On the old socket a dump that broke off would still be under way */
		nl_close(genl->sk);
		nl_socket_set_local_port(genl->sk, 0);
	}
	nlmsg_free(msg);
	return ret;
}

struct family {
	int id;
	unsigned int maxattr;
};

static int on_family(struct nlmsghdr *hdr, void *arg)
{
	struct family *family = arg;

	return client_netlink_parse_family(hdr, &family->id, &family->maxattr);
}

static int find_family(struct client_genl *genl, struct client_error *err)
{
	struct client_answer answer;
	struct family family = { .id = 0 };

	if (client_genl_ask(genl, client_netlink_family(NBD_GENL_FAMILY_NAME), on_family, NULL,
			    &family, &answer, err))
		return -1;
	if (answer.error == ENOENT)
		return client_error_set(err, CLIENT_NO_DRIVER,
					"the kernel has no nbd driver: load it (modprobe nbd)");
	if (answer.error || !family.id)
		return client_error_set(err, CLIENT_FAILED, "cannot find the nbd driver: %s",
					strerror(answer.error ? answer.error : EPROTO));
	genl->family = family.id;
	genl->extended = family.maxattr >= NBDX_ATTR_FIRST;
	return 0;
}

int client_genl_open(struct client_genl *genl, struct client_error *err)
{
	memset(genl, 0, sizeof(*genl));
	genl->sk = nl_socket_alloc();
	if (!genl->sk)
		return client_error_set(err, CLIENT_FAILED, "out of memory");
	if (connect_socket(genl, err) || find_family(genl, err))
		goto err_close;
	return 0;

err_close:
	client_genl_close(genl);
	return -1;
}

void client_genl_close(struct client_genl *genl)
{
	nl_socket_free(genl->sk);
	genl->sk = NULL;
}

static enum client_exit exit_code(int error)
{
	switch (error) {
	case EPERM:
		return CLIENT_NOT_PERMITTED;
	case EBUSY:
		return CLIENT_BUSY;
	case ENODEV:
		return CLIENT_NO_DRIVER;
	case ECONNREFUSED:
	case ECONNRESET:
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ENETUNREACH:
	case ENETDOWN:
	case EADDRNOTAVAIL:
	case EPIPE:
		return CLIENT_UNREACHABLE;
	case ENOENT:
	case EACCES:
	case EPROTO:
	case EPROTONOSUPPORT:
	case EOPNOTSUPP:
	case EREMOTEIO:
	case ESHUTDOWN:
		return CLIENT_REFUSED;
	}
	return CLIENT_FAILED;
}

/* What to do about it */
static const char *advice(enum client_operation operation, const struct client_answer *answer)
{
	int error = answer->error;

	if (error == EPERM)
		return "; run nbd-client as root";
	if (error == EBUSY && operation == CLIENT_OP_DISCONNECT)
		return "; swapoff or umount it first, or use -force";
	if (error == EBUSY && operation == CLIENT_OP_CONNECT)
		return "; disconnect it with nbd-client -d, or take another device";
	/* The driver's own words, where there are any, say it all */
	if (error == EINVAL && operation == CLIENT_OP_CONNECT && !answer->text[0])
		return "; the driver's reason is in the kernel log (dmesg)";
	if (!answer->text[0] && (error == ENOENT || error == EINVAL || error == ENODEV) &&
	    operation != CLIENT_OP_CONNECT)
		return "; there may be no such device";
	if (operation == CLIENT_OP_CONNECT && exit_code(error) == CLIENT_UNREACHABLE)
		return "; check that the server runs there and that nothing blocks its port";
	return "";
}

int client_genl_explain(enum client_operation operation, const char *name,
			const struct client_answer *answer, struct client_error *err)
{
	static const char *const verbs[] = {
		[CLIENT_OP_CONNECT] = "connect",
		[CLIENT_OP_DISCONNECT] = "disconnect",
		[CLIENT_OP_STATUS] = "get the status of",
		[CLIENT_OP_SET] = "change",
	};
	const char *text = answer->text;
	size_t len = strlen(name);

	/* The driver may name the device itself */
	if (!strncmp(text, name, len) && text[len] == ':' && text[len + 1] == ' ')
		text += len + 2;
	if (!*text && answer->error == EBUSY && operation == CLIENT_OP_CONNECT)
		text = "it is connected already";
	else if (!*text)
		text = strerror(answer->error);
	return client_error_set(err, exit_code(answer->error), "cannot %s %s: %s%s",
				verbs[operation], name, text, advice(operation, answer));
}
