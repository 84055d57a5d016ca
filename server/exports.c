// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a client's name for an export leads to.  All of this may wait for disks
 * and name services, so it is done by the pool.
 */
#include <errno.h>
#include <glib.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/acl.h"
#include "server/connection.h"
#include "server/hook.h"
#include "server/private.h"
#include "server/socket.h"
#include "server/swap.h"

/* Text from a client, fit for a log */
static char *printable(const char *text)
{
	return g_strescape(text, NULL);
}

/* Has each client what it writes for itself? */
static bool is_private(const struct srv_export *export)
{
	return export->temporary || export->copyonwrite;
}

/* Near which path, or in which directory, the file for that is */
static const char *private_place(const struct srv_export *export)
{
	return export->copyonwrite && export->cowdir ? export->cowdir : export->path;
}

const char *srv_conn_export_name(const struct srv_conn *c)
{
	return c->swap ? c->swap->name : c->export->name;
}

void srv_conn_export_file(const struct srv_conn *c, char *text, size_t len)
{
	if (c->swap)
		snprintf(text, len, "%s/%s" SRV_SWAP_SUFFIX, c->export->swapdir, c->swap->name);
	else if (is_private(c->export))
		snprintf(text, len, "the client's own file at %s", private_place(c->export));
	else
		snprintf(text, len, "%s", c->export->path);
}

const char *srv_conn_claimed_name(const struct srv_conn *c)
{
	if (!c->claimed)
		return NULL;
	/* The section is claimed before there is a file: until then nothing has a name */
	return c->claimed->swapdir ? (c->swap ? c->swap->name : NULL) : c->claimed->name;
}

/* Is there room for one more besides @n connections, of which @here come from its address? */
static bool has_room(struct srv_conn *c, uint64_t n, uint64_t here, char *why, size_t len)
{
	const struct srv_export *export = c->export;
	bool full = export->max_connections && n >= export->max_connections;

	if (full) {
		snprintf(why, len, "export '%.80s' has its maximum of %llu connections",
			 export->name, (unsigned long long)export->max_connections);
	} else if (export->max_per_address && here >= export->max_per_address) {
		snprintf(why, len,
			 "export '%.60s' has its maximum of %llu connections from this client's "
			 "address",
			 export->name, (unsigned long long)export->max_per_address);
	} else {
		return true;
	}
	atomic_fetch_add(&c->srv->refused[full ? SRV_REFUSED_CONNECTIONS : SRV_REFUSED_ADDRESS], 1);
	return false;
}

/*
 * Count the client against its export's maximum, unless it only wants
 * information; on refusal @why says which.  @shared: every other client of the
 * export has the same file; after a file has been replaced those who came before
 * still have the old one.
 */
static bool claim(struct srv_conn *c, bool count, bool *shared, char *why, size_t len)
{
	const struct srv_export *export = c->export;
	struct srv_conn *other;
	static const uint64_t none[2];
	uint64_t n = 0, here = 0;
	bool room;

	*shared = true;
	pthread_mutex_lock(&c->srv->lock);
	for (other = c->srv->conns; other; other = other->next) {
		/* By name: the other may have come before a reload */
		if (other == c || !other->claimed || strcmp(other->claimed->name, export->name))
			continue;
		n++;
		here += c->address.kind && srv_address_same(&other->address, &c->address);
		if (c->backend && other->swap == c->swap &&
		    memcmp(other->claimed_id, none, sizeof(none)) &&
		    memcmp(other->claimed_id, c->backend->id, sizeof(c->claimed_id)))
			*shared = false;
	}
	room = !count || has_room(c, n, here, why, len);
	c->claimed = count && room ? export : NULL;
	/* Nothing while it is being opened */
	memcpy(c->claimed_id, c->backend ? c->backend->id : none, sizeof(c->claimed_id));
	pthread_mutex_unlock(&c->srv->lock);
	return room;
}

void srv_conn_unclaim(struct srv_conn *c)
{
	struct srv_private *private;
	struct srv_swap_file *swap;

	pthread_mutex_lock(&c->srv->lock);
	c->claimed = NULL;
	swap = c->swap;
	c->swap = NULL;
	private = c->private;
	c->private = NULL;
	pthread_mutex_unlock(&c->srv->lock);
	if (swap)
		srv_swap_leave(swap);
	if (private)
		srv_private_leave(&c->srv->privates, private);
}

