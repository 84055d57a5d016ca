// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * memhog: fill several times the memory of the machine and verify it for ever.
 *
 * Every page carries its number, its generation, random-looking words that
 * follow from both, and a checksum.  The generation each page must have is kept
 * in locked memory, so a page that comes back old, from another place or torn
 * is found.  What the program needs to run is locked; only the arena is swapped.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE	     4096u
#define WORDS	     (PAGE / sizeof(uint64_t))
#define MAX_WORKERS  64
#define BUCKETS	     512 /* of latency: 16 steps for each power of two */
#define MAX_REPORTED 5	 /* bad pages described in full */
#define MAX_SIGBUS   50	 /* a worker gives up after so many */
#define MAX_FROZEN   256
#define PULSE_NS     25000000ull /* how often progress is looked for */
#define GOLDEN	     0x9e3779b97f4a7c15ull

enum { W_INDEX, W_GENERATION, W_SUM, W_BODY };

/* What a worker tells the parent: shared and locked */
struct worker {
	_Atomic uint64_t touched; /* pages written or verified */
	_Atomic uint64_t bad;
	_Atomic uint64_t sigbus;
	_Atomic uint64_t majors;       /* major faults */
	_Atomic uint64_t worst_ns;     /* slowest touch of a page */
	_Atomic uint64_t worst_now_ns; /* the same, since the last line */
	_Atomic uint64_t since_ns;     /* when the touch under way began, 0: none */
	_Atomic bool filled;	       /* every page written once */
	uint32_t bucket[BUCKETS];      /* touches that took a major fault */
};

struct control {
	_Atomic bool stop;
	struct worker worker[MAX_WORKERS];
};

struct options {
	unsigned int workers;
	uint64_t bytes; /* all workers together */
	unsigned int seconds;
	unsigned int stall; /* seconds without one page that count as a hang */
	unsigned int every; /* milliseconds between two lines */
	bool random;	    /* no runs in order, so that the load stays the same */
	bool freeze;	    /* stop all other processes once memory is filled */
};

static struct control *control;
static sigjmp_buf sigbus_env;
static volatile sig_atomic_t told_to_end;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	return x;
}

static unsigned int bucket_of(uint64_t us)
{
	unsigned int log, b;

	if (us < 16)
		return (unsigned int)us;
	log = 63 - (unsigned int)__builtin_clzll(us);
	b = (log - 3) * 16 + (unsigned int)((us >> (log - 4)) & 15);
	return b < BUCKETS ? b : BUCKETS - 1;
}

static uint64_t bucket_us(unsigned int b)
{
	unsigned int log;

	if (b < 16)
		return b;
	log = b / 16 + 3;
	return (16ull + b % 16) << (log - 4);
}

static void page_fill(uint64_t *page, uint64_t index, uint64_t generation)
{
	uint64_t x = (index * GOLDEN) ^ (generation + 1) * 0xd1342543de82ef95ull;
	uint64_t sum = index + generation * GOLDEN;

	page[W_INDEX] = index;
	page[W_GENERATION] = generation;
	for (unsigned int i = W_BODY; i < WORDS; i++) {
		x = mix(x + GOLDEN);
		page[i] = x;
		sum = (sum << 1 | sum >> 63) ^ x;
	}
	page[W_SUM] = sum;
}

static bool page_good(const uint64_t *page, uint64_t index, uint64_t generation)
{
	uint64_t sum = index + generation * GOLDEN;

	for (unsigned int i = W_BODY; i < WORDS; i++)
		sum = (sum << 1 | sum >> 63) ^ page[i];
	return page[W_INDEX] == index && page[W_GENERATION] == generation && page[W_SUM] == sum;
}

static void on_term(int sig)
{
	(void)sig;
	told_to_end = 1;
}

static void on_sigbus(int sig)
{
	(void)sig;
	siglongjmp(sigbus_env, 1);
}

struct arena {
	struct worker *w;
	unsigned int id;
	uint64_t first; /* number of its first page among all */
	uint64_t pages;
	uint64_t *mem;
	uint32_t *generation; /* of each page; locked */
	long majors;	      /* so far, from getrusage */
};

/*
 * Bring page i into memory, to read or to write it, and account how long that
 * took.  A page never written must be written here: reading it would only map
 * the zero page, and the wait for memory would go unseen.
 */
