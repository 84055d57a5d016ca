/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The driver's objects and who owns what.
 *
 *   device     gendisk, blk-mq, limits and the state that the administrator
 *            sees.  Knows no socket.
 *   queue    the requests of a device, from queue_rq to completion.
 *   link     one connection: address, socket, thread, state machine.  Takes
 *            requests from the queue and gives them back when it breaks.
 *   control  netlink, ioctl, debugfs: creates and changes devices, never
 *            touches the I/O path.
 *
 * Lock order, outermost first:
 *
 *   create_lock          main.c, devices come and go (mutex)
 *   nbd_device.lock      configuration and state of one (mutex)
 *   disk->open_mutex     block layer's: opens against disconnects
 *   devices_lock         main.c, list of devices (spinlock)
 *   sk_lock              a link's socket, sleeping half
 *   sk_callback_lock     a link's socket, its callbacks (BH)
 *   nbd_queue.lock       where each request is (spinlock, BH)
 *
 * Nothing on the I/O or recovery path takes a mutex, allocates other than
 * from the reserve, or waits for anything but its own socket.
 */
#ifndef NBD_INTERNAL_H
#define NBD_INTERNAL_H

#include <linux/blk-mq.h>
#include <linux/bvec.h>
#include <linux/hashtable.h>
#include <linux/interrupt.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/netlink.h>
#include <linux/sizes.h>
#include <linux/socket.h>
#include <linux/spinlock.h>
#include <linux/uio.h>
#include <linux/wait.h>
#include <net/sock.h>

#include <linux/nbd.h>
#include <linux/nbd-netlink.h>

#include "common/nbd-wire.h"
#include "findings.h"
#include "handshake.h"
#include "uapi/nbswap-netlink.h"

/* Requests of one device, in flight and waiting */
#define NBD_QUEUE_DEPTH		128
/* Longest READ or WRITE, bytes, and the scatter table for it */
#define NBD_MAX_REQUEST		SZ_128K
#define NBD_MAX_SEGMENTS	(NBD_MAX_REQUEST / 4096)
/*
 * Longest TRIM and WRITE_ZEROES, bytes: a server must be done with one well
 * within the timeout, and one widely used server zeroes 64 MiB at most while
 * it claims success for more.
 */
#define NBD_MAX_TRIM		SZ_1G
#define NBD_MAX_ZEROES		SZ_32M

/*
 * Socket buffers, bytes of truesize, locked so that they are a bound and not a
 * start.  Bandwidth times round-trip time at 1 Gb/s and 2 ms is 250 KB, about
 * what fits once TCP has set half of the receive buffer aside.
 */
#define SOCKET_SNDBUF		SZ_512K
#define SOCKET_RCVBUF		SZ_512K
/* One segment beyond the send buffer, in pages of the accounting */
#define SOCKET_SLACK		SZ_128K

#define NBD_COOKIE_BITS		7	/* buckets of the table of requests in flight */

/* A request and a simple reply as they travel */
struct nbd_wire_request {
	__be32 magic;
	__be16 flags;
	__be16 type;
	__be64 cookie;
	__be64 offset;
	__be32 length;
} __packed;

struct nbd_wire_reply {
	__be32 magic;
	__be32 error;
	__be64 cookie;
} __packed;

/*
 * What GET reports, since configuration: see NBDX_COUNTER_*.  Written under nbd_queue.lock.
 */
struct nbd_counters {
	u64 reads, writes, flushes, trims, zeroes;
	u64 read_bytes, write_bytes;
	u64 errors;
	u64 connects, losses, replays;
	u64 protocol_errors, timeouts;
};

/* nbd_cmd.flags, under nbd_queue.lock */
#define NBD_CMD_SENDING		0	/* a link's thread is sending it */
#define NBD_CMD_ANSWERED	1	/* the whole answer has come */

