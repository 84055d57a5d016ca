// SPDX-License-Identifier: GPL-2.0-or-later
/* Handshakes over real sockets: deadlines, broken connections, what is left unread. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/clock.h"
#include "client/handover.h"
#include "client/session.h"

static struct client_nego nego;

static size_t be(uint8_t *p, uint64_t v, size_t len)
{
	v = htobe64(v);
	memcpy(p, (uint8_t *)&v + 8 - len, len);
	return len;
}

/* What a server sends to open an export of `size` bytes by GO */
static size_t answer(uint8_t *p, uint64_t size, uint16_t flags)
{
	size_t n = 0;

	n += be(p + n, NBD_WIRE_INIT_MAGIC, 8);
	n += be(p + n, NBD_WIRE_OPTION_MAGIC, 8);
	n += be(p + n, NBD_WIRE_FIXED_NEWSTYLE, 2);
	n += be(p + n, NBD_WIRE_OPT_REPLY_MAGIC, 8);
	n += be(p + n, NBD_WIRE_OPT_GO, 4);
	n += be(p + n, NBD_WIRE_REP_INFO, 4);
	n += be(p + n, 12, 4);
	n += be(p + n, NBD_WIRE_INFO_EXPORT, 2);
	n += be(p + n, size, 8);
	n += be(p + n, flags, 2);
	n += be(p + n, NBD_WIRE_OPT_REPLY_MAGIC, 8);
	n += be(p + n, NBD_WIRE_OPT_GO, 4);
	n += be(p + n, NBD_WIRE_REP_ACK, 4);
	n += be(p + n, 0, 4);
	return n;
}

static int run(int fd, int64_t ms, struct client_error *err)
{
	client_nego_free(&nego);
	client_nego_init(&nego, CLIENT_NEGO_GO, "", NULL);
	return client_session_run(fd, &nego, client_clock_ms() + ms, err);
}

static void test_leftover(void **state)
{
	struct client_error err;
	uint8_t data[128];
	size_t len = answer(data, 4096, 1);
	char byte;
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	data[len] = 'T';
	assert_int_equal(write(fd[1], data, len + 1), len + 1);
	assert_int_equal(run(fd[0], 1000, &err), 0);
	assert_int_equal(nego.export.size, 4096);
	/* the first byte of the transmission phase is the driver's */
	assert_int_equal(read(fd[0], &byte, 1), 1);
	assert_int_equal(byte, 'T');
	close(fd[0]);
	close(fd[1]);
}

/* Silence, and a hang-up, after each byte of a good answer */
static void test_every_byte(void **state)
{
	struct client_error err;
	uint8_t data[128];
	size_t len = answer(data, 4096, 1), i;
	int fd[2];

	(void)state;
	for (i = 0; i < len; i++) {
		int64_t start = client_clock_ms();

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
		assert_int_equal(write(fd[1], data, i), i);
		assert_int_equal(run(fd[0], 10, &err), -1);
		assert_true(client_clock_ms() - start >= 10);
		assert_int_equal(err.code, CLIENT_UNREACHABLE);
		assert_non_null(strstr(err.text, "in time"));
		close(fd[0]);
		close(fd[1]);

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
		assert_int_equal(write(fd[1], data, i), i);
		close(fd[1]);
		assert_int_equal(run(fd[0], 1000, &err), -1);
		assert_true(err.code == CLIENT_REFUSED || err.code == CLIENT_UNREACHABLE);
		close(fd[0]);
	}
}

static int listener(struct client_address *address, int backlog)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&address->storage;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	memset(address, 0, sizeof(*address));
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address->len = sizeof(*in);
	assert_int_equal(bind(fd, &address->sa, address->len), 0);
	assert_int_equal(getsockname(fd, &address->sa, &address->len), 0);
	if (backlog >= 0)
		assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static void test_connect(void **state)
{
	struct client_address address;
	struct client_error err;
	int server, fd;

	(void)state;
	server = listener(&address, 1);
	fd = client_session_connect(&address, client_clock_ms() + 1000, &err);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	close(server);

	server = listener(&address, -1); /* bound, so that nobody else listens there */
	assert_int_equal(client_session_connect(&address, client_clock_ms() + 1000, &err), -1);
	assert_int_equal(err.code, CLIENT_UNREACHABLE);
	assert_non_null(strstr(err.text, "refused"));
	close(server);
}

