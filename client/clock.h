/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CLIENT_CLOCK_H
#define CLIENT_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Deadlines are milliseconds of the monotonic clock */
static inline int64_t client_clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

#endif /* CLIENT_CLOCK_H */