/**
 * struct nbd_cmd - a request, the pdu behind struct request
 * @node: in nbd_queue.reads or .writes, or in nbd_link.sent or .held
 *	  (nbd_queue.lock)
 * @hash: in nbd_link.cookies while it is in .sent (nbd_queue.lock)
 * @cookie: names it on the wire: never used twice by a device, grows with age
 * @start: jiffies when it was last given to a link
 * @flags: NBD_CMD_* (nbd_queue.lock)
 * @type: NBD_WIRE_CMD_*
 * @status: outcome, valid once answered
 * @bytes: length of the request
 * @payload: bytes that follow the header on the wire
 * @tries: how many links it was given to
 * @nr_bvec: entries of @bvec in use
 * @header: as it is sent
 * @bvec: the pages
 */
struct nbd_cmd {
	struct list_head node;
	struct hlist_node hash;
	u64 cookie;
	unsigned long start;
	unsigned long flags;
	u16 type;
	blk_status_t status;
	u32 bytes;
	u32 payload;
	u32 tries;
	u32 nr_bvec;
	struct nbd_wire_request header;
	struct bio_vec bvec[NBD_MAX_SEGMENTS];
};

/**
 * struct nbd_queue - the requests of one device
 * @lock: where each request is, the counters and the links' states; taken in
 *	  softirq, never held across a call that may sleep
 * @reads: READs that wait for a link, oldest first
 * @writes: everything else that waits, oldest first
 * @queued: length of both
 * @inflight: requests that links hold
 * @next_cookie: of the next request
 * @reads_in_a_row: READs that have overtaken a waiting WRITE
 * @dead: requests fail at once
 */
struct nbd_queue {
	spinlock_t lock;	/* all of it; BH; innermost */
	struct list_head reads;
	struct list_head writes;
	unsigned int queued;
	unsigned int inflight;
	u64 next_cookie;
	unsigned int reads_in_a_row;
	bool dead;
};

/* How often a link's thread looks around, whatever it waits for, jiffies */
#define NBD_WATCH	HZ
/* Nothing acknowledged for so long is a stall, jiffies */
#define NBD_STALL	HZ
/* Memory is short for a link when it was found so more often than not, so often */
#define NBD_SHORT_SAMPLES	4U

/* nbd_link.events: why its thread was woken */
#define NBD_EVENT_QUEUE		0	/* requests may wait */
#define NBD_EVENT_SOCKET	1	/* space, data or a change of state */
#define NBD_EVENT_BROKEN	2	/* connection to be dropped: see nbd_link.fault */
#define NBD_EVENT_HANDOVER	3	/* a new socket was handed over */

/**
 * struct nbd_rx - receiving half of a link, under the socket's lock
 * @iter: where the next bytes belong
 * @cmd: READ whose payload is being received; NULL: a header is
 * @vec: of @header
 * @header: reply being received
 * @live: replies are read as data arrives; until then the thread reads
 */
struct nbd_rx {
	struct iov_iter iter;
	struct nbd_cmd *cmd;
	struct kvec vec;
	struct nbd_wire_reply header;
	bool live;
};

struct nbd_hop;

/**
 * struct nbd_neighbour - a link's next hop, see neighbour.c (thread)
 * @hop: the next hop, with a reference; NULL: none is kept
 * @since: jiffies when the link stalled
 * @moves: of the next hop that the connection has taken notice of
 * @stalled: it has, and not got through since
 */
struct nbd_neighbour {
	struct nbd_hop *hop;
	unsigned long since;
	unsigned int moves;
	bool stalled;
};

/**
 * struct nbd_tracking - does conntrack see a link's connection, see netfilter.c (thread)
 * @untrack: it is not to, from the next connection on
 * @tracked_works: a tracked connection was answered
 * @untracked_works: one that was not tracked was answered
 * @vain: attempts without an answer since
 */
struct nbd_tracking {
	bool untrack;
	bool tracked_works;
	bool untracked_works;
	unsigned int vain;
};

