// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The handshake half of the engine: fixed newstyle negotiation.
 *
 * Every option passes one reader: its data is held whole, in a buffer of fixed
 * size, before anything looks at it; data too long for the buffer is passed
 * over and refused.  So the stream stays in sync whatever is asked for.
 */
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "server/session.h"

/* What an export offers only with structured replies */
#define SRV_STRUCTURED_FLAGS \
	(NBD_WIRE_FLAG_SEND_DF | NBD_WIRE_FLAG_SEND_CACHE | NBD_WIRE_FLAG_SEND_FAST_ZERO)

static uint8_t *out_space(struct srv_session *s, size_t n)
{
	uint8_t *p = s->out + s->out_len;

	s->out_len += n;
	return p;
}

static size_t out_left(const struct srv_session *s)
{
	return SRV_MAX_OUT - s->out_len;
}

/* The head of an option reply; @len bytes of data are to follow */
static void put_reply(struct srv_session *s, uint32_t type, size_t len)
{
	uint8_t *p = out_space(s, NBD_WIRE_OPT_REPLY_LEN);

	nbd_put_be64(p, NBD_WIRE_OPT_REPLY_MAGIC);
	nbd_put_be32(p + 8, s->opt);
	nbd_put_be32(p + 12, type);
	nbd_put_be32(p + 16, (uint32_t)len);
}

static void put_bytes(struct srv_session *s, const void *data, size_t len)
{
	memcpy(out_space(s, len), data, len);
}

/* The final reply to an option, good or bad: the next option may follow */
static enum srv_event finish_option(struct srv_session *s, uint32_t type, const char *text)
{
	size_t len = text ? strnlen(text, SRV_MAX_REASON) : 0;

	put_reply(s, type, len);
	put_bytes(s, text ? text : "", len);
	s->state = SRV_OPTION;
	return SRV_SEND;
}

static enum srv_event greet(struct srv_session *s)
{
	uint8_t *p = out_space(s, NBD_WIRE_GREETING_LEN);

	nbd_put_be64(p, NBD_WIRE_INIT_MAGIC);
	nbd_put_be64(p + 8, NBD_WIRE_OPTION_MAGIC);
	nbd_put_be16(p + 16, NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES);
	s->state = SRV_CLIENT_FLAGS;
	return SRV_SEND;
}

static enum srv_event take_client_flags(struct srv_session *s)
{
	uint32_t flags = nbd_get_be32(s->in);

	if (flags & ~(NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES))
		return srv_close(s, "unknown client flags 0x%08x", flags);
	s->fixed = flags & NBD_WIRE_FIXED_NEWSTYLE;
	s->no_zeroes = flags & NBD_WIRE_NO_ZEROES;
	s->state = SRV_OPTION;
	return SRV_MORE;
}

/* The longest data worth holding for an option; anything longer is refused */
static uint32_t option_limit(uint32_t opt)
{
	switch (opt) {
	case NBD_WIRE_OPT_EXPORT_NAME:
		return NBD_WIRE_MAX_STRING;
	case NBD_WIRE_OPT_INFO:
	case NBD_WIRE_OPT_GO:
	case NBD_WIRE_OPT_LIST_META_CONTEXT:
	case NBD_WIRE_OPT_SET_META_CONTEXT:
		return SRV_MAX_OPTION;
	case NBD_WIRE_OPT_X_SESSION:
		return NBD_WIRE_X_SESSION_LEN;
	default:
		return 0;
	}
}

static enum srv_event take_option_header(struct srv_session *s)
{
	uint64_t magic = nbd_get_be64(s->in);

	if (magic != NBD_WIRE_OPTION_MAGIC)
		return srv_close(s, "option with wrong magic 0x%016llx", (unsigned long long)magic);
	s->opt = nbd_get_be32(s->in + 8);
	s->opt_len = nbd_get_be32(s->in + 12);
	if (s->opt == NBD_WIRE_OPT_EXPORT_NAME) {
		/* It has no reply that could carry an error */
		if (s->needs_tls && !s->secure)
			return srv_close(s, "an export is asked for without TLS");
		if (s->opt_len > NBD_WIRE_MAX_STRING)
			return srv_close(s, "export name of %u bytes", s->opt_len);
	} else if (!s->fixed) {
		return srv_close(s, "option %u without fixed newstyle", s->opt);
	}
	s->state = s->opt_len > option_limit(s->opt) ? SRV_OPTION_SKIP : SRV_OPTION_DATA;
	s->skip = s->state == SRV_OPTION_SKIP ? s->opt_len : 0;
	return SRV_MORE;
}

