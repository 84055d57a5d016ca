// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * netem: a bad wire between a guest and its tap device.
 *
 * It becomes QEMU, with one end of a socket pair for its network card, and
 * leaves a child behind that carries frames between the other end and the tap
 * device: losing, delaying, swapping and doubling them as a line in a FIFO
 * says.  Losses follow from a seed, so that a run can be repeated, and no kernel
 * needs sch_netem for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX  66000
#define HELD_MAX   4096 /* frames under way; more are lost, as on any wire */
#define REORDER_NS 4000000ull
#define SOCKET_BUF (8 << 20)

enum { TO_GUEST, TO_HOST };

struct frame {
	uint64_t due_ns;
	uint64_t order; /* of arrival, for frames due at the same time */
	int to;
	size_t len;
	unsigned char *data;
};

struct wire {
	double loss, duplicate, reorder; /* per cent of the frames, each way */
	double delay_ms;		 /* there and back */
	bool blackhole;
	uint64_t frames, lost, doubled, reordered, overflowed; /* since the last line */
};

static struct wire wire;
static struct frame *held[HELD_MAX]; /* a heap, the next one due first */
static unsigned int held_count;
static uint64_t rng;
static int out_fd[2]; /* by direction */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* xorshift64*; true for so many per cent of the calls */
static bool chance(double percent)
{
	if (percent <= 0)
		return false;
	rng ^= rng >> 12;
	rng ^= rng << 25;
	rng ^= rng >> 27;
	return (double)((rng * 0x2545f4914f6cdd1dull) >> 11) / 9007199254740992.0 * 100 < percent;
}

/* A full queue loses the frame: waiting would tie the two directions together */
static void deliver(int to, const void *data, size_t len)
{
	if (write(out_fd[to], data, len) < 0)
		wire.overflowed++;
}

static bool before(const struct frame *a, const struct frame *b)
{
	return a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->order < b->order);
}

static void exchange(unsigned int a, unsigned int b)
{
	struct frame *f = held[a];

	held[a] = held[b];
	held[b] = f;
}

static void hold(int to, const void *data, size_t len, uint64_t due_ns)
{
	static uint64_t order;
	struct frame *f;

	if (held_count == HELD_MAX) {
		wire.overflowed++;
		return;
	}
	f = malloc(sizeof(*f) + len);
	if (!f) {
		wire.overflowed++;
		return;
	}
	*f = (struct frame){ due_ns, order++, to, len, (unsigned char *)(f + 1) };
	memcpy(f->data, data, len);
	held[held_count] = f;
	for (unsigned int i = held_count++; i && before(held[i], held[(i - 1) / 2]);
	     i = (i - 1) / 2)
		exchange(i, (i - 1) / 2);
}

static void release_first(void)
{
	struct frame *f = held[0];

	deliver(f->to, f->data, f->len);
	free(f);
	held[0] = held[--held_count];
	for (unsigned int i = 0;;) {
		unsigned int least = i;

		for (unsigned int c = 2 * i + 1; c <= 2 * i + 2; c++)
			if (c < held_count && before(held[c], held[least]))
				least = c;
		if (least == i)
			return;
		exchange(i, least);
		i = least;
	}
}

static void carry(int to, const void *data, size_t len)
{
	uint64_t delay = (uint64_t)(wire.delay_ms * 500000);

	wire.frames++;
	if (wire.blackhole || chance(wire.loss)) {
		wire.lost++;
		return;
	}
	if (chance(wire.reorder)) {
		wire.reordered++;
		delay += REORDER_NS;
	}
	for (int copies = chance(wire.duplicate) ? 2 : 1; copies; copies--) {
		wire.doubled += copies == 2;
		/* Behind what is still under way the same way, unless there is nothing */
		if (delay || held_count)
			hold(to, data, len, now_ns() + delay);
		else
			deliver(to, data, len);
	}
}

static void tell(const char *state)
{
	printf("%s: frames=%llu lost=%llu doubled=%llu reordered=%llu overflowed=%llu\n", state,
	       (unsigned long long)wire.frames, (unsigned long long)wire.lost,
	       (unsigned long long)wire.doubled, (unsigned long long)wire.reordered,
	       (unsigned long long)wire.overflowed);
}