/**
 * struct nbd_link - one connection of a device
 * @dev: the device; outlives its links
 * @index: among the device's links
 * @task: its thread, from configuration to teardown
 * @wait: the thread sleeps here
 * @events: NBD_EVENT_*, atomic bits
 * @fault: -errno of the first fault on this connection, 0 if none (atomic)
 * @state: NBDX_LS_* (written by the thread under nbd_queue.lock)
 * @since: jiffies of the last change of @state
 * @outcome: -EINPROGRESS until the first attempt at all addresses has ended,
 *	     then 0 or -errno (nbd_queue.lock)
 * @adopted: the sockets are handed over; the kernel cannot make new ones
 * @socks: sockets of the kernel's own, one for each address, from
 *	   configuration to the thread's end (thread)
 * @sock: the one in use, or one handed over (thread)
 * @handover: next socket, handed over and not adopted yet (xchg)
 * @saved: the socket's own callbacks and settings
 * @sent: requests sent on this connection, oldest first (nbd_queue.lock)
 * @held: requests that write and were sent on the connection before, while
 *	  that might still bring them to the disk (nbd_queue.lock)
 * @nr_held: their number (nbd_queue.lock)
 * @fence: NBDX_FENCE_* (written by the thread under nbd_queue.lock)
 * @fence_at: jiffies when @held go without the server's word for it (thread)
 * @fence_over: they have come (thread)
 * @lost_at: jiffies when a connection was lost last (nbd_queue.lock)
 * @lost_address: address of the connection that @held were sent on, or
 *		  NBDX_MAX_ADDRESSES if there were several (thread)
 * @session: what names the link's connections to a server that knows sessions
 * @cookies: the same, by cookie (nbd_queue.lock)
 * @rx: receiving half
 * @progress: jiffies of the last byte received
 * @stalled: nothing has been acknowledged for NBD_STALL (thread)
 * @next_look: jiffies when the connection is looked at again (thread)
 * @heard: jiffies of @progress, or when nothing was asked for (thread)
 * @outstanding: something was not acknowledged when last we looked (thread)
 * @acked: TCP's first sequence number not acknowledged then (thread)
 * @acked_stamp: TCP's time of the last acknowledgment then (thread)
 * @acked_at: jiffies when either has moved, or @outstanding was seen first (thread)
 * @tended_at: jiffies when last we looked (thread)
 * @unanswered: attempts to connect in a row that nobody answered, of each
 *		address (thread)
 * @rescue: polls the network card
 * @rescue_dev: the card, reference held for @rescue (xchg)
 * @rescued_at: jiffies when that was tried last (thread)
 * @short_of_memory: atomic allocations failed then (written by the thread)
 * @waiting: an answer was awaited when last we listened (thread)
 * @listened_at: jiffies when that was (thread)
 * @short_samples: how many times more they failed than not since a byte was
 *		   received, up to NBD_SHORT_SAMPLES (thread)
 * @carrier_changes: how often carriers on the link's way had come or gone
 * @carrier_changed_at: jiffies when that was seen first, or a good while ago
 * @starved_limit: silence, jiffies, for which a connection was given up last
 *		   because of that (thread)
 * @starved_at: jiffies when (thread)
 * @answered: requests the link had been answered when it became ready (thread)
 * @tx: request being sent (thread)
 * @tx_next: request to be sent after it, already taken (thread)
 * @tx_done: bytes of @tx that TCP has taken (thread)
 * @stalls: times in a row that the socket took nothing (thread)
 * @full: the socket takes nothing more now (thread; read by anybody)
 * @address: index of the address in use or to be tried next (thread)
 * @backoff: ms to wait before the next attempt (thread)
 * @counters: under nbd_queue.lock
 * @error: why the last connection or attempt ended (nbd_queue.lock)
 * @facts: what its socket was like when it became ready (nbd_queue.lock)
 * @notice: preallocated netlink message that tells of a lost link (thread)
 * @neighbour: its next hop (thread)
 * @tracking: does conntrack see its connection (thread)
 * @handshake: buffers and state of the handshake (thread)
 */