static enum srv_event open_name(struct srv_session *s, const uint8_t *name, uint32_t len)
{
	/* A name with a NUL inside would be cut and found as another one */
	if (memchr(name, 0, len)) {
		s->state = SRV_OPENING;
		srv_session_opened(s, SRV_OPEN_UNKNOWN, NULL, "export name contains a NUL byte");
		return s->state == SRV_CLOSED ? SRV_CLOSE : SRV_SEND;
	}
	memmove(s->in, name, len);
	s->in[len] = 0;
	s->name = (const char *)s->in;
	s->state = SRV_OPENING;
	return SRV_OPEN;
}

/* INFO and GO: u32 name length, name, u16 count, count times u16 */
static enum srv_event take_info(struct srv_session *s)
{
	const uint8_t *p = s->in;
	uint32_t name_len;
	unsigned int i, n;

	if (s->opt_len < 6)
		return finish_option(s, NBD_WIRE_REP_ERR_INVALID, "option data too short");
	name_len = nbd_get_be32(p);
	if (name_len > s->opt_len - 6)
		return finish_option(s, NBD_WIRE_REP_ERR_INVALID, "name longer than the option");
	if (name_len > NBD_WIRE_MAX_STRING)
		return finish_option(s, NBD_WIRE_REP_ERR_TOO_BIG, "name longer than 4096 bytes");
	p += 4 + name_len;
	n = nbd_get_be16(p);
	if (s->opt_len - 6 - name_len != 2 * n)
		return finish_option(s, NBD_WIRE_REP_ERR_INVALID,
				     "count of information requests does not fit the length");
	s->want_name = s->want_description = s->want_block_size = false;
	for (i = 0; i < n; i++) {
		uint16_t want = nbd_get_be16(p + 2 + 2 * i);

		s->want_name |= want == NBD_WIRE_INFO_NAME;
		s->want_description |= want == NBD_WIRE_INFO_DESCRIPTION;
		s->want_block_size |= want == NBD_WIRE_INFO_BLOCK_SIZE;
	}
	return open_name(s, s->in + 4, name_len);
}

/* The queries of LIST_META_CONTEXT and SET_META_CONTEXT, after the name */
static const uint8_t *meta_queries(const struct srv_session *s, uint32_t name_len)
{
	return s->in + 4 + name_len;
}

/* u32 name length, name, u32 count, count times u32 length and a query */
static enum srv_event take_meta(struct srv_session *s)
{
	bool set = s->opt == NBD_WIRE_OPT_SET_META_CONTEXT;
	uint32_t name_len, left, n, len;
	const uint8_t *p;

	/* What was chosen before is gone even when this fails */
	if (set)
		s->allocation = false;
	if (set && !s->structured)
		return finish_option(s, NBD_WIRE_REP_ERR_INVALID,
				     "metadata needs structured replies");
	if (s->opt_len < 8)
		return finish_option(s, NBD_WIRE_REP_ERR_INVALID, "option data too short");
	name_len = nbd_get_be32(s->in);
	if (name_len > s->opt_len - 8)
		return finish_option(s, NBD_WIRE_REP_ERR_INVALID, "name longer than the option");
	if (name_len > NBD_WIRE_MAX_STRING)
		return finish_option(s, NBD_WIRE_REP_ERR_TOO_BIG, "name longer than 4096 bytes");
	p = meta_queries(s, name_len);
	left = s->opt_len - 8 - name_len;
	n = nbd_get_be32(p);
	for (p += 4; n && left >= 4; n--) {
		len = nbd_get_be32(p);
		if (len > left - 4)
			break;
		p += 4 + len;
		left -= 4 + len;
	}
	if (n || left)
		return finish_option(s, NBD_WIRE_REP_ERR_INVALID,
				     "queries do not fit the length of the option");
	/* For the queries' sake: opening the name moves it, and no more than this */
	s->meta_len = name_len;
	return open_name(s, s->in + 4, name_len);
}