static void touch(struct arena *a, uint64_t i, bool write)
{
	volatile uint64_t *page = a->mem + i * WORDS;
	struct rusage ru;
	uint64_t t0 = now_ns(), ns;

	a->w->since_ns = t0;
	if (write)
		page[W_INDEX] = a->first + i;
	else
		(void)page[W_INDEX];
	ns = now_ns() - t0;
	a->w->since_ns = 0;
	if (ns > a->w->worst_ns)
		a->w->worst_ns = ns;
	if (ns > a->w->worst_now_ns)
		a->w->worst_now_ns = ns;
	getrusage(RUSAGE_SELF, &ru);
	if (ru.ru_majflt != a->majors) {
		a->w->majors += (uint64_t)(ru.ru_majflt - a->majors);
		a->majors = ru.ru_majflt;
		a->w->bucket[bucket_of(ns / 1000)]++;
	}
}

static void report_bad(struct arena *a, uint64_t i)
{
	const uint64_t *page = a->mem + i * WORDS;

	if (a->w->bad++ < MAX_REPORTED)
		printf("# bad page: worker %u wants page %llu generation %u, found page %llu generation %llu sum %llx\n",
		       a->id, (unsigned long long)(a->first + i), a->generation[i],
		       (unsigned long long)page[W_INDEX], (unsigned long long)page[W_GENERATION],
		       (unsigned long long)page[W_SUM]);
}

static void verify(struct arena *a, uint64_t i)
{
	touch(a, i, false);
	if (!page_good(a->mem + i * WORDS, a->first + i, a->generation[i])) {
		report_bad(a, i);
		page_fill(a->mem + i * WORDS, a->first + i, a->generation[i]);
	}
	a->w->touched++;
}

static void rewrite(struct arena *a, uint64_t i)
{
	touch(a, i, true);
	page_fill(a->mem + i * WORDS, a->first + i, ++a->generation[i]);
	a->w->touched++;
}

/* The life of a worker once its arena is filled; returns when told to stop */
static void churn(struct arena *a, bool random)
{
	uint64_t x = (a->id + 1) * GOLDEN;

	while (!control->stop) {
		/* random places, one in three written anew */
		for (uint64_t n = a->pages / 4; n && !control->stop; n--) {
			uint64_t i;

			x = mix(x + GOLDEN);
			i = (x >> 16) % a->pages;
			verify(a, i);
			if (x % 3 == 0)
				rewrite(a, i);
		}
		/* the whole in order, one in five written anew */
		for (uint64_t i = 0; i < a->pages && !random && !control->stop; i++) {
			verify(a, i);
			if ((i + x) % 5 == 0)
				rewrite(a, i);
		}
	}
}

static void *map(size_t len, int flags)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		printf("# memhog: mmap of %zu bytes: %s\n", len, strerror(errno));
		exit(2);
	}
	return p;
}

static void work(const struct options *o, unsigned int id)
{
	struct arena a = { .w = &control->worker[id], .id = id };
	struct sigaction sa = { .sa_handler = on_sigbus, .sa_flags = SA_NODEFER };

	a.pages = o->bytes / PAGE / o->workers;
	a.first = id * a.pages;
	a.generation = map(a.pages * sizeof(*a.generation), MAP_PRIVATE);
	if (mlockall(MCL_CURRENT))
		printf("# memhog: mlockall: %s\n", strerror(errno));
	a.mem = map(a.pages * PAGE, MAP_PRIVATE | MAP_NORESERVE);
	madvise(a.mem, a.pages * PAGE, MADV_NOHUGEPAGE);
	for (uint64_t i = 0; i < a.pages && !control->stop; i++) {
		touch(&a, i, true);
		page_fill(a.mem + i * WORDS, a.first + i, 0);
		a.w->touched++;
	}
	a.w->filled = !control->stop;
	/* A page that cannot be read raises SIGBUS; count it and go on elsewhere */
	if (sigsetjmp(sigbus_env, 1)) {
		a.w->since_ns = 0;
		if (++a.w->sigbus >= MAX_SIGBUS)
			_exit(3);
	}
	/* Until here it ends the worker: there was no place to come back to */
	sigaction(SIGBUS, &sa, NULL);
	churn(&a, o->random);
	_exit(0);
}

struct totals {
	uint64_t touched, bad, sigbus, majors, worst_ns, worst_now_ns, stuck_ns;
	unsigned int filled;
};

