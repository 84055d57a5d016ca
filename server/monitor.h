/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who asks how the server is: one thread answers on the control socket and the
 * metrics port, apart from the loops, which it never holds up.  A visitor sends
 * lines and is sent an answer, made a piece at a time as it is taken, so that
 * none needs more than a bounded piece of memory.  One that does not ask, or does
 * not take its answer, in time, or sends junk, is dropped.
 */
#ifndef SRV_MONITOR_H
#define SRV_MONITOR_H

#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "server/listen.h"

#define SRV_VISITORS	 8     /* at a time, of each service */
#define SRV_VISITOR_LINE 512   /* longer lines are cut */
#define SRV_ASK_MS	 5000  /* a request is to come within this time */
#define SRV_ANSWER_MS	 10000 /* and all of the answer to be taken */
#define SRV_PIECE	 16384 /* of an answer, and no more than one item above it */

struct srv_service;

struct srv_visitor {
	struct srv_server *srv;
	const struct srv_service *service;
	int fd;
	int64_t deadline; /* srv_now_ms() */
	bool answering;	  /* set by the service once it knows what is asked */
	bool last;	  /* hang up after the answer */
	bool complete;	  /* all of the answer is in @out */
	size_t len;	  /* of @line */
	size_t asked;	  /* bytes of the request */
	char line[SRV_VISITOR_LINE];
	GString *out; /* of which @sent bytes have gone */
	size_t sent;

	/* The service's: what is asked, and how far the answer is */
	unsigned int what;
	unsigned int lines;
	unsigned int step;
	unsigned int command;
	unsigned int clients;	/* of @at */
	uint64_t below;		/* clients told already have this id or a higher one */
	struct srv_counted *at; /* held */
	char text[SRV_VISITOR_LINE];
};

struct srv_service {
	size_t longest; /* request, in bytes; more is junk */
	/* Take a line of the request, without its end */
	void (*line)(struct srv_visitor *v, const char *line);
	/* Add one item to v->out; false when there is none left */
	bool (*more)(struct srv_visitor *v);
};

extern const struct srv_service srv_control; /* control.c */
extern const struct srv_service srv_metrics; /* metrics.c */

struct srv_monitor {
	struct srv_server *srv;
	pthread_t thread;
	bool running;
	atomic_bool quit;
	int wake_fd;
	int control_fd; /* -1: there is none */
	char *control_path;
	dev_t control_dev; /* of the socket file that is ours */
	ino_t control_ino;
	struct srv_listener metrics;
	struct srv_visitor *visitor[2 * SRV_VISITORS]; /* the thread's, as below */
	int64_t paused_until;			       /* no new ones before */
};

/*
 * Open the sockets the configuration asks for, before privileges are dropped;
 * says what fails.  0 or -1.
 */
int srv_monitor_open(struct srv_monitor *m, const struct srv_config *config);
/* Descriptors it needs beside those that are open */
unsigned int srv_monitor_fds(const struct srv_monitor *m);
/* Start the thread, if there is something to answer on; says what fails.  0 or -1. */
int srv_monitor_start(struct srv_monitor *m, struct srv_server *srv);
/* Only while the server is still there; from any state, also a zeroed one */
void srv_monitor_end(struct srv_monitor *m);
/* The end of the process without the end of the thread: remove the socket file */
void srv_monitor_unlink(const struct srv_monitor *m);

/* control.c: a socket that only its owner may use; a descriptor, or -1 */
int srv_control_open(struct srv_monitor *m, const struct srv_config *config);
/* metrics.c: ADDRESS:PORT.  0 or -1. */
int srv_metrics_open(struct srv_listener *l, const char *address);
/* What goes between the quotes of a label's value */
void srv_metrics_label(GString *out, const char *text);

#endif /* SRV_MONITOR_H */