/* Does one of the queries ask for base:allocation? */
static bool wants_allocation(const struct srv_session *s)
{
	static const char name[] = NBD_WIRE_META_ALLOCATION;
	const uint8_t *p = meta_queries(s, s->meta_len);
	bool list = s->opt == NBD_WIRE_OPT_LIST_META_CONTEXT;
	uint32_t n = nbd_get_be32(p), len;

	if (!n)
		return list;
	for (p += 4; n--; p += len) {
		len = nbd_get_be32(p);
		p += 4;
		if (len == sizeof(name) - 1 && !memcmp(p, name, len))
			return true;
		/* The namespace alone asks what there is in it */
		if (list && len == 5 && !memcmp(p, name, len))
			return true;
	}
	return false;
}

/* The answer to both, once the export is known to be there */
static void put_meta(struct srv_session *s)
{
	static const char name[] = NBD_WIRE_META_ALLOCATION;
	bool set = s->opt == NBD_WIRE_OPT_SET_META_CONTEXT;

	if (wants_allocation(s)) {
		put_reply(s, NBD_WIRE_REP_META_CONTEXT, 4 + sizeof(name) - 1);
		nbd_put_be32(out_space(s, 4), set ? SRV_META_ID : 0);
		put_bytes(s, name, sizeof(name) - 1);
		if (set) {
			s->allocation = true;
			memcpy(s->hs->meta_name, s->name, s->meta_len + 1);
		}
	}
	finish_option(s, NBD_WIRE_REP_ACK, NULL);
}

/* As much of the answer to LIST as there is room for */
static enum srv_event put_list(struct srv_session *s)
{
	const char *name, *description;
	size_t name_len, desc_len;

	while (s->list(s->list_ctx, s->list_next, &name, &description)) {
		name_len = strlen(name);
		desc_len = description ? strlen(description) : 0;
		if (NBD_WIRE_OPT_REPLY_LEN + 4 + name_len + desc_len > out_left(s))
			return SRV_SEND;
		put_reply(s, NBD_WIRE_REP_SERVER, 4 + name_len + desc_len);
		nbd_put_be32(out_space(s, 4), (uint32_t)name_len);
		put_bytes(s, name, name_len);
		put_bytes(s, description ? description : "", desc_len);
		s->list_next++;
	}
	if (out_left(s) < NBD_WIRE_OPT_REPLY_LEN)
		return SRV_SEND;
	return finish_option(s, NBD_WIRE_REP_ACK, NULL);
}

static enum srv_event take_list(struct srv_session *s)
{
	if (!s->list)
		return finish_option(s, NBD_WIRE_REP_ERR_POLICY,
				     "this server does not list its exports");
	s->list_next = 0;
	s->state = SRV_LISTING;
	return put_list(s);
}

/* u8 id[16], u32 link */
static enum srv_event take_session(struct srv_session *s)
{
	const uint8_t *id = s->in;
	uint32_t link;

	if (!s->can_fence)
		return finish_option(s, NBD_WIRE_REP_ERR_UNSUP,
				     "sessions need one server for all connections");
	if (s->opt_len != NBD_WIRE_X_SESSION_LEN)
		return finish_option(s, NBD_WIRE_REP_ERR_INVALID, "a session is told in 20 bytes");
	link = nbd_get_be32(s->in + NBD_WIRE_X_SESSION_ID_LEN);
	if (s->fenced)
		return finish_option(s, NBD_WIRE_REP_ERR_INVALID,
				     "the session has been told already");
	if (s->announced &&
	    (memcmp(s->session_id, id, sizeof(s->session_id)) || s->session_link != link))
		return finish_option(s, NBD_WIRE_REP_ERR_INVALID,
				     "another session has been told before");
	if (!s->announced) {
		memcpy(s->session_id, id, sizeof(s->session_id));
		s->session_link = link;
		s->announced = true;
	}
	s->state = SRV_FENCING;
	return SRV_FENCE;
}

void srv_session_fenced(struct srv_session *s, bool drained)
{
	s->fenced = drained;
	if (drained)
		finish_option(s, NBD_WIRE_REP_ACK, NULL);
	else if (s->shutdown)
		finish_option(s, NBD_WIRE_REP_ERR_SHUTDOWN, "the server is shutting down");
	else
		finish_option(s, NBD_WIRE_REP_ERR_X_BUSY,
			      "an older connection of the session is still at work; ask again");
}

static enum srv_event take_starttls(struct srv_session *s, bool too_long)
{
	if (too_long)
		return finish_option(s, NBD_WIRE_REP_ERR_INVALID, "STARTTLS takes no data");
	if (s->secure)
		return finish_option(s, NBD_WIRE_REP_ERR_INVALID, "there is TLS already");
	if (!s->can_tls)
		return finish_option(s, NBD_WIRE_REP_ERR_POLICY, "this server has no TLS");
	finish_option(s, NBD_WIRE_REP_ACK, NULL);
	s->state = SRV_SECURING;
	return SRV_SEND;
}

