// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/server.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "server/sandbox.h"

/* For authorization files, a reload, a client that is turned away */
#define SPARE_FDS 4
/* Of each event loop */
#define LOOP_FDS  3

int64_t srv_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

const char *srv_refusal_name(enum srv_refusal why)
{
	static const char *const names[] = {
		[SRV_REFUSED_CLIENTS] = "max_clients",
		[SRV_REFUSED_CONNECTIONS] = "maxconnections",
		[SRV_REFUSED_ADDRESS] = "maxperaddress",
	};

	return names[why];
}

int srv_server_init(struct srv_server *srv, struct srv_config *config)
{
	*srv = (struct srv_server){
		.config = config,
		.idle_fd = -1,
		.filtered = config->seccomp && srv_sandbox_built(),
	};
	pthread_mutex_init(&srv->lock, NULL);
	pthread_cond_init(&srv->stopped, NULL);
	srv_swaps_init(&srv->swaps);
	srv_stats_init(&srv->stats);
	srv_privates_init(&srv->privates);
	srv->started = g_get_real_time() / 1000;
	srv->started_ms = srv_now_ms();
	srv->idle_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return srv->idle_fd < 0 ? -errno : 0;
}

/* As many as configured, but for each there must be memory for the largest request */
static unsigned int count_loops(const struct srv_config *config)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t n = config->loops ? config->loops : (uint64_t)(cores > 0 ? cores : 1);

	if (n > SRV_MAX_LOOPS)
		n = SRV_MAX_LOOPS;
	if (n > config->buffer_memory / SRV_ARENA_MAX)
		n = config->buffer_memory / SRV_ARENA_MAX;
	return n ? (unsigned int)n : 1;
}

/* Each client takes two descriptors; some are in use already, or needed for a moment */
static unsigned int count_places(const struct srv_server *srv)
{
	struct rlimit limit;
	unsigned int used = SPARE_FDS + LOOP_FDS * srv->n_loops + srv->monitor_fds;
	const struct srv_export *export;
	DIR *dir;
	guint i;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > UINT_MAX)
		return UINT_MAX;
	for (i = 0; i < srv->config->exports->len; i++) {
		export = g_ptr_array_index(srv->config->exports, i);
		used += srv_export_is_rbd(export) ? SRV_RBD_FDS : 0;
	}
	dir = opendir("/proc/self/fd");
	while (dir && readdir(dir))
		used++;
	if (dir)
		closedir(dir);
	return limit.rlim_cur > used + 2 ? ((unsigned int)limit.rlim_cur - used) / 2 : 1;
}

bool srv_server_has_place(struct srv_server *srv)
{
	bool place;

	pthread_mutex_lock(&srv->lock);
	place = srv->clients < srv->places;
	pthread_mutex_unlock(&srv->lock);
	return place;
}

/* Port 0 has a server for each client: none of them knows what the others use */
static int open_swap(struct srv_server *srv, struct srv_config *config)
{
	const struct srv_export *export;
	guint i;

	for (i = 0; srv->one_client && i < config->exports->len; i++) {
		export = g_ptr_array_index(config->exports, i);
		if (!export->swapdir)
			continue;
		nbd_err("[%s] swapdir = %s: port 0 has one server for each client, and swap "
			"exports need one for all; give a port to listen on",
			export->name, export->swapdir);
		return -1;
	}
	return srv_swaps_bind(&srv->swaps, config);
}

/* The filter of system calls stands in the way of commands, and would of what they do */
static int check_hooks(const struct srv_server *srv, const struct srv_config *config)
{
	const struct srv_export *export;
	guint i;

	for (i = 0; srv->filtered && i < config->exports->len; i++) {
		export = g_ptr_array_index(config->exports, i);
		if (!srv_export_has_hooks(export))
			continue;
		nbd_err("[%s] prerun and postrun are commands, and the filter of system calls "
			"allows none; start the server with seccomp = false in [generic]",
			export->name);
		return -1;
	}
	return 0;
}

/* The same of Ceph's client, which opens connections */
static int check_rbd(const struct srv_server *srv, const struct srv_config *config)
{
	const struct srv_export *export;
	guint i;

	for (i = 0; srv->filtered && i < config->exports->len; i++) {
		export = g_ptr_array_index(config->exports, i);
		if (!srv_export_is_rbd(export))
			continue;
		nbd_err("[%s] exportname = %s: Ceph's client opens network connections, and the "
			"filter of system calls allows none; start the server with seccomp = "
			"false in [generic]",
			export->name, export->path);
		return -1;
	}
	return 0;
}