bool srv_conn_opens_slowly(const struct srv_conn *c)
{
	struct srv_config *config = srv_server_config(c->srv);
	const struct srv_export *export = srv_config_find(config, c->session.name);
	bool slow = c->hooked || (export && srv_export_is_slow(export));

	srv_config_put(config);
	return slow;
}

/* Once, before the export's file is opened; @why says it if that is not to be */
static bool run_prerun(struct srv_conn *c, const char *name, char *why, size_t len)
{
	const struct srv_export *export = c->export;
	char how[100];

	if (c->hooked || !srv_export_has_hooks(export))
		return true;
	if (export->prerun &&
	    !srv_hook_run(export->prerun, export->path, c->deadline, how, sizeof(how))) {
		snprintf(why, len, "export '%.40s': prerun %s", name, how);
		return false;
	}
	c->hooked = true;
	return true;
}

/* Once it has been closed */
static void run_postrun(struct srv_conn *c)
{
	const struct srv_export *export = c->export;
	char how[100];

	if (!c->hooked)
		return;
	c->hooked = false;
	if (export->postrun && !srv_hook_run(export->postrun, export->path,
					     srv_now_ms() + SRV_POSTRUN_MS, how, sizeof(how)))
		nbd_log_about(c->peer, export->name, LOG_WARNING, "export '%s': postrun %s",
			      export->name, how);
}

void srv_conn_close_export(struct srv_conn *c)
{
	srv_conn_unclaim(c);
	srv_stats_leave(&c->srv->stats, c->counted);
	c->counted = NULL;
	c->shard = NULL;
	if (c->backend)
		c->backend->ops->close(c->backend);
	c->backend = NULL;
	run_postrun(c);
	c->export = NULL;
	srv_config_put(c->config);
	c->config = NULL;
}

/* Of a swap export it must be known before there is a file */
static uint32_t min_block(const struct srv_conn *c)
{
	if (c->export->swapdir)
		return c->export->direct ? SRV_DIRECT_MAX : 1;
	return c->backend->min_block;
}

/* @size: of a swap export that nobody has opened */
static void fill_info(const struct srv_conn *c, uint64_t size, bool shared,
		      struct srv_export_info *info)
{
	const struct srv_export *export = c->export;
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
	if (is_private(export) ? c->session.announced : shared)
		flags |= NBD_WIRE_FLAG_CAN_MULTI_CONN;

	*info = (struct srv_export_info){
		.size = c->backend ? c->backend->size : size,
		.flags = flags,
		.min_block = min_block(c),
		.preferred_block = c->backend ? c->backend->preferred_block :
						NBD_WIRE_DEF_PREFERRED,
		.max_payload = NBD_WIRE_DEF_MAX_PAYLOAD,
		.name = export->swapdir && !c->swap ? c->session.name : srv_conn_export_name(c),
		.description = export->description,
	};
}

/* What has just been opened is c->export's: have it as that says.  NULL, with errno set: it cannot be. */
static struct srv_backend *set_up(struct srv_conn *c, struct srv_backend *b, const char **what)
{
	int ret;

	if (!b)
		return NULL;
	b->cancelled = &c->ended;
	ret = c->export->direct ? srv_file_direct(b, what) : 0;
	if (!ret)
		return b;
	b->ops->close(b);
	errno = -ret;
	return NULL;
}

/* Is the export opened to be used, and not only to be asked about? */
static bool counts(uint32_t opt)
{
	return opt == NBD_WIRE_OPT_GO || opt == NBD_WIRE_OPT_EXPORT_NAME;
}

/* What the export's path leads to; NULL with errno set */
static struct srv_backend *open_path(const struct srv_export *export, bool readonly,
				     const atomic_bool *cancelled, const char **what)
{
	struct srv_rbd image = {
		.path = export->path,
		.user = export->cephuser ? export->cephuser : SRV_RBD_DEF_USER,
		.conf = export->cephconf,
		.readonly = readonly,
		.size = export->size,
	};

	if (srv_export_is_rbd(export))
		return srv_rbd_open(&image, what);
	if (export->treefiles)
		return srv_tree_open(export->path, readonly, export->size, what);
	if (export->multifile)
		return srv_multi_open(export->path, readonly, export->size, cancelled, what);
	return srv_file_open(export->path, readonly, export->size, what);
}

/* An empty file, or one over what the path leads to; NULL with errno set, @what failed @where */
static struct srv_store *new_store(const struct srv_export *export, const char **what,
				   const char **where)
{
	g_autofree char *name = g_path_get_basename(export->path);
	g_autofree char *dir = NULL;
	struct srv_backend *under = NULL;

	if (export->copyonwrite) {
		under = open_path(export, true, NULL, what);
		if (!under)
			return NULL;
	}
	*where = private_place(export);
	dir = *where == export->path ? g_path_get_dirname(*where) : g_strdup(*where);
	return srv_store_new(dir, name, under, export->size, what);
}