/*
 * Whoever could change what was sent without TLS could have said any of it: what
 * was agreed on so far, and whose session this is, is not the client's word.
 */
void srv_session_secured(struct srv_session *s)
{
	s->secure = true;
	s->structured = false;
	s->extended = false;
	s->allocation = false;
	s->announced = false;
	s->fenced = false;
	s->state = SRV_OPTION;
}

/* All data of the option is in s->in, or has been passed over as too long */
static enum srv_event take_option(struct srv_session *s, bool too_long)
{
	if (s->opt == NBD_WIRE_OPT_ABORT) {
		finish_option(s, NBD_WIRE_REP_ACK, NULL);
		s->closing = true;
		return SRV_SEND;
	}
	if (s->needs_tls && !s->secure && s->opt != NBD_WIRE_OPT_STARTTLS)
		return finish_option(s, NBD_WIRE_REP_ERR_TLS_REQD, "this server needs TLS");
	if (s->shutdown && s->opt != NBD_WIRE_OPT_EXPORT_NAME)
		return finish_option(s, NBD_WIRE_REP_ERR_SHUTDOWN, "the server is shutting down");

	switch (s->opt) {
	case NBD_WIRE_OPT_EXPORT_NAME:
		if (s->shutdown)
			return srv_close(s, "shutting down");
		/* A reply that would be as before is not what the client waits for */
		if (s->extended)
			return srv_close(s, "EXPORT_NAME after extended headers");
		return open_name(s, s->in, s->opt_len);
	case NBD_WIRE_OPT_INFO:
	case NBD_WIRE_OPT_GO:
		if (too_long)
			return finish_option(s, NBD_WIRE_REP_ERR_TOO_BIG, "option too long");
		return take_info(s);
	case NBD_WIRE_OPT_LIST:
		if (too_long)
			return finish_option(s, NBD_WIRE_REP_ERR_INVALID, "LIST takes no data");
		return take_list(s);
	case NBD_WIRE_OPT_STRUCTURED_REPLY:
		if (too_long)
			return finish_option(s, NBD_WIRE_REP_ERR_INVALID,
					     "STRUCTURED_REPLY takes no data");
		if (s->extended)
			return finish_option(s, NBD_WIRE_REP_ERR_EXT_HEADER_REQD,
					     "extended headers have been chosen already");
		s->structured = true;
		return finish_option(s, NBD_WIRE_REP_ACK, NULL);
	case NBD_WIRE_OPT_EXTENDED_HEADERS:
		if (too_long || s->extended)
			return finish_option(s, NBD_WIRE_REP_ERR_INVALID,
					     too_long ?
						     "EXTENDED_HEADERS takes no data" :
						     "extended headers have been chosen already");
		s->extended = true;
		s->structured = true;
		return finish_option(s, NBD_WIRE_REP_ACK, NULL);
	case NBD_WIRE_OPT_LIST_META_CONTEXT:
	case NBD_WIRE_OPT_SET_META_CONTEXT:
		if (!too_long)
			return take_meta(s);
		if (s->opt == NBD_WIRE_OPT_SET_META_CONTEXT)
			s->allocation = false;
		return finish_option(s, NBD_WIRE_REP_ERR_TOO_BIG, "option too long");
	case NBD_WIRE_OPT_STARTTLS:
		return take_starttls(s, too_long);
	case NBD_WIRE_OPT_X_SESSION:
		return take_session(s);
	default:
		return finish_option(s, NBD_WIRE_REP_ERR_UNSUP, "option not supported");
	}
}

static void put_info_string(struct srv_session *s, uint16_t type, const char *text)
{
	size_t len = strlen(text);

	put_reply(s, NBD_WIRE_REP_INFO, 2 + len);
	nbd_put_be16(out_space(s, 2), type);
	put_bytes(s, text, len);
}

