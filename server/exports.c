// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a client's name for an export leads to.  All of this may wait for disks
 * and name services, so it is done by the pool.
 */
#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "server/acl.h"
#include "server/connection.h"

/* Text from a client, fit for a log */
static char *printable(const char *text)
{
	return g_strescape(text, NULL);
}

/*
 * Count the client against its export's maximum, unless it only wants
 * information.  @shared: every other client of the export has the same file;
 * after a file has been replaced those who came before still have the old one.
 */
static bool claim(struct srv_conn *c, bool count, bool *shared)
{
	const struct srv_export *export = c->export;
	struct srv_conn *other;
	uint64_t n = 0;
	bool room;

	*shared = true;
	pthread_mutex_lock(&c->srv->lock);
	for (other = c->srv->conns; other; other = other->next) {
		/* By name: the other may have come before a reload */
		if (other == c || !other->claimed || strcmp(other->claimed->name, export->name))
			continue;
		n++;
		if (memcmp(other->claimed_id, c->backend->id, sizeof(c->claimed_id)))
			*shared = false;
	}
	room = !count || !export->max_connections || n < export->max_connections;
	c->claimed = count && room ? export : NULL;
	memcpy(c->claimed_id, c->backend->id, sizeof(c->claimed_id));
	pthread_mutex_unlock(&c->srv->lock);
	return room;
}

void srv_conn_unclaim(struct srv_conn *c)
{
	pthread_mutex_lock(&c->srv->lock);
	c->claimed = NULL;
	pthread_mutex_unlock(&c->srv->lock);
}

void srv_conn_close_export(struct srv_conn *c)
{
	srv_conn_unclaim(c);
	if (c->backend)
		c->backend->ops->close(c->backend);
	c->backend = NULL;
	c->export = NULL;
	srv_config_put(c->config);
	c->config = NULL;
}

static void fill_info(const struct srv_export *export, const struct srv_backend *b, bool shared,
		      struct srv_export_info *info)
{
	uint16_t flags = NBD_WIRE_FLAG_HAS_FLAGS | NBD_WIRE_FLAG_SEND_DF | NBD_WIRE_FLAG_SEND_CACHE;

	if (export->flush)
		flags |= NBD_WIRE_FLAG_SEND_FLUSH;
	if (export->rotational)
		flags |= NBD_WIRE_FLAG_ROTATIONAL;
	if (export->readonly)
		flags |= NBD_WIRE_FLAG_READ_ONLY;
	else
		flags |= NBD_WIRE_FLAG_SEND_WRITE_ZEROES | NBD_WIRE_FLAG_SEND_FAST_ZERO |
			 (export->fua ? NBD_WIRE_FLAG_SEND_FUA : 0) |
			 (export->trim ? NBD_WIRE_FLAG_SEND_TRIM : 0);
	/* All connections go through the page cache of one file, if it is one file */
	if (shared)
		flags |= NBD_WIRE_FLAG_CAN_MULTI_CONN;

	*info = (struct srv_export_info){
		.size = b->size,
		.flags = flags,
		.min_block = 1,
		.preferred_block = b->preferred_block,
		.max_payload = NBD_WIRE_DEF_MAX_PAYLOAD,
		.name = export->name,
		.description = export->description,
	};
}

/* Open the file of c->export, if that has not been done for INFO already */
static bool open_backend(struct srv_conn *c)
{
	const struct srv_export *export = c->export;
	const char *what;

	if (c->backend)
		return true;
	c->backend = srv_file_open(export->path, export->readonly, export->size, &what);
	if (c->backend)
		c->backend->cancelled = &c->ended;
	else if (srv_server_may_log(c->srv))
		nbd_err("export '%s': cannot %s %s: %s", export->name, what, export->path,
			strerror(errno));
	return c->backend;
}

/* Is the export opened to be used, and not only to be asked about? */
static bool counts(uint32_t opt)
{
	return opt == NBD_WIRE_OPT_GO || opt == NBD_WIRE_OPT_EXPORT_NAME;
}

/* Find and open what the client asks for; on refusal @why says it to the client */
static enum srv_open_result open_export(struct srv_conn *c, bool *shared, char *why, size_t len)
{
	struct srv_config *config = srv_server_config(c->srv);
	const struct srv_export *export = srv_config_find(config, c->session.name);
	g_autofree char *name = printable(c->session.name);

	if (export && c->export == export && c->backend) {
		srv_config_put(config); /* INFO has opened it already */
	} else {
		srv_conn_close_export(c);
		c->config = config;
		c->export = export;
	}
	if (!export) {
		snprintf(why, len, "export '%.80s' unknown", name);
		return SRV_OPEN_UNKNOWN;
	}
	if (export->authfile &&
	    !srv_acl_allows(export->authfile, (const struct sockaddr *)&c->addr)) {
		snprintf(why, len, "export '%.80s' is not for this client's address", name);
		return SRV_OPEN_POLICY;
	}
	if (!open_backend(c)) {
		snprintf(why, len, "export '%.80s' cannot be opened on the server", name);
		return SRV_OPEN_UNKNOWN;
	}
	if (!claim(c, counts(c->session.opt), shared)) {
		snprintf(why, len, "export '%.80s' has its maximum of %llu connections", name,
			 (unsigned long long)export->max_connections);
		return SRV_OPEN_POLICY;
	}
	return SRV_OPEN_OK;
}

void srv_conn_open_export(struct srv_conn *c)
{
	struct srv_conn_setup *setup = c->setup;
	bool shared;

	setup->result = open_export(c, &shared, setup->why, sizeof(setup->why));
	if (setup->result == SRV_OPEN_OK) {
		fill_info(c->export, c->backend, shared, &setup->info);
		return;
	}
	if (srv_server_may_log(c->srv))
		nbd_warn("client %s refused: %s", c->peer, setup->why);
	srv_conn_close_export(c);
}
