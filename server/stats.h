/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What has been done, counted: by command, for each export and each client, with
 * a histogram of latencies for each export.
 *
 * Counting takes no lock and no memory: an event loop is the only writer of the
 * counters of its clients, and of a part of each export's that is its own.
 * Whoever reads adds the parts up.  What is read of one part may be newer than
 * what is read of another; each counter by itself never goes back.
 */
#ifndef SRV_STATS_H
#define SRV_STATS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What is counted apart */
enum srv_command {
	SRV_READ,
	SRV_WRITE,
	SRV_ZEROES,
	SRV_TRIM,
	SRV_FLUSH,
	SRV_CACHE,
	SRV_STATUS,
	SRV_OTHER, /* commands there are not: they are answered, with an error */
	SRV_COMMANDS,
};

/* Bucket i is for at most 2^i microseconds, the last one for whatever takes longer */
#define SRV_BUCKETS	27
/* Exports that are counted; beyond, those nobody uses any longer are forgotten */
#define SRV_MAX_COUNTED 4096

struct srv_counters {
	_Atomic uint64_t requests[SRV_COMMANDS]; /* answered, well or not */
	_Atomic uint64_t bytes[SRV_COMMANDS];	 /* in the ranges of those answered well */
	_Atomic uint64_t errors[SRV_COMMANDS];	 /* those answered with an error */
	_Atomic uint64_t dropped;		 /* that came and will not be answered */
	_Atomic uint64_t in_flight;		 /* that came and are neither yet */
};

/* What one loop has done for one export; aligned so that no other loop's is beside it */
struct srv_shard {
	_Alignas(64) struct srv_counters counters;
	_Atomic uint64_t sum_ns[SRV_COMMANDS];
	_Atomic uint64_t bucket[SRV_COMMANDS][SRV_BUCKETS];
};

struct srv_counted {
	struct srv_counted *next; /* stats->lock, as all below */
	char *name;		  /* of the export; never changed */
	unsigned int refs;	  /* clients that use it, and readers */
	unsigned int clients;
	_Atomic(struct srv_shard *) shard[]; /* of each loop, once it has a client of it */
};

struct srv_stats {
	pthread_mutex_t lock; /* of the list; innermost */
	struct srv_counted *first;
	unsigned int n;
	unsigned int n_loops; /* set before there is a client */
};

/* The same, read */
struct srv_sums {
	uint64_t requests[SRV_COMMANDS];
	uint64_t bytes[SRV_COMMANDS];
	uint64_t errors[SRV_COMMANDS];
	uint64_t dropped;
	uint64_t in_flight;
};

struct srv_latency {
	uint64_t count;
	uint64_t sum_ns;
	uint64_t bucket[SRV_BUCKETS]; /* each by itself: they add up to @count */
};

void srv_stats_init(struct srv_stats *s);
void srv_stats_destroy(struct srv_stats *s);

/*
 * A client of a loop begins to use an export; NULL: it is not counted, for want
 * of memory or because too many others are.  *@shard is where to count.
 */
struct srv_counted *srv_stats_use(struct srv_stats *s, const char *export, unsigned int loop,
				  struct srv_shard **shard);
/* It no longer does */
void srv_stats_leave(struct srv_stats *s, struct srv_counted *counted);

/*
 * The export after @counted, in the order they were first used, or the first one;
 * NULL past the last.  It stays until the next call with it, or srv_stats_put();
 * *@clients is how many use it.
 */
struct srv_counted *srv_stats_next(struct srv_stats *s, struct srv_counted *counted,
				   unsigned int *clients);
void srv_stats_put(struct srv_stats *s, struct srv_counted *counted);

/* Add what is counted to *@sums */
void srv_counters_add(const struct srv_counters *counters, struct srv_sums *sums);
void srv_counted_add(const struct srv_stats *s, const struct srv_counted *counted,
		     struct srv_sums *sums);
/* One command's latencies */
void srv_counted_latency(const struct srv_stats *s, const struct srv_counted *counted,
			 enum srv_command command, struct srv_latency *latency);

/* An NBD_WIRE_CMD_*, and the name programs and people see */
enum srv_command srv_command(uint16_t type);
const char *srv_command_name(enum srv_command command);

/* The bucket for a latency */
unsigned int srv_bucket(uint64_t ns);
/* The longest latency of a bucket in microseconds; 0: there is no longest one */
uint64_t srv_bucket_us(unsigned int bucket);

/* CLOCK_MONOTONIC, in nanoseconds */
uint64_t srv_now_ns(void);

/* For the loop, into the client's counters and the export's (NULL: it has none) */
void srv_count_begin(struct srv_counters *client, struct srv_shard *shard);
void srv_count_answer(struct srv_counters *client, struct srv_shard *shard,
		      enum srv_command command, uint64_t bytes, bool error, uint64_t ns);
void srv_count_drop(struct srv_counters *client, struct srv_shard *shard);

#endif /* SRV_STATS_H */
