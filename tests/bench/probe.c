// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What tests/bench/server measures and fio cannot: the latency of one request at
 * a time, beside that of a bare echo of the same sizes, how fast clients come and
 * go, and what idle ones cost.  One line of JSON on standard output.
 *
 * An ADDRESS is a port on the loopback interface or the path of a Unix socket; an
 * export is named "x".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/nbd-wire.h"

#define BLOCK	    4096
/* Not the whole file: it is about the way to the data, and not about the cache */
#define SPAN	    (64u << 20)
#define SAMPLES_MAX (8u << 20)
#define TIMEOUT_S   20

static _Noreturn void die(const char *format, ...)
{
	va_list ap;

	fputs("probe: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static socklen_t parse(const char *text, struct sockaddr_storage *addr)
{
	struct sockaddr_in *in = (struct sockaddr_in *)addr;
	struct sockaddr_un *un = (struct sockaddr_un *)addr;

	memset(addr, 0, sizeof(*addr));
	if (*text == '/') {
		if (strlen(text) >= sizeof(un->sun_path))
			die("%s: too long for a socket", text);
		un->sun_family = AF_UNIX;
		strcpy(un->sun_path, text);
		return sizeof(*un);
	}
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)atoi(text));
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return sizeof(*in);
}

static void tune(int fd)
{
	const struct timeval timeout = { .tv_sec = TIMEOUT_S };
	int one = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
}

static int dial(const char *address)
{
	struct sockaddr_storage addr;
	socklen_t len = parse(address, &addr);
	int fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, len) < 0)
		die("%s: cannot connect: %s", address, strerror(errno));
	tune(fd);
	return fd;
}

