/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The protocol, without I/O: bytes in, bytes and requests out.
 *
 * A session is one client's conversation.  Whoever owns the connection feeds
 * it what was received and does what it asks for; it knows no socket, no file
 * and no clock, allocates nothing, and holds at most one option, in memory that
 * its owner lends it for the handshake.  The owner
 * keeps calls for one session apart (they are never made at the same time).
 */
#ifndef SRV_SESSION_H
#define SRV_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/nbd-wire.h"

/* The most information requests in one INFO or GO; more is refused, in sync */
#define SRV_MAX_INFO_REQUESTS 1024
/* u32 name length, name, u16 count, the requests: the longest option ever held */
#define SRV_MAX_OPTION	      (4 + NBD_WIRE_MAX_STRING + 2 + 2 * SRV_MAX_INFO_REQUESTS)
/* The longest answer given at once: all information items with the longest strings */
#define SRV_MAX_OUT	      16384
#define SRV_MAX_REASON	      160
/* The longest head of a reply: an extended one with an offset */
#define SRV_MAX_REPLY_HEAD    (NBD_WIRE_EXT_REPLY_LEN + 8)
/* The number a client gets for base:allocation, the only metadata context */
#define SRV_META_ID	      1
/* The extents in one answer to BLOCK_STATUS: what a page has room for */
#define SRV_EXTENTS_LEN	      4096
#define SRV_EXTENT_LEN	      8	 /* u32 length, u32 flags */
#define SRV_EXT_EXTENT_LEN    16 /* u64 length, u64 flags */
#define SRV_MAX_EXTENTS	      (SRV_EXTENTS_LEN / SRV_EXTENT_LEN)

/* What a client learns of an export it opened */
struct srv_export_info {
	uint64_t size;
	/* NBD_WIRE_FLAG_*, of which those for structured replies are shown only with these */
	uint16_t flags;
	uint32_t min_block; /* powers of two */
	uint32_t preferred_block;
	uint32_t max_payload;
	const char *name;	 /* canonical; valid until the session ends */
	const char *description; /* or NULL */
};

struct srv_request {
	uint64_t cookie;
	uint64_t offset;
	uint64_t length; /* of READ and WRITE no more than the largest payload, if @error is 0 */
	uint16_t type;	 /* NBD_WIRE_CMD_* */
	uint16_t flags;	 /* NBD_WIRE_CMD_FLAG_* */
	bool extended;	 /* with an extended header, and answered in kind */
	uint32_t error;	 /* nonzero: refused, reply with this and do nothing */
};

/* What a session wants next */
enum srv_event {
	SRV_MORE,     /* it has taken all input: give more */
	SRV_SEND,     /* send out[0..out_len), then call srv_session_sent() */
	SRV_OPEN,     /* open the export @name, then call srv_session_opened() */
	SRV_STARTTLS, /* the answer has gone: begin TLS, then call srv_session_secured() */
	SRV_FENCE,    /* end and drain older connections of @session_id and @session_link,
			then call srv_session_fenced() */
	SRV_REQUEST,  /* @req is to be answered; a good WRITE's payload comes next in the stream */
	SRV_CLOSE,    /* finish what is in flight, then close; @reason says why */
};

enum srv_state {
	SRV_GREET,	  /* the greeting is to be sent */
	SRV_CLIENT_FLAGS, /* then each of these waits for bytes of one kind */
	SRV_OPTION,
	SRV_OPTION_DATA,
	SRV_OPTION_SKIP,  /* data too long to hold: told so when all of it has passed */
	SRV_OPENING,	  /* the owner is opening an export */
	SRV_FENCING,	  /* the owner is waiting for older connections */
	SRV_SECURING,	  /* the owner is about to have TLS */
	SRV_LISTING,	  /* in the middle of the answer to LIST */
	SRV_HEADER,	  /* transmission: a request */
	SRV_PAYLOAD_SKIP, /* the payload of a refused request */
	SRV_CLOSED,
};

/* How the owner's opening of an export ended */
enum srv_open_result {
	SRV_OPEN_OK,
	SRV_OPEN_UNKNOWN, /* no such export, or it cannot be opened now */
	SRV_OPEN_POLICY,  /* not for this client, or not now */
	SRV_OPEN_TLS,	  /* not without TLS */
};

/* The exports a client may see, in order; false past the last one */
typedef bool (*srv_list_fn)(void *ctx, unsigned int i, const char **name, const char **description);

