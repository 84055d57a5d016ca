/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints: the life of a request and of a link.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM nbd

#if !defined(NBD_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define NBD_TRACE_H

#include <linux/tracepoint.h>

#include "internal.h"

#define nbd_show_type(type)				\
	__print_symbolic(type,				\
		{ NBD_WIRE_CMD_READ, "READ" },		\
		{ NBD_WIRE_CMD_WRITE, "WRITE" },	\
		{ NBD_WIRE_CMD_FLUSH, "FLUSH" },	\
		{ NBD_WIRE_CMD_TRIM, "TRIM" },		\
		{ NBD_WIRE_CMD_WRITE_ZEROES, "WRITE_ZEROES" })

#define nbd_show_state(state)				\
	__print_symbolic(state,				\
		{ NBDX_LS_DOWN, "down" },		\
		{ NBDX_LS_CONNECTING, "connecting" },	\
		{ NBDX_LS_NEGOTIATING, "negotiating" },	\
		{ NBDX_LS_READY, "ready" },		\
		{ NBDX_LS_LOST, "lost" },		\
		{ NBDX_LS_STOPPED, "stopped" })

TRACE_EVENT(nbd_request_queued,
	TP_PROTO(int device, const struct nbd_cmd *cmd),
	TP_ARGS(device, cmd),
	TP_STRUCT__entry(
		__field(int, device)
		__field(u16, type)
		__field(u64, cookie)
		__field(u64, offset)
		__field(u32, bytes)
	),
	TP_fast_assign(
		__entry->device = device;
		__entry->type = cmd->type;
		__entry->cookie = cmd->cookie;
		__entry->offset = be64_to_cpu(cmd->header.offset);
		__entry->bytes = cmd->bytes;
	),
	TP_printk("device=%d %s cookie=%llu offset=%llu bytes=%u", __entry->device,
		  nbd_show_type(__entry->type), __entry->cookie, __entry->offset,
		  __entry->bytes)
);

TRACE_EVENT(nbd_request_sent,
	TP_PROTO(int device, unsigned int link, const struct nbd_cmd *cmd),
	TP_ARGS(device, link, cmd),
	TP_STRUCT__entry(
		__field(int, device)
		__field(unsigned int, link)
		__field(u16, type)
		__field(u64, cookie)
		__field(u32, tries)
	),
	TP_fast_assign(
		__entry->device = device;
		__entry->link = link;
		__entry->type = cmd->type;
		__entry->cookie = cmd->cookie;
		__entry->tries = cmd->tries;
	),
	TP_printk("device=%d link=%u %s cookie=%llu try=%u", __entry->device, __entry->link,
		  nbd_show_type(__entry->type), __entry->cookie, __entry->tries)
);

TRACE_EVENT(nbd_request_replied,
	TP_PROTO(int device, unsigned int link, const struct nbd_cmd *cmd),
	TP_ARGS(device, link, cmd),
	TP_STRUCT__entry(
		__field(int, device)
		__field(unsigned int, link)
		__field(u16, type)
		__field(u64, cookie)
		__field(int, error)
		__field(unsigned int, ms)
	),
	TP_fast_assign(
		__entry->device = device;
		__entry->link = link;
		__entry->type = cmd->type;
		__entry->cookie = cmd->cookie;
		__entry->error = blk_status_to_errno(cmd->status);
		__entry->ms = jiffies_to_msecs(jiffies - cmd->start);
	),
	TP_printk("device=%d link=%u %s cookie=%llu error=%d ms=%u", __entry->device,
		  __entry->link, nbd_show_type(__entry->type), __entry->cookie, __entry->error,
		  __entry->ms)
);

TRACE_EVENT(nbd_link_state,
	TP_PROTO(int device, unsigned int link, unsigned int from, unsigned int to),
	TP_ARGS(device, link, from, to),
	TP_STRUCT__entry(
		__field(int, device)
		__field(unsigned int, link)
		__field(unsigned int, from)
		__field(unsigned int, to)
	),
	TP_fast_assign(
		__entry->device = device;
		__entry->link = link;
		__entry->from = from;
		__entry->to = to;
	),
	TP_printk("device=%d link=%u %s -> %s", __entry->device, __entry->link,
		  nbd_show_state(__entry->from), nbd_show_state(__entry->to))
);

#endif /* NBD_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
