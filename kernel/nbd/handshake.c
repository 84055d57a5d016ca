// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fixed-newstyle handshake: the session where there is one, then GO with a
 * request for the block sizes, EXPORT_NAME where the server does not know GO.
 */
#ifdef __KERNEL__
#include <linux/ctype.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/string.h>
#include "common/nbd-wire.h"
#else
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "nbd-wire.h"
#endif

#include "handshake.h"

static u16 get16(const u8 *p)
{
	return (u16)(p[0] << 8 | p[1]);
}

static u32 get32(const u8 *p)
{
	return (u32)get16(p) << 16 | get16(p + 2);
}

static u64 get64(const u8 *p)
{
	return (u64)get32(p) << 32 | get32(p + 4);
}

static u8 *put16(u8 *p, u16 v)
{
	p[0] = (u8)(v >> 8);
	p[1] = (u8)v;
	return p + 2;
}

static u8 *put32(u8 *p, u32 v)
{
	return put16(put16(p, (u16)(v >> 16)), (u16)v);
}

static u8 *put64(u8 *p, u64 v)
{
	return put32(put32(p, (u32)(v >> 32)), (u32)v);
}

static void enter(struct nbd_handshake *hs, enum nbd_handshake_state state, u32 want)
{
	hs->state = state;
	hs->have = 0;
	hs->want = want;
}

/* The server broke the protocol: @what it sent, and the offending @value */
static void broken(struct nbd_handshake *hs, const char *what, u64 value)
{
	snprintf(hs->text, sizeof(hs->text), "server sent %s 0x%llx", what,
		 (unsigned long long)value);
	hs->error = -EPROTO;
	hs->protocol_error = true;
	enter(hs, NBD_HS_FAILED, 0);
}

static void refused(struct nbd_handshake *hs, int error, const char *text)
{
	snprintf(hs->text, sizeof(hs->text), "%s", text);
	hs->error = error;
	enter(hs, NBD_HS_FAILED, 0);
}

static u8 *put_option(u8 *p, u32 option, u32 len)
{
	return put32(put32(put64(p, NBD_WIRE_OPTION_MAGIC), option), len);
}

static void await_reply(struct nbd_handshake *hs, u32 option)
{
	hs->option = option;
	enter(hs, NBD_HS_REPLY, NBD_WIRE_OPT_REPLY_LEN);
}

static void send_session(struct nbd_handshake *hs)
{
	u8 *p = put_option(hs->out + hs->out_len, NBD_WIRE_OPT_X_SESSION, NBD_WIRE_X_SESSION_LEN);

	memcpy(p, hs->session, NBD_WIRE_X_SESSION_LEN);
	hs->out_len = (u32)(p + NBD_WIRE_X_SESSION_LEN - hs->out);
	await_reply(hs, NBD_WIRE_OPT_X_SESSION);
}

static void send_go(struct nbd_handshake *hs)
{
	u8 *p = hs->out + hs->out_len;

	p = put_option(p, NBD_WIRE_OPT_GO, 4 + hs->name_len + 2 + 2);
	p = put32(p, hs->name_len);
	memcpy(p, hs->name, hs->name_len);
	p = put16(p + hs->name_len, 1);
	p = put16(p, NBD_WIRE_INFO_BLOCK_SIZE);
	hs->out_len = (u32)(p - hs->out);
	await_reply(hs, NBD_WIRE_OPT_GO);
}

static void send_export_name(struct nbd_handshake *hs)
{
	u8 *p = put_option(hs->out + hs->out_len, NBD_WIRE_OPT_EXPORT_NAME, hs->name_len);

	memcpy(p, hs->name, hs->name_len);
	hs->out_len = (u32)(p + hs->name_len - hs->out);
	enter(hs, NBD_HS_EXPORT, NBD_WIRE_EXPORT_REPLY_LEN);
}

