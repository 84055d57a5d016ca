// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The control socket: a line asks, lines answer, each a JSON object.  The last
 * one has the member "done", or "error" with the reason.
 */
#include <errno.h>
#include <grp.h>
#include <jansson.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/connection.h"
#include "server/monitor.h"
#include "server/socket.h"

/* Clients looked at under one lock */
#define BATCH	128
#define BACKLOG 16
#define LONGEST 256

/* What is asked; NONE is answered with the text of the visitor */
enum what { NONE, STATUS, CLIENTS, COUNTERS, LATENCY, SWAP, LOG_LEVEL };

static const struct {
	const char *name;
	enum what what;
} questions[] = {
	{ "status", STATUS },	{ "clients", CLIENTS }, { "counters", COUNTERS },
	{ "latency", LATENCY }, { "swap", SWAP },	{ "log-level", LOG_LEVEL },
};

/* The directory of the socket, if there is none; for the server's user, who is to remove the file */
static void make_directory(const char *path, const struct srv_config *config)
{
	g_autofree char *dir = g_path_get_dirname(path);
	const struct passwd *pw = config->user ? getpwnam(config->user) : NULL;
	const struct group *gr = config->group ? getgrnam(config->group) : NULL;

	if (mkdir(dir, 0755) < 0 || !pw)
		return;
	if (lchown(dir, pw->pw_uid, gr ? gr->gr_gid : pw->pw_gid) < 0)
		nbd_warn("cannot give %s to user %s: %s", dir, config->user, strerror(errno));
}

static int cannot_open(const struct srv_config *config, const char *why)
{
	/* At its default place it is offered, not asked for */
	nbd_log(config->control_default ? LOG_WARNING : LOG_ERR,
		"cannot open the control socket %s: %s", config->control, why);
	return -1;
}

/* Bind it so that nobody else can connect at any moment */
static int bind_private(int fd, const struct sockaddr_un *addr)
{
	mode_t mask = umask(0177);
	int ret = bind(fd, (const struct sockaddr *)addr, sizeof(*addr));

	umask(mask);
	return ret;
}

/* errno as bind() has left it, for people */
static const char *why_not_bound(const char *path)
{
	int err = errno;
	struct stat st;

	if (err != EADDRINUSE || lstat(path, &st) < 0)
		return strerror(err);
	if (!S_ISSOCK(st.st_mode))
		return "it is no socket; remove it, or name another path";
	return "another server answers there; give each one a socket of its own";
}

int srv_control_open(struct srv_monitor *m, const struct srv_config *config)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const char *path = config->control;
	struct stat st;
	int fd;

	if (*path != '/')
		return cannot_open(config, "give an absolute path");
	if (strlen(path) >= sizeof(addr.sun_path))
		return cannot_open(config, "a Unix socket's path has at most 107 bytes");
	strcpy(addr.sun_path, path);
	make_directory(path, config);
	if (srv_socket_stale(&addr))
		unlink(path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return cannot_open(config, strerror(errno));
	if (bind_private(fd, &addr) < 0) {
		cannot_open(config, why_not_bound(path));
		goto err;
	}
	if (listen(fd, BACKLOG) < 0 || lstat(path, &st) < 0) {
		cannot_open(config, strerror(errno));
		unlink(path);
		goto err;
	}
	m->control_path = g_strdup(path);
	m->control_dev = st.st_dev;
	m->control_ino = st.st_ino;
	return fd;
err:
	close(fd);
	return -1;
}

static void complain(struct srv_visitor *v, const char *why)
{
	v->what = NONE;
	v->last = true;
	g_strlcpy(v->text, why, sizeof(v->text));
}

static void set_level(struct srv_visitor *v, const char *name)
{
	int priority;

	if (nbd_log_parse_level(name, &priority)) {
		complain(v, "expected error, warning, info or debug");
		return;
	}
	/* While one of the two lets it through */
	if (priority < LOG_INFO)
		nbd_info("log level is now %s", name);
	nbd_log_set_level(priority);
	if (priority >= LOG_INFO)
		nbd_info("log level is now %s", name);
}

