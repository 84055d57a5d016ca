/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that are run before an export is opened, and after it has been closed. */
#ifndef SRV_HOOK_H
#define SRV_HOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How long the one after the close may take, in milliseconds */
#define SRV_POSTRUN_MS 60000

/* Can it be taken apart into a program and its arguments?  If not, @why says so; g_free() it. */
bool srv_hook_check(const char *command, char **why);

/*
 * Run the command, without a shell, and wait for its end, at most until
 * srv_now_ms() is @deadline: it is killed then.  Every %s in its arguments
 * stands for @file.  Did it end with status 0?  If not, @why says how it ended.
 */
bool srv_hook_run(const char *command, const char *file, int64_t deadline, char *why, size_t len);

#endif /* SRV_HOOK_H */
