// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/monitor.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define STACK_SIZE (256 << 10)
/* How long to leave new visitors waiting when there are no descriptors */
#define PAUSE_MS   100
/* Lines or pieces for one visitor before others have their turn */
#define STEPS	   16
#define VISITORS   (2 * SRV_VISITORS)

int srv_monitor_open(struct srv_monitor *m, const struct srv_config *config)
{
	*m = (struct srv_monitor){ .wake_fd = -1, .control_fd = -1 };
	if (config->control) {
		m->control_fd = srv_control_open(m, config);
		/* Nobody has asked for the default one */
		if (m->control_fd < 0 && !config->control_default)
			return -1;
	}
	if (config->metrics && srv_metrics_open(&m->metrics, config->metrics))
		return -1;
	return 0;
}

static bool is_open(const struct srv_monitor *m)
{
	return m->control_fd >= 0 || m->metrics.n;
}

unsigned int srv_monitor_fds(const struct srv_monitor *m)
{
	return is_open(m) ? VISITORS + 1 : 0;
}

static void drop(struct srv_monitor *m, unsigned int i)
{
	struct srv_visitor *v = m->visitor[i];

	srv_stats_put(&v->srv->stats, v->at);
	close(v->fd);
	g_string_free(v->out, TRUE);
	free(v);
	m->visitor[i] = NULL;
}

/* The visitor of a service that has been asking for longest: it gives way to a new one */
static int slowest(const struct srv_monitor *m, const struct srv_service *service)
{
	const struct srv_visitor *v;
	int found = -1;
	int i;

	for (i = 0; i < VISITORS; i++) {
		v = m->visitor[i];
		if (v && v->service == service && !v->answering &&
		    (found < 0 || v->deadline < m->visitor[found]->deadline))
			found = i;
	}
	return found;
}

static unsigned int count(const struct srv_monitor *m, const struct srv_service *service)
{
	unsigned int i, n = 0;

	for (i = 0; i < VISITORS; i++)
		n += m->visitor[i] && m->visitor[i]->service == service;
	return n;
}

static bool has_room(const struct srv_monitor *m, const struct srv_service *service)
{
	return count(m, service) < SRV_VISITORS || slowest(m, service) >= 0;
}

static void welcome(struct srv_monitor *m, int listen_fd, const struct srv_service *service)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct srv_visitor *v;
	unsigned int i;
	int slow;

	if (fd < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
			m->paused_until = srv_now_ms() + PAUSE_MS;
		return;
	}
	slow = count(m, service) < SRV_VISITORS ? VISITORS : slowest(m, service);
	v = slow < 0 ? NULL : calloc(1, sizeof(*v));
	if (!v) {
		close(fd);
		return;
	}
	if (slow < VISITORS)
		drop(m, (unsigned int)slow);
	v->srv = m->srv;
	v->service = service;
	v->fd = fd;
	v->out = g_string_sized_new(1024);
	v->deadline = srv_now_ms() + SRV_ASK_MS;
	for (i = 0; m->visitor[i]; i++)
		;
	m->visitor[i] = v;
}

/*
 * Take a line, if all of it is there, and no more than that: what comes after it
 * is left in the socket until it is answered.  1, 0 when there is none yet, or -1
 * when the visitor is to go.
 */
static int take_line(struct srv_visitor *v)
{
	char piece[1024], *end;
	size_t n, keep;
	ssize_t got;

	got = recv(v->fd, piece, sizeof(piece), MSG_PEEK);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (!got)
		return -1;
	end = memchr(piece, '\n', (size_t)got);
	n = end ? (size_t)(end - piece) : (size_t)got;
	keep = n < sizeof(v->line) - 1 - v->len ? n : sizeof(v->line) - 1 - v->len;
	memcpy(v->line + v->len, piece, keep);
	v->len += keep;
	n += !!end;
	v->asked += n;
	if (recv(v->fd, piece, n, 0) != (ssize_t)n || v->asked > v->service->longest)
		return -1;
	if (!end)
		return 0;
	if (v->len && v->line[v->len - 1] == '\r')
		v->len--;
	v->line[v->len] = 0;
	/* A NUL would hide what is behind it */
	if (strlen(v->line) != v->len)
		return -1;
	v->len = 0;
	return 1;
}

