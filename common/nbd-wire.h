/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NBD on the wire: every magic number, option, flag and fixed layout of the
 * protocol, in one place for the driver, the client and the server.
 *
 * All integers travel in network byte order.  Source of every constant: the
 * NBD protocol document (doc/proto.md of the reference implementation).
 *
 * The header is plain C without types of its own, so that the kernel and
 * userspace may both include it.
 */
#ifndef NBD_WIRE_H
#define NBD_WIRE_H

#define NBD_WIRE_PORT			 10809 /* IANA */

/* Handshake: what the server sends first */
#define NBD_WIRE_INIT_MAGIC		 0x4e42444d41474943ULL /* "NBDMAGIC" */
#define NBD_WIRE_OLDSTYLE_MAGIC		 0x0000420281861253ULL /* refused */
#define NBD_WIRE_OPTION_MAGIC		 0x49484156454f5054ULL /* "IHAVEOPT" */
#define NBD_WIRE_OPT_REPLY_MAGIC	 0x0003e889045565a9ULL

#define NBD_WIRE_GREETING_LEN		 18 /* u64, u64, u16 flags */
#define NBD_WIRE_CLIENT_FLAGS_LEN	 4
#define NBD_WIRE_OPTION_LEN		 16  /* u64, u32 option, u32 length */
#define NBD_WIRE_OPT_REPLY_LEN		 20  /* u64, u32 option, u32 type, u32 length */
#define NBD_WIRE_EXPORT_REPLY_LEN	 10  /* u64 size, u16 flags */
#define NBD_WIRE_EXPORT_ZEROES		 124 /* absent with NO_ZEROES */

/* Handshake flags: server's (u16) and client's (u32) have the same bits */
#define NBD_WIRE_FIXED_NEWSTYLE		 (1u << 0)
#define NBD_WIRE_NO_ZEROES		 (1u << 1)

/* Longest string in the protocol, in bytes */
#define NBD_WIRE_MAX_STRING		 4096

/* Options */
#define NBD_WIRE_OPT_EXPORT_NAME	 1
#define NBD_WIRE_OPT_ABORT		 2
#define NBD_WIRE_OPT_LIST		 3
#define NBD_WIRE_OPT_PEEK_EXPORT	 4 /* withdrawn */
#define NBD_WIRE_OPT_STARTTLS		 5
#define NBD_WIRE_OPT_INFO		 6
#define NBD_WIRE_OPT_GO			 7
#define NBD_WIRE_OPT_STRUCTURED_REPLY	 8
#define NBD_WIRE_OPT_LIST_META_CONTEXT	 9
#define NBD_WIRE_OPT_SET_META_CONTEXT	 10
#define NBD_WIRE_OPT_EXTENDED_HEADERS	 11

/*
 * A session, private to nbswap: u8 id[16], u32 link.  A server that knows the
 * option first ends and drains every older connection that said the same and
 * then answers ACK: nothing sent on those can be written any longer.  Where it
 * cannot within NBD_WIRE_X_SESSION_DRAIN_S it answers ERR_X_BUSY, and the client
 * may ask again.  Sent before GO or EXPORT_NAME; once more only after ERR_X_BUSY.
 */
#define NBD_WIRE_OPT_X_SESSION		 0x6e625301u
#define NBD_WIRE_X_SESSION_ID_LEN	 16
#define NBD_WIRE_X_SESSION_LEN		 (NBD_WIRE_X_SESSION_ID_LEN + 4)
#define NBD_WIRE_X_SESSION_DRAIN_S	 5 /* seconds, below any client's connect timeout */

/* Option replies */
#define NBD_WIRE_REP_ACK		 1
#define NBD_WIRE_REP_SERVER		 2
#define NBD_WIRE_REP_INFO		 3
#define NBD_WIRE_REP_META_CONTEXT	 4
#define NBD_WIRE_REP_ERROR		 (1u << 31)
#define NBD_WIRE_REP_ERR_UNSUP		 (NBD_WIRE_REP_ERROR + 1)
#define NBD_WIRE_REP_ERR_POLICY		 (NBD_WIRE_REP_ERROR + 2)
#define NBD_WIRE_REP_ERR_INVALID	 (NBD_WIRE_REP_ERROR + 3)
#define NBD_WIRE_REP_ERR_PLATFORM	 (NBD_WIRE_REP_ERROR + 4)
#define NBD_WIRE_REP_ERR_TLS_REQD	 (NBD_WIRE_REP_ERROR + 5)
#define NBD_WIRE_REP_ERR_UNKNOWN	 (NBD_WIRE_REP_ERROR + 6)
#define NBD_WIRE_REP_ERR_SHUTDOWN	 (NBD_WIRE_REP_ERROR + 7)
#define NBD_WIRE_REP_ERR_BLOCK_SIZE_REQD (NBD_WIRE_REP_ERROR + 8)
#define NBD_WIRE_REP_ERR_TOO_BIG	 (NBD_WIRE_REP_ERROR + 9)
#define NBD_WIRE_REP_ERR_EXT_HEADER_REQD (NBD_WIRE_REP_ERROR + 10)
#define NBD_WIRE_REP_ERR_X_BUSY		 (NBD_WIRE_REP_ERROR + 0x6e625301u) /* private */

/* Information items in NBD_WIRE_REP_INFO */
#define NBD_WIRE_INFO_EXPORT		 0
#define NBD_WIRE_INFO_NAME		 1
#define NBD_WIRE_INFO_DESCRIPTION	 2
#define NBD_WIRE_INFO_BLOCK_SIZE	 3
#define NBD_WIRE_INFO_EXPORT_LEN	 12 /* u16 type, u64 size, u16 flags */
#define NBD_WIRE_INFO_BLOCK_SIZE_LEN	 14 /* u16 type, u32 min, preferred, max payload */