struct nbd_link {
	struct nbd_device *dev;
	unsigned int index;
	struct task_struct *task;
	wait_queue_head_t wait;
	unsigned long events;
	int fault;

	unsigned int state;
	unsigned long since;
	int outcome;

	bool adopted;
	struct socket *socks[NBDX_MAX_ADDRESSES];
	struct socket *sock;
	struct socket *handover;
	struct {
		void (*data_ready)(struct sock *sk);
		void (*write_space)(struct sock *sk);
		void (*state_change)(struct sock *sk);
		void (*error_report)(struct sock *sk);
		gfp_t allocation;
		bool use_task_frag;
	} saved;

	struct list_head sent;
	struct list_head held;
	unsigned int nr_held;
	unsigned int fence;
	unsigned long fence_at;
	bool fence_over;
	unsigned long lost_at;
	unsigned int lost_address;
	u8 session[NBD_WIRE_X_SESSION_LEN];
	DECLARE_HASHTABLE(cookies, NBD_COOKIE_BITS);
	struct nbd_rx rx;
	unsigned long progress;
	bool stalled;
	unsigned long next_look;
	unsigned long heard;
	bool outstanding;
	u32 acked;
	u32 acked_stamp;
	unsigned long acked_at;
	unsigned long tended_at;
	u8 unanswered[NBDX_MAX_ADDRESSES];

	struct tasklet_struct rescue;
	struct net_device *rescue_dev;
	unsigned long rescued_at;
	bool short_of_memory;
	bool waiting;
	unsigned long listened_at;
	unsigned int short_samples;
	u32 carrier_changes;
	unsigned long carrier_changed_at;
	unsigned long starved_limit;
	unsigned long starved_at;
	u64 answered;

	struct nbd_cmd *tx;
	struct nbd_cmd *tx_next;
	u32 tx_done;
	unsigned int stalls;
	bool full;

	unsigned int address;
	unsigned int backoff;
	struct nbd_counters counters;
	char error[NBD_HANDSHAKE_TEXT_MAX];
	struct nbd_link_facts facts;
	struct sk_buff *notice;
	struct nbd_neighbour neighbour;
	struct nbd_tracking tracking;
	struct nbd_handshake handshake;
};

/*
 * What the administrator asked for.  Constant while links exist, but for
 * timeouts other than for connecting, fence_delay and the client flags, which
 * RECONFIGURE may write and others read at any time.
 */
struct nbd_config {
	struct net *net;			/* reference held */
	struct sockaddr_storage *addresses;	/* NULL: sockets are handed over */
	unsigned int nr_addresses;
	char *export;				/* name, owned */
	char *backend;				/* identifier, owned, may be NULL */
	unsigned int nr_links;
	unsigned int connect_timeout;		/* ms */
	unsigned int link_timeout;		/* ms */
	unsigned int fence_delay;		/* ms */
	unsigned long timeout;			/* s */
	unsigned long dead_conn_timeout;	/* s, 0: for ever */
	u32 flags;				/* NBDX_FLAG_* */
	u32 client_flags;			/* NBD_CFLAG_* */
	u64 size;				/* bytes, 0: as the export */
	u32 block_size;				/* bytes, 0: as the server wants */
	pid_t pid;
	bool do_it;				/* a process stays in NBD_DO_IT */
};

