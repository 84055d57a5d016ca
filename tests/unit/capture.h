/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a function under test writes to standard error. */
#ifndef CAPTURE_H
#define CAPTURE_H

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int capture_saved = -1;
static FILE *capture_file;
static char capture_text[65536];

static inline void capture_start(void)
{
	fflush(stderr);
	capture_file = tmpfile();
	assert_non_null(capture_file);
	capture_saved = dup(STDERR_FILENO);
	assert_true(capture_saved >= 0);
	assert_true(dup2(fileno(capture_file), STDERR_FILENO) >= 0);
}

static inline const char *capture_end(void)
{
	size_t n;

	fflush(stderr);
	dup2(capture_saved, STDERR_FILENO);
	close(capture_saved);
	rewind(capture_file);
	n = fread(capture_text, 1, sizeof(capture_text) - 1, capture_file);
	capture_text[n] = 0;
	fclose(capture_file);
	return capture_text;
}

/* Fails with the whole text, so that one sees what was said instead */
#define assert_said(text, part)                                           \
	do {                                                              \
		if (!strstr(text, part)) {                                \
			print_error("'%s' is not in:\n%s\n", part, text); \
			fail();                                           \
		}                                                         \
	} while (0)

#endif /* CAPTURE_H */