static void add_up(const struct options *o, struct totals *t)
{
	uint64_t now = now_ns();

	memset(t, 0, sizeof(*t));
	for (unsigned int i = 0; i < o->workers; i++) {
		struct worker *w = &control->worker[i];
		uint64_t since = w->since_ns, fresh = atomic_exchange(&w->worst_now_ns, 0);

		t->touched += w->touched;
		t->bad += w->bad;
		t->sigbus += w->sigbus;
		t->majors += w->majors;
		t->filled += w->filled;
		if (w->worst_ns > t->worst_ns)
			t->worst_ns = w->worst_ns;
		if (fresh > t->worst_now_ns)
			t->worst_now_ns = fresh;
		if (since && since < now && now - since > t->stuck_ns)
			t->stuck_ns = now - since;
	}
	if (t->stuck_ns > t->worst_ns)
		t->worst_ns = t->stuck_ns;
	if (t->stuck_ns > t->worst_now_ns)
		t->worst_now_ns = t->stuck_ns;
}

/* A counter of /proc/vmstat or a kB line of /proc/meminfo, read through an open fd */
static uint64_t proc_value(int fd, const char *name)
{
	static char buf[16384];
	ssize_t n = pread(fd, buf, sizeof(buf) - 1, 0);
	size_t len = strlen(name);

	if (n <= 0)
		return 0;
	buf[n] = 0;
	for (char *p = buf; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (!strncmp(p, name, len) && (p[len] == ' ' || p[len] == ':'))
			return strtoull(p + len + 1, NULL, 10);
	}
	return 0;
}

/*
 * The time is up; but a third of it must pass after the fill, and a machine too
 * slow for that gets three times as long.
 */
static bool over(const struct options *o, unsigned int s, const struct totals *t,
		 unsigned int *filled_at)
{
	siginfo_t ended = { 0 };

	if (!*filled_at && t->filled == o->workers)
		*filled_at = s ? s : 1;
	/* waitpid() knows no WNOWAIT */
	if (told_to_end || s >= 3 * o->seconds ||
	    (!waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) && ended.si_pid))
		return true;
	return s >= o->seconds && *filled_at && s >= *filled_at + o->seconds / 3;
}

/* Progress of all workers together, looked at every PULSE_NS */
struct pulse {
	uint64_t touched;
	uint64_t moved_ns;   /* when it was last seen to grow */
	uint64_t longest_ns; /* without growth, of all */
	uint64_t recent_ns;  /* the same, since the last line */
};

static void pulse_look(const struct options *o, struct pulse *p)
{
	uint64_t touched = 0, now = now_ns();

	for (unsigned int i = 0; i < o->workers; i++)
		touched += control->worker[i].touched;
	if (now - p->moved_ns > p->recent_ns)
		p->recent_ns = now - p->moved_ns;
	if (p->recent_ns > p->longest_ns)
		p->longest_ns = p->recent_ns;
	if (touched != p->touched)
		p->moved_ns = now;
	p->touched = touched;
}

static void pulse_until(const struct options *o, struct pulse *p, uint64_t due)
{
	for (;;) {
		uint64_t now = now_ns(), ns = PULSE_NS;
		struct timespec ts;

		pulse_look(o, p);
		if (told_to_end || now >= due)
			return;
		if (due - now < ns)
			ns = due - now;
		ts.tv_sec = 0;
		ts.tv_nsec = (long)ns;
		nanosleep(&ts, NULL);
	}
}

/* What the lines of progress are made from */
struct counters {
	int vmstat, meminfo;
	uint64_t ns, touched, in, out;
};

static void line(const struct options *o, uint64_t n, struct counters *c, const struct totals *t,
		 struct pulse *p)
{
	uint64_t now = now_ns(), ms = (now - c->ns) / 1000000 + 1;
	uint64_t in = proc_value(c->vmstat, "pswpin"), out = proc_value(c->vmstat, "pswpout");
	uint64_t used = proc_value(c->meminfo, "SwapTotal") - proc_value(c->meminfo, "SwapFree");

	printf("# live t=%llu pages=%llu rate=%llu swapin=%llu swapout=%llu used_mb=%llu worst_ms=%llu gap_ms=%llu filled=%u bad=%llu sigbus=%llu\n",
	       (unsigned long long)(n * o->every / 1000), (unsigned long long)t->touched,
	       (unsigned long long)((t->touched - c->touched) * 1000 / ms),
	       (unsigned long long)((in - c->in) * 1000 / ms),
	       (unsigned long long)((out - c->out) * 1000 / ms), (unsigned long long)(used / 1024),
	       (unsigned long long)(t->worst_now_ns / 1000000),
	       (unsigned long long)(p->recent_ns / 1000000), t->filled == o->workers,
	       (unsigned long long)t->bad, (unsigned long long)t->sigbus);
	*c = (struct counters){ c->vmstat, c->meminfo, now, t->touched, in, out };
	p->recent_ns = 0;
}

static pid_t frozen[MAX_FROZEN];
static unsigned int frozen_count;