/**
 * struct nbd_device - one /dev/nbN
 *
 * Lives as long as its gendisk, whose references are those of the device: of
 * the list of devices until removal, of whoever looked it up, and of the block
 * layer.
 *
 * @index: N
 * @disk: the gendisk
 * @tags: blk-mq's
 * @lock: serialises control: @state, @config, @links, @export
 * @state: NBDX_STATE_*; who sets SETUP or TEARDOWN owns the device until it
 *	   sets another
 * @connection: counts these, from 1 on
 * @config: valid unless FREE
 * @links: @config.nr_links of them, unless FREE; freed only after queue_rq
 *	   can no longer see them
 * @nr_links: how many of @links queue_rq may wake (0 unless LIVE)
 * @export: as negotiated; every later handshake must agree
 * @export_known: the first handshake has set it (queue.lock)
 * @session: names the connections of this configuration to servers
 * @block_size: logical, bytes
 * @read_only: by the export or by the administrator
 * @queue: requests
 * @setup: CONNECT waits here for its links' first outcome, DO_IT for the end,
 *	   DISCONNECT for that of somebody else
 * @down_since: jiffies since when no link has been ready, under queue.lock
 * @ready: links that are ready, under queue.lock
 * @abort: SETUP is to be given up, DO_IT to end (lock; while LIVE with open_mutex
 *	   as well, unless by force)
 * @pid_file: /sys/block/DEV/pid is there (who owns SETUP or TEARDOWN)
 * @backend_file: /sys/block/DEV/backend is
 * @rings: sizes of receive rings, as they were last known (lock)
 * @registered: bytes of the reserve that the kernel keeps for it (lock)
 * @gone: being taken off the list of devices, for good (set with lock and
 *	  devices_lock; who reads it with neither may see it late)
 * @closed: the last close came after it went LIVE; set with open_mutex held,
 *	    cleared under @lock
 * @stale: disconnected by force, and whoever had it open has it open still
 * @ioctl: what the NBD_* ioctls have set for the next NBD_DO_IT, under @lock;
 *	   owner is the process that has set it, with a reference;
 *	   set tells the last close that there is something to forget
 * @ioctl_over: the last close came, and nobody has forgotten @ioctl yet; set with
 *		open_mutex held, cleared under @lock
 * @in_do_it: a process is in NBD_DO_IT, from before SETUP until it is FREE (lock)
 * @close_work: disconnects after the last close, NBD_CFLAG_DISCONNECT_ON_CLOSE
 * @teardown_work: the second half of a teardown by DISCONNECT; has a reference
 * @uevent_work: tells the world that it is LIVE; has a reference
 * @forget: @connection after which it is to be removed (who owns SETUP or TEARDOWN)
 * @forget_work: removes it after a disconnect, NBD_CFLAG_DESTROY_ON_DISCONNECT
 * @debugfs: directory
 */
struct nbd_device {
	int index;
	struct gendisk *disk;
	struct blk_mq_tag_set tags;

	struct mutex lock;	/* state, connection, config, links, export, ioctl */
	unsigned int state;
	u64 connection;
	u64 forget;
	struct nbd_config config;
	struct nbd_link *links[NBDX_MAX_LINKS];
	unsigned int nr_links;
	struct nbd_export export;
	bool export_known;
	u8 session[NBD_WIRE_X_SESSION_ID_LEN];
	unsigned int block_size;
	bool read_only;

	struct nbd_queue queue;
	wait_queue_head_t setup;
	unsigned long down_since;
	unsigned int ready;
	bool abort;
	bool gone;
	bool closed;
	bool stale;
	bool pid_file;
	bool backend_file;
	struct nbd_nic_ring rings[NBD_RESERVE_NICS];
	long registered;

	struct {
		struct socket *socks[NBDX_MAX_LINKS];
		unsigned int nr_socks;
		struct pid *owner;
		bool set;
		u64 size;
		u32 block_size;
		u16 flags;
		unsigned long timeout;
	} ioctl;
	bool ioctl_over;
	bool in_do_it;

	struct work_struct close_work;
	struct work_struct teardown_work;
	struct work_struct uevent_work;
	struct work_struct forget_work;
	struct dentry *debugfs;
};

/* main.c */
extern struct workqueue_struct *nbd_workqueue, *nbd_teardown_workqueue;
struct nbd_device *nbd_device_get(int index, bool create);
struct nbd_device *nbd_device_get_free(void);
struct nbd_device *nbd_device_get_next(int *index);
void nbd_device_forget(struct work_struct *work);
void nbd_memalloc_get(void);
void nbd_memalloc_put(void);

