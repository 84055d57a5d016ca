// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/connection.h"

#define SIZE (8u << 20)

static char path[64];
static int fd;
static struct srv_backend *b;
static uint8_t buf[SIZE], expected[SIZE];

static int setup(void **state)
{
	const char *what;

	(void)state;
	/* Where files are on disk: a memory file system knows fewer kinds of zeroing */
	strcpy(path, "/var/tmp/nbd-file-XXXXXX");
	fd = mkstemp(path);
	if (fd < 0)
		return -1;
	memset(expected, 0xee, sizeof(expected));
	if (write(fd, expected, SIZE) != SIZE)
		return -1;
	b = srv_file_open(path, false, 0, &what);
	return b ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	b->ops->close(b);
	close(fd);
	return unlink(path);
}

static void check(void)
{
	assert_int_equal(pread(fd, buf, SIZE, 0), SIZE);
	assert_memory_equal(buf, expected, SIZE);
	assert_int_equal(b->ops->read(b, buf, SIZE, 0), 0);
	assert_memory_equal(buf, expected, SIZE);
}

static uint64_t allocated(void)
{
	struct stat st;

	assert_int_equal(fsync(fd), 0);
	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void read_and_write(void **state)
{
	int fua;

	(void)state;
	assert_true(b->size == SIZE);
	assert_int_equal(b->preferred_block, 4096);
	for (fua = 0; fua < 2; fua++) {
		memset(expected + 12345, 0x11 + fua, 100001);
		assert_int_equal(b->ops->write(b, expected + 12345, 100001, 12345, fua), 0);
		expected[SIZE - 1] = (uint8_t)fua;
		assert_int_equal(b->ops->write(b, expected + SIZE - 1, 1, SIZE - 1, fua), 0);
	}
	check();
	assert_int_equal(b->ops->flush(b), 0);
}

static void read_cached(void **state)
{
	int ret;

	(void)state;
	check();
	/* In the cache now; a file system may still say it never knows */
	ret = b->ops->read_cached(b, buf, 65536, 4096);
	assert_true(!ret || ret == -EOPNOTSUPP || ret == -EAGAIN);
	if (!ret)
		assert_memory_equal(buf, expected + 4096, 65536);
}

static void zero_ranges(void **state)
{
	static const struct {
		uint32_t offset, len;
	} ranges[] = {
		{ 0, 4096 },	     { 100000, 1 },	  { 200001, 4095 },	{ 300001, 1000003 },
		{ SIZE - 511, 511 }, { SIZE - 70000, 3 }, { 2 << 20, 3 << 20 },
	};
	size_t i;
	int keep;

	(void)state;
	for (keep = 0; keep < 2; keep++) {
		memset(expected, 0xdd, SIZE);
		assert_int_equal(b->ops->write(b, expected, SIZE, 0, false), 0);
		for (i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
			memset(expected + ranges[i].offset, 0, ranges[i].len);
			assert_int_equal(
				b->ops->zero(b, ranges[i].len, ranges[i].offset, keep, true), 0);
		}
		check();
	}
}

static void space(void **state)
{
	(void)state;
	assert_true(allocated() >= SIZE);
	assert_int_equal(b->ops->zero(b, 4 << 20, 0, true, false), 0);
	assert_true(allocated() >= SIZE);
	assert_int_equal(b->ops->zero(b, 4 << 20, 0, false, false), 0);
	assert_true(allocated() < 5 << 20);
	assert_int_equal(b->ops->trim(b, 2 << 20, 4 << 20, true), 0);
	assert_true(allocated() < 3 << 20);
	assert_int_equal(b->ops->trim(b, 0, 0, false), 0);
	memset(expected, 0, 6 << 20);
	check();
}

/* The reference server stopped at 64 MiB and said nothing */
static void zero_beyond_4g(void **state)
{
	const uint64_t size = 5ULL << 30;
	const uint32_t len = UINT32_MAX;
	static const uint8_t mark = 0x77;
	uint8_t c;

	(void)state;
	b->ops->close(b);
	b = srv_file_open(path, false, size, &(const char *){ NULL });
	assert_non_null(b);
	assert_true(b->size == size);
	assert_int_equal(b->ops->write(b, &mark, 1, 1000, false), 0);
	assert_int_equal(b->ops->write(b, &mark, 1, 1ULL << 30, false), 0);
	assert_int_equal(b->ops->write(b, &mark, 1, len, false), 0);
	assert_int_equal(b->ops->write(b, &mark, 1, (uint64_t)len + 1, false), 0);
	assert_int_equal(b->ops->zero(b, len, 1, false, false), 0);
	assert_int_equal(b->ops->read(b, &c, 1, 1000), 0);
	assert_int_equal(c, 0);
	assert_int_equal(b->ops->read(b, &c, 1, 1ULL << 30), 0);
	assert_int_equal(c, 0);
	assert_int_equal(b->ops->read(b, &c, 1, len), 0);
	assert_int_equal(c, 0);
	assert_int_equal(b->ops->read(b, &c, 1, (uint64_t)len + 1), 0);
	assert_int_equal(c, mark);
	assert_int_equal(b->ops->read(b, &c, 1, 0), 0);
	assert_int_equal(c, 0xee);
}

static void errors(void **state)
{
	struct rlimit limit, small;

	(void)state;
	/* Cut short under us: not zeroes, an error */
	assert_int_equal(ftruncate(fd, SIZE / 2), 0);
	assert_int_equal(b->ops->read(b, buf, 4096, SIZE / 2), -EIO);
	/* A limit is the one way to run out of space without a file system of our own */
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = limit;
	small.rlim_cur = SIZE / 2;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(b->ops->write(b, buf, 4096, SIZE / 2, false), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void opening(void **state)
{
	char other[80];
	const char *what;
	struct srv_backend *o;
	struct stat st;

	(void)state;
	snprintf(other, sizeof(other), "%s-new", path);
	assert_null(srv_file_open(other, false, 0, &what));
	assert_int_equal(errno, ENOENT);
	assert_string_equal(what, "open");
	assert_null(srv_file_open(other, true, 4096, &what));
	assert_int_equal(errno, ENOENT);

	/* A missing file is made when its size is known, a short one made longer */
	o = srv_file_open(other, false, 10000, &what);
	assert_non_null(o);
	o->ops->close(o);
	assert_int_equal(stat(other, &st), 0);
	assert_int_equal(st.st_size, 10000);
	o = srv_file_open(other, false, 20000, &what);
	assert_non_null(o);
	assert_true(o->size == 20000);
	o->ops->close(o);
	assert_int_equal(stat(other, &st), 0);
	assert_int_equal(st.st_size, 20000);
	/* but not for reading alone, and never made shorter */
	assert_null(srv_file_open(other, true, 20001, &what));
	o = srv_file_open(other, false, 5000, &what);
	assert_non_null(o);
	assert_true(o->size == 5000);
	o->ops->close(o);
	assert_int_equal(stat(other, &st), 0);
	assert_int_equal(st.st_size, 20000);
	unlink(other);

	assert_null(srv_file_open("/dev/null", false, 0, &what));
	assert_int_equal(errno, EINVAL);
	assert_null(srv_file_open("/", true, 0, &what));
	assert_int_equal(mkfifo(other, 0600), 0);
	assert_null(srv_file_open(other, false, 0, &what));
	unlink(other);
}

static void execute(void **state)
{
	struct srv_export export = { .trim = true };
	struct srv_request req = { .type = NBD_WIRE_CMD_WRITE, .offset = 1, .length = 3 };

	(void)state;
	memcpy(expected + 1, "abc", 3);
	assert_int_equal(srv_execute(b, &export, &req, (void *)"abc"), 0);
	check();
	req.type = NBD_WIRE_CMD_READ;
	memset(buf, 0, 8);
	assert_int_equal(srv_execute(b, &export, &req, buf), 0);
	assert_memory_equal(buf, "abc", 3);
	req = (struct srv_request){ .type = NBD_WIRE_CMD_FLUSH };
	assert_int_equal(srv_execute(b, &export, &req, NULL), 0);
	req = (struct srv_request){ .type = NBD_WIRE_CMD_TRIM, .length = 4 << 20 };
	assert_int_equal(srv_execute(b, &export, &req, NULL), 0);
	memset(expected, 0, 4 << 20);
	check();
	req.type = NBD_WIRE_CMD_WRITE_ZEROES;
	req.offset = 4 << 20;
	req.flags = NBD_WIRE_CMD_FLAG_NO_HOLE | NBD_WIRE_CMD_FLAG_FUA;
	assert_int_equal(srv_execute(b, &export, &req, NULL), 0);
	memset(expected, 0, 8 << 20);
	check();
	assert_true(allocated() >= 4 << 20);
	/* trim = false keeps the space of the file, whatever the client says */
	export.trim = false;
	req.flags = 0;
	assert_int_equal(srv_execute(b, &export, &req, NULL), 0);
	assert_true(allocated() >= 4 << 20);
	req.type = 99;
	assert_int_equal(srv_execute(b, &export, &req, NULL), NBD_WIRE_EINVAL);
}

/* What a range is: data, a hole, and both sides of where they meet */
static void extents(void **state)
{
	uint64_t len = SIZE;
	bool hole;

	(void)state;
	assert_int_equal(b->ops->extent(b, &len, 0, &hole), 0);
	assert_false(hole);
	assert_int_equal(len, SIZE);
	assert_int_equal(b->ops->trim(b, 2 << 20, 1 << 20, false), 0);
	len = SIZE;
	assert_int_equal(b->ops->extent(b, &len, 4096, &hole), 0);
	assert_false(hole);
	assert_int_equal(len, (1 << 20) - 4096);
	len = SIZE;
	assert_int_equal(b->ops->extent(b, &len, (1 << 20) + 1, &hole), 0);
	assert_true(hole);
	assert_int_equal(len, (2 << 20) - 1);
	len = 100;
	assert_int_equal(b->ops->extent(b, &len, 1 << 20, &hole), 0);
	assert_true(hole);
	assert_int_equal(len, 100);
	/* A hole that goes to the end */
	assert_int_equal(b->ops->trim(b, 1 << 20, SIZE - (1 << 20), false), 0);
	len = 1 << 20;
	assert_int_equal(b->ops->extent(b, &len, SIZE - (1 << 20), &hole), 0);
	assert_true(hole);
	assert_int_equal(len, 1 << 20);
	assert_int_equal(b->ops->cache(b, SIZE, 0), 0);
}

static void fast_zero(void **state)
{
	struct srv_export export = { .trim = true };
	struct srv_request req = { .type = NBD_WIRE_CMD_WRITE_ZEROES,
				   .flags = NBD_WIRE_CMD_FLAG_FAST_ZERO,
				   .length = 4 << 20,
				   .offset = 100 };
	uint32_t error;

	(void)state;
	error = srv_execute(b, &export, &req, NULL);
	if (error) {
		/* Only by saying so, and with nothing changed */
		assert_int_equal(error, NBD_WIRE_ENOTSUP);
		check();
		return;
	}
	memset(expected + 100, 0, 4 << 20);
	check();
	assert_true(allocated() < 5 << 20);
	/* Devices have whole sectors only */
	req.flags |= NBD_WIRE_CMD_FLAG_FUA | NBD_WIRE_CMD_FLAG_NO_HOLE;
	error = srv_execute(b, &export, &req, NULL);
	assert_true(!error || error == NBD_WIRE_ENOTSUP);
	check();
}

static unsigned int writes;

static int count_write(struct srv_backend *unused, const void *data, uint32_t len, uint64_t offset,
		       bool fua)
{
	(void)unused;
	(void)data;
	(void)len;
	(void)offset;
	(void)fua;
	writes++;
	return 0;
}

/* A backend that does not ask is not called */
static void cancelled_before(void **state)
{
	static const struct srv_backend_ops ops = { .write = count_write };
	atomic_bool flag = false;
	struct srv_backend counting = { .ops = &ops, .cancelled = &flag };
	struct srv_export export = { 0 };
	struct srv_request req = { .type = NBD_WIRE_CMD_WRITE, .length = 1 };

	(void)state;
	assert_int_equal(srv_execute(&counting, &export, &req, buf), 0);
	assert_int_equal(writes, 1);
	flag = true;
	assert_int_not_equal(srv_execute(&counting, &export, &req, buf), 0);
	assert_int_equal(writes, 1);
}

/* Told to begin nothing, it does not, also not by itself */
static void cancelled(void **state)
{
	static const uint16_t types[] = { NBD_WIRE_CMD_WRITE, NBD_WIRE_CMD_TRIM,
					  NBD_WIRE_CMD_WRITE_ZEROES, NBD_WIRE_CMD_FLUSH };
	static uint8_t data[65536];
	struct srv_export export = { .trim = true };
	struct srv_request req = { .length = sizeof(data) };
	atomic_bool flag = true;
	size_t i;

	(void)state;
	b->cancelled = &flag;
	for (i = 0; i < sizeof(types) / sizeof(*types); i++) {
		req.type = types[i];
		assert_int_not_equal(srv_execute(b, &export, &req, data), 0);
	}
	assert_int_equal(b->ops->write(b, data, sizeof(data), 1, false), -ECANCELED);
	assert_int_equal(b->ops->write(b, data, sizeof(data), 1, true), -ECANCELED);
	assert_int_equal(b->ops->zero(b, 1 << 20, 0, false, false), -ECANCELED);
	assert_int_equal(b->ops->zero(b, 1 << 20, 511, true, true), -ECANCELED);
	assert_int_equal(b->ops->flush(b), -ECANCELED);
	check();
	flag = false;
	req.type = NBD_WIRE_CMD_WRITE;
	assert_int_equal(srv_execute(b, &export, &req, data), 0);
	memset(expected, 0, sizeof(data));
	check();
}

static void direct(void **state)
{
	static _Alignas(4096) uint8_t data[65536];
	const char *what;

	(void)state;
	assert_int_equal(b->min_block, 1);
	assert_int_equal(srv_file_direct(b, &what), 0);
	assert_true(b->min_block >= 512 && b->min_block <= SRV_DIRECT_MAX);
	assert_true(b->min_block <= b->preferred_block && !b->in_memory);
	memset(data, 0x5d, sizeof(data));
	assert_int_equal(b->ops->write(b, data, sizeof(data), 4096, false), 0);
	assert_int_equal(b->ops->write(b, data, 4096, 1 << 20, true), 0);
	memset(data, 0, sizeof(data));
	assert_int_equal(b->ops->read_cached(b, data, 4096, 4096), -EOPNOTSUPP);
	assert_int_equal(b->ops->read(b, data, sizeof(data), 4096), 0);
	memset(expected + 4096, 0x5d, sizeof(data));
	memset(expected + (1 << 20), 0x5d, 4096);
	assert_memory_equal(data, expected + 4096, sizeof(data));
	/* Zeroes are written where holes are not wanted or not to be had */
	assert_int_equal(b->ops->zero(b, 3 * b->min_block, b->min_block, true, false), 0);
	memset(expected + b->min_block, 0, 3 * b->min_block);
	assert_int_equal(b->ops->cache(b, 4096, 0), 0);
	assert_int_equal(pread(fd, buf, SIZE, 0), SIZE);
	assert_memory_equal(buf, expected, SIZE);
	/* What would have to be read as a part of a block is refused */
	assert_int_equal(ftruncate(fd, SIZE - 100), 0);
	b->ops->close(b);
	b = srv_file_open(path, false, 0, &what);
	assert_non_null(b);
	assert_int_equal(srv_file_direct(b, &what), -EMSGSIZE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(read_and_write), T(read_cached),	T(zero_ranges), T(space),
		T(zero_beyond_4g), T(errors),		T(opening),	T(execute),
		T(cancelled),	   T(cancelled_before), T(extents),	T(fast_zero),
		T(direct),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