/* Transmission flags (u16) */
#define NBD_WIRE_FLAG_HAS_FLAGS		 (1u << 0)
#define NBD_WIRE_FLAG_READ_ONLY		 (1u << 1)
#define NBD_WIRE_FLAG_SEND_FLUSH	 (1u << 2)
#define NBD_WIRE_FLAG_SEND_FUA		 (1u << 3)
#define NBD_WIRE_FLAG_ROTATIONAL	 (1u << 4)
#define NBD_WIRE_FLAG_SEND_TRIM		 (1u << 5)
#define NBD_WIRE_FLAG_SEND_WRITE_ZEROES	 (1u << 6)
#define NBD_WIRE_FLAG_SEND_DF		 (1u << 7)
#define NBD_WIRE_FLAG_CAN_MULTI_CONN	 (1u << 8)
#define NBD_WIRE_FLAG_SEND_RESIZE	 (1u << 9)
#define NBD_WIRE_FLAG_SEND_CACHE	 (1u << 10)
#define NBD_WIRE_FLAG_SEND_FAST_ZERO	 (1u << 11)

/* Transmission: a request is u32 magic, u16 flags, u16 type, u64 cookie, u64 offset, u32 length */
#define NBD_WIRE_REQUEST_MAGIC		 0x25609513u
#define NBD_WIRE_REQUEST_LEN		 28
/* and a simple reply u32 magic, u32 error, u64 cookie */
#define NBD_WIRE_SIMPLE_REPLY_MAGIC	 0x67446698u
#define NBD_WIRE_SIMPLE_REPLY_LEN	 16
/* and a structured reply chunk u32 magic, u16 flags, u16 type, u64 cookie, u32 length */
#define NBD_WIRE_STRUCTURED_REPLY_MAGIC	 0x668e33efu
#define NBD_WIRE_STRUCTURED_REPLY_LEN	 20
/* With extended headers a request is the same with a u64 length */
#define NBD_WIRE_EXT_REQUEST_MAGIC	 0x21e41c71u
#define NBD_WIRE_EXT_REQUEST_LEN	 32
/* and every reply consists of chunks: u32 magic, u16 flags, u16 type, u64 cookie, u64 offset, u64 length */
#define NBD_WIRE_EXT_REPLY_MAGIC	 0x6e8a278cu
#define NBD_WIRE_EXT_REPLY_LEN		 32

/* Structured replies: the flag of the last chunk, and types */
#define NBD_WIRE_CHUNK_FLAG_DONE	 (1u << 0)
#define NBD_WIRE_CHUNK_NONE		 0
#define NBD_WIRE_CHUNK_OFFSET_DATA	 1 /* u64 offset, data */
#define NBD_WIRE_CHUNK_OFFSET_HOLE	 2 /* u64 offset, u32 size */
#define NBD_WIRE_CHUNK_BLOCK_STATUS \
	5 /* u32 context, then u32 length and u32 flags of each extent */
#define NBD_WIRE_CHUNK_BLOCK_STATUS_EXT \
	6 /* u32 context, u32 count, then u64 length and u64 flags of each extent */
#define NBD_WIRE_CHUNK_ERROR	      ((1u << 15) + 1) /* u32 error, u16 length of a text, text */
#define NBD_WIRE_CHUNK_ERROR_OFFSET   ((1u << 15) + 2) /* the same and u64 offset */

/* Metadata contexts: the one every implementation knows, and its flags */
#define NBD_WIRE_META_ALLOCATION      "base:allocation"
#define NBD_WIRE_STATE_HOLE	      (1u << 0)
#define NBD_WIRE_STATE_ZERO	      (1u << 1)

/* Commands */
#define NBD_WIRE_CMD_READ	      0
#define NBD_WIRE_CMD_WRITE	      1
#define NBD_WIRE_CMD_DISC	      2
#define NBD_WIRE_CMD_FLUSH	      3
#define NBD_WIRE_CMD_TRIM	      4
#define NBD_WIRE_CMD_CACHE	      5
#define NBD_WIRE_CMD_WRITE_ZEROES     6
#define NBD_WIRE_CMD_BLOCK_STATUS     7

/* Command flags (u16) */
#define NBD_WIRE_CMD_FLAG_FUA	      (1u << 0)
#define NBD_WIRE_CMD_FLAG_NO_HOLE     (1u << 1)
#define NBD_WIRE_CMD_FLAG_DF	      (1u << 2)
#define NBD_WIRE_CMD_FLAG_REQ_ONE     (1u << 3)
#define NBD_WIRE_CMD_FLAG_FAST_ZERO   (1u << 4)
#define NBD_WIRE_CMD_FLAG_PAYLOAD_LEN (1u << 5) /* the length is that of a payload */

/* Errors in replies: Linux's errno numbers, whatever the server runs on */
#define NBD_WIRE_EPERM		      1
#define NBD_WIRE_EIO		      5
#define NBD_WIRE_ENOMEM		      12
#define NBD_WIRE_EINVAL		      22
#define NBD_WIRE_ENOSPC		      28
#define NBD_WIRE_EOVERFLOW	      75
#define NBD_WIRE_ENOTSUP	      95
#define NBD_WIRE_ESHUTDOWN	      108

/*
 * Block sizes, in bytes.  Without NBD_WIRE_INFO_BLOCK_SIZE a client may assume
 * the defaults; the minimum block size is a power of two up to 64 KiB.
 */
#define NBD_WIRE_MAX_MIN_BLOCK	      65536u
#define NBD_WIRE_DEF_PREFERRED	      4096u
#define NBD_WIRE_DEF_MAX_PAYLOAD      (32u << 20)

#endif /* NBD_WIRE_H */
