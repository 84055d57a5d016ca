// SPDX-License-Identifier: GPL-2.0-or-later
/* What a connection's requests leave in the log: few lines, whatever the client does. */
#include "server/connection.h"

static void tell_kept(const struct srv_conn *c, unsigned int n)
{
	char file[512];

	srv_conn_export_file(c, file, sizeof(file));
	nbd_log_about(NULL, srv_conn_export_name(c), LOG_ERR,
		      "export '%s': %u more request%s failed for lack of space in %s; free some or "
		      "the client loses data",
		      srv_conn_export_name(c), n, n == 1 ? " has" : "s have", file);
}

static struct srv_nospace *nospace(const struct srv_conn *c)
{
	return c->swap ? &c->swap->nospace : c->export->nospace;
}

/* What has been kept back is told when its time has come, and before @c is gone */
void srv_report_no_space(struct srv_conn *c)
{
	unsigned int kept;

	if (!c->nospace_due)
		return;
	c->nospace_due = 0;
	kept = srv_nospace_kept(nospace(c), c->loop->now);
	if (kept)
		tell_kept(c, kept);
}

void srv_report_failure(struct srv_conn *c, const struct srv_request *req, uint32_t error)
{
	static const char *const names[] = {
		[NBD_WIRE_CMD_READ] = "read",
		[NBD_WIRE_CMD_WRITE] = "write",
		[NBD_WIRE_CMD_FLUSH] = "flush",
		[NBD_WIRE_CMD_TRIM] = "trim",
		[NBD_WIRE_CMD_WRITE_ZEROES] = "zero",
		[NBD_WIRE_CMD_CACHE] = "cache",
		[NBD_WIRE_CMD_BLOCK_STATUS] = "examine",
	};

	unsigned int kept = 0;
	char file[512];

	/* FAST_ZERO's way to say that it would be slow */
	if (error == NBD_WIRE_ENOTSUP)
		return;
	if (error == NBD_WIRE_ENOSPC) {
		if (!srv_nospace_failed(nospace(c), c->loop->now, &kept)) {
			if (!c->nospace_due)
				c->nospace_due = c->loop->now + SRV_NOSPACE_MS;
			srv_list_add(&c->loop->timed, &c->timed);
			return;
		}
	} else if (!nbd_log_allowed(&c->log_limit, (time_t)(c->loop->now / 1000))) {
		return;
	}
	srv_conn_export_file(c, file, sizeof(file));
	nbd_log_about(c->peer, srv_conn_export_name(c), LOG_ERR,
		      "export '%s': cannot %s %llu bytes at %llu of %s: %s",
		      srv_conn_export_name(c), names[req->type], (unsigned long long)req->length,
		      (unsigned long long)req->offset, file,
		      error == NBD_WIRE_ENOSPC ?
			      "no space left; free some or the client loses data" :
			      "I/O error");
	if (kept)
		tell_kept(c, kept);
}

/* Only for who looks for it: whoever sends such a request is told */
void srv_report_refusal(struct srv_conn *c, const struct srv_request *r)
{
	if (nbd_log_level() < LOG_DEBUG ||
	    !nbd_log_allowed(&c->log_limit, (time_t)(c->loop->now / 1000)))
		return;
	nbd_log_about(
		c->peer, srv_conn_export_name(c), LOG_DEBUG,
		"client %s: command %u with flags 0x%x, %llu bytes at %llu, is refused: error %u",
		c->peer, r->type, r->flags, (unsigned long long)r->length,
		(unsigned long long)r->offset, r->error);
}
