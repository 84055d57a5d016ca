// SPDX-License-Identifier: GPL-2.0-or-later
/* Exports that are more than one file: multifile, treefiles, copyonwrite, temporary. */
#include <errno.h>
#include <pthread.h>
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

#include "server/private.h"

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

static struct srv_store *cow(uint64_t limit)
{
	struct srv_backend *under = srv_file_open(in_dir("base"), true, limit, &what);
	struct srv_store *store;

	assert_non_null(under);
	store = srv_store_new(dir, "base", under, 0, &what);
	assert_non_null(store);
	return store;
}

static struct srv_backend *view(struct srv_store *store, const atomic_bool *cancelled)
{
	struct srv_backend *b = srv_store_open(store, cancelled, &what);

	assert_non_null(b);
	return b;
}

static void base_unchanged(void)
{
	assert_int_equal(content("base"), SIZE);
	assert_memory_equal(buf, base, SIZE);
}

static unsigned int files(void)
{
	char command[96], text[16] = "";
	FILE *f;

	snprintf(command, sizeof(command), "ls -A '%s' | wc -l", dir);
	f = popen(command, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	pclose(f);
	return (unsigned int)atoi(text);
}

static void written_beside(void **state)
{
	struct srv_backend *b[3];
	struct srv_store *store, *other;
	unsigned int i;

	(void)state;
	make("base", base, SIZE);
	memcpy(model, base, SIZE);
	store = cow(0);
	other = cow(0);
	assert_int_equal(files(), 1);
	for (i = 0; i < 3; i++)
		b[i] = view(store, NULL);
	srv_store_put(store);
	assert_true(b[0]->size == SIZE);
	assert_int_equal(b[0]->preferred_block, BLOCK);
	/* What one view has written the others see */
	for (i = 0; i < 3000; i++)
		one(b[i % 3]);
	for (i = 0; i < 3; i++)
		many(b[i], 1);
	base_unchanged();
	for (i = 0; i < 3; i++)
		b[i]->ops->close(b[i]);
	/* And another store has nothing of it */
	b[0] = view(other, NULL);
	srv_store_put(other);
	assert_int_equal(b[0]->ops->read(b[0], buf, SIZE, 0), 0);
	assert_memory_equal(buf, base, SIZE);
	b[0]->ops->close(b[0]);
	assert_int_equal(files(), 1);
}

/* A base that does not end with a block */
static void odd_end(void **state)
{
	struct srv_store *store;
	struct srv_backend *b;

	(void)state;
	make("base", base, SIZE);
	store = cow(SIZE - 1000);
	b = view(store, NULL);
	assert_true(b->size == SIZE - 1000);
	assert_int_equal(b->ops->write(b, "x", 1, SIZE - 1001, true), 0);
	assert_int_equal(b->ops->read(b, buf, 3096, SIZE - BLOCK), 0);
	assert_memory_equal(buf, base + SIZE - BLOCK, 3095);
	assert_int_equal(buf[3095], 'x');
	b->ops->close(b);
	srv_store_put(store);
	base_unchanged();
}

static void trimmed_beside(void **state)
{
	struct srv_store *store;
	struct srv_backend *b;
	uint64_t len = SIZE;
	bool hole;

	(void)state;
	make("base", base, SIZE);
	store = cow(0);
	b = view(store, NULL);
	/* There is nothing to give back, so nothing is taken */
	assert_int_equal(b->ops->trim(b, SIZE, 0, true), 0);
	assert_int_equal(b->ops->extent(b, &len, 0, &hole), 0);
	assert_true(!hole && len == SIZE);
	assert_int_equal(b->ops->write(b, base, 4 * BLOCK, BLOCK, false), 0);
	assert_int_equal(b->ops->trim(b, 4 * BLOCK, BLOCK, false), 0);
	assert_int_equal(b->ops->extent(b, &len, BLOCK, &hole), 0);
	assert_true(hole && len == 4 * BLOCK);
	assert_int_equal(b->ops->read(b, buf, BLOCK, BLOCK), 0);
	memset(model, 0, BLOCK);
	assert_memory_equal(buf, model, BLOCK);
	assert_int_equal(b->ops->fast_zero(b, BLOCK, 0, false, false), -EOPNOTSUPP);
	b->ops->close(b);
	srv_store_put(store);
}

static void cancelled_changes(void **state)
{
	struct srv_store *store;
	struct srv_backend *b;
	atomic_bool ended = false;

	(void)state;
	make("base", base, SIZE);
	store = cow(0);
	b = view(store, &ended);
	assert_int_equal(b->ops->write(b, "x", 1, 0, false), 0);
	atomic_store(&ended, true);
	assert_int_equal(b->ops->write(b, "y", 1, 0, false), -ECANCELED);
	assert_int_equal(b->ops->zero(b, 1, BLOCK, false, false), -ECANCELED);
	b->ops->close(b);
	b = view(store, NULL);
	assert_int_equal(b->ops->read(b, buf, BLOCK + 1, 0), 0);
	assert_int_equal(buf[0], 'x');
	assert_int_equal(buf[BLOCK], base[BLOCK]);
	b->ops->close(b);
	srv_store_put(store);

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

/* A map of a large export has large blocks, and takes no more memory */
static void large_maps(void **state)
{
	struct srv_store *store;
	struct srv_backend *b;
	int i;

	(void)state;
	make("base", base, SIZE);
	for (i = 0; i < 2; i++) {
		/* The file system must have such files: those of ext4 end at 16 TiB */
		if (truncate(in_dir("base"), i ? 8ll << 40 : (128ll << 30) - BLOCK))
			skip();
		store = cow(0);
		assert_true(store->map_len <= SRV_COW_MAP_MAX);
		assert_int_equal(store->block, i ? 256 << 10 : BLOCK);
		b = view(store, NULL);
		assert_int_equal(b->preferred_block, store->block);
		assert_int_equal(b->ops->write(b, "x", 1, 3, false), 0);
		assert_int_equal(b->ops->read(b, buf, 512 << 10, 0), 0);
		memcpy(model, base, SIZE);
		model[3] = 'x';
		assert_memory_equal(buf, model, 512 << 10);
		assert_int_equal(b->ops->write(b, "x", 1, b->size - 1, false), 0);
		b->ops->close(b);
		srv_store_put(store);
	}
}

#define THREADS 4

static struct srv_store *shared;

/* Each has its own bytes in every block, so that all blocks are first changed by several */
static void *write_mine(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg, i, at;
	struct srv_backend *b = view(shared, NULL);
	uint8_t mine[700];

	memset(mine, (int)me + 1, sizeof(mine));
	for (i = 0; i < SIZE / BLOCK; i++) {
		at = i * BLOCK + me * 1000;
		if (b->ops->write(b, mine, sizeof(mine), at, false))
			return "write";
		memset(mine, 0, sizeof(mine));
		if (b->ops->read(b, mine, sizeof(mine), at))
			return "read";
		if (mine[0] != me + 1 || mine[sizeof(mine) - 1] != me + 1)
			return "read back";
	}
	b->ops->close(b);
	return NULL;
}

static void several_threads(void **state)
{
	pthread_t thread[THREADS];
	struct srv_backend *b;
	unsigned int i, t;
	void *failed;

	(void)state;
	make("base", base, SIZE);
	memcpy(model, base, SIZE);
	shared = cow(0);
	for (t = 0; t < THREADS; t++)
		assert_int_equal(pthread_create(&thread[t], NULL, write_mine, (void *)(uintptr_t)t),
				 0);
	for (t = 0; t < THREADS; t++) {
		assert_int_equal(pthread_join(thread[t], &failed), 0);
		assert_null(failed);
		for (i = 0; i < SIZE / BLOCK; i++)
			memset(model + i * BLOCK + t * 1000, (int)t + 1, 700);
	}
	b = view(shared, NULL);
	assert_int_equal(b->ops->read(b, buf, SIZE, 0), 0);
	assert_memory_equal(buf, model, SIZE);
	b->ops->close(b);
	srv_store_put(shared);
	base_unchanged();
}

static void temporary_file(void **state)
{
	struct srv_store *store = srv_store_new(dir, "t", NULL, SIZE, &what);
	struct srv_backend *b, *c;
	char name[256] = "";

	(void)state;
	assert_non_null(store);
	assert_int_equal(files(), 0);
	b = view(store, NULL);
	c = view(store, NULL);
	srv_store_put(store);
	assert_true(b->size == SIZE && b->ring_fd >= 0);
	assert_memory_equal(b->id, c->id, sizeof(b->id));
	memset(model, 0, SIZE);
	many(b, 500);
	many(c, 500);
	b->ops->close(b);
	c->ops->close(c);
	memset(name, 'n', sizeof(name) - 1);
	store = srv_store_new(dir, name, NULL, SIZE, &what);
	assert_non_null(store);
	srv_store_put(store);
	assert_null(srv_store_new(in_dir("none"), "t", NULL, SIZE, &what));
	assert_int_equal(errno, ENOENT);
}

static void sessions(void **state)
{
	struct srv_store *store = srv_store_new(dir, "t", NULL, SIZE, &what), *other;
	const uint8_t a[16] = "session a", b[16] = "session b";
	struct srv_private *entry, *again;
	struct srv_privates p;
	uint8_t id[16] = { 0 };
	unsigned int i;

	(void)state;
	srv_privates_init(&p);
	assert_int_equal(srv_private_find(&p, "x", a, &entry), SRV_PRIVATE_NEW);
	assert_int_equal(srv_private_add(&p, "x", a, store, &entry), SRV_PRIVATE_SHARED);
	assert_ptr_equal(entry->store, store);
	assert_int_equal(srv_private_find(&p, "y", a, &again), SRV_PRIVATE_NEW);
	assert_int_equal(srv_private_find(&p, "x", b, &again), SRV_PRIVATE_NEW);
	/* Two at once: the first one's counts */
	other = srv_store_new(dir, "t", NULL, SIZE, &what);
	assert_int_equal(srv_private_add(&p, "x", a, other, &again), SRV_PRIVATE_SHARED);
	assert_ptr_equal(again, entry);
	assert_ptr_equal(again->store, store);
	srv_store_put(other);
	srv_private_leave(&p, entry);
	assert_int_equal(srv_private_find(&p, "x", a, &again), SRV_PRIVATE_SHARED);
	srv_private_leave(&p, entry);
	srv_private_leave(&p, entry);
	assert_int_equal(srv_private_find(&p, "x", a, &again), SRV_PRIVATE_LOST);
	assert_int_equal(srv_private_add(&p, "x", a, store, &again), SRV_PRIVATE_LOST);
	/* Others go on being known, until there are too many */
	for (i = 1; i <= SRV_PRIVATE_LOST_MAX; i++) {
		assert_int_equal(srv_private_find(&p, "x", a, &again), SRV_PRIVATE_LOST);
		memcpy(id, &i, sizeof(i));
		assert_int_equal(srv_private_add(&p, "x", id, store, &entry), SRV_PRIVATE_SHARED);
		srv_private_leave(&p, entry);
	}
	assert_int_equal(srv_private_find(&p, "x", id, &again), SRV_PRIVATE_LOST);
	assert_int_equal(srv_private_find(&p, "x", a, &again), SRV_PRIVATE_NEW);
	assert_int_equal(p.n_lost, SRV_PRIVATE_LOST_MAX);
	srv_privates_destroy(&p);
	assert_int_equal(atomic_load(&store->refs), 1);
	srv_store_put(store);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(concatenated),    T(concatenated_sizes), T(too_many),	      T(blocks_in_a_tree),
		T(names_in_a_tree), T(holes_of_a_tree),	   T(written_beside), T(odd_end),
		T(trimmed_beside),  T(cancelled_changes),  T(large_maps),     T(several_threads),
		T(temporary_file),  T(sessions),
	};

	return cmocka_run_group_tests_name("server kinds", tests, NULL, NULL);
}
