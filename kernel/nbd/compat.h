/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The only place that knows kernel versions: 6.1 and later.
 */
#ifndef NBD_COMPAT_H
#define NBD_COMPAT_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/filter.h>
#include <linux/netdevice.h>
#include <linux/version.h>
#include <net/inet_connection_sock.h>
#include <net/sock.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#include <net/netdev_rx_queue.h>
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
#include <net/hotdata.h>
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "nbswap needs Linux 6.1 or later"
#endif

/**
 * struct nbd_limits - what a device can do, as negotiated
 * @logical: logical block size, bytes
 * @physical: physical block size, bytes
 * @optimal: optimal request size, bytes
 * @max_bytes: longest READ or WRITE, bytes
 * @max_trim: longest TRIM, bytes; 0: not supported
 * @max_zeroes: longest WRITE_ZEROES, bytes; 0: not supported
 * @max_segments: scatter table entries of a request
 * @flush: volatile write cache that can be flushed
 * @fua: write through by flag
 * @rotational: the server says that its medium rotates
 */
struct nbd_limits {
	unsigned int logical;
	unsigned int physical;
	unsigned int optimal;
	unsigned int max_bytes;
	unsigned int max_trim;
	unsigned int max_zeroes;
	unsigned short max_segments;
	bool flush;
	bool fua;
	bool rotational;
};

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
static inline struct gendisk *nbd_compat_alloc_disk(struct blk_mq_tag_set *set, void *data)
{
	return blk_mq_alloc_disk(set, NULL, data);
}

static inline int nbd_compat_set_limits(struct gendisk *disk, const struct nbd_limits *limits)
{
	struct queue_limits lim = queue_limits_start_update(disk->queue);
	int err;

	lim.logical_block_size = limits->logical;
	lim.physical_block_size = limits->physical;
	lim.io_min = limits->physical;
	lim.io_opt = limits->optimal;
	lim.max_hw_sectors = limits->max_bytes >> SECTOR_SHIFT;
	lim.max_segments = limits->max_segments;
	lim.max_segment_size = UINT_MAX;
	lim.max_hw_discard_sectors = limits->max_trim >> SECTOR_SHIFT;
	lim.discard_granularity = limits->max_trim ? limits->physical : 0;
	lim.max_write_zeroes_sectors = limits->max_zeroes >> SECTOR_SHIFT;
	lim.features &= ~(BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA | BLK_FEAT_ROTATIONAL);
	if (limits->flush)
		lim.features |= BLK_FEAT_WRITE_CACHE;
	if (limits->fua)
		lim.features |= BLK_FEAT_FUA;
	if (limits->rotational)
		lim.features |= BLK_FEAT_ROTATIONAL;
	/* The block layer's own order: limits first, then the freeze */
	blk_mq_freeze_queue(disk->queue);
	err = queue_limits_commit_update(disk->queue, &lim);
	blk_mq_unfreeze_queue(disk->queue);
	return err;
}
#else
static inline struct gendisk *nbd_compat_alloc_disk(struct blk_mq_tag_set *set, void *data)
{
	struct gendisk *disk = blk_mq_alloc_disk(set, data);

	if (!IS_ERR(disk))
		blk_queue_flag_clear(QUEUE_FLAG_ADD_RANDOM, disk->queue);
	return disk;
}

static inline int nbd_compat_set_limits(struct gendisk *disk, const struct nbd_limits *limits)
{
	struct request_queue *q = disk->queue;

	blk_mq_freeze_queue(q);
	blk_queue_logical_block_size(q, limits->logical);
	/* The setters above and below only ever raise these */
	q->limits.physical_block_size = limits->logical;
	q->limits.io_min = limits->logical;
	blk_queue_physical_block_size(q, limits->physical);
	blk_queue_io_min(q, limits->physical);
	blk_queue_io_opt(q, limits->optimal);
	blk_queue_max_hw_sectors(q, limits->max_bytes >> SECTOR_SHIFT);
	blk_queue_max_segments(q, limits->max_segments);
	blk_queue_max_segment_size(q, UINT_MAX);
	q->limits.discard_granularity = limits->max_trim ? limits->physical : 0;
	blk_queue_max_discard_sectors(q, limits->max_trim >> SECTOR_SHIFT);
	blk_queue_max_write_zeroes_sectors(q, limits->max_zeroes >> SECTOR_SHIFT);
	blk_queue_write_cache(q, limits->flush, limits->fua);
	if (limits->rotational)
		blk_queue_flag_clear(QUEUE_FLAG_NONROT, q);
	else
		blk_queue_flag_set(QUEUE_FLAG_NONROT, q);
	blk_mq_unfreeze_queue(q);
	return 0;
}
#endif

/* Since 6.11 whoever polls a network card provides what XDP keeps meanwhile */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
struct nbd_compat_net_context {
	struct bpf_net_context own;
	struct bpf_net_context *set;
};

static inline void nbd_compat_net_enter(struct nbd_compat_net_context *context)
{
	context->set = bpf_net_ctx_set(&context->own);
}

