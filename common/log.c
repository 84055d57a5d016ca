// SPDX-License-Identifier: GPL-2.0-or-later
#include "common/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/escape.h"

#define TEXT_LEN 1024
/* Of a line in JSON, where the text is at most six times as long; longer names are cut */
#define LINE_LEN 20480
#define NAME_LEN 6144

static const char *log_program = "nbd";
static bool log_syslog;
static bool log_journal;
static atomic_int log_level = LOG_INFO;
static _Atomic(enum nbd_log_format) log_format = NBD_LOG_TEXT;

static const struct {
	const char *name;
	int priority;
} levels[] = {
	{ "error", LOG_ERR },
	{ "warning", LOG_WARNING },
	{ "info", LOG_INFO },
	{ "debug", LOG_DEBUG },
};

#define LEVELS (sizeof(levels) / sizeof(*levels))

/* JOURNAL_STREAM names the pipe that leads to the journal: is it stderr, also after a redirection? */
static bool is_journal(void)
{
	const char *where = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return where && sscanf(where, "%llu:%llu", &device, &inode) == 2 &&
	       !fstat(STDERR_FILENO, &st) && st.st_dev == device && st.st_ino == inode;
}

void nbd_log_open(const char *program)
{
	log_program = program;
	log_journal = is_journal();
}

void nbd_log_to_syslog(void)
{
	openlog(log_program, LOG_PID, LOG_DAEMON);
	log_syslog = true;
}

void nbd_log_set_level(int priority)
{
	atomic_store_explicit(&log_level, priority, memory_order_relaxed);
}

int nbd_log_level(void)
{
	return atomic_load_explicit(&log_level, memory_order_relaxed);
}

void nbd_log_set_format(enum nbd_log_format format)
{
	atomic_store_explicit(&log_format, format, memory_order_relaxed);
}

int nbd_log_parse_level(const char *name, int *priority)
{
	size_t i;

	for (i = 0; i < LEVELS; i++) {
		if (!strcmp(levels[i].name, name)) {
			*priority = levels[i].priority;
			return 0;
		}
	}
	return -1;
}

const char *nbd_log_level_name(int priority)
{
	size_t i = 0;

	while (i < LEVELS - 1 && levels[i].priority < priority)
		i++;
	return levels[i].name;
}

int nbd_log_parse_format(const char *name, enum nbd_log_format *format)
{
	bool json = !strcmp(name, "json");

	if (!json && strcmp(name, "text"))
		return -1;
	*format = json ? NBD_LOG_JSON : NBD_LOG_TEXT;
	return 0;
}

/* A member of the object, but for those that are not there */
static size_t put_member(char *line, size_t len, const char *key, const char *value)
{
	char *end = line + len;

	if (!value)
		return len;
	end += sprintf(end, ",\"%s\":\"", key);
	end += nbd_escape_json(end, NAME_LEN + 1, value);
	return (size_t)(stpcpy(end, "\"") - line);
}

static void format_json(char *line, int priority, const char *client, const char *export,
			const char *text)
{
	struct timespec now;
	struct tm tm;
	size_t len;

	_Static_assert(3 * NAME_LEN + 256 < LINE_LEN, "the line has room");
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	len = strftime(line, 32, "{\"time\":\"%Y-%m-%dT%H:%M:%S", &tm);
	len += (size_t)sprintf(line + len, ".%06ldZ\"", now.tv_nsec / 1000);
	len = put_member(line, len, "level", nbd_log_level_name(priority));
	len = put_member(line, len, "export", export);
	len = put_member(line, len, "client", client);
	len = put_member(line, len, "message", text);
	strcpy(line + len, "}");
}

static void write_line(int priority, const char *client, const char *export, const char *text)
{
	bool json = atomic_load_explicit(&log_format, memory_order_relaxed) == NBD_LOG_JSON;
	char line[LINE_LEN], mark[8] = "";

	if (json)
		format_json(line, priority, client, export, text);
	if (log_journal)
		snprintf(mark, sizeof(mark), "<%d>", priority);
	if (log_syslog)
		syslog(priority, "%s", json ? line : text);
	else if (json)
		fprintf(stderr, "%s%s\n", mark, line);
	else
		fprintf(stderr, "%s%s: %s\n", mark, log_program, text);
}

__attribute__((format(printf, 4, 0))) static void
write_formatted(int priority, const char *client, const char *export, const char *fmt, va_list args)
{
	char text[TEXT_LEN];

	if (priority > nbd_log_level())
		return;
	vsnprintf(text, sizeof(text), fmt, args);
	write_line(priority, client, export, text);
}

void nbd_log(int priority, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	write_formatted(priority, NULL, NULL, fmt, args);
	va_end(args);
}

void nbd_log_about(const char *client, const char *export, int priority, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	write_formatted(priority, client, export, fmt, args);
	va_end(args);
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