static void put_info(struct srv_session *s)
{
	const struct srv_export_info *info = &s->info;
	uint8_t *p;

	put_reply(s, NBD_WIRE_REP_INFO, NBD_WIRE_INFO_EXPORT_LEN);
	p = out_space(s, NBD_WIRE_INFO_EXPORT_LEN);
	nbd_put_be16(p, NBD_WIRE_INFO_EXPORT);
	nbd_put_be64(p + 2, info->size);
	nbd_put_be16(p + 10, info->flags);
	if (s->want_name)
		put_info_string(s, NBD_WIRE_INFO_NAME, info->name);
	if (s->want_description && info->description)
		put_info_string(s, NBD_WIRE_INFO_DESCRIPTION, info->description);
	if (s->want_block_size) {
		put_reply(s, NBD_WIRE_REP_INFO, NBD_WIRE_INFO_BLOCK_SIZE_LEN);
		p = out_space(s, NBD_WIRE_INFO_BLOCK_SIZE_LEN);
		nbd_put_be16(p, NBD_WIRE_INFO_BLOCK_SIZE);
		nbd_put_be32(p + 2, info->min_block);
		nbd_put_be32(p + 6, info->preferred_block);
		nbd_put_be32(p + 10, info->max_payload);
	}
}

/* The answer to EXPORT_NAME has a form of its own */
static void put_export_name(struct srv_session *s)
{
	uint8_t *p = out_space(s, NBD_WIRE_EXPORT_REPLY_LEN);

	nbd_put_be64(p, s->info.size);
	nbd_put_be16(p + 8, s->info.flags);
	if (!s->no_zeroes)
		memset(out_space(s, NBD_WIRE_EXPORT_ZEROES), 0, NBD_WIRE_EXPORT_ZEROES);
}

void srv_session_opened(struct srv_session *s, enum srv_open_result result,
			const struct srv_export_info *info, const char *why)
{
	static const uint32_t errors[] = {
		[SRV_OPEN_UNKNOWN] = NBD_WIRE_REP_ERR_UNKNOWN,
		[SRV_OPEN_POLICY] = NBD_WIRE_REP_ERR_POLICY,
		[SRV_OPEN_TLS] = NBD_WIRE_REP_ERR_TLS_REQD,
	};

	if (result != SRV_OPEN_OK) {
		if (s->opt == NBD_WIRE_OPT_EXPORT_NAME)
			srv_close(s, "%s", why);
		else
			finish_option(s, errors[result], why);
		return;
	}

	if (s->opt == NBD_WIRE_OPT_LIST_META_CONTEXT || s->opt == NBD_WIRE_OPT_SET_META_CONTEXT) {
		put_meta(s);
		return;
	}
	s->info = *info;
	/*
	 * Who cannot take structured replies sees what it always has: a driver that
	 * finds other flags after a server's upgrade takes the export for another one.
	 */
	if (!s->structured)
		s->info.flags &= (uint16_t)~SRV_STRUCTURED_FLAGS;
	if (s->opt == NBD_WIRE_OPT_EXPORT_NAME) {
		s->allocation = false;
		put_export_name(s);
	} else {
		put_info(s);
		finish_option(s, NBD_WIRE_REP_ACK, NULL);
		if (s->opt == NBD_WIRE_OPT_INFO)
			return;
		s->allocation = s->allocation && !strcmp(s->hs->meta_name, s->name);
	}
	s->in_transmission = true;
	s->in = s->header;
	s->state = SRV_HEADER;
}

enum srv_event srv_handshake_next(struct srv_session *s, const uint8_t **in, size_t *len)
{
	enum srv_event ev = SRV_MORE;

	while (ev == SRV_MORE) {
		switch (s->state) {
		case SRV_GREET:
			ev = greet(s);
			break;
		case SRV_CLIENT_FLAGS:
			if (!srv_take(s, NBD_WIRE_CLIENT_FLAGS_LEN, in, len))
				return SRV_MORE;
			ev = take_client_flags(s);
			break;
		case SRV_OPTION:
			if (!srv_take(s, NBD_WIRE_OPTION_LEN, in, len))
				return SRV_MORE;
			ev = take_option_header(s);
			break;
		case SRV_OPTION_DATA:
			if (!srv_take(s, s->opt_len, in, len))
				return SRV_MORE;
			ev = take_option(s, false);
			break;
		case SRV_OPTION_SKIP:
			if (!srv_skip(s, in, len))
				return SRV_MORE;
			ev = take_option(s, true);
			break;
		case SRV_LISTING:
			ev = put_list(s);
			break;
		case SRV_SECURING:
			/* It came before the answer had gone, so it is not of TLS: nobody's word */
			if (*len)
				return srv_close(s, "data behind STARTTLS, before its answer");
			return SRV_STARTTLS;
		default:
			return srv_close(s, "internal error: state %d", s->state);
		}
	}
	return ev;
}