/* A process that is neither ours nor the kernel's nor the first */
static bool foreign(pid_t pid, pid_t self)
{
	char path[32], buf[512], *end, state;
	unsigned int flags;
	int fd, ppid, n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	n = (int)read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[n > 0 ? n : 0] = 0;
	end = strrchr(buf, ')');
	if (!end || sscanf(end + 1, " %c %d %*d %*d %*d %*d %u", &state, &ppid, &flags) != 3)
		return false;
	return pid != 1 && pid != self && ppid != self && !(flags & 0x00200000 /* PF_KTHREAD */);
}

/* Nobody but us runs from here to thaw(); the first process cannot be stopped */
static void freeze(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *d;
	pid_t self = getpid();

	while (proc && (d = readdir(proc))) {
		pid_t pid = isdigit((unsigned char)d->d_name[0]) ? atoi(d->d_name) : 0;

		if (!pid || !foreign(pid, self) || frozen_count == MAX_FROZEN)
			continue;
		if (!kill(pid, SIGSTOP))
			frozen[frozen_count++] = pid;
	}
	if (proc)
		closedir(proc);
	printf("# event %u other processes stopped\n", frozen_count);
	printf("# metric frozen=%u\n", frozen_count);
}

/* With everybody else stopped, only the host is left to say that it is enough */
static bool host_says_end(void)
{
	struct pollfd p = { 0, POLLIN, 0 };
	char buf[64];

	return poll(&p, 1, 0) > 0 && read(0, buf, sizeof(buf)) > 0;
}

static void thaw(void)
{
	for (unsigned int i = 0; i < frozen_count; i++)
		kill(frozen[i], SIGCONT);
}

/* A line now and then, and the answer to "does it still move?" */
static bool watch(const struct options *o, struct pulse *p)
{
	struct counters c = {
		open("/proc/vmstat", O_RDONLY), open("/proc/meminfo", O_RDONLY), 0, 0, 0, 0
	};
	uint64_t start = now_ns();
	unsigned int filled_at = 0;

	c.ns = p->moved_ns = start;
	for (uint64_t n = 1;; n++) {
		struct totals t;

		pulse_until(o, p, start + n * o->every * 1000000ull);
		add_up(o, &t);
		line(o, n, &c, &t, p);
		if (now_ns() - p->moved_ns > o->stall * 1000000000ull)
			return false;
		if (over(o, (unsigned int)(n * o->every / 1000), &t, &filled_at))
			return true;
		if (o->freeze && filled_at && !frozen_count)
			freeze();
		if (frozen_count && host_says_end())
			return true;
	}
}

/* Stop the workers; how many ended otherwise than by finishing */
static unsigned int reap(unsigned int workers, const pid_t *pid)
{
	unsigned int lost = 0;

	control->stop = true;
	for (unsigned int i = 0; i < workers; i++) {
		int status = 0;

		/* A worker stuck in a fault cannot be waited for: that is a hang */
		for (unsigned int n = 0; n < 600; n++) {
			if (waitpid(pid[i], &status, WNOHANG))
				break;
			usleep(100000);
			if (n == 599)
				status = -1;
		}
		if (status == -1) {
			printf("# memhog: worker %u does not end\n", i);
			lost++;
		} else if (WIFSIGNALED(status)) {
			printf("# memhog: worker %u killed by signal %d\n", i, WTERMSIG(status));
			lost++;
		} else if (WEXITSTATUS(status)) {
			printf("# memhog: worker %u gave up, status %d\n", i, WEXITSTATUS(status));
			lost++;
		}
	}
	return lost;
}

static double percentile_ms(const struct options *o, double p)
{
	uint64_t sum = 0, total = 0;

	for (unsigned int i = 0; i < o->workers; i++)
		for (unsigned int b = 0; b < BUCKETS; b++)
			total += control->worker[i].bucket[b];
	for (unsigned int b = 0; b < BUCKETS; b++) {
		for (unsigned int i = 0; i < o->workers; i++)
			sum += control->worker[i].bucket[b];
		if (sum && (double)sum >= p * (double)total)
			return (double)bucket_us(b) / 1000;
	}
	return 0;
}

