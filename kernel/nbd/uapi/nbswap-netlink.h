/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * nbswap's extension of the nbd generic-netlink family.
 *
 * The family "nbd" (version 1, multicast group "nbd_mc_group") keeps every
 * command and attribute of <linux/nbd-netlink.h> with its number and meaning.
 * What stands here comes on top: attributes from 128, commands from 64.  A
 * program tells the two drivers apart by CTRL_ATTR_MAXATTR of the family:
 * below NBDX_ATTR_FIRST it is the mainline driver.
 *
 * NBD_CMD_CONNECT with NBDX_ATTR_ADDRESSES makes a device whose connections
 * the kernel makes, negotiates and, when they break, makes again.  With
 * NBD_ATTR_SOCKETS it is the mainline command, for sockets made and
 * negotiated by the caller.  The reply to CONNECT carries NBD_ATTR_INDEX and
 * is sent when the device is live; an error carries an extended-ack text.
 *
 * Attributes of CONNECT beside the mainline ones:
 *   NBDX_ATTR_ADDRESSES        nest of 1..NBDX_MAX_ADDRESSES NBDX_ADDRESS_ITEM
 *   NBDX_ATTR_EXPORT           string, at most 4096 bytes, default ""
 *   NBDX_ATTR_LINKS            u32, 1..NBDX_MAX_LINKS, default 1
 *   NBDX_ATTR_CONNECT_TIMEOUT  u32, ms, one attempt at one address, default 10000
 *   NBDX_ATTR_FLAGS            u32, NBDX_FLAG_*
 *   NBDX_ATTR_LINK_TIMEOUT     u32, ms, 1000..600000; a connection on which the
 *                              other side acknowledges nothing of what was sent
 *                              for so long is dropped and made again; default
 *                              10000
 *   NBDX_ATTR_FENCE_DELAY      u32, ms, 0..60000; how long a request that writes
 *                              waits after its connection was reset before it is
 *                              sent again, where the server cannot tell that the
 *                              old connection is drained; default 1000
 *   NBD_ATTR_BLOCK_SIZE_BYTES  u64, logical block size, default: the server's
 *                              minimum, at least 512
 *   NBD_ATTR_SIZE_BYTES        u64, use only this much of the export
 *   NBD_ATTR_TIMEOUT           u64, seconds; a link whose requests see no
 *                              answer for so long is dropped and made again;
 *                              default 30
 *   NBD_ATTR_DEAD_CONN_TIMEOUT u64, seconds; with no link for so long requests
 *                              fail; default 0: they wait for ever
 * Both are attributes of RECONFIGURE too.
 * Attributes of DISCONNECT beside the mainline ones:
 *   NBDX_ATTR_FORCE            flag: although the device is open
 *
 * NBDX_CMD_GET answers with one NBDX_ATTR_DEVICE nest; as a dump, with one
 * message a device.  A message without NBD_ATTR_INDEX dumps all devices that
 * are in use.
 */
#ifndef _UAPI_NBSWAP_NETLINK_H
#define _UAPI_NBSWAP_NETLINK_H

#define NBDX_MAX_LINKS		16
#define NBDX_MAX_ADDRESSES	16

enum {
	NBDX_CMD_FIRST = 64,
	NBDX_CMD_GET = 64,		/* do and dump */
	__NBDX_CMD_MAX,
};

#define NBDX_CMD_MAX	(__NBDX_CMD_MAX - 1)

enum {
	NBDX_ATTR_FIRST = 128,
	NBDX_ATTR_ADDRESSES = 128,	/* nest of NBDX_ADDRESS_ITEM */
	NBDX_ATTR_EXPORT,		/* string */
	NBDX_ATTR_LINKS,		/* u32 */
	NBDX_ATTR_CONNECT_TIMEOUT,	/* u32, ms */
	NBDX_ATTR_FLAGS,		/* u32, NBDX_FLAG_* */
	NBDX_ATTR_FORCE,		/* flag */
	NBDX_ATTR_DEVICE,		/* nest of NBDX_DEVICE_* */
	NBDX_ATTR_LINK_TIMEOUT,		/* u32, ms */
	NBDX_ATTR_FENCE_DELAY,		/* u32, ms */
	__NBDX_ATTR_MAX,
};

#define NBDX_ATTR_MAX	(__NBDX_ATTR_MAX - 1)