/* device.c */
struct nbd_device *nbd_device_add(int index, const char *prefix, unsigned int part_shift);
void nbd_device_remove(struct nbd_device *dev);
void nbd_devices_await(void);
/**
 * nbd_device_hold() - take one more reference
 * @dev: the device, to which the caller has one, or with devices_lock held
 *
 * Return: @dev.
 */
static inline struct nbd_device *nbd_device_hold(struct nbd_device *dev)
{
	get_device(disk_to_dev(dev->disk));
	return dev;
}

/**
 * nbd_device_put() - drop a reference
 * @dev: the device
 *
 * Context: process; frees it with the last one.
 */
static inline void nbd_device_put(struct nbd_device *dev)
{
	put_disk(dev->disk);
}

void nbd_config_clear(struct nbd_config *config);

/* connect.c */
void nbd_connection_init(struct nbd_device *dev);
int nbd_device_check_export(struct nbd_device *dev, const struct nbd_export *export,
			    char *why, size_t len);
int nbd_device_connect(struct nbd_device *dev, struct nbd_config *config,
		       const struct nbd_export *export, struct socket **socks,
		       u64 *connection, char *why, size_t len);
int nbd_device_disconnect(struct nbd_device *dev, bool force, u64 connection);
bool nbd_device_abort(struct nbd_device *dev, unsigned int openers);
void nbd_device_teardown(struct nbd_device *dev);
int nbd_device_hand_over(struct nbd_device *dev, struct socket *sock);

/* queue.c */
extern const struct blk_mq_ops nbd_mq_ops;
void nbd_queue_init(struct nbd_queue *queue);
void nbd_queue_kick(struct nbd_device *dev);
struct nbd_cmd *nbd_queue_take(struct nbd_link *link);
void nbd_queue_sent(struct nbd_link *link, struct nbd_cmd *cmd);
struct nbd_cmd *nbd_queue_find(struct nbd_link *link, u64 cookie);
void nbd_queue_answered(struct nbd_link *link, struct nbd_cmd *cmd, blk_status_t status);
void nbd_queue_give_back(struct nbd_link *link);
void nbd_queue_release(struct nbd_link *link);
void nbd_queue_fail(struct nbd_device *dev);
void nbd_queue_expire(struct nbd_device *dev);

/* link.c */
struct nbd_link *nbd_link_create(struct nbd_device *dev, unsigned int index,
				 struct socket *handover);
void nbd_link_stop(struct nbd_link *link);
void nbd_link_free(struct nbd_link *link);
unsigned long nbd_link_tick(struct nbd_link *link);
void nbd_link_wake(struct nbd_link *link, unsigned int event);
void nbd_link_fault(struct nbd_link *link, int error);
void nbd_link_say(struct nbd_link *link, const char *fmt, ...) __printf(2, 3);
const struct sockaddr_storage *nbd_link_peer(const struct nbd_link *link);

/* socket.c */
int nbd_socket_make(struct nbd_link *link);
void nbd_socket_change_port(struct nbd_link *link);
void nbd_socket_free(struct nbd_link *link);
int nbd_socket_open(struct nbd_link *link, unsigned int index);
int nbd_socket_adopt(struct nbd_link *link, struct socket *sock);
int nbd_socket_check(struct socket *sock);
int nbd_socket_wait(struct nbd_link *link, unsigned long deadline);
void nbd_socket_go_live(struct nbd_link *link);
void nbd_socket_close(struct nbd_link *link, bool graceful);
int nbd_socket_charge(struct nbd_link *link);
unsigned long nbd_socket_tend(struct nbd_link *link);
bool nbd_socket_is_untracked(const struct sock *sk);

/* watch.c */
void nbd_watch_start(struct nbd_link *link);
int nbd_watch(struct nbd_link *link);
unsigned long nbd_watch_nap(struct nbd_link *link);

