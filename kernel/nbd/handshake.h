/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The client's half of the NBD handshake as a state machine without I/O: bytes
 * go in, bytes come out, and it ends with what the server exports or with a
 * sentence that says why not.
 *
 * It knows nothing of sockets or of the kernel, allocates nothing and trusts
 * nothing, so that the same source is fuzzed and unit-tested in userspace.
 */
#ifndef NBD_HANDSHAKE_H
#define NBD_HANDSHAKE_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include "common/kernel-types.h"
#endif

#define NBD_HANDSHAKE_NAME_MAX	4096	/* bytes, the protocol's longest string */
#define NBD_HANDSHAKE_OUT_MAX	(NBD_HANDSHAKE_NAME_MAX + 64)
#define NBD_HANDSHAKE_IN_MAX	256
#define NBD_HANDSHAKE_TEXT_MAX	192

/*
 * What a server may send before it answers GO: more replies, or a longer one,
 * is a server that plays for time or for memory.
 */
#define NBD_HANDSHAKE_MAX_REPLIES	64
#define NBD_HANDSHAKE_MAX_REPLY_LEN	65536

enum nbd_handshake_state {
	NBD_HS_GREETING,
	NBD_HS_REPLY,		/* header of an option reply */
	NBD_HS_DATA,		/* what of its data is kept */
	NBD_HS_SKIP,		/* the rest of it */
	NBD_HS_EXPORT,		/* answer to EXPORT_NAME */
	NBD_HS_ZEROES,		/* its padding */
	NBD_HS_DONE,
	NBD_HS_FAILED,
};

/**
 * struct nbd_export - what the server said about its export
 * @size: bytes
 * @min_block: smallest request and its alignment, bytes; 0: server did not say
 * @preferred_block: bytes; 0: server did not say
 * @max_payload: longest request with data, bytes; 0: server did not say
 * @flags: NBD_WIRE_FLAG_*
 */
struct nbd_export {
	u64 size;
	u32 min_block;
	u32 preferred_block;
	u32 max_payload;
	u16 flags;
};

/**
 * struct nbd_handshake - one handshake
 * @state: where it is
 * @name: export name, owned by the caller, outlives the handshake
 * @name_len: its length, bytes, at most NBD_HANDSHAKE_NAME_MAX
 * @session: NBD_WIRE_X_SESSION_LEN bytes as they go over the wire, owned by the
 *	     caller, outlive the handshake; NULL: not announced
 * @option: whose reply is awaited
 * @no_go: use EXPORT_NAME from the start
 * @no_zeroes: the server leaves the padding of EXPORT_NAME out
 * @fenced: the server has promised that nothing sent on older connections of
 *	    the session is written any longer; valid in NBD_HS_DONE
 * @have_export: GO's answer has carried the size
 * @have: bytes of @in that are filled
 * @want: bytes of @in that the state needs before it can go on
 * @skip: bytes of a reply that are still to be thrown away
 * @replies: option replies seen
 * @reply_type: type of the option reply being read
 * @reply_left: its data bytes that have not been asked for yet
 * @export: the result, valid in NBD_HS_DONE
 * @error: negative errno, valid in NBD_HS_FAILED
 * @protocol_error: the server broke the protocol, rather than said no
 * @in: what has been received for the state
 * @out: what is to be sent
 * @out_len: its length; the caller sends it and sets it to 0
 * @text: why it failed, a sentence without a full stop
 */
struct nbd_handshake {
	enum nbd_handshake_state state;
	const char *name;
	u32 name_len;
	const u8 *session;
	u32 option;
	bool no_go;
	bool no_zeroes;
	bool fenced;
	bool have_export;
	u32 have;
	u32 want;
	u32 skip;
	u32 replies;
	u32 reply_type;
	u32 reply_left;
	struct nbd_export export;
	int error;
	bool protocol_error;
	u8 in[NBD_HANDSHAKE_IN_MAX];
	u8 out[NBD_HANDSHAKE_OUT_MAX];
	u32 out_len;
	char text[NBD_HANDSHAKE_TEXT_MAX];
};

void nbd_handshake_start(struct nbd_handshake *hs, const char *name, size_t name_len,
			 bool no_go, const u8 *session);
u8 *nbd_handshake_buffer(struct nbd_handshake *hs, size_t *len);
void nbd_handshake_received(struct nbd_handshake *hs, size_t len);
void nbd_handshake_closed(struct nbd_handshake *hs);

#endif /* NBD_HANDSHAKE_H */