/*
 * The client's own, shared with the others of its session; who only asks gets
 * one for the moment.  Without a backend, @what says what failed, or it is @lost.
 */
static void open_private(struct srv_conn *c, bool *lost, const char **what, const char **where)
{
	const uint8_t *session = c->session.announced ? c->session.session_id : NULL;
	enum srv_private_result result = SRV_PRIVATE_NEW;
	struct srv_privates *privates = &c->srv->privates;
	const struct srv_export *export = c->export;
	struct srv_private *entry = NULL;
	struct srv_backend *view = NULL;
	struct srv_store *store = NULL;

	if (session)
		result = srv_private_find(privates, export->name, session, &entry);
	if (entry)
		store = srv_store_get(entry->store);
	else if (result == SRV_PRIVATE_NEW)
		store = new_store(export, what, where);
	if (store)
		view = srv_store_open(store, &c->ended, what);
	if (view && !entry && session && counts(c->session.opt))
		result = srv_private_add(privates, export->name, session, store, &entry);
	if (view && entry && entry->store != store) {
		/* Another connection of the session has been faster */
		view->ops->close(view);
		srv_store_put(store);
		store = srv_store_get(entry->store);
		view = srv_store_open(store, &c->ended, what);
	}
	*lost = result == SRV_PRIVATE_LOST;
	if (view && *lost) {
		view->ops->close(view);
		view = NULL;
	}
	c->backend = view;
	if (view && counts(c->session.opt)) {
		pthread_mutex_lock(&c->srv->lock);
		c->private = entry;
		pthread_mutex_unlock(&c->srv->lock);
	} else if (entry) {
		srv_private_leave(privates, entry);
	}
	if (store)
		srv_store_put(store);
}

/*
 * What c->export's path leads to.  Who is to use an image of Ceph has its lock,
 * and one that another gateway has taken meanwhile is opened anew.
 */
static void open_shared(struct srv_conn *c, const char **what)
{
	const struct srv_export *export = c->export;
	struct srv_backend *b;
	bool again = true;
	int ret;

	for (;;) {
		if (!c->backend) {
			b = open_path(export, export->readonly, &c->ended, what);
			c->backend = set_up(c, b, what);
		}
		if (!c->backend || !c->backend->remote || !counts(c->session.opt))
			return;
		ret = srv_rbd_use(c->backend, export->rbd_takeover, what);
		if (!ret)
			return;
		c->backend->ops->close(c->backend);
		c->backend = NULL;
		errno = -ret;
		if (ret != -ESHUTDOWN || !again)
			return;
		again = false;
	}
}

/* Open what c->export is, if that has not been done for INFO already */
static enum srv_open_result open_backend(struct srv_conn *c, const char *name, char *why,
					 size_t len)
{
	const struct srv_export *export = c->export;
	const char *what, *where = export->path;
	bool lost = false, in_use;

	if (c->backend && !c->backend->remote)
		return SRV_OPEN_OK;
	if (is_private(export))
		open_private(c, &lost, &what, &where);
	else
		open_shared(c, &what);
	if (c->backend)
		return SRV_OPEN_OK;
	if (lost) {
		snprintf(why, len,
			 "export '%.40s': what this client had written went with its last "
			 "connection; disconnect the device and connect it anew",
			 name);
		return SRV_OPEN_POLICY;
	}
	in_use = errno == EBUSY && srv_export_is_rbd(export);
	snprintf(why, len,
		 in_use ? "export '%.60s' is in use through another server, which has the image's "
			  "lock" :
			  "export '%.80s' cannot be opened on the server",
		 name);
	if (srv_server_may_log(c->srv))
		nbd_log_about(c->peer, export->name, LOG_ERR, "export '%s': cannot %s %s: %s",
			      export->name, what, where, strerror(errno));
	return in_use ? SRV_OPEN_POLICY : SRV_OPEN_UNKNOWN;
}

