// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * forkstorm: a fork bomb of bounded size.
 *
 * A number of lines of descent: each process writes to some memory of its own,
 * makes its successor and ends, so that processes come and go as fast as the
 * machine can make them, but never more at a time than there are lines and
 * their successors.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct shared {
	_Atomic bool stop;
	_Atomic unsigned long forks;
	_Atomic unsigned long refused; /* fork failed: tried again */
};

static struct shared *shared;

/* One process of a line after the other, each with memory of its own */
static void descend(size_t bytes)
{
	char *mem;

	while (!shared->stop) {
		pid_t child;

		mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (size_t i = 0; mem != MAP_FAILED && i < bytes; i += 4096)
			mem[i] = (char)i;
		while ((child = fork()) < 0 && !shared->stop) {
			shared->refused++;
			usleep(10000);
		}
		if (child)
			break;
		shared->forks++;
		if (mem != MAP_FAILED)
			munmap(mem, bytes);
	}
	_exit(0);
}

static int usage(FILE *f, int ret)
{
	fputs("usage: forkstorm [-n LINES] [-k KB] [-t SECONDS]\n"
	      "Processes that fork and end, -n of them at a time (64), each writing -k KB (64),\n"
	      "for -t seconds (30).  Exit status: 0 it went on to the end, 1 it did not, 2 usage.\n",
	      f);
	return ret;
}

int main(int argc, char **argv)
{
	unsigned int lines = 64, kb = 64, seconds = 30;
	time_t end;
	int c;

	while ((c = getopt(argc, argv, "n:k:t:h")) != -1) {
		if (c == 'n')
			lines = (unsigned int)atoi(optarg);
		else if (c == 'k')
			kb = (unsigned int)atoi(optarg);
		else if (c == 't')
			seconds = (unsigned int)atoi(optarg);
		else
			return usage(c == 'h' ? stdout : stderr, c == 'h' ? 0 : 2);
	}
	if (optind != argc || !lines || lines > 1000 || !seconds)
		return usage(stderr, 2);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED || mlockall(MCL_CURRENT)) {
		fprintf(stderr, "forkstorm: cannot lock its memory: %s\n", strerror(errno));
		return 2;
	}
	/* Orphans of the lines come to us, and we wait for them */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	end = time(NULL) + (time_t)seconds;
	for (unsigned int i = 0; i < lines; i++) {
		pid_t pid = fork();

		if (!pid)
			descend(kb * 1024u);
		if (pid < 0)
			shared->refused++;
	}
	while (time(NULL) < end)
		if (waitpid(-1, NULL, WNOHANG) <= 0)
			usleep(1000);
	shared->stop = true;
	while (wait(NULL) > 0 || errno == EINTR)
		;
	printf("# metric forks=%lu\n# metric forks_refused=%lu\n", shared->forks, shared->refused);
	return shared->forks < lines;
}