/* In NBDX_ATTR_ADDRESSES */
enum {
	NBDX_ADDRESS_UNSPEC,
	NBDX_ADDRESS_ITEM,		/* struct sockaddr_in or sockaddr_in6 */
	__NBDX_ADDRESS_MAX,
};

#define NBDX_ADDRESS_MAX	(__NBDX_ADDRESS_MAX - 1)

/* NBDX_ATTR_FLAGS */
#define NBDX_FLAG_READ_ONLY	0x1	/* even if the export is writable */
#define NBDX_FLAG_SWAP		0x2	/* meant for swap: check and warn */
#define NBDX_FLAG_NO_GO		0x4	/* negotiate by EXPORT_NAME alone */
#define NBDX_FLAG_SPREAD	0x8	/* link i begins at address i, not at that of link 0:
					 * the addresses lead to one and the same data
					 */
#define NBDX_FLAG_ALL		(NBDX_FLAG_READ_ONLY | NBDX_FLAG_SWAP | NBDX_FLAG_NO_GO | \
				 NBDX_FLAG_SPREAD)

/* NBDX_DEVICE_STATE */
enum {
	NBDX_STATE_FREE,		/* not configured */
	NBDX_STATE_SETUP,		/* first connection being made */
	NBDX_STATE_LIVE,		/* usable: requests wait while links are down */
	NBDX_STATE_TEARDOWN,		/* being disconnected */
};

/* In NBDX_ATTR_DEVICE */
enum {
	NBDX_DEVICE_UNSPEC,
	NBDX_DEVICE_INDEX,		/* u32 */
	NBDX_DEVICE_NAME,		/* string, as in /sys/block */
	NBDX_DEVICE_STATE,		/* u32, NBDX_STATE_* */
	NBDX_DEVICE_EXPORT,		/* string */
	NBDX_DEVICE_SIZE,		/* u64, bytes */
	NBDX_DEVICE_BLOCK_SIZE,		/* u32, logical, bytes */
	NBDX_DEVICE_OPT_BLOCK_SIZE,	/* u32, preferred by the server, bytes */
	NBDX_DEVICE_MAX_PAYLOAD,	/* u32, largest request, bytes */
	NBDX_DEVICE_SERVER_FLAGS,	/* u32, transmission flags */
	NBDX_DEVICE_FLAGS,		/* u32, NBDX_FLAG_* */
	NBDX_DEVICE_MANAGED,		/* u8, 0: sockets were handed over */
	NBDX_DEVICE_OPENERS,		/* u32 */
	NBDX_DEVICE_PID,		/* u32, who configured it */
	NBDX_DEVICE_QUEUED,		/* u32, requests that wait for a link */
	NBDX_DEVICE_INFLIGHT,		/* u32, requests sent and not answered */
	NBDX_DEVICE_TIMEOUT,		/* u64, seconds */
	NBDX_DEVICE_DEAD_CONN_TIMEOUT,	/* u64, seconds */
	NBDX_DEVICE_COUNTERS,		/* nest of NBDX_COUNTER_* */
	NBDX_DEVICE_LINK,		/* nest of NBDX_LINK_*, once a link */
	NBDX_DEVICE_PAD,
	NBDX_DEVICE_SWAP_SAFE,		/* u8, 0: NBDX_DEVICE_WHY says why not */
	NBDX_DEVICE_WHY,		/* string */
	NBDX_DEVICE_BACKEND,		/* string, NBD_ATTR_BACKEND_IDENTIFIER if given */
	NBDX_DEVICE_LINK_TIMEOUT,	/* u32, ms */
	NBDX_DEVICE_FENCE_DELAY,	/* u32, ms */
	NBDX_DEVICE_RESERVE,		/* u64, R: bytes of the reserve it may use at most */
	NBDX_DEVICE_MIN_FREE,		/* u64, bytes of vm.min_free_kbytes that keep R for it */
	NBDX_DEVICE_FINDING,		/* nest of NBDX_FINDING_*, once a finding */
	NBDX_DEVICE_GUARANTEES,		/* u32, NBDX_GUARANTEE_* */
	NBDX_DEVICE_REGISTERED,		/* u64, bytes that the kernel itself keeps for it: then
					 * NBDX_DEVICE_MIN_FREE is what is needed beside them
					 */
	__NBDX_DEVICE_MAX,
};

#define NBDX_DEVICE_MAX	(__NBDX_DEVICE_MAX - 1)