/* rescue.c */
void nbd_rescue_init(struct nbd_link *link);
void nbd_rescue_start(struct nbd_link *link);
void nbd_rescue(struct nbd_link *link);
void nbd_rescue_exit(struct nbd_link *link);

/* entitle.c */
void nbd_entitle(struct sock *sk);
void nbd_disentitle(struct sock *sk);

/* send.c */
int nbd_send(struct nbd_link *link);
int nbd_send_bytes(struct nbd_link *link, struct iov_iter *iter, int flags);
void nbd_send_disconnect(struct nbd_link *link);

/* recv.c */
void nbd_recv_start(struct nbd_link *link);
int nbd_recv_tcp(struct nbd_link *link);
int nbd_recv_any(struct nbd_link *link);
int nbd_recv_bytes(struct nbd_link *link, void *buf, size_t len);

/* neighbour.c */
int nbd_neighbour_init(void);
void nbd_neighbour_exit(void);
void nbd_neighbour_watch(struct nbd_link *link, struct sock *sk, bool stalled);
void nbd_neighbour_release(struct nbd_link *link);

/* netfilter.c */
#ifdef CONFIG_NETFILTER
int nbd_netfilter_add(struct net *net);
void nbd_netfilter_del(struct net *net);
void nbd_netfilter_exit(void);
bool nbd_netfilter_begin(struct nbd_link *link);
void nbd_netfilter_end(struct nbd_link *link, bool answered);
#else
static inline int nbd_netfilter_add(struct net *net)
{
	return 0;
}

static inline void nbd_netfilter_del(struct net *net)
{
}

static inline void nbd_netfilter_exit(void)
{
}

static inline bool nbd_netfilter_begin(struct nbd_link *link)
{
	return false;
}

static inline void nbd_netfilter_end(struct nbd_link *link, bool answered)
{
}
#endif

/* netlink.c */
int nbd_netlink_register(void);
void nbd_netlink_unregister(void);
struct sk_buff *nbd_netlink_prepare_notice(struct nbd_device *dev, gfp_t gfp);
void nbd_netlink_notify(struct nbd_device *dev, struct sk_buff *notice);

/* status.c */
/**
 * struct nbd_link_snapshot - a link at one moment
 * @state: NBDX_LS_*
 * @since: jiffies of its last change
 * @inflight: requests it has sent
 * @held: requests that wait for the end of the connection before
 * @fence: NBDX_FENCE_*
 * @counters: its counters
 * @error: why the last connection or attempt ended, may be empty
 */
struct nbd_link_snapshot {
	unsigned int state;
	unsigned long since;
	unsigned int inflight;
	unsigned int held;
	unsigned int fence;
	struct nbd_counters counters;
	char error[NBD_HANDSHAKE_TEXT_MAX];
};

void nbd_link_snapshot(struct nbd_link *link, struct nbd_link_snapshot *shot);
void nbd_counters_add(struct nbd_counters *sum, const struct nbd_counters *c);
int nbd_status_fill(struct sk_buff *msg, struct nbd_device *dev, bool all);

/* ioctl.c */
void nbd_ioctl_clear(struct nbd_device *dev);

/* debugfs.c */
void nbd_debugfs_init(void);
void nbd_debugfs_exit(void);
void nbd_debugfs_add(struct nbd_device *dev);
void nbd_debugfs_remove(struct nbd_device *dev);

/* oom.c */
int nbd_oom_register(void);
void nbd_oom_unregister(void);
void nbd_oom_write_started(void);
void nbd_oom_write_done(bool ok, bool swap);

/* lockdep.c */
#ifdef CONFIG_PROVE_LOCKING
void nbd_lockdep_prime(void);
void nbd_lockdep_prime_socket(struct sock *sk);
#else
static inline void nbd_lockdep_prime(void)
{
}

static inline void nbd_lockdep_prime_socket(struct sock *sk)
{
}
#endif

#endif /* NBD_INTERNAL_H */
