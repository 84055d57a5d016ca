// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * holdlevels: have the kernel hold free memory at one level after the other.
 *
 * For kernels with the test patch and the network patches.  At the lower levels
 * nobody gets a page who is not entitled to the reserve, so all that is needed
 * is opened, read once and locked beforehand.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LEVEL	"/sys/kernel/debug/mem_entitlement/reserve_level"
#define RESERVE "/proc/mem_reserve"

static int level_fd, reserve_fd;

static void must(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(2);
}

static void hold(unsigned long kb)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%lu", kb);

	/* Such a file has no position */
	must(write(level_fd, text, (size_t)n) == n, LEVEL);
}

/* A line of RESERVE, kB */
static unsigned long value(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoul(at + strlen(name), NULL, 10) : 0;
}

static void report(const char *when, unsigned long kb)
{
	char text[1024];
	ssize_t n = pread(reserve_fd, text, sizeof(text) - 1, 0);

	must(n > 0, RESERVE);
	text[n] = '\0';
	printf("# level kb=%lu %s registered=%lu floor=%lu used=%lu max=%lu\n", kb, when,
	       value(text, "Registered:"), value(text, "Floor:"), value(text, "\nUsed:"),
	       value(text, "MaxUsed:"));
}

static int usage(FILE *f, int ret)
{
	fputs("usage: holdlevels [-t SECONDS] LEVEL_KB...\n"
	      "Hold free memory at each level for -t seconds (10), with a line about the reserve at\n"
	      "its begin and its end, and give all of it back.\n"
	      "Exit status: 0 done, 2 cannot run.\n",
	      f);
	return ret;
}

int main(int argc, char **argv)
{
	unsigned int seconds = 10;
	int c, i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((c = getopt(argc, argv, "t:h")) != -1) {
		if (c != 't')
			return usage(c == 'h' ? stdout : stderr, c == 'h' ? 0 : 2);
		seconds = (unsigned int)atoi(optarg);
	}
	if (optind == argc || !seconds)
		return usage(stderr, 2);
	level_fd = open(LEVEL, O_WRONLY | O_CLOEXEC);
	must(level_fd >= 0, LEVEL);
	reserve_fd = open(RESERVE, O_RDONLY | O_CLOEXEC);
	must(reserve_fd >= 0, RESERVE);
	must(!mlockall(MCL_CURRENT | MCL_FUTURE), "mlockall");
	report("ready", 0);
	for (i = optind; i < argc; i++) {
		unsigned long kb = strtoul(argv[i], NULL, 10);

		hold(kb);
		/* Until it is there */
		sleep(1);
		report("begin", kb);
		sleep(seconds);
		report("end", kb);
	}
	hold(0);
	report("over", 0);
	return 0;
}