/* Who the client is, as far as it tells */
static void find_owner(const struct srv_conn *c, struct srv_swap_owner *who)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&c->addr;
	const struct sockaddr_in *in = (const struct sockaddr_in *)&c->addr;

	*who = (struct srv_swap_owner){ .kind = SRV_OWNER_LOCAL };
	if (c->session.announced) {
		who->kind = SRV_OWNER_SESSION;
		memcpy(who->id, c->session.session_id, sizeof(who->id));
	} else if (c->addr.ss_family == AF_INET) {
		who->kind = SRV_OWNER_IPV4;
		memcpy(who->id, &in->sin_addr, sizeof(in->sin_addr));
	} else if (c->addr.ss_family == AF_INET6) {
		who->kind = SRV_OWNER_IPV6;
		memcpy(who->id, &in6->sin6_addr, sizeof(in6->sin6_addr));
	}
}

/* Whoever has the file may be gone without a word: find out, for the next time */
static void probe_users(struct srv_conn *c, const char *name)
{
	struct srv_conn *other;

	pthread_mutex_lock(&c->srv->lock);
	for (other = c->srv->conns; other; other = other->next) {
		if (other->swap && other->swap->dir == c->export->dir &&
		    !strcmp(other->swap->name, name))
			srv_socket_probe(other->fd, other->addr.ss_family);
	}
	pthread_mutex_unlock(&c->srv->lock);
}

/* Why a swap export is not opened; @name is fit for a log */
static void explain(struct srv_conn *c, enum srv_swap_result result, const char *name,
		    const struct srv_swap_opened *o, char *why, size_t len)
{
	const struct srv_export *export = c->export;

	switch (result) {
	case SRV_SWAP_OK:
		break;
	case SRV_SWAP_IN_USE:
		probe_users(c, name);
		snprintf(why, len,
			 "export '%.60s' is in use by another client; if that one is gone, "
			 "try again in 10 seconds",
			 name);
		break;
	case SRV_SWAP_LOST:
		snprintf(why, len,
			 "export '%.40s': what this client had there was removed or given to "
			 "another; disconnect the device and connect it anew",
			 name);
		break;
	case SRV_SWAP_QUOTA:
		snprintf(why, len,
			 "export '%.40s': quota of %llu bytes, of which %llu are promised, has no "
			 "room for %llu more",
			 name, (unsigned long long)export->quota, (unsigned long long)o->promised,
			 (unsigned long long)export->swapsize);
		break;
	case SRV_SWAP_FAILED:
		if (o->error == ENOSPC)
			snprintf(why, len, "export '%.80s': no space left on the server", name);
		else
			snprintf(why, len, "export '%.80s' cannot be opened on the server", name);
		if (srv_server_may_log(c->srv))
			nbd_log_about(c->peer, name, LOG_ERR,
				      "export '%s': cannot %s %s/%s" SRV_SWAP_SUFFIX ": %s", name,
				      o->what, export->swapdir, name, strerror(o->error));
	}
}

/* The file of a swap export; only looked at, and not made, unless it is to be used */
static enum srv_open_result open_swap(struct srv_conn *c, uint64_t *size, char *why, size_t len)
{
	const struct srv_export *export = c->export;
	const char *name = c->session.name, *bad = srv_swap_bad_name(name);
	struct srv_swap_opened o;
	struct srv_swap_owner who;
	enum srv_swap_result result;
	struct srv_backend *b;

	if (bad) {
		g_autofree char *text = printable(name);

		snprintf(why, len, "export '%.60s': bad name: %s", text, bad);
		return SRV_OPEN_UNKNOWN;
	}
	find_owner(c, &who);
	result = (counts(c->session.opt) ? srv_swap_open : srv_swap_look)(export, name, &who, &o);
	if (result != SRV_SWAP_OK) {
		explain(c, result, name, &o, why, len);
		return result == SRV_SWAP_FAILED ? SRV_OPEN_UNKNOWN : SRV_OPEN_POLICY;
	}
	*size = o.size;
	if (!counts(c->session.opt))
		return SRV_OPEN_OK;
	if (o.created)
		nbd_log_about(c->peer, name, LOG_INFO,
			      "export '%s': %s/%s" SRV_SWAP_SUFFIX " created, %llu bytes", name,
			      export->swapdir, name, (unsigned long long)o.size);
	pthread_mutex_lock(&c->srv->lock);
	c->swap = o.file;
	pthread_mutex_unlock(&c->srv->lock);
	b = srv_file_adopt(o.fd, &o.what);
	if (!b) {
		o.error = errno;
		close(o.fd);
	} else {
		c->backend = set_up(c, b, &o.what);
		o.error = errno;
	}
	if (c->backend)
		return SRV_OPEN_OK;
	explain(c, SRV_SWAP_FAILED, name, &o, why, len);
	return SRV_OPEN_UNKNOWN;
}