/* Everything that the configuration names */
static int prepare(struct srv_server *srv, struct srv_config *config)
{
	if (srv_direct_check(config) || check_hooks(srv, config) || check_rbd(srv, config))
		return -1;
	return open_swap(srv, config);
}

int srv_server_prepare(struct srv_server *srv)
{
	return prepare(srv, srv->config);
}

static int run_swap(struct srv_server *srv)
{
	int ret = srv_swaps_run(&srv->swaps);

	if (ret)
		nbd_err("cannot start the thread that removes swap files: %s", strerror(-ret));
	return ret;
}

/* Threads for what may take very long, before anybody needs them */
static int run_slow(struct srv_server *srv, const struct srv_config *config)
{
	const struct srv_export *export;
	int ret;
	guint i;

	for (i = 0; !srv->has_slow && i < config->exports->len; i++) {
		export = g_ptr_array_index(config->exports, i);
		if (!srv_export_is_slow(export))
			continue;
		ret = srv_pool_init(&srv->slow);
		if (!ret) {
			ret = srv_pool_init(&srv->remote);
			if (ret)
				srv_pool_destroy(&srv->slow);
		}
		if (ret) {
			nbd_err("[%s] cannot start threads for exports that may take long: %s",
				export->name, strerror(-ret));
			return ret;
		}
		srv->has_slow = true;
	}
	return 0;
}

int srv_server_start(struct srv_server *srv, const struct srv_listener *listener)
{
	int ret;

	srv->n_loops = srv->one_client ? 1 : count_loops(srv->config);
	srv->places = count_places(srv);
	if (run_swap(srv) || run_slow(srv, srv->config))
		return -1;
	srv_swaps_in_force(&srv->swaps, srv->config);
	srv->stats.n_loops = srv->n_loops;
	ret = srv_pool_init(&srv->pool);
	if (!ret)
		ret = srv_loops_start(srv, listener);
	if (!ret)
		return 0;
	nbd_err("cannot start %u event loops: %s", srv->n_loops, strerror(-ret));
	return -1;
}

void srv_server_destroy(struct srv_server *srv)
{
	/* First: its threads may still be waking a loop that has what they posted */
	if (srv->pool.threads)
		srv_pool_destroy(&srv->pool);
	if (srv->has_slow) {
		srv_pool_destroy(&srv->slow);
		srv_pool_destroy(&srv->remote);
	}
	srv_rbd_end();
	if (srv->loops)
		srv_loops_end(srv);
	if (srv->idle_fd >= 0)
		close(srv->idle_fd);
	srv_config_put(srv->config);
	srv_swaps_destroy(&srv->swaps);
	srv_privates_destroy(&srv->privates);
	srv_stats_destroy(&srv->stats);
	pthread_cond_destroy(&srv->stopped);
	pthread_mutex_destroy(&srv->lock);
}

struct srv_config *srv_server_config(struct srv_server *srv)
{
	struct srv_config *config;

	pthread_mutex_lock(&srv->lock);
	config = srv_config_get(srv->config);
	pthread_mutex_unlock(&srv->lock);
	return config;
}

int srv_server_reload(struct srv_server *srv, struct srv_config *config)
{
	struct srv_config *old;

	if (prepare(srv, config) || run_swap(srv) || run_slow(srv, config)) {
		srv_config_put(config);
		return -1;
	}
	pthread_mutex_lock(&srv->lock);
	old = srv->config;
	srv->config = config;
	pthread_mutex_unlock(&srv->lock);
	srv_swaps_in_force(&srv->swaps, config);
	srv_config_put(old);
	return 0;
}

void srv_server_stop(struct srv_server *srv)
{
	atomic_store(&srv->drain_deadline, srv_now_ms() + SRV_DRAIN_MS);
	atomic_store(&srv->stopping, true);
	srv_loop_wake_all(srv);
	pthread_mutex_lock(&srv->lock);
	while (srv->n_stopped < srv->n_loops)
		pthread_cond_wait(&srv->stopped, &srv->lock);
	pthread_mutex_unlock(&srv->lock);
}

void srv_server_loop_stopped(struct srv_server *srv)
{
	pthread_mutex_lock(&srv->lock);
	srv->n_stopped++;
	pthread_cond_signal(&srv->stopped);
	pthread_mutex_unlock(&srv->lock);
}

bool srv_server_may_log(struct srv_server *srv)
{
	bool allowed;

	pthread_mutex_lock(&srv->lock);
	allowed = nbd_log_allowed(&srv->log_limit, (time_t)(srv_now_ms() / 1000));
	pthread_mutex_unlock(&srv->lock);
	return allowed;
}
