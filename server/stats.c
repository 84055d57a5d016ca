// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/stats.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/nbd-wire.h"

void srv_stats_init(struct srv_stats *s)
{
	*s = (struct srv_stats){ .n_loops = 1 };
	pthread_mutex_init(&s->lock, NULL);
}

static void counted_free(const struct srv_stats *s, struct srv_counted *counted)
{
	unsigned int i;

	for (i = 0; i < s->n_loops; i++)
		free(atomic_load(&counted->shard[i]));
	free(counted->name);
	free(counted);
}

void srv_stats_destroy(struct srv_stats *s)
{
	struct srv_counted *counted;

	while ((counted = s->first)) {
		s->first = counted->next;
		counted_free(s, counted);
	}
	pthread_mutex_destroy(&s->lock);
}

/* Make room by the oldest export that nobody uses; false when all are in use */
static bool forget_one(struct srv_stats *s)
{
	struct srv_counted **at, *counted;

	for (at = &s->first; (counted = *at); at = &counted->next) {
		if (counted->refs)
			continue;
		*at = counted->next;
		s->n--;
		counted_free(s, counted);
		return true;
	}
	return false;
}

/* Find or make what counts an export; s->lock is held */
static struct srv_counted *find(struct srv_stats *s, const char *export)
{
	struct srv_counted **at, *counted;

	for (at = &s->first; (counted = *at); at = &counted->next) {
		if (!strcmp(counted->name, export))
			return counted;
	}
	if (s->n >= SRV_MAX_COUNTED && !forget_one(s))
		return NULL;
	counted = calloc(1, sizeof(*counted) + s->n_loops * sizeof(*counted->shard));
	if (!counted)
		return NULL;
	counted->name = strdup(export);
	if (!counted->name) {
		free(counted);
		return NULL;
	}
	/* The end has moved if one was forgotten */
	for (at = &s->first; *at; at = &(*at)->next)
		;
	*at = counted;
	s->n++;
	return counted;
}

static struct srv_shard *get_shard(struct srv_counted *counted, unsigned int loop)
{
	struct srv_shard *shard = atomic_load(&counted->shard[loop]);

	if (shard)
		return shard;
	shard = aligned_alloc(_Alignof(struct srv_shard), sizeof(*shard));
	if (!shard)
		return NULL;
	memset(shard, 0, sizeof(*shard));
	atomic_store(&counted->shard[loop], shard);
	return shard;
}

struct srv_counted *srv_stats_use(struct srv_stats *s, const char *export, unsigned int loop,
				  struct srv_shard **shard)
{
	struct srv_counted *counted;

	pthread_mutex_lock(&s->lock);
	counted = find(s, export);
	*shard = counted ? get_shard(counted, loop) : NULL;
	if (!*shard)
		counted = NULL;
	if (counted) {
		counted->refs++;
		counted->clients++;
	}
	pthread_mutex_unlock(&s->lock);
	return counted;
}

void srv_stats_leave(struct srv_stats *s, struct srv_counted *counted)
{
	if (!counted)
		return;
	pthread_mutex_lock(&s->lock);
	counted->refs--;
	counted->clients--;
	pthread_mutex_unlock(&s->lock);
}

struct srv_counted *srv_stats_next(struct srv_stats *s, struct srv_counted *counted,
				   unsigned int *clients)
{
	struct srv_counted *next;

	pthread_mutex_lock(&s->lock);
	next = counted ? counted->next : s->first;
	if (counted)
		counted->refs--;
	if (next) {
		next->refs++;
		*clients = next->clients;
	}
	pthread_mutex_unlock(&s->lock);
	return next;
}

void srv_stats_put(struct srv_stats *s, struct srv_counted *counted)
{
	if (!counted)
		return;
	pthread_mutex_lock(&s->lock);
	counted->refs--;
	pthread_mutex_unlock(&s->lock);
}

static uint64_t get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Only one thread ever writes to it, so this needs no locked instruction */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, get(counter) + n, memory_order_relaxed);
}

void srv_counters_add(const struct srv_counters *counters, struct srv_sums *sums)
{
	unsigned int i;

	for (i = 0; i < SRV_COMMANDS; i++) {
		sums->requests[i] += get(&counters->requests[i]);
		sums->bytes[i] += get(&counters->bytes[i]);
		sums->errors[i] += get(&counters->errors[i]);
	}
	sums->dropped += get(&counters->dropped);
	sums->in_flight += get(&counters->in_flight);
}

