// SPDX-License-Identifier: GPL-2.0-or-later
#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static const char *log_program = "nbd";
static bool log_syslog;

void nbd_log_open(const char *program)
{
	log_program = program;
}

void nbd_log_to_syslog(void)
{
	openlog(log_program, LOG_PID, LOG_DAEMON);
	log_syslog = true;
}

void nbd_log(int priority, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);

	if (log_syslog)
		syslog(priority, "%s", text);
	else
		fprintf(stderr, "%s: %s\n", log_program, text);
}

bool nbd_log_allowed(struct nbd_log_limit *limit, time_t now)
{
	if (!limit->count || now - limit->start >= NBD_LOG_WINDOW) {
		limit->start = now;
		limit->count = 0;
	}
	if (limit->count >= NBD_LOG_BURST)
		return false;
	if (++limit->count == NBD_LOG_BURST)
		nbd_warn("more messages of the next kind are kept back for up to %d seconds",
			 NBD_LOG_WINDOW);
	return true;
}