/* Room for a handshake: needed until everything of it has been sent, lent by the owner */
struct srv_handshake {
	uint8_t in[SRV_MAX_OPTION + 1];
	uint8_t out[SRV_MAX_OUT];
	char meta_name[NBD_WIRE_MAX_STRING + 1]; /* the export SET_META_CONTEXT was about */
};

struct srv_session {
	enum srv_state state;
	bool no_zeroes; /* what the client agreed to in its flags */
	bool fixed;
	bool shutdown;	  /* the server is going: refuse everything new */
	bool closing;	  /* close once @out is sent */
	srv_list_fn list; /* NULL: listing is against policy */
	void *list_ctx;
	bool can_fence;	 /* the owner knows all connections; it says so after srv_session_init() */
	bool can_tls;	 /* the same: it can do TLS */
	bool needs_tls;	 /* and nothing is to be said without */
	bool secure;	 /* TLS is there */
	bool announced;	 /* the client has told its session, and it never changes after that */
	bool fenced;	 /* and older connections have been drained */
	bool structured; /* the client has asked for structured replies */
	bool extended;	 /* or for extended headers, which stand for them as well */
	bool allocation; /* and for base:allocation of the export hs->meta_name */

	uint32_t opt; /* the option under way */
	uint32_t opt_len;
	uint32_t list_next;
	uint32_t meta_len; /* of the name in a metadata option */
	uint32_t skip;	   /* bytes of the stream to pass over */
	bool want_name;	   /* information the client asked for in INFO or GO */
	bool want_description;
	bool want_block_size;
	bool in_transmission;

	struct srv_export_info info; /* valid once in_transmission */
	struct srv_request req;
	const char *name; /* SRV_OPEN: what to open, terminated */
	uint8_t session_id[NBD_WIRE_X_SESSION_ID_LEN];
	uint32_t session_link;
	char reason[SRV_MAX_REASON];

	size_t in_len; /* bytes of the item under way in @in */
	size_t out_len;
	uint8_t *in; /* of the handshake, and in transmission @header */
	uint8_t *out;
	struct srv_handshake *hs; /* with both; NULL when it is not needed any longer */
	uint8_t header[NBD_WIRE_EXT_REQUEST_LEN];
};

void srv_session_init(struct srv_session *s, srv_list_fn list, void *list_ctx);
/* Before anything else: the memory for the handshake */
void srv_session_lend(struct srv_session *s, struct srv_handshake *hs);

/* Take input from *@in (of *@len bytes; both are moved on) until something is wanted */
enum srv_event srv_session_next(struct srv_session *s, const uint8_t **in, size_t *len);

/* The answer to SRV_SEND: everything in @out is on its way */
void srv_session_sent(struct srv_session *s);

/*
 * The answer to SRV_OPEN.  @why is told to the client when @result is not
 * SRV_OPEN_OK; @info is used when it is.
 */
void srv_session_opened(struct srv_session *s, enum srv_open_result result,
			const struct srv_export_info *info, const char *why);

/*
 * The answer to SRV_FENCE.  @drained: nothing that came on older connections of
 * the session can be written any longer; if not, the client may ask again.
 */
void srv_session_fenced(struct srv_session *s, bool drained);

/* The answer to SRV_STARTTLS: TLS is there.  Forgets all that was said before. */
void srv_session_secured(struct srv_session *s);

/* From here on options and requests are refused: the server is shutting down */
void srv_session_shutdown(struct srv_session *s);

/* Is the session between two options or requests, with no input half taken? */
bool srv_session_idle(const struct srv_session *s);

/*
 * The reply to a request that has come, into @out of SRV_MAX_REPLY_HEAD bytes:
 * how many are used.  @data bytes are to follow: what was read, or the extents
 * of BLOCK_STATUS; none with an error.
 */
size_t srv_reply_encode(const struct srv_session *s, const struct srv_request *req, uint32_t error,
			uint32_t data, uint8_t *out);

/* What to tell a client for an errno value of a backend; 0 for 0 */
uint32_t srv_wire_error(int err);

/*
 * Between the two halves of the engine (handshake.c, transmission.c) and
 * session.c, which holds what they share.
 */
bool srv_take(struct srv_session *s, size_t want, const uint8_t **in, size_t *len);
bool srv_skip(struct srv_session *s, const uint8_t **in, size_t *len);
enum srv_event srv_close(struct srv_session *s, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
enum srv_event srv_handshake_next(struct srv_session *s, const uint8_t **in, size_t *len);
enum srv_event srv_transmission_next(struct srv_session *s, const uint8_t **in, size_t *len);

#endif /* SRV_SESSION_H */