/* false at the end of the stream */
static bool get(int fd, void *buf, size_t len)
{
	ssize_t n;

	while (len) {
		n = recv(fd, buf, len, MSG_WAITALL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			die("cannot receive: %s", strerror(errno));
		if (!n)
			return false;
		buf = (uint8_t *)buf + n;
		len -= (size_t)n;
	}
	return true;
}

static void put(int fd, const void *buf, size_t len)
{
	ssize_t n;

	while (len) {
		n = send(fd, buf, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			die("cannot send: %s", strerror(errno));
		buf = (const uint8_t *)buf + n;
		len -= (size_t)n;
	}
}

/* The oldest way into an export, which every server has */
static uint64_t handshake(int fd)
{
	uint8_t buf[NBD_WIRE_GREETING_LEN + NBD_WIRE_EXPORT_ZEROES], *p = buf;
	bool zeroes;

	if (!get(fd, buf, NBD_WIRE_GREETING_LEN))
		die("the server hangs up instead of a greeting");
	zeroes = !(nbd_get_be16(buf + 16) & NBD_WIRE_NO_ZEROES);
	nbd_put_be32(p, nbd_get_be16(buf + 16) & (NBD_WIRE_FIXED_NEWSTYLE | NBD_WIRE_NO_ZEROES));
	p += NBD_WIRE_CLIENT_FLAGS_LEN;
	nbd_put_be64(p, NBD_WIRE_OPTION_MAGIC);
	nbd_put_be32(p + 8, NBD_WIRE_OPT_EXPORT_NAME);
	nbd_put_be32(p + 12, 1);
	p += NBD_WIRE_OPTION_LEN;
	*p++ = 'x';
	put(fd, buf, (size_t)(p - buf));
	if (!get(fd, buf, NBD_WIRE_EXPORT_REPLY_LEN + (zeroes ? NBD_WIRE_EXPORT_ZEROES : 0)))
		die("the server does not give the export x");
	return nbd_get_be64(buf);
}

static void header(uint8_t *out, uint16_t type, uint64_t offset, uint32_t len)
{
	memset(out, 0, NBD_WIRE_REQUEST_LEN);
	nbd_put_be32(out, NBD_WIRE_REQUEST_MAGIC);
	nbd_put_be16(out + 6, type);
	nbd_put_be64(out + 16, offset);
	nbd_put_be32(out + 24, len);
}

static int in_order(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void latency(const char *address, bool echo, bool reads, unsigned int seconds)
{
	uint8_t out[NBD_WIRE_REQUEST_LEN + BLOCK], in[NBD_WIRE_SIMPLE_REPLY_LEN + BLOCK];
	size_t out_len = reads ? NBD_WIRE_REQUEST_LEN : sizeof(out);
	size_t in_len = reads ? sizeof(in) : NBD_WIRE_SIMPLE_REPLY_LEN;
	uint32_t *samples = malloc(SAMPLES_MAX * sizeof(*samples)), n = 0;
	uint64_t size = SPAN, begun, end, before, after, sum = 0;
	int fd = dial(address);

	if (!samples)
		die("no memory for samples");
	if (!echo)
		size = handshake(fd);
	if (size > SPAN)
		size = SPAN;
	if (size < BLOCK)
		die("export x is shorter than a block");
	srand(1);
	memset(out, 0x5a, sizeof(out));
	begun = now_ns();
	/* The first tenth warms up */
	end = begun + seconds * 1000000000ull;
	for (after = begun; after < end && n < SAMPLES_MAX;) {
		header(out, reads ? NBD_WIRE_CMD_READ : NBD_WIRE_CMD_WRITE,
		       (uint64_t)rand() % (size / BLOCK) * BLOCK, BLOCK);
		before = now_ns();
		put(fd, out, out_len);
		if (!get(fd, in, in_len))
			die("%s: hung up", address);
		after = now_ns();
		if (nbd_get_be32(in) != NBD_WIRE_SIMPLE_REPLY_MAGIC || nbd_get_be32(in + 4))
			die("%s: not a good reply", address);
		if (after - begun < (end - begun) / 10)
			continue;
		samples[n++] = after - before < UINT32_MAX ? (uint32_t)(after - before) :
							     UINT32_MAX;
		sum += after - before;
	}
	if (!n)
		die("%s: nothing measured", address);
	qsort(samples, n, sizeof(*samples), in_order);
	printf("{\"requests\": %u, \"mean_us\": %.2f, \"p50_us\": %.2f, \"p99_us\": %.2f}\n", n,
	       (double)sum / n / 1000, samples[n / 2] / 1000.0,
	       samples[(uint64_t)n * 99 / 100] / 1000.0);
	free(samples);
	close(fd);
}

static void setup(const char *address, unsigned int seconds)
{
	uint64_t begun = now_ns(), took;
	uint8_t out[NBD_WIRE_REQUEST_LEN];
	unsigned int n = 0;
	char c;
	int fd;

	header(out, NBD_WIRE_CMD_DISC, 0, 0);
	do {
		fd = dial(address);
		handshake(fd);
		put(fd, out, sizeof(out));
		/* Until the server is done with it, or the next one overtakes it */
		shutdown(fd, SHUT_WR);
		while (recv(fd, &c, 1, 0) > 0)
			;
		close(fd);
		n++;
		took = now_ns() - begun;
	} while (took < seconds * 1000000000ull);
	printf("{\"connections\": %u, \"per_s\": %.1f}\n", n, n * 1e9 / (double)took);
}

static void idle(const char *address, unsigned int n)
{
	struct rlimit limit;
	unsigned int i;
	char c;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("getrlimit: %s", strerror(errno));
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < n + 16)
		die("%u connections: no more than %llu files may be open; raise ulimit -n", n,
		    (unsigned long long)limit.rlim_cur);
	for (i = 0; i < n; i++)
		handshake(dial(address));
	printf("{\"connections\": %u}\n", n);
	fflush(stdout);
	/* They are there until standard input ends */
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
}

static void *answer(void *arg)
{
	uint8_t in[NBD_WIRE_REQUEST_LEN + BLOCK], out[NBD_WIRE_SIMPLE_REPLY_LEN + BLOCK];
	int fd = (int)(intptr_t)arg;
	bool reads;

	memset(out, 0, sizeof(out));
	nbd_put_be32(out, NBD_WIRE_SIMPLE_REPLY_MAGIC);
	while (get(fd, in, NBD_WIRE_REQUEST_LEN)) {
		reads = nbd_get_be16(in + 6) == NBD_WIRE_CMD_READ;
		if (!reads && !get(fd, in + NBD_WIRE_REQUEST_LEN, BLOCK))
			break;
		put(fd, out, reads ? sizeof(out) : NBD_WIRE_SIMPLE_REPLY_LEN);
	}
	close(fd);
	return NULL;
}

static void echo_server(const char *address)
{
	struct sockaddr_storage addr;
	socklen_t len = parse(address, &addr);
	int fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, client;
	pthread_t thread;

	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 16) < 0)
		die("%s: cannot listen: %s", address, strerror(errno));
	for (;;) {
		client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (client < 0)
			die("cannot accept: %s", strerror(errno));
		tune(client);
		if (pthread_create(&thread, NULL, answer, (void *)(intptr_t)client))
			die("no thread");
		pthread_detach(thread);
	}
}

int main(int argc, char *argv[])
{
	const char *what = argc > 2 ? argv[1] : "", *address = argc > 2 ? argv[2] : "";
	bool echo = !strcmp(what, "echo-latency");

	if (argc == 3 && !strcmp(what, "echo"))
		echo_server(address);
	else if (argc == 5 && (echo || !strcmp(what, "latency")) &&
		 (!strcmp(argv[3], "read") || !strcmp(argv[3], "write")) && atoi(argv[4]) > 0)
		latency(address, echo, *argv[3] == 'r', (unsigned int)atoi(argv[4]));
	else if (argc == 4 && !strcmp(what, "setup") && atoi(argv[3]) > 0)
		setup(address, (unsigned int)atoi(argv[3]));
	else if (argc == 4 && !strcmp(what, "idle") && atoi(argv[3]) > 0)
		idle(address, (unsigned int)atoi(argv[3]));
	else
		die("usage: probe echo ADDRESS | latency|echo-latency ADDRESS read|write SECONDS | "
		    "setup ADDRESS SECONDS | idle ADDRESS N");
	return 0;
}