static void greeted(struct nbd_handshake *hs)
{
	u64 magic = get64(hs->in), style = get64(hs->in + 8);
	u16 flags = get16(hs->in + 16);
	u32 answer = 0;

	if (magic != NBD_WIRE_INIT_MAGIC) {
		broken(hs, "no NBD greeting but", magic);
		return;
	}
	if (style == NBD_WIRE_OLDSTYLE_MAGIC) {
		refused(hs, -EPROTONOSUPPORT,
			"server speaks the oldstyle handshake, withdrawn from the protocol");
		return;
	}
	if (style != NBD_WIRE_OPTION_MAGIC) {
		broken(hs, "unknown handshake magic", style);
		return;
	}

	if (flags & NBD_WIRE_NO_ZEROES) {
		hs->no_zeroes = true;
		answer |= NBD_WIRE_NO_ZEROES;
	}
	if (flags & NBD_WIRE_FIXED_NEWSTYLE)
		answer |= NBD_WIRE_FIXED_NEWSTYLE;
	put32(hs->out, answer);
	hs->out_len = NBD_WIRE_CLIENT_FLAGS_LEN;

	/* A server without the fixed style closes at any option it does not know */
	if (hs->no_go || !(flags & NBD_WIRE_FIXED_NEWSTYLE))
		send_export_name(hs);
	else if (hs->session)
		send_session(hs);
	else
		send_go(hs);
}

static void export_flags(struct nbd_handshake *hs, u64 size, u16 flags)
{
	hs->export.size = size;
	/* A server without HAS_FLAGS supports nothing beyond READ and WRITE */
	hs->export.flags = flags & NBD_WIRE_FLAG_HAS_FLAGS ? flags : 0;
}

static void go_acknowledged(struct nbd_handshake *hs)
{
	if (!hs->have_export) {
		refused(hs, -EPROTO, "server accepted GO without telling the size of its export");
		hs->protocol_error = true;
		return;
	}
	enter(hs, NBD_HS_DONE, 0);
}

/* Every error is a final reply; of the others the option decides */
static bool reply_expected(const struct nbd_handshake *hs, u32 type)
{
	if (type & NBD_WIRE_REP_ERROR || type == NBD_WIRE_REP_ACK)
		return true;
	return hs->option == NBD_WIRE_OPT_GO && type == NBD_WIRE_REP_INFO;
}

static void reply_header(struct nbd_handshake *hs)
{
	u64 magic = get64(hs->in);
	u32 option = get32(hs->in + 8), type = get32(hs->in + 12), len = get32(hs->in + 16);

	if (magic != NBD_WIRE_OPT_REPLY_MAGIC) {
		broken(hs, "option reply magic", magic);
		return;
	}
	if (option != hs->option) {
		broken(hs, "a reply to an option that was not sent,", option);
		return;
	}
	if (len > NBD_HANDSHAKE_MAX_REPLY_LEN) {
		broken(hs, "an option reply of length", len);
		return;
	}
	if (++hs->replies > NBD_HANDSHAKE_MAX_REPLIES) {
		broken(hs, "too many replies to GO, more than", NBD_HANDSHAKE_MAX_REPLIES);
		return;
	}
	if (!reply_expected(hs, type)) {
		broken(hs, option == NBD_WIRE_OPT_GO ? "an unexpected reply to GO of type" :
		       "an unexpected reply to the session option of type", type);
		return;
	}
	if (type == NBD_WIRE_REP_INFO && len < 2) {
		broken(hs, "an information reply of length", len);
		return;
	}

	hs->reply_type = type;
	enter(hs, NBD_HS_DATA, len < NBD_HANDSHAKE_IN_MAX ? len : NBD_HANDSHAKE_IN_MAX);
	hs->reply_left = len - hs->want;
}

static void info(struct nbd_handshake *hs)
{
	u32 len = hs->have + hs->reply_left;
	u16 type = get16(hs->in);
	u32 min, preferred;

	switch (type) {
	case NBD_WIRE_INFO_EXPORT:
		if (len != NBD_WIRE_INFO_EXPORT_LEN) {
			broken(hs, "its export's size in a reply of length", len);
			return;
		}
		export_flags(hs, get64(hs->in + 2), get16(hs->in + 10));
		hs->have_export = true;
		break;
	case NBD_WIRE_INFO_BLOCK_SIZE:
		if (len != NBD_WIRE_INFO_BLOCK_SIZE_LEN) {
			broken(hs, "block sizes in a reply of length", len);
			return;
		}
		min = get32(hs->in + 2);
		preferred = get32(hs->in + 6);
		if (!min || min & (min - 1) || min > NBD_WIRE_MAX_MIN_BLOCK) {
			broken(hs, "an impossible minimum block size", min);
			return;
		}
		if (preferred < min || preferred < 512 || preferred & (preferred - 1)) {
			broken(hs, "an impossible preferred block size", preferred);
			return;
		}
		hs->export.max_payload = get32(hs->in + 10);
		if (hs->export.max_payload < min) {
			broken(hs, "a maximum payload below its block size,",
			       hs->export.max_payload);
			return;
		}
		hs->export.min_block = min;
		hs->export.preferred_block = preferred;
		break;
	default:
		break;	/* must be ignored */
	}
}