/* `loss 5 delay 20`: what is not named is off.  The line before is accounted for. */
static void command(char *line)
{
	static char state[256] = "clear";
	struct wire new = { 0 };
	char *save, *word, copy[sizeof(state)];

	snprintf(copy, sizeof(copy), "%s", line);
	for (word = strtok_r(line, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		double *value = !strcmp(word, "loss")	   ? &new.loss :
				!strcmp(word, "delay")	   ? &new.delay_ms :
				!strcmp(word, "reorder")   ? &new.reorder :
				!strcmp(word, "duplicate") ? &new.duplicate :
							     NULL;

		if (value) {
			word = strtok_r(NULL, " ", &save);
			*value = word ? strtod(word, NULL) : 0;
		} else if (!strcmp(word, "blackhole")) {
			new.blackhole = true;
		} else if (strcmp(word, "clear")) {
			printf("unknown word '%s': loss P, delay MS, reorder P, duplicate P, blackhole or clear\n",
			       word);
			return;
		}
	}
	tell(state);
	memcpy(state, copy, sizeof(state));
	wire = new;
}

/* All frames that wait in fd; the sleep was long enough */
static void drain(int fd, int to)
{
	static unsigned char buf[FRAME_MAX];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		carry(to, buf, (size_t)n);
}

static void listen_to(int fifo)
{
	char buf[256], *save, *line;
	ssize_t n = read(fifo, buf, sizeof(buf) - 1);

	buf[n > 0 ? n : 0] = 0;
	for (line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		command(line);
}

static void relay(int guest, int tap, int fifo)
{
	struct pollfd p[] = { { guest, POLLIN, 0 }, { tap, POLLIN, 0 }, { fifo, POLLIN, 0 } };
	out_fd[TO_GUEST] = guest;
	out_fd[TO_HOST] = tap;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (;;) {
		uint64_t now = now_ns();
		struct timespec ts = { 1, 0 };

		while (held_count && held[0]->due_ns <= now)
			release_first();
		if (held_count) {
			uint64_t ns = held[0]->due_ns - now;

			ts.tv_sec = (time_t)(ns / 1000000000);
			ts.tv_nsec = (long)(ns % 1000000000);
		}
		if (ppoll(p, 3, &ts, NULL) < 0 && errno != EINTR)
			exit(1);
		if (p[0].revents)
			drain(guest, TO_HOST);
		/* A tap device that is down says so all the time */
		if (p[1].revents & POLLIN)
			drain(tap, TO_GUEST);
		else if (p[1].revents)
			usleep(10000);
		if (p[2].revents)
			listen_to(fifo);
	}
}

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "netem: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_tap(const char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	must(fd >= 0, "/dev/net/tun");
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	must(!ioctl(fd, TUNSETIFF, &ifr), name);
	/* What QEMU may have left: whole frames are wanted, with their checksums */
	must(!ioctl(fd, TUNSETOFFLOAD, 0), name);
	return fd;
}

int main(int argc, char **argv)
{
	int pair[2], tap, fifo, size = SOCKET_BUF;
	pid_t parent = getpid();

	if (argc < 6) {
		fputs("usage: netem TAP FIFO SEED FD COMMAND...\n"
		      "Run COMMAND (QEMU) with a socket for its network card as descriptor FD, and\n"
		      "carry frames between it and the tap device.  Lines in FIFO: `clear`,\n"
		      "`blackhole`, or any of `loss P`, `delay MS`, `reorder P`, `duplicate P`;\n"
		      "each line prints what became of the frames before it.\n",
		      stderr);
		return 2;
	}
	rng = strtoull(argv[3], NULL, 10) * 0x9e3779b97f4a7c15ull + 1;
	tap = open_tap(argv[1]);
	fifo = open(argv[2], O_RDWR | O_CLOEXEC);
	must(fifo >= 0, argv[2]);
	must(!socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), "socketpair");
	for (int i = 0; i < 2; i++) {
		setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
		must(!fcntl(pair[i], F_SETFL, O_NONBLOCK), "socket pair");
	}
	switch (fork()) {
	case -1:
		must(false, "fork");
		break;
	case 0:
		/* The wire goes when the guest goes */
		must(!prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl");
		if (getppid() != parent)
			return 0;
		close(pair[0]);
		relay(pair[1], tap, fifo);
	}
	must(dup2(pair[0], atoi(argv[4])) >= 0, "dup2");
	close(pair[0]);
	close(pair[1]);
	execvp(argv[5], argv + 5);
	must(false, argv[5]);
}
