// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * flood: traffic that is in the way.
 *
 *   sink   accept TCP connections with large receive buffers, never read one,
 *          and tell once a second how much of tcp_mem that holds
 *   fill   connect to a sink so many times and send as much as goes
 *   udp    so many packets a second to a port, or to several in turn
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_SOCKETS 1000
#define MAX_PACKET  8192

struct options {
	unsigned int sockets; /* connections; for udp, ports in a row */
	unsigned int buffer;  /* receive buffer of a connection */
	unsigned int rate;    /* packets a second */
	unsigned int size;    /* of a packet */
	unsigned int seconds; /* 0: until told to end */
};

static volatile sig_atomic_t told_to_end;

static void on_term(int sig)
{
	(void)sig;
	told_to_end = 1;
}

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void pause_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

static struct sockaddr_in address(const char *host, const char *port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };

	errno = EINVAL;
	must(inet_pton(AF_INET, host, &sin.sin_addr) == 1, host);
	return sin;
}

/* Pages of TCP memory in use, and the limit */
static long tcp_pages(int sockstat)
{
	char buf[1024], *tcp, *mem;
	ssize_t n = pread(sockstat, buf, sizeof(buf) - 1, 0);

	buf[n > 0 ? n : 0] = 0;
	tcp = strstr(buf, "TCP:");
	mem = tcp ? strstr(tcp, " mem ") : NULL;
	return mem ? atol(mem + 5) : -1;
}

static long tcp_limit(void)
{
	long low = 0, pressure = 0, high = 0;
	FILE *f = fopen("/proc/sys/net/ipv4/tcp_mem", "r");

	must(f && fscanf(f, "%ld %ld %ld", &low, &pressure, &high) == 3, "tcp_mem");
	fclose(f);
	return high;
}

static int sink(const struct options *o, const char *port)
{
	struct sockaddr_in sin = address("0.0.0.0", port);
	int one = 1, size = (int)o->buffer, listener = socket(AF_INET, SOCK_STREAM, 0);
	int sockstat = open("/proc/net/sockstat", O_RDONLY);
	long limit = tcp_limit();
	unsigned int accepted = 0;

	must(listener >= 0 && sockstat >= 0, "socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	must(!setsockopt(listener, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)), "SO_RCVBUF");
	must(!bind(listener, (struct sockaddr *)&sin, sizeof(sin)), "bind");
	must(!listen(listener, (int)o->sockets), "listen");
	must(!fcntl(listener, F_SETFL, O_NONBLOCK), "listen");
	/* It must go on telling while memory is short */
	must(!mlockall(MCL_CURRENT | MCL_FUTURE), "mlockall");
	while (!told_to_end) {
		while (accepted < o->sockets && accept(listener, NULL, NULL) >= 0)
			accepted++;
		printf("# beat sink connections=%u tcp_pages=%ld limit=%ld\n", accepted,
		       tcp_pages(sockstat), limit);
		pause_ms(1000);
	}
	return 0;
}

static int fill(const struct options *o, const char *host, const char *port)
{
	struct sockaddr_in sin = address(host, port);
	static char junk[65536];
	static int fd[MAX_SOCKETS];
	uint64_t sent = 0, told = now_ns();

	for (unsigned int i = 0; i < o->sockets; i++) {
		fd[i] = socket(AF_INET, SOCK_STREAM, 0);
		must(fd[i] >= 0, "socket");
		must(!fcntl(fd[i], F_SETFL, O_NONBLOCK), "socket");
		must(!connect(fd[i], (struct sockaddr *)&sin, sizeof(sin)) || errno == EINPROGRESS,
		     "connect");
	}
	while (!told_to_end) {
		for (unsigned int i = 0; i < o->sockets; i++) {
			ssize_t n = send(fd[i], junk, sizeof(junk), MSG_NOSIGNAL);

			sent += n > 0 ? (uint64_t)n : 0;
		}
		if (now_ns() - told > 1000000000ull) {
			told = now_ns();
			printf("# fill bytes=%llu\n", (unsigned long long)sent);
		}
		pause_ms(20);
	}
	return 0;
}

static int udp(const struct options *o, const char *host, const char *port)
{
	struct sockaddr_in sin = address(host, port);
	static char junk[MAX_PACKET];
	uint64_t start = now_ns(), sent = 0, failed = 0, ns = 0;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	must(fd >= 0, "socket");
	while (!told_to_end && (!o->seconds || ns < o->seconds * 1000000000ull)) {
		ns = now_ns() - start;
		for (uint64_t due = ns / 1000 * o->rate / 1000000; sent < due; sent++) {
			struct sockaddr_in to = sin;

			to.sin_port = htons((uint16_t)(atoi(port) + (int)(sent % o->sockets)));
			if (sendto(fd, junk, o->size, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
				failed++;
		}
		pause_ms(1);
	}
	printf("# flood packets=%llu failed=%llu ms=%llu\n", (unsigned long long)sent,
	       (unsigned long long)failed, (unsigned long long)(ns / 1000000));
	return 0;
}

static int usage(void)
{
	fputs("usage: flood sink [-n CONNECTIONS] [-b BYTES] PORT\n"
	      "       flood fill [-n CONNECTIONS] ADDRESS PORT\n"
	      "       flood udp [-n PORTS] [-p PACKETS-PER-SECOND] [-s BYTES] [-t SECONDS] ADDRESS PORT\n"
	      "Until SIGTERM, or -t SECONDS.  Defaults: 300 connections with receive buffers of\n"
	      "4 MiB; one port, 50000 packets a second, 1000 bytes each.\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	struct options o = { 0, 4 << 20, 50000, 1000, 0 };
	struct rlimit files = { MAX_SOCKETS + 100, MAX_SOCKETS + 100 };
	struct sigaction sa = { .sa_handler = on_term };
	const char *mode = argc > 1 ? argv[1] : "";
	int c;

	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGTERM, &sa, NULL);
	optind = 2;
	while ((c = getopt(argc, argv, "n:b:p:s:t:")) != -1) {
		unsigned int *to = c == 'n' ? &o.sockets :
				   c == 'b' ? &o.buffer :
				   c == 'p' ? &o.rate :
				   c == 's' ? &o.size :
				   c == 't' ? &o.seconds :
					      NULL;

		if (!to)
			return usage();
		*to = (unsigned int)atoi(optarg);
	}
	if (!o.sockets)
		o.sockets = strcmp(mode, "udp") ? 300 : 1;
	if (o.sockets > MAX_SOCKETS || o.size > MAX_PACKET)
		return usage();
	setrlimit(RLIMIT_NOFILE, &files);
	if (!strcmp(mode, "sink") && argc == optind + 1)
		return sink(&o, argv[optind]);
	if (!strcmp(mode, "fill") && argc == optind + 2)
		return fill(&o, argv[optind], argv[optind + 1]);
	if (!strcmp(mode, "udp") && argc == optind + 2)
		return udp(&o, argv[optind], argv[optind + 1]);
	return usage();
}
