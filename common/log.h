/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages to stderr, or to syslog once a program has become a daemon. */
#ifndef NBD_LOG_H
#define NBD_LOG_H

#include <stdbool.h>
#include <syslog.h>
#include <time.h>

/* @program leads every line on stderr and must outlive the log */
void nbd_log_open(const char *program);
/* From here on to syslog: stderr is about to go */
void nbd_log_to_syslog(void);
void nbd_log(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define nbd_err(...)   nbd_log(LOG_ERR, __VA_ARGS__)
#define nbd_warn(...)  nbd_log(LOG_WARNING, __VA_ARGS__)
#define nbd_info(...)  nbd_log(LOG_INFO, __VA_ARGS__)

/*
 * A peer decides how often some messages are due; this decides how many are
 * written: NBD_LOG_BURST in NBD_LOG_WINDOW seconds.  Zeroed is a valid start.
 * The owner's lock protects it.
 */
#define NBD_LOG_BURST  5
#define NBD_LOG_WINDOW 10

struct nbd_log_limit {
	time_t start;	    /* of the window, CLOCK_MONOTONIC seconds */
	unsigned int count; /* messages asked for in the window */
};

/* May a message be written now?  The last one of a burst says so itself. */
bool nbd_log_allowed(struct nbd_log_limit *limit, time_t now);

#endif /* NBD_LOG_H */
