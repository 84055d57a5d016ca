// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/server.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int64_t srv_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int srv_server_init(struct srv_server *srv, struct srv_config *config)
{
	pthread_condattr_t attr;

	*srv = (struct srv_server){ .config = config, .stop_fd = -1, .idle_fd = -1 };
	pthread_mutex_init(&srv->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&srv->left, &attr);
	pthread_condattr_destroy(&attr);
	srv->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	srv->idle_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return srv->stop_fd < 0 || srv->idle_fd < 0 ? -errno : 0;
}

void srv_server_destroy(struct srv_server *srv)
{
	if (srv->stop_fd >= 0)
		close(srv->stop_fd);
	if (srv->idle_fd >= 0)
		close(srv->idle_fd);
	srv_config_put(srv->config);
	pthread_cond_destroy(&srv->left);
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

void srv_server_reload(struct srv_server *srv, struct srv_config *config)
{
	struct srv_config *old;

	pthread_mutex_lock(&srv->lock);
	old = srv->config;
	srv->config = config;
	pthread_mutex_unlock(&srv->lock);
	srv_config_put(old);
}

void srv_server_stop(struct srv_server *srv)
{
	atomic_store(&srv->drain_deadline, srv_now_ms() + SRV_DRAIN_MS);
	atomic_store(&srv->stopping, true);
	/* Cannot fail: the counter is nowhere near its maximum */
	eventfd_write(srv->stop_fd, 1);
	/* Under the lock: nobody is between looking at stopping and waiting */
	pthread_mutex_lock(&srv->lock);
	pthread_cond_broadcast(&srv->left);
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
