// SPDX-License-Identifier: GPL-2.0-or-later
/* Exports that are more than one file: multifile, treefiles. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/backend.h"

#define BLOCK 4096u
#define SIZE  (300u * BLOCK)

static char dir[64];
static uint8_t model[SIZE], buf[SIZE], base[SIZE];
static const char *what;

static int setup(void **state)
{
	unsigned int i;

	(void)state;
	strcpy(dir, "/var/tmp/nbd-kinds-XXXXXX");
	for (i = 0; i < SIZE; i++)
		base[i] = (uint8_t)(i / 7 + i / BLOCK);
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[96];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static const char *in_dir(const char *name)
{
	static char path[160];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void make(const char *name, const void *data, size_t len)
{
	FILE *f = fopen(in_dir(name), "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* What a file holds, into buf */
static size_t content(const char *name)
{
	FILE *f = fopen(in_dir(name), "r");
	size_t n;

	assert_non_null(f);
	n = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	return n;
}

static uint64_t seed = 1;

static uint32_t draw(uint32_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % below;
}

/* One request of any kind, to the backend and to the model */
static void one(struct srv_backend *b)
{
	uint32_t offset = draw(SIZE), len = 1 + draw(draw(4) ? 3 * BLOCK : 40 * BLOCK);
	bool hole, fua = !draw(50);
	uint8_t value = (uint8_t)draw(256);
	uint64_t part;

	if (len > SIZE - offset)
		len = SIZE - offset;
	switch (draw(6)) {
	case 0:
		assert_int_equal(b->ops->zero(b, len, offset, draw(2), fua), 0);
		memset(model + offset, 0, len);
		break;
	case 1:
		assert_int_equal(b->ops->cache(b, len, offset), 0);
		part = len;
		assert_int_equal(b->ops->extent(b, &part, offset, &hole), 0);
		assert_true(part > 0 && part <= len);
		while (hole && part--)
			assert_int_equal(model[offset + part], 0);
		break;
	case 2:
		/* What is trimmed is anything, so that it is written anew */
		assert_int_equal(b->ops->trim(b, len, offset, fua), 0);
		/* fall through */
	case 3:
	case 4:
		memset(model + offset, value, len);
		assert_int_equal(b->ops->write(b, model + offset, len, offset, fua), 0);
		break;
	default:
		memset(buf, 0xa5, len);
		assert_int_equal(b->ops->read(b, buf, len, offset), 0);
		assert_memory_equal(buf, model + offset, len);
		if (!b->ops->read_cached(b, buf, len, offset))
			assert_memory_equal(buf, model + offset, len);
	}
}

static void many(struct srv_backend *b, unsigned int n)
{
	while (n--)
		one(b);
	assert_int_equal(b->ops->flush(b), 0);
	assert_int_equal(b->ops->read(b, buf, SIZE, 0), 0);
	assert_memory_equal(buf, model, SIZE);
}

static struct srv_backend *multi(bool readonly, uint64_t size)
{
	return srv_multi_open(in_dir("m"), readonly, size, NULL, &what);
}

static void concatenated(void **state)
{
	uint32_t cut[] = { 0, 5000, 5000, 100 * BLOCK, SIZE };
	struct srv_backend *b, *again;
	char name[16];
	unsigned int i;

	(void)state;
	memcpy(model, base, SIZE);
	for (i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "m.%u", i);
		make(name, base + cut[i], cut[i + 1] - cut[i]);
	}
	make("m.5", "not part of it", 14);
	b = multi(false, 0);
	assert_non_null(b);
	assert_true(b->size == SIZE);
	assert_int_equal(b->ring_fd, -1);
	many(b, 3000);
	again = multi(false, 0);
	assert_memory_equal(again->id, b->id, sizeof(b->id));
	again->ops->close(again);
	/* Two files cannot be asked before one of them is changed */
	assert_int_equal(b->ops->fast_zero(b, 2, 4999, false, false), -EOPNOTSUPP);
	b->ops->close(b);
	for (i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "m.%u", i);
		assert_int_equal(content(name), cut[i + 1] - cut[i]);
		assert_memory_equal(buf, model + cut[i], cut[i + 1] - cut[i]);
	}
}

static void concatenated_sizes(void **state)
{
	struct srv_backend *b;
	struct stat st;

	(void)state;
	assert_null(multi(false, 0));
	assert_int_equal(errno, ENOENT);
	assert_null(multi(true, 8192));
	b = multi(false, 8192);
	assert_non_null(b);
	assert_true(b->size == 8192 && b->ring_fd >= 0);
	b->ops->close(b);
	assert_int_equal(stat(in_dir("m.0"), &st), 0);
	assert_int_equal(st.st_size, 8192);
	assert_int_equal(access(in_dir("m.1"), F_OK), -1);
	/* All of them together, and never more than there is */
	make("m.1", base, 4096);
	assert_null(multi(false, 16384));
	assert_int_equal(errno, ENOSPC);
	assert_non_null(strstr(what, "configured size"));
	b = multi(false, 10000);
	assert_non_null(b);
	assert_true(b->size == 10000);
	b->ops->close(b);
}

static void too_many(void **state)
{
	char name[16];
	int i;

	(void)state;
	for (i = 0; i <= SRV_MULTI_MAX; i++) {
		snprintf(name, sizeof(name), "m.%d", i);
		make(name, "x", 1);
	}
	assert_null(multi(false, 0));
	assert_int_equal(errno, EFBIG);
}

static struct srv_backend *tree(bool readonly, uint64_t size)
{
	struct srv_backend *b = srv_tree_open(in_dir("t"), readonly, size, &what);

	if (b)
		assert_true(b->size == size);
	return b;
}

static bool there(const char *name)
{
	return !access(in_dir(name), F_OK);
}