static inline void nbd_compat_net_leave(struct nbd_compat_net_context *context)
{
	bpf_net_ctx_clear(context->set);
}
#else
struct nbd_compat_net_context {
};

static inline void nbd_compat_net_enter(struct nbd_compat_net_context *context)
{
}

static inline void nbd_compat_net_leave(struct nbd_compat_net_context *context)
{
}
#endif

/* TCP's timers have moved about since */
static inline struct timer_list *nbd_compat_retransmit_timer(struct sock *sk)
{
	return &inet_csk(sk)->icsk_retransmit_timer;
}

static inline struct timer_list *nbd_compat_delack_timer(struct sock *sk)
{
	return &inet_csk(sk)->icsk_delack_timer;
}

/*
 * Memory of a packet to be sent beside its payload: a struct sk_buff and its
 * clone, 512 bytes, and a head of 640, which until 6.3 came from kmalloc-1k.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#define NBD_COMPAT_SKB_OVERHEAD		1152
#else
#define NBD_COMPAT_SKB_OVERHEAD		1536
#endif

/* How page blocks are set aside for interrupts: see nbd_reserve_highatomic() */
#define NBD_COMPAT_HIGHATOMIC_ROUNDED	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0))

/* net.core.netdev_max_backlog */
static inline unsigned int nbd_compat_max_backlog(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	return READ_ONCE(net_hotdata.max_backlog);
#else
	return READ_ONCE(netdev_max_backlog);
#endif
}

/*
 * What this kernel guarantees to sockets with SOCK_MEMALLOC.  The network patches
 * say so, each in a bit of its own; without them nothing is.
 */
#ifdef NBD_HAVE_MEMALLOC_NET
#include <net/memalloc.h>

#define NBD_COMPAT_GUARANTEES		memalloc_net_features
#else
#define NBD_COMPAT_GUARANTEES		0UL
#define MEMALLOC_NET_BH_OFF		0UL
#define MEMALLOC_NET_HIGHATOMIC		0UL
#define MEMALLOC_NET_TCP_SCOPE		0UL
#define MEMALLOC_NET_TCP_RETRY		0UL
#define MEMALLOC_NET_RX_SKB		0UL
#define MEMALLOC_NET_PAGE_POOL		0UL
#define MEMALLOC_NET_VIRTIO_NET		0UL
#define MEMALLOC_NET_PROTOCOLS		0UL
#define MEMALLOC_NET_NO_MERGE		0UL
#define MEMALLOC_NET_FRAGMENTS		0UL
#define MEMALLOC_NET_NEIGHBOUR		0UL
#define MEMALLOC_NET_RESERVE		0UL
#define MEMALLOC_NET_NO_QUEUE		0UL
#define MEMALLOC_NET_INPUT_ROUTE	0UL

static inline int mem_reserve_add(long bytes)
{
	return -EOPNOTSUPP;
}
#endif

/* A guarantee that this kernel knows nothing of has no bit */
static inline bool nbd_compat_guarantees(unsigned long what)
{
	return what && (NBD_COMPAT_GUARANTEES & what) == what;
}

int nbd_device_open(struct gendisk *disk);
void nbd_device_release(struct gendisk *disk);
int nbd_ioctl(struct block_device *bdev, unsigned int cmd, unsigned long arg);

/* Since 6.5 block devices are opened, released and controlled by other types */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
static inline int nbd_compat_open(struct gendisk *disk, blk_mode_t mode)
{
	return nbd_device_open(disk);
}

static inline void nbd_compat_release(struct gendisk *disk)
{
	nbd_device_release(disk);
}

static inline int nbd_compat_ioctl(struct block_device *bdev, blk_mode_t mode, unsigned int cmd,
				   unsigned long arg)
{
	return nbd_ioctl(bdev, cmd, arg);
}
#else
static inline int nbd_compat_open(struct block_device *bdev, fmode_t mode)
{
	return nbd_device_open(bdev->bd_disk);
}

static inline void nbd_compat_release(struct gendisk *disk, fmode_t mode)
{
	nbd_device_release(disk);
}

static inline int nbd_compat_ioctl(struct block_device *bdev, fmode_t mode, unsigned int cmd,
				   unsigned long arg)
{
	return nbd_ioctl(bdev, cmd, arg);
}
#endif

/*
 * Writeback throttling (blk-wbt), which Debian's kernels give to every queue that
 * has no scheduler, makes kswapd and whoever reclaims memory wait until earlier
 * swap-outs are done.  One that must allocate before they can be done, such as a
 * network card's reset, would wait for itself.  Where a disk has been added it may
 * be taken away; the header with the prototype is not for modules.
 */
#if !IS_ENABLED(CONFIG_BLK_WBT)
static inline void nbd_compat_no_throttling(struct gendisk *disk)
{
}
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
void wbt_disable_default(struct gendisk *disk);

static inline void nbd_compat_no_throttling(struct gendisk *disk)
{
	wbt_disable_default(disk);
}
#else
void wbt_disable_default(struct request_queue *q);

static inline void nbd_compat_no_throttling(struct gendisk *disk)
{
	wbt_disable_default(disk->queue);
}
#endif

#endif /* NBD_COMPAT_H */