/* Send what there is and make more; 1 when the answer has gone, 0 later, -1 never */
static int answer(struct srv_visitor *v)
{
	ssize_t n;

	if (v->sent == v->out->len) {
		g_string_truncate(v->out, 0);
		v->sent = 0;
		while (!v->complete && v->out->len < SRV_PIECE)
			v->complete = !v->service->more(v);
	}
	if (v->sent < v->out->len) {
		n = send(v->fd, v->out->str + v->sent, v->out->len - v->sent, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -1;
		v->sent += (size_t)n;
	}
	return v->complete && v->sent == v->out->len;
}

/* One step; 1 when another one may follow, 0 when the visitor has to be waited for, -1: it goes */
static int step(struct srv_visitor *v)
{
	int ret;

	if (!v->answering) {
		ret = take_line(v);
		if (ret <= 0)
			return ret;
		v->service->line(v, v->line);
		if (v->answering)
			v->deadline = srv_now_ms() + SRV_ANSWER_MS;
		return 1;
	}
	ret = answer(v);
	if (ret < 0 || (ret && v->last))
		return -1;
	if (ret) {
		v->answering = false;
		v->complete = false;
		v->asked = 0;
		v->deadline = srv_now_ms() + SRV_ASK_MS;
	}
	return 1;
}

/* What has been made of the answer waits for room in the socket */
static bool is_stuck(const struct srv_visitor *v)
{
	return v->answering && v->sent < v->out->len;
}

static void visit(struct srv_monitor *m, unsigned int i)
{
	struct srv_visitor *v = m->visitor[i];
	int n = STEPS, ret;

	do {
		ret = step(v);
	} while (ret > 0 && !is_stuck(v) && --n);
	if (ret < 0)
		drop(m, i);
}

/* What a descriptor of one turn is about */
struct watched {
	const struct srv_service *listens; /* or NULL, then a visitor */
	unsigned int visitor;
};

struct turn {
	struct pollfd p[1 + 1 + SRV_MAX_LISTEN + VISITORS];
	struct watched w[1 + 1 + SRV_MAX_LISTEN + VISITORS];
	nfds_t n;
	int64_t end; /* when to look again at the latest; 0: whenever something happens */
};

static void watch(struct turn *t, int fd, short events, const struct srv_service *listens,
		  unsigned int visitor)
{
	t->p[t->n] = (struct pollfd){ .fd = fd, .events = events };
	t->w[t->n++] = (struct watched){ listens, visitor };
}

static void not_later(struct turn *t, int64_t when)
{
	if (!t->end || when < t->end)
		t->end = when;
}

static void prepare(struct srv_monitor *m, struct turn *t)
{
	const struct srv_visitor *v;
	unsigned int i;

	t->n = 0;
	t->end = 0;
	watch(t, m->wake_fd, POLLIN, NULL, VISITORS);
	if (m->paused_until) {
		not_later(t, m->paused_until);
	} else {
		if (m->control_fd >= 0 && has_room(m, &srv_control))
			watch(t, m->control_fd, POLLIN, &srv_control, 0);
		for (i = 0; i < m->metrics.n && has_room(m, &srv_metrics); i++)
			watch(t, m->metrics.fd[i], POLLIN, &srv_metrics, 0);
	}
	for (i = 0; i < VISITORS; i++) {
		v = m->visitor[i];
		if (!v)
			continue;
		watch(t, v->fd, v->answering ? POLLOUT : POLLIN, NULL, i);
		not_later(t, v->deadline);
	}
}

static void *monitor_main(void *arg)
{
	struct srv_monitor *m = arg;
	int64_t now, left;
	struct turn t;
	unsigned int i;

	while (!atomic_load(&m->quit)) {
		prepare(m, &t);
		left = t.end ? t.end - srv_now_ms() : -1;
		if (poll(t.p, t.n, t.end && left < 0 ? 0 : (int)left) < 0)
			continue;
		/* Visitors before listeners, which may put others in their places */
		for (i = (unsigned int)t.n; i-- > 1;) {
			if (!t.p[i].revents)
				continue;
			if (t.w[i].listens)
				welcome(m, t.p[i].fd, t.w[i].listens);
			else
				visit(m, t.w[i].visitor);
		}
		now = srv_now_ms();
		if (now >= m->paused_until)
			m->paused_until = 0;
		for (i = 0; i < VISITORS; i++) {
			if (m->visitor[i] && now >= m->visitor[i]->deadline)
				drop(m, i);
		}
	}
	for (i = 0; i < VISITORS; i++) {
		if (m->visitor[i])
			drop(m, i);
	}
	return NULL;
}

int srv_monitor_start(struct srv_monitor *m, struct srv_server *srv)
{
	pthread_attr_t attr;
	int ret;

	if (!is_open(m))
		return 0;
	m->srv = srv;
	m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = m->wake_fd < 0 ? errno : 0;
	if (!ret) {
		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, STACK_SIZE);
		ret = pthread_create(&m->thread, &attr, monitor_main, m);
		pthread_attr_destroy(&attr);
	}
	m->running = !ret;
	if (ret)
		nbd_err("cannot start the thread for control and metrics: %s; serving without them",
			strerror(ret));
	return ret ? -1 : 0;
}

void srv_monitor_unlink(const struct srv_monitor *m)
{
	struct stat st;

	/* Another server may have taken its place */
	if (m->control_path && !lstat(m->control_path, &st) && st.st_dev == m->control_dev &&
	    st.st_ino == m->control_ino)
		unlink(m->control_path);
}

void srv_monitor_end(struct srv_monitor *m)
{
	if (m->running) {
		atomic_store(&m->quit, true);
		eventfd_write(m->wake_fd, 1);
		pthread_join(m->thread, NULL);
		m->running = false;
	}
	srv_monitor_unlink(m);
	/* Descriptor 0 is never one of them: a zeroed monitor has no path */
	if (m->control_path) {
		close(m->control_fd);
		g_free(m->control_path);
		m->control_path = NULL;
	}
	if (m->wake_fd > 0)
		close(m->wake_fd);
	m->wake_fd = -1;
	srv_listen_close(&m->metrics);
}
