// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * udphoard: UDP sockets that nobody reads, and the packets to fill them.
 *
 * What arrives for a socket that is not read stays in memory up to its receive
 * buffer; packets beyond that still cost memory on their way to being dropped.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FIRST_PORT 20000
#define MAX_PORTS  1000
#define BURST	   16
#define PAYLOAD	   1400

struct options {
	unsigned int ports, rate, seconds;
	const char *target;
};

static struct sockaddr_in port_of(in_addr_t address, unsigned int i)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_port = htons((uint16_t)(FIRST_PORT + i)),
				   .sin_addr.s_addr = address };

	return sin;
}

/* Open the sockets, say so, and never read */
static int hoard(const struct options *o)
{
	for (unsigned int i = 0; i < o->ports; i++) {
		struct sockaddr_in sin = port_of(htonl(INADDR_ANY), i);
		int fd = socket(AF_INET, SOCK_DGRAM, 0);

		if (fd < 0 || bind(fd, (struct sockaddr *)&sin, sizeof(sin))) {
			fprintf(stderr, "udphoard: port %u: %s\n", FIRST_PORT + i, strerror(errno));
			return 2;
		}
	}
	if (mlockall(MCL_CURRENT)) {
		fprintf(stderr, "udphoard: cannot lock its memory: %s\n", strerror(errno));
		return 2;
	}
	printf("# udphoard: %u sockets\n", o->ports);
	fflush(stdout);
	sleep(o->seconds);
	return 0;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* At the rate on average, in bursts as small as the timer allows */
static int flood(const struct options *o)
{
	static const char packet[PAYLOAD];
	unsigned long sent = 0, dropped = 0;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	double start = now(), t;

	if (fd < 0) {
		fprintf(stderr, "udphoard: %s\n", strerror(errno));
		return 2;
	}
	while ((t = now() - start) < o->seconds) {
		if ((double)(sent + dropped) > t * o->rate) {
			usleep(500);
			continue;
		}
		for (unsigned int i = 0; i < BURST; i++) {
			struct sockaddr_in sin =
				port_of(inet_addr(o->target), (unsigned int)(sent % o->ports));

			if (sendto(fd, packet, sizeof(packet), MSG_DONTWAIT,
				   (struct sockaddr *)&sin, sizeof(sin)) == sizeof(packet))
				sent++;
			else
				dropped++;
		}
	}
	printf("# metric udp_sent_per_s=%lu\n", sent / o->seconds);
	return sent < 1000;
}

static int usage(FILE *f, int ret)
{
	fputs("usage: udphoard [-n PORTS] [-t SECONDS]\n"
	      "       udphoard [-n PORTS] [-t SECONDS] [-r RATE] ADDRESS\n"
	      "Bind UDP ports from 20000 on (-n, 64) and read nothing for -t seconds (600); or send\n"
	      "RATE (20000) packets of 1400 bytes a second to those ports of ADDRESS for -t seconds.\n"
	      "Exit status: 0 done, 1 next to nothing could be sent, 2 usage or set-up.\n",
	      f);
	return ret;
}

int main(int argc, char **argv)
{
	struct options o = { .ports = 64, .rate = 20000, .seconds = 600 };
	int c;

	while ((c = getopt(argc, argv, "n:t:r:h")) != -1) {
		if (c == 'n')
			o.ports = (unsigned int)atoi(optarg);
		else if (c == 't')
			o.seconds = (unsigned int)atoi(optarg);
		else if (c == 'r')
			o.rate = (unsigned int)atoi(optarg);
		else
			return usage(c == 'h' ? stdout : stderr, c == 'h' ? 0 : 2);
	}
	if (argc > optind + 1 || !o.ports || o.ports > MAX_PORTS || !o.seconds || !o.rate)
		return usage(stderr, 2);
	if (optind == argc)
		return hoard(&o);
	o.target = argv[optind];
	if (inet_addr(o.target) == INADDR_NONE)
		return usage(stderr, 2);
	return flood(&o);
}