static const struct {
	u32 type;
	int error;
	const char *text;
} reply_errors[] = {
	{ NBD_WIRE_REP_ERR_UNKNOWN, -ENOENT, "server does not know export" },
	{ NBD_WIRE_REP_ERR_TLS_REQD, -EACCES, "server demands TLS for export" },
	{ NBD_WIRE_REP_ERR_POLICY, -EACCES, "server's policy forbids export" },
	{ NBD_WIRE_REP_ERR_SHUTDOWN, -ESHUTDOWN, "server is shutting down; export" },
	{ NBD_WIRE_REP_ERR_BLOCK_SIZE_REQD, -EPROTO,
	  "server demands its block sizes for export" },
	{ NBD_WIRE_REP_ERR_INVALID, -EINVAL, "server finds the request invalid for export" },
	{ NBD_WIRE_REP_ERR_PLATFORM, -EOPNOTSUPP, "server's platform does not support export" },
	{ NBD_WIRE_REP_ERR_TOO_BIG, -E2BIG, "server finds the request too long for export" },
};

/* What the server says goes to logs and terminals: printable ASCII only */
static void append_text(struct nbd_handshake *hs, const char *text, u32 len)
{
	u32 at = (u32)strlen(hs->text);
	u32 i;

	for (i = 0; i < len && at < sizeof(hs->text) - 1; i++)
		hs->text[at++] = text[i] >= ' ' && text[i] < 127 ? text[i] : '?';
	hs->text[at] = '\0';
}

static void reply_error(struct nbd_handshake *hs)
{
	const char *text = "server refuses export";
	int error = -EREMOTEIO;
	u32 have = hs->have, type = hs->reply_type;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(reply_errors); i++) {
		if (reply_errors[i].type == type) {
			text = reply_errors[i].text;
			error = reply_errors[i].error;
		}
	}

	refused(hs, error, text);
	append_text(hs, " '", 2);
	append_text(hs, hs->name, hs->name_len < 64 ? hs->name_len : 64);
	append_text(hs, "'", 1);
	if (have) {
		append_text(hs, ": ", 2);
		append_text(hs, (const char *)hs->in, have);
	}
}

/* The session is a help, not a condition: only two answers end the handshake */
static void session_error(struct nbd_handshake *hs)
{
	switch (hs->reply_type) {
	case NBD_WIRE_REP_ERR_X_BUSY:
		refused(hs, -EBUSY, "server still works on requests of the connection before");
		break;
	case NBD_WIRE_REP_ERR_SHUTDOWN:
		reply_error(hs);
		break;
	default:
		break;
	}
}

static void reply_data(struct nbd_handshake *hs)
{
	if (hs->option == NBD_WIRE_OPT_X_SESSION) {
		session_error(hs);
	} else {
		switch (hs->reply_type) {
		case NBD_WIRE_REP_INFO:
			info(hs);
			break;
		case NBD_WIRE_REP_ACK:
		case NBD_WIRE_REP_ERR_UNSUP:
			break;
		default:
			reply_error(hs);
		}
	}
	if (hs->state == NBD_HS_FAILED)
		return;

	hs->skip = hs->reply_left;
	enter(hs, NBD_HS_SKIP, hs->skip < NBD_HANDSHAKE_IN_MAX ? hs->skip : NBD_HANDSHAKE_IN_MAX);
}