static void blocks_in_a_tree(void **state)
{
	struct srv_backend *b = tree(false, SIZE);

	(void)state;
	memset(model, 0, SIZE);
	assert_non_null(b);
	many(b, 2000);
	assert_int_equal(b->ops->zero(b, SIZE, 0, false, false), 0);
	assert_int_equal(rmdir(in_dir("t")), 0);
	b->ops->close(b);
	assert_null(tree(true, SIZE));
	assert_int_equal(errno, ENOENT);
}

/* Where the reference implementation has them: these names are its own */
static void names_in_a_tree(void **state)
{
	static const struct {
		uint64_t size, offset;
		const char *name;
	} places[] = {
		{ 4190208, 4096 * 1022, "t/FILE03FE" },
		{ 4194304, 0, "t/TREE0000/FILE0000" },
		{ 4194304, 4194300, "t/TREE0000/FILE03FF" },
		{ 4294967296, 4096 * 1024, "t/TREE0000/TREE0001/FILE0000" },
		{ 4294967296, 4294967290, "t/TREE0000/TREE03FF/FILE03FF" },
		{ 5368709120, 5368709110, "t/TREE0001/TREE00FF/FILE03FF" },
		{ INT64_MAX, INT64_MAX - 1,
		  "t/TREE0001/TREE03FF/TREE03FF/TREE03FF/TREE03FF/FILE03FF" },
	};
	struct srv_backend *b;
	struct stat st;
	unsigned int i;
	uint64_t len;
	bool hole;

	(void)state;
	for (i = 0; i < sizeof(places) / sizeof(*places); i++) {
		b = tree(false, places[i].size);
		assert_non_null(b);
		len = 1;
		assert_int_equal(b->ops->extent(b, &len, places[i].offset, &hole), 0);
		assert_true(hole);
		assert_int_equal(b->ops->write(b, "x", 1, places[i].offset, true), 0);
		assert_int_equal(stat(in_dir(places[i].name), &st), 0);
		assert_int_equal(st.st_size, 4096);
		assert_int_equal(st.st_mode & 07777, 0600);
		assert_int_equal(b->ops->extent(b, &len, places[i].offset, &hole), 0);
		assert_false(hole);
		b->ops->close(b);
		assert_int_equal(teardown(state), 0);
		assert_int_equal(setup(state), 0);
	}
}

static void holes_of_a_tree(void **state)
{
	struct srv_backend *b = tree(false, 5368709120);
	uint64_t len = UINT32_MAX;
	bool hole;

	(void)state;
	/* The highest directory that is not there at a time, from wherever one begins */
	assert_int_equal(b->ops->extent(b, &len, 4096 * 1000, &hole), 0);
	assert_true(hole && len == 4294967296 - 4096 * 1000);
	assert_int_equal(b->ops->trim(b, 5368709119, 1, false), 0);
	assert_int_equal(b->ops->zero(b, 5368709119, 1, false, false), 0);
	assert_false(there("t/TREE0000"));
	assert_int_equal(b->ops->write(b, "x", 1, 4096 * 2048, false), 0);
	assert_int_equal(b->ops->extent(b, &len, 4096 * 1000, &hole), 0);
	assert_true(hole && len == 4096 * 24);
	len = 5368709120 - 4294967296;
	assert_int_equal(b->ops->extent(b, &len, 4294967296, &hole), 0);
	assert_true(hole && len == 5368709120 - 4294967296);
	/* A part of a block changes no file that is not there, and removes none that is */
	assert_int_equal(b->ops->write(b, base, 4096, 8192, false), 0);
	assert_int_equal(b->ops->zero(b, 4096, 8000, false, false), 0);
	assert_true(there("t/TREE0000/TREE0000/FILE0002"));
	assert_false(there("t/TREE0000/TREE0000/FILE0001"));
	assert_int_equal(b->ops->read(b, buf, 4096, 8192), 0);
	memset(model, 0, 4096);
	memcpy(model + 3904, base + 3904, 192);
	assert_memory_equal(buf, model, 4096);
	assert_int_equal(b->ops->trim(b, 4096, 8192, true), 0);
	assert_false(there("t/TREE0000/TREE0000/FILE0002"));
	/* Space that is to stay is taken */
	assert_int_equal(b->ops->zero(b, 8192, 0, true, true), 0);
	assert_true(there("t/TREE0000/TREE0000/FILE0001"));
	/* A short file goes on with zeroes */
	assert_int_equal(truncate(in_dir("t/TREE0000/TREE0000/FILE0001"), 10), 0);
	assert_int_equal(b->ops->read(b, buf, 4096, 4096), 0);
	memset(model, 0, 4096);
	assert_memory_equal(buf, model, 4096);
	b->ops->close(b);
}

static void cancelled_changes(void **state)
{
	atomic_bool ended = true;
	struct srv_backend *b;

	(void)state;
	make("m.0", base, SIZE);
	b = srv_multi_open(in_dir("m"), false, 0, &ended, &what);
	assert_int_equal(b->ops->write(b, "y", 1, 0, false), -ECANCELED);
	b->ops->close(b);
	b = tree(false, SIZE);
	b->cancelled = &ended;
	assert_int_equal(b->ops->write(b, "y", 1, 0, false), -ECANCELED);
	assert_int_equal(b->ops->trim(b, SIZE, 0, false), -ECANCELED);
	b->ops->close(b);
	assert_false(there("t/FILE0000"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(concatenated),      T(concatenated_sizes), T(too_many),
		T(blocks_in_a_tree),  T(names_in_a_tree),    T(holes_of_a_tree),
		T(cancelled_changes),
	};

	return cmocka_run_group_tests_name("server kinds", tests, NULL, NULL);
}