/* Find and open what the client asks for; on refusal @why says it to the client */
static enum srv_open_result open_export(struct srv_conn *c, uint64_t *size, bool *shared, char *why,
					size_t len)
{
	struct srv_config *config = srv_server_config(c->srv);
	const struct srv_export *export = srv_config_find(config, c->session.name);
	g_autofree char *name = printable(c->session.name);
	enum srv_open_result result;

	if (export && c->export == export && c->backend) {
		srv_config_put(config); /* INFO has opened it already */
		if (is_private(export)) {
			c->backend->ops->close(c->backend);
			c->backend = NULL;
		}
	} else {
		srv_conn_close_export(c);
		c->config = config;
		c->export = export;
	}
	/* Which exports there are with TLS only is nobody's business without it */
	if (!c->session.secure &&
	    (export ? export->tls == SRV_TLS_REQUIRED : c->config->tls_somewhere)) {
		snprintf(why, len, "export '%.80s' is not there without TLS", name);
		return SRV_OPEN_TLS;
	}
	if (!export) {
		snprintf(why, len, "export '%.80s' unknown", name);
		return SRV_OPEN_UNKNOWN;
	}
	if (c->session.secure && export->tls == SRV_TLS_OFF) {
		snprintf(why, len, "export '%.80s' is not there with TLS", name);
		return SRV_OPEN_POLICY;
	}
	if (export->authfile &&
	    !srv_acl_allows(export->authfile, (const struct sockaddr *)&c->addr)) {
		snprintf(why, len, "export '%.80s' is not for this client's address", name);
		return SRV_OPEN_POLICY;
	}
	/* No file is made, and no command run, for one too many */
	if (!claim(c, counts(c->session.opt), shared, why, len) || !run_prerun(c, name, why, len))
		return SRV_OPEN_POLICY;
	result = export->swapdir ? open_swap(c, size, why, len) : open_backend(c, name, why, len);
	/* It has its place; now that the file is known, is it everybody's? */
	if (result == SRV_OPEN_OK)
		claim(c, counts(c->session.opt), shared, why, len);
	return result;
}

void srv_conn_open_export(struct srv_conn *c)
{
	struct srv_conn_setup *setup = c->setup;
	uint64_t size = 0;
	bool shared;

	setup->result = open_export(c, &size, &shared, setup->why, sizeof(setup->why));
	if (setup->result == SRV_OPEN_OK) {
		fill_info(c, size, shared, &setup->info);
		if (counts(c->session.opt))
			c->counted = srv_stats_use(&c->srv->stats, srv_conn_export_name(c),
						   (unsigned int)(c->loop - c->srv->loops),
						   &c->shard);
		return;
	}
	if (srv_server_may_log(c->srv))
		nbd_log_about(c->peer, c->session.name, LOG_WARNING, "client %s refused: %s",
			      c->peer, setup->why);
	srv_conn_close_export(c);
}

/* Could the client use it as it is connected? */
static bool shown(const struct srv_conn *c, const struct srv_export *export)
{
	return export->tls != (c->session.secure ? SRV_TLS_OFF : SRV_TLS_REQUIRED);
}

/* The next name after the one setup->list_* is at; false past the last */
static bool list_next(const struct srv_conn *c)
{
	struct srv_conn_setup *setup = c->setup;
	const struct srv_export *export;

	while (setup->list_next < c->listed->exports->len) {
		export = g_ptr_array_index(c->listed->exports, setup->list_next);
		if (!shown(c, export)) {
			setup->list_next++;
			continue;
		}
		if (!export->swapdir || srv_swap_next(export, setup->list_name)) {
			setup->list_next += !export->swapdir;
			setup->list_export = export;
			return true;
		}
		/* All of its files have been shown */
		setup->list_next++;
		*setup->list_name = 0;
	}
	return false;
}

/*
 * A section for swap has its files shown.  They come and go meanwhile: the
 * last one's name, and not its number, says which is next.
 */
bool srv_conn_list(void *conn, unsigned int i, const char **name, const char **description)
{
	struct srv_conn *c = conn;
	struct srv_conn_setup *setup = c->setup;

	if (!i) {
		setup->list_at = 0;
		setup->list_next = 0;
		*setup->list_name = 0;
		if (!list_next(c))
			return false;
	} else if (i != setup->list_at) {
		if (!list_next(c))
			return false;
		setup->list_at = i;
	}
	*name = setup->list_export->swapdir ? setup->list_name : setup->list_export->name;
	*description = setup->list_export->description;
	return true;
}