static void reply_skipped(struct nbd_handshake *hs)
{
	hs->skip -= hs->have;
	if (hs->skip) {
		enter(hs, NBD_HS_SKIP,
		      hs->skip < NBD_HANDSHAKE_IN_MAX ? hs->skip : NBD_HANDSHAKE_IN_MAX);
		return;
	}
	if (hs->option == NBD_WIRE_OPT_X_SESSION) {
		hs->fenced = hs->reply_type == NBD_WIRE_REP_ACK;
		send_go(hs);
		return;
	}
	switch (hs->reply_type) {
	case NBD_WIRE_REP_ACK:
		go_acknowledged(hs);
		break;
	case NBD_WIRE_REP_ERR_UNSUP:
		/* What an earlier reply to GO has told does not bind EXPORT_NAME */
		memset(&hs->export, 0, sizeof(hs->export));
		hs->have_export = false;
		send_export_name(hs);
		break;
	default:
		enter(hs, NBD_HS_REPLY, NBD_WIRE_OPT_REPLY_LEN);
	}
}

static void export_reply(struct nbd_handshake *hs)
{
	export_flags(hs, get64(hs->in), get16(hs->in + 8));
	enter(hs, NBD_HS_ZEROES, hs->no_zeroes ? 0 : NBD_WIRE_EXPORT_ZEROES);
}

/* Go on for as long as the state has all it wants; a state may want nothing */
static void advance(struct nbd_handshake *hs)
{
	while (hs->have == hs->want) {
		switch (hs->state) {
		case NBD_HS_GREETING:
			greeted(hs);
			break;
		case NBD_HS_REPLY:
			reply_header(hs);
			break;
		case NBD_HS_DATA:
			reply_data(hs);
			break;
		case NBD_HS_SKIP:
			reply_skipped(hs);
			break;
		case NBD_HS_EXPORT:
			export_reply(hs);
			break;
		case NBD_HS_ZEROES:
			enter(hs, NBD_HS_DONE, 0);
			return;
		case NBD_HS_DONE:
		case NBD_HS_FAILED:
			return;
		}
	}
}

/**
 * nbd_handshake_start() - begin a handshake
 * @hs: the handshake; what it held is lost
 * @name: export name, must outlive the handshake
 * @name_len: its length, bytes, at most NBD_HANDSHAKE_NAME_MAX
 * @no_go: negotiate by EXPORT_NAME alone
 * @session: NBD_WIRE_X_SESSION_LEN bytes, id and link in network order, to
 *	     announce first where the server's style allows that; must outlive
 *	     the handshake; NULL: none
 */
void nbd_handshake_start(struct nbd_handshake *hs, const char *name, size_t name_len,
			 bool no_go, const u8 *session)
{
	memset(hs, 0, sizeof(*hs));
	hs->name = name;
	hs->name_len = (u32)name_len;
	hs->no_go = no_go;
	hs->session = session;
	enter(hs, NBD_HS_GREETING, NBD_WIRE_GREETING_LEN);
}

/**
 * nbd_handshake_buffer() - where the next bytes from the server belong
 * @hs: the handshake
 * @len: set to the number of bytes wanted, never more than belong to the
 *	 handshake; 0 when it is over
 *
 * Return: the place to put them.
 */
u8 *nbd_handshake_buffer(struct nbd_handshake *hs, size_t *len)
{
	*len = hs->want - hs->have;
	return hs->in + hs->have;
}

/**
 * nbd_handshake_received() - bytes from the server have arrived
 * @hs: the handshake
 * @len: their number, at most what nbd_handshake_buffer() asked for
 *
 * Afterwards hs->out_len bytes of hs->out are to be sent, and hs->state tells
 * whether the handshake is over.
 */
void nbd_handshake_received(struct nbd_handshake *hs, size_t len)
{
	hs->have += (u32)len;
	advance(hs);
}

/**
 * nbd_handshake_closed() - the server has closed the connection
 * @hs: the handshake, not over yet
 */
void nbd_handshake_closed(struct nbd_handshake *hs)
{
	/* The only way in which a server can refuse EXPORT_NAME */
	if (hs->state == NBD_HS_EXPORT) {
		refused(hs, -ENOENT, "server closed the connection when asked for export '");
		append_text(hs, hs->name, hs->name_len < 64 ? hs->name_len : 64);
		append_text(hs, "'", 1);
		return;
	}
	refused(hs, -ECONNRESET, hs->state == NBD_HS_GREETING ?
		"server closed the connection before its greeting" :
		"server closed the connection during the handshake");
}