/* NBDX_DEVICE_GUARANTEES: by this kernel, for this device's way to its servers */
#define NBDX_GUARANTEE_ENTITLED	0x1	/* what I/O and recovery allocate may all come from
					 * the reserve
					 */
#define NBDX_GUARANTEE_BOUNDED	0x2	/* and the reserve is there: NBDX_DEVICE_RESERVE bytes
					 * are kept out of everybody else's reach
					 */

/* NBDX_LINK_STATE of a link: NBDX_LS_* */
enum {
	NBDX_LS_DOWN,			/* no socket: a handed-over one has broken */
	NBDX_LS_CONNECTING,		/* TCP connection being made */
	NBDX_LS_NEGOTIATING,		/* NBD handshake */
	NBDX_LS_READY,
	NBDX_LS_LOST,			/* broken; waits before the next attempt */
	NBDX_LS_STOPPED,		/* by the administrator */
};

/* In NBDX_DEVICE_LINK */
enum {
	NBDX_LINK_UNSPEC,
	NBDX_LINK_INDEX,		/* u32 */
	NBDX_LINK_STATE,		/* u32, NBDX_LS_* */
	NBDX_LINK_PEER,			/* struct sockaddr_in or sockaddr_in6, last tried */
	NBDX_LINK_STATE_MS,		/* u64, ms in this state */
	NBDX_LINK_INFLIGHT,		/* u32 */
	NBDX_LINK_ERROR,		/* string: why the last attempt or connection ended */
	NBDX_LINK_COUNTERS,		/* nest of NBDX_COUNTER_* */
	NBDX_LINK_PAD,
	NBDX_LINK_FENCE,		/* u32, NBDX_FENCE_* */
	NBDX_LINK_HELD,			/* u32, requests that wait for the old connection's end */
	__NBDX_LINK_MAX,
};

#define NBDX_LINK_MAX	(__NBDX_LINK_MAX - 1)

/*
 * NBDX_LINK_FENCE: when the connection breaks, what keeps writes that the
 * server still has from landing after they were sent again
 */
enum {
	NBDX_FENCE_NONE,		/* not known yet: never connected */
	NBDX_FENCE_SESSION,		/* the server drains it before it takes another */
	NBDX_FENCE_DELAY,		/* NBDX_ATTR_FENCE_DELAY from its reset on */
};

/* In NBDX_DEVICE_FINDING: what weakens the guarantee, or voids it */
enum {
	NBDX_FINDING_UNSPEC,
	NBDX_FINDING_ID,		/* string, stable, such as "nic-virtio" */
	NBDX_FINDING_SEVERITY,		/* u32, NBDX_SEVERITY_* */
	NBDX_FINDING_TEXT,		/* string, a sentence */
	NBDX_FINDING_SUBJECT,		/* string, the network device it is about, if any */
	__NBDX_FINDING_MAX,
};

#define NBDX_FINDING_MAX	(__NBDX_FINDING_MAX - 1)

/* NBDX_FINDING_SEVERITY */
enum {
	NBDX_SEVERITY_NOTE,		/* good to know */
	NBDX_SEVERITY_WARNING,		/* the guarantee may fail in a way that is described */
	NBDX_SEVERITY_UNSAFE,		/* there is no guarantee */
};

/* In NBDX_DEVICE_COUNTERS and NBDX_LINK_COUNTERS: all u64, since configuration */
enum {
	NBDX_COUNTER_UNSPEC,
	NBDX_COUNTER_READS,		/* requests answered */
	NBDX_COUNTER_WRITES,
	NBDX_COUNTER_FLUSHES,
	NBDX_COUNTER_TRIMS,
	NBDX_COUNTER_ZEROES,
	NBDX_COUNTER_READ_BYTES,
	NBDX_COUNTER_WRITE_BYTES,
	NBDX_COUNTER_ERRORS,		/* requests the server refused */
	NBDX_COUNTER_CONNECTS,		/* connections that became ready */
	NBDX_COUNTER_LOSSES,		/* connections lost */
	NBDX_COUNTER_REPLAYS,		/* requests sent again */
	NBDX_COUNTER_PROTOCOL_ERRORS,	/* what the server must not have sent */
	NBDX_COUNTER_TIMEOUTS,		/* links dropped for silence */
	NBDX_COUNTER_PAD,
	__NBDX_COUNTER_MAX,
};

#define NBDX_COUNTER_MAX	(__NBDX_COUNTER_MAX - 1)

#endif /* _UAPI_NBSWAP_NETLINK_H */
