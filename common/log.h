/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages to stderr, or to syslog once a program has become a daemon. */
#ifndef NBD_LOG_H
#define NBD_LOG_H

#include <stdbool.h>
#include <syslog.h>
#include <time.h>

enum nbd_log_format {
	NBD_LOG_TEXT,
	NBD_LOG_JSON, /* every line is an object with time, level and message */
};

/* @program leads every line on stderr and must outlive the log */
void nbd_log_open(const char *program);
/* From here on to syslog: stderr is about to go */
void nbd_log_to_syslog(void);

/* Messages less urgent than this are dropped; LOG_INFO at first.  From any thread. */
void nbd_log_set_level(int priority);
int nbd_log_level(void);
void nbd_log_set_format(enum nbd_log_format format);

/* error, warning, info or debug: 0, or -1 for anything else */
int nbd_log_parse_level(const char *name, int *priority);
const char *nbd_log_level_name(int priority);
/* text or json, the same */
int nbd_log_parse_format(const char *name, enum nbd_log_format *format);

void nbd_log(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/*
 * The same for what happens to a client, or to an export, or both; NULL: it is
 * not about one.  Programs get them apart, people from the text, which must have
 * them as well.
 */
void nbd_log_about(const char *client, const char *export, int priority, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

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