static void take_question(struct srv_visitor *v, const char *line)
{
	g_auto(GStrv) words = g_strsplit(line, " ", 3);
	unsigned int n = g_strv_length(words), i;

	v->answering = true;
	v->step = 0;
	v->below = UINT64_MAX;
	*v->text = 0;
	for (i = 0; n && i < G_N_ELEMENTS(questions); i++) {
		if (strcmp(words[0], questions[i].name))
			continue;
		v->what = questions[i].what;
		if (n == 1)
			return;
		if (v->what == LOG_LEVEL && n == 2)
			set_level(v, words[1]);
		else
			complain(v, "too many words");
		return;
	}
	complain(v, "expected status, clients, counters, latency, swap or log-level [LEVEL]");
}

/* One line of the answer; takes over the object */
static void put_line(struct srv_visitor *v, json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

	if (text)
		g_string_append_printf(v->out, "%s\n", text);
	else
		g_string_append(v->out, "{\"error\":\"out of memory\"}\n");
	free(text);
	json_decref(object);
}

static json_t *string(const char *text)
{
	g_autofree char *valid = text ? g_utf8_make_valid(text, -1) : NULL;

	return valid ? json_string(valid) : json_null();
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

/* Every command with what it has done; none for those that were never asked for */
static json_t *commands(const struct srv_sums *sums)
{
	json_t *all = json_object();
	unsigned int i;

	for (i = 0; i < SRV_COMMANDS; i++) {
		if (!sums->requests[i])
			continue;
		json_object_set_new(
			all, srv_command_name(i),
			json_pack("{s:o,s:o,s:o}", "requests", number(sums->requests[i]), "bytes",
				  number(sums->bytes[i]), "errors", number(sums->errors[i])));
	}
	return all;
}

/* What a client is, copied while the server's list is locked */
struct client {
	uint64_t id;
	int64_t since;
	bool leaving;
	bool in_session;
	uint8_t session_id[NBD_WIRE_X_SESSION_ID_LEN];
	uint32_t session_link;
	char peer[SRV_PEER_LEN];
	char *export;
	struct srv_sums sums;
};

static void copy_client(const struct srv_conn *c, struct client *to)
{
	*to = (struct client){ .id = c->id, .since = c->since };
	to->leaving = atomic_load(&c->leaving);
	to->in_session = c->turn;
	memcpy(to->session_id, c->session_id, sizeof(to->session_id));
	to->session_link = c->session_link;
	memcpy(to->peer, c->peer, sizeof(to->peer));
	to->export = g_strdup(srv_conn_claimed_name(c));
	srv_counters_add(&c->counters, &to->sums);
}

static json_t *session_id(const uint8_t *id)
{
	char hex[2 * NBD_WIRE_X_SESSION_ID_LEN + 1];
	unsigned int i;

	for (i = 0; i < NBD_WIRE_X_SESSION_ID_LEN; i++)
		g_snprintf(hex + 2 * i, 3, "%02x", id[i]);
	return json_string(hex);
}

static json_t *session(const struct client *c)
{
	if (!c->in_session)
		return json_null();
	return json_pack("{s:o,s:I}", "id", session_id(c->session_id), "link",
			 (json_int_t)c->session_link);
}

static void put_client(struct srv_visitor *v, const struct client *c)
{
	const char *state = c->leaving ? "leaving" : c->export ? "serving" : "handshake";

	put_line(v, json_pack("{s:{s:o,s:o,s:o,s:s,s:f,s:o,s:o,s:o,s:o}}", "client", "id",
			      number(c->id), "peer", string(c->peer), "export", string(c->export),
			      "state", state, "since", (double)c->since / 1000, "session",
			      session(c), "in_flight", number(c->sums.in_flight), "dropped",
			      number(c->sums.dropped), "commands", commands(&c->sums)));
}

/* The newest clients first, as they are in the list; false past the last one */
static bool more_clients(struct srv_visitor *v)
{
	g_autofree struct client *batch = g_new(struct client, BATCH);
	const struct srv_conn *c;
	unsigned int i, n = 0;

	pthread_mutex_lock(&v->srv->lock);
	for (c = v->srv->conns; c && n < BATCH; c = c->next) {
		if (c->id < v->below)
			copy_client(c, &batch[n++]);
	}
	pthread_mutex_unlock(&v->srv->lock);
	for (i = 0; i < n; i++) {
		put_client(v, &batch[i]);
		v->below = batch[i].id;
		g_free(batch[i].export);
	}
	return n;
}

static void put_counters(struct srv_visitor *v)
{
	struct srv_sums sums = { 0 };

	srv_counted_add(&v->srv->stats, v->at, &sums);
	put_line(v, json_pack("{s:{s:o,s:i,s:o,s:o,s:o}}", "export", "name", string(v->at->name),
			      "clients", (int)v->clients, "in_flight", number(sums.in_flight),
			      "dropped", number(sums.dropped), "commands", commands(&sums)));
}

static json_t *histogram(const struct srv_latency *latency)
{
	json_t *buckets = json_array();
	unsigned int i;

	for (i = 0; i < SRV_BUCKETS; i++)
		json_array_append_new(buckets, number(latency->bucket[i]));
	return json_pack("{s:o,s:f,s:o}", "requests", number(latency->count), "total_us",
			 (double)latency->sum_ns / 1000, "buckets", buckets);
}

static void put_latency(struct srv_visitor *v)
{
	json_t *all = json_object(), *bounds = json_array();
	struct srv_latency latency;
	unsigned int i;

	for (i = 0; i < SRV_BUCKETS - 1; i++)
		json_array_append_new(bounds, number(srv_bucket_us(i)));
	for (i = 0; i < SRV_COMMANDS; i++) {
		srv_counted_latency(&v->srv->stats, v->at, i, &latency);
		if (latency.count)
			json_object_set_new(all, srv_command_name(i), histogram(&latency));
	}
	put_line(v, json_pack("{s:{s:o,s:o,s:o}}", "export", "name", string(v->at->name),
			      "bounds_us", bounds, "commands", all));
}

static bool more_exports(struct srv_visitor *v)
{
	v->at = srv_stats_next(&v->srv->stats, v->at, &v->clients);
	if (!v->at)
		return false;
	if (v->what == COUNTERS)
		put_counters(v);
	else
		put_latency(v);
	return true;
}

static void put_swap(struct srv_visitor *v, const struct srv_export *section,
		     const struct srv_swap_info *info)
{
	_Static_assert(sizeof(info->owner.id) == NBD_WIRE_X_SESSION_ID_LEN, "a session's fits");
	put_line(v, json_pack("{s:{s:o,s:o,s:o,s:i,s:o,s:o}}", "swap", "name", string(info->name),
			      "section", string(section->name), "size", number(info->size),
			      "clients", (int)info->users, "session",
			      info->owner.kind == SRV_OWNER_SESSION ? session_id(info->owner.id) :
								      json_null(),
			      "removed_in",
			      info->users ? json_null() : json_real((double)info->left / 1000)));
}

/* Step n is the nth section, and v->text the file told last; a reload may move both */
static bool more_swap(struct srv_visitor *v)
{
	struct srv_config *config = srv_server_config(v->srv);
	const struct srv_export *section = NULL;
	struct srv_swap_info info;
	bool found = false;

	_Static_assert(sizeof(v->text) >= sizeof(info.name), "a name fits");
	g_strlcpy(info.name, v->text, sizeof(info.name));
	while (!found && v->step < config->exports->len) {
		section = g_ptr_array_index(config->exports, v->step);
		found = section->swapdir && srv_swap_next_file(section, &info);
		if (found)
			break;
		v->step++;
		*info.name = 0;
	}
	if (found) {
		put_swap(v, section, &info);
		g_strlcpy(v->text, info.name, sizeof(v->text));
	}
	srv_config_put(config);
	return found;
}

/* Of each section for swap, what its files come to */
static json_t *swap_sections(const struct srv_config *config)
{
	const struct srv_export *section;
	struct srv_swap_sums sums;
	json_t *all = json_array();
	guint i;

	for (i = 0; i < config->exports->len; i++) {
		section = g_ptr_array_index(config->exports, i);
		if (!section->swapdir)
			continue;
		srv_swap_sum(section, &sums);
		json_array_append_new(all, json_pack("{s:o,s:i,s:i,s:o,s:o}", "section",
						     string(section->name), "files",
						     (int)sums.files, "in_use", (int)sums.used,
						     "promised", number(sums.promised), "quota",
						     number(section->quota)));
	}
	return all;
}

/* All exports together */
static void add_up(struct srv_stats *stats, struct srv_sums *sums)
{
	struct srv_counted *at = NULL;
	unsigned int clients;

	while ((at = srv_stats_next(stats, at, &clients)))
		srv_counted_add(stats, at, sums);
}

/* Clients refused, by the limit they ran into */
static json_t *refusals(const struct srv_server *srv)
{
	json_t *all = json_object();
	unsigned int i;

	for (i = 0; i < SRV_REFUSALS; i++)
		json_object_set_new(all, srv_refusal_name(i),
				    number(atomic_load(&srv->refused[i])));
	return all;
}

static void put_status(struct srv_visitor *v)
{
	struct srv_server *srv = v->srv;
	struct srv_config *config = srv_server_config(srv);
	struct srv_sums sums = { 0 };
	unsigned int clients, i;
	uint64_t came, requests = 0, errors = 0;

	pthread_mutex_lock(&srv->lock);
	clients = srv->clients;
	came = srv->came;
	pthread_mutex_unlock(&srv->lock);
	add_up(&srv->stats, &sums);
	for (i = 0; i < SRV_COMMANDS; i++) {
		requests += sums.requests[i];
		errors += sums.errors[i];
	}
	put_line(v, json_pack("{s:{s:s,s:i,s:f,s:f,s:b,s:s,s:i,s:s,s:i,s:i,s:i,s:o,s:o,s:o,s:o,s:o,"
			      "s:o,s:o,s:o,s:o}}",
			      "status", "version", NBSWAP_VERSION, "pid", (int)getpid(), "started",
			      (double)srv->started / 1000, "uptime",
			      (double)(srv_now_ms() - srv->started_ms) / 1000, "stopping",
			      (int)atomic_load(&srv->stopping), "log_level",
			      nbd_log_level_name(nbd_log_level()), "loops", (int)srv->n_loops, "io",
			      srv->loops[0].has_ring ? "uring" : "threads", "exports",
			      (int)config->exports->len, "clients", (int)clients, "fencing",
			      (int)atomic_load(&srv->fencing), "clients_total", number(came),
			      "refused", refusals(srv), "in_flight", number(sums.in_flight),
			      "requests", number(requests), "errors", number(errors), "dropped",
			      number(sums.dropped), "bytes_read", number(sums.bytes[SRV_READ]),
			      "bytes_written", number(sums.bytes[SRV_WRITE]), "swap",
			      swap_sections(config)));
	srv_config_put(config);
}

static bool more_of_answer(struct srv_visitor *v)
{
	switch ((enum what)v->what) {
	case NONE:
		put_line(v, json_pack("{s:o}", "error", string(v->text)));
		return false;
	case CLIENTS:
		if (more_clients(v))
			return true;
		break;
	case COUNTERS:
	case LATENCY:
		if (more_exports(v))
			return true;
		break;
	case SWAP:
		if (more_swap(v))
			return true;
		break;
	case STATUS:
		put_status(v);
		break;
	case LOG_LEVEL:
		put_line(v, json_pack("{s:s}", "log_level", nbd_log_level_name(nbd_log_level())));
		break;
	}
	put_line(v, json_pack("{s:b}", "done", 1));
	return false;
}

const struct srv_service srv_control = {
	.longest = LONGEST,
	.line = take_question,
	.more = more_of_answer,
};