void srv_counted_add(const struct srv_stats *s, const struct srv_counted *counted,
		     struct srv_sums *sums)
{
	const struct srv_shard *shard;
	unsigned int i;

	for (i = 0; i < s->n_loops; i++) {
		shard = atomic_load(&counted->shard[i]);
		if (shard)
			srv_counters_add(&shard->counters, sums);
	}
}

void srv_counted_latency(const struct srv_stats *s, const struct srv_counted *counted,
			 enum srv_command command, struct srv_latency *latency)
{
	const struct srv_shard *shard;
	unsigned int i, k;
	uint64_t n;

	*latency = (struct srv_latency){ 0 };
	for (i = 0; i < s->n_loops; i++) {
		shard = atomic_load(&counted->shard[i]);
		if (!shard)
			continue;
		latency->sum_ns += get(&shard->sum_ns[command]);
		for (k = 0; k < SRV_BUCKETS; k++) {
			n = get(&shard->bucket[command][k]);
			latency->bucket[k] += n;
			/* Not read for itself: so it is their sum whenever it is read */
			latency->count += n;
		}
	}
}

enum srv_command srv_command(uint16_t type)
{
	switch (type) {
	case NBD_WIRE_CMD_READ:
		return SRV_READ;
	case NBD_WIRE_CMD_WRITE:
		return SRV_WRITE;
	case NBD_WIRE_CMD_WRITE_ZEROES:
		return SRV_ZEROES;
	case NBD_WIRE_CMD_TRIM:
		return SRV_TRIM;
	case NBD_WIRE_CMD_FLUSH:
		return SRV_FLUSH;
	case NBD_WIRE_CMD_CACHE:
		return SRV_CACHE;
	case NBD_WIRE_CMD_BLOCK_STATUS:
		return SRV_STATUS;
	default:
		return SRV_OTHER;
	}
}

const char *srv_command_name(enum srv_command command)
{
	static const char *const names[SRV_COMMANDS] = {
		[SRV_READ] = "read",	       [SRV_WRITE] = "write", [SRV_ZEROES] = "write-zeroes",
		[SRV_TRIM] = "trim",	       [SRV_FLUSH] = "flush", [SRV_CACHE] = "cache",
		[SRV_STATUS] = "block-status", [SRV_OTHER] = "other",
	};

	return names[command];
}

unsigned int srv_bucket(uint64_t ns)
{
	uint64_t us = ns / 1000 + !!(ns % 1000);
	unsigned int bucket;

	if (us <= 1)
		return 0;
	/* The smallest power of two that is not less */
	bucket = 64 - (unsigned int)__builtin_clzll(us - 1);
	return bucket < SRV_BUCKETS - 1 ? bucket : SRV_BUCKETS - 1;
}

uint64_t srv_bucket_us(unsigned int bucket)
{
	return bucket < SRV_BUCKETS - 1 ? 1ull << bucket : 0;
}

uint64_t srv_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void srv_count_begin(struct srv_counters *client, struct srv_shard *shard)
{
	add(&client->in_flight, 1);
	if (shard)
		add(&shard->counters.in_flight, 1);
}

static void count_answer(struct srv_counters *c, enum srv_command command, uint64_t bytes,
			 bool error)
{
	add(&c->requests[command], 1);
	if (error)
		add(&c->errors[command], 1);
	else
		add(&c->bytes[command], bytes);
	add(&c->in_flight, (uint64_t)-1);
}

void srv_count_answer(struct srv_counters *client, struct srv_shard *shard,
		      enum srv_command command, uint64_t bytes, bool error, uint64_t ns)
{
	count_answer(client, command, bytes, error);
	if (!shard)
		return;
	count_answer(&shard->counters, command, bytes, error);
	add(&shard->sum_ns[command], ns);
	add(&shard->bucket[command][srv_bucket(ns)], 1);
}

void srv_count_drop(struct srv_counters *client, struct srv_shard *shard)
{
	add(&client->dropped, 1);
	add(&client->in_flight, (uint64_t)-1);
	if (!shard)
		return;
	add(&shard->counters.dropped, 1);
	add(&shard->counters.in_flight, (uint64_t)-1);
}