/* A listener that never accepts: its queue is full, a further SYN gets no answer */
static void test_connect_deadline(void **state)
{
	struct client_address address;
	struct client_error err;
	int64_t start;
	int server, fd[8], n = 0;

	(void)state;
	server = listener(&address, 0);
	do {
		start = client_clock_ms();
		fd[n] = client_session_connect(&address, start + 100, &err);
	} while (fd[n] >= 0 && ++n < 8);
	assert_true(n < 8);
	assert_true(client_clock_ms() - start >= 100 && client_clock_ms() - start < 3000);
	assert_non_null(strstr(err.text, "timed out"));
	while (n)
		close(fd[--n]);
	close(server);
}

static void test_geometry(void **state)
{
	static const uint16_t multi = NBD_WIRE_FLAG_HAS_FLAGS | NBD_WIRE_FLAG_CAN_MULTI_CONN;
	struct client_export export = { .known = true, .size = 10000, .flags = multi };
	struct client_args args = { .links = 1 };
	struct client_handover handover;
	struct client_error err;

	(void)state;
	assert_int_equal(client_handover_geometry(&args, &export, 4096, &handover, &err), 0);
	assert_int_equal(handover.block_size, 512);
	assert_int_equal(handover.size, 9728);
	assert_int_equal(handover.flags, multi);

	export.has_block_size = true;
	export.min_block = 1;
	assert_int_equal(client_handover_geometry(&args, &export, 4096, &handover, &err), 0);
	assert_int_equal(handover.block_size, 512);
	export.min_block = 4096;
	args.read_only = true;
	assert_int_equal(client_handover_geometry(&args, &export, 4096, &handover, &err), 0);
	assert_int_equal(handover.block_size, 4096);
	assert_int_equal(handover.size, 8192);
	assert_int_equal(handover.flags, multi | NBD_WIRE_FLAG_READ_ONLY);

	args.block_size = 1024;
	assert_int_equal(client_handover_geometry(&args, &export, 4096, &handover, &err), -1);
	assert_non_null(strstr(err.text, "less than the server's minimum 4096"));
	export.min_block = 8192;
	args.block_size = 0;
	assert_int_equal(client_handover_geometry(&args, &export, 4096, &handover, &err), -1);
	assert_non_null(strstr(err.text, "more than the kernel's page"));
	export.min_block = 512;
	args.size = 10240;
	assert_int_equal(client_handover_geometry(&args, &export, 4096, &handover, &err), -1);
	assert_non_null(strstr(err.text, "more than the export has"));
	args.size = 5120;
	assert_int_equal(client_handover_geometry(&args, &export, 4096, &handover, &err), 0);
	assert_int_equal(handover.size, 5120);
	args.size = 0;
	export.size = 100;
	assert_int_equal(client_handover_geometry(&args, &export, 4096, &handover, &err), -1);
	assert_non_null(strstr(err.text, "less than one block"));
	export.size = 10000;
	export.flags = NBD_WIRE_FLAG_HAS_FLAGS;
	args.links = 2;
	assert_int_equal(client_handover_geometry(&args, &export, 4096, &handover, &err), -1);
	assert_non_null(strstr(err.text, "use -connections 1"));
	assert_int_equal(err.code, CLIENT_REFUSED);
}

static int tear_down(void **state)
{
	(void)state;
	client_nego_free(&nego);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_leftover), cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_connect),	 cmocka_unit_test(test_connect_deadline),
		cmocka_unit_test(test_geometry),
	};

	return cmocka_run_group_tests(tests, NULL, tear_down);
}