static int summary(const struct options *o, uint64_t ns, bool moved, const struct pulse *p,
		   unsigned int lost)
{
	struct totals t;

	add_up(o, &t);
	printf("# metric pages=%llu\n", (unsigned long long)t.touched);
	printf("# metric pages_per_s=%llu\n",
	       (unsigned long long)(t.touched * 1000 / (ns / 1000000 + 1)));
	printf("# metric major_faults=%llu\n", (unsigned long long)t.majors);
	printf("# metric fault_p50_ms=%.3f\n", percentile_ms(o, 0.50));
	printf("# metric fault_p99_ms=%.3f\n", percentile_ms(o, 0.99));
	printf("# metric fault_max_ms=%.3f\n", (double)t.worst_ns / 1e6);
	printf("# metric gap_max_ms=%llu\n", (unsigned long long)(p->longest_ns / 1000000));
	printf("# metric bad_pages=%llu\n", (unsigned long long)t.bad);
	printf("# metric sigbus=%llu\n", (unsigned long long)t.sigbus);
	printf("# metric lost_workers=%u\n", lost);
	printf("# metric filled=%u\n", t.filled == o->workers);
	if (!moved)
		printf("# memhog: not one page for %u s\n", o->stall);
	if (t.filled != o->workers)
		printf("# memhog: memory was not filled\n");
	return !moved || lost || t.bad || t.sigbus || t.filled != o->workers;
}

static uint64_t parse_size(const char *s)
{
	char *end;
	uint64_t n = strtoull(s, &end, 10);

	if (*end == '%') {
		int fd = open("/proc/meminfo", O_RDONLY);

		n = n * proc_value(fd, "MemTotal") * 1024 / 100;
		close(fd);
	} else {
		n *= 1048576;
	}
	return n;
}

static void usage(FILE *f)
{
	fputs("usage: memhog [-rz] [-n WORKERS] [-m MB | -m PERCENT%] [-t SECONDS] [-s SECONDS] [-i MS]\n"
	      "Fill memory with checksummed pages and verify them until the time is up\n"
	      "or SIGTERM comes.\n"
	      "  -n  worker processes, 1 to 64 (4)\n"
	      "  -m  memory of all workers together; % of the machine's memory (300%)\n"
	      "  -t  run time (60); longer when filling leaves less than a third of it, to three times\n"
	      "  -s  not one page for so long is a hang (60)\n"
	      "  -i  time between two lines of progress (1000)\n"
	      "  -r  pages at random only: a load that stays the same\n"
	      "  -z  once memory is filled, stop (SIGSTOP) every other process until the\n"
	      "      end, which a line on standard input brings about as well\n"
	      "Exit status: 0 all well; 1 bad pages, SIGBUS, lost workers, a hang\n"
	      "or memory not filled; 2 usage.\n",
	      f);
}

static void parse(int argc, char **argv, struct options *o)
{
	const char *mem = "300%";
	int c;

	while ((c = getopt(argc, argv, "n:m:t:s:i:rzh")) != -1) {
		switch (c) {
		case 'n':
			o->workers = (unsigned int)atoi(optarg);
			break;
		case 'm':
			mem = optarg;
			break;
		case 't':
			o->seconds = (unsigned int)atoi(optarg);
			break;
		case 's':
			o->stall = (unsigned int)atoi(optarg);
			break;
		case 'i':
			o->every = (unsigned int)atoi(optarg);
			break;
		case 'r':
			o->random = true;
			break;
		case 'z':
			o->freeze = true;
			break;
		default:
			usage(c == 'h' ? stdout : stderr);
			exit(c == 'h' ? 0 : 2);
		}
	}
	o->bytes = parse_size(mem);
	if (!o->workers || o->workers > MAX_WORKERS || !o->seconds || !o->stall || !o->every ||
	    o->bytes / PAGE < o->workers) {
		usage(stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct options o = { .workers = 4, .seconds = 60, .stall = 60, .every = 1000 };
	struct sigaction sa = { .sa_handler = on_term };
	struct pulse pulse = { 0 };
	pid_t pid[MAX_WORKERS];
	unsigned int lost;
	uint64_t start;
	bool moved;

	setvbuf(stdout, NULL, _IOLBF, 0);
	parse(argc, argv, &o);
	control = map(sizeof(*control), MAP_SHARED);
	printf("# memhog: %u workers, %llu MiB, %u s\n", o.workers,
	       (unsigned long long)(o.bytes >> 20), o.seconds);
	for (unsigned int i = 0; i < o.workers; i++) {
		pid[i] = fork();
		if (pid[i] < 0) {
			printf("# memhog: fork: %s\n", strerror(errno));
			return 2;
		}
		if (!pid[i])
			work(&o, i);
	}
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		printf("# memhog: mlockall: %s\n", strerror(errno));
	sigaction(SIGTERM, &sa, NULL);
	start = now_ns();
	moved = watch(&o, &pulse);
	start = now_ns() - start;
	lost = reap(o.workers, pid);
	thaw();
	return summary(&o, start, moved, &pulse, lost);
}
