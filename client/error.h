/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors of the client: one sentence for the administrator, one exit code for
 * scripts.  Functions that can fail take a struct client_error and return -1
 * after filling it in.
 */
#ifndef CLIENT_ERROR_H
#define CLIENT_ERROR_H

/* Documented in nbd-client(8), EXIT STATUS */
enum client_exit {
	CLIENT_OK = 0,
	CLIENT_FAILED = 1,	/* also: -check, not connected */
	CLIENT_CANNOT_TELL = 2, /* -check and doctor alone */
	CLIENT_USAGE = 3,	/* command line or nbdtab is wrong */
	CLIENT_NO_DRIVER = 4,
	CLIENT_NOT_PERMITTED = 5,
	CLIENT_BUSY = 6,	/* in use, or already connected */
	CLIENT_UNREACHABLE = 7, /* no name, no route, no answer */
	CLIENT_REFUSED = 8,	/* the server answered, but not with the export */
};

struct client_error {
	enum client_exit code;
	char text[1024]; /* without "nbd-client: " and newline */
};

/* Always -1, so that callers may return it */
int client_error_set(struct client_error *err, enum client_exit code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "prefix: " before the sentence; always -1 */
int client_error_prefix(struct client_error *err, const char *prefix);

/* On stderr, with whatever a server put into it made harmless */
void client_error_print(const struct client_error *err);

void client_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif /* CLIENT_ERROR_H */
