// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "text.h"

int client_error_set(struct client_error *err, enum client_exit code, const char *fmt, ...)
{
	va_list ap;

	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return -1;
}

int client_error_prefix(struct client_error *err, const char *prefix)
{
	char text[sizeof(err->text)];

	snprintf(text, sizeof(text), "%s: %.800s", prefix, err->text);
	memcpy(err->text, text, sizeof(text));
	return -1;
}

void client_error_print(const struct client_error *err)
{
	char text[sizeof(err->text)];

	memcpy(text, err->text, sizeof(text));
	client_text_clean(text);
	fprintf(stderr, "nbd-client: %s\n", text);
}

void client_warn(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	client_text_clean(text);
	fprintf(stderr, "nbd-client: warning: %s\n", text);
}
