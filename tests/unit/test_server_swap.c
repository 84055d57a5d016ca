// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "capture.h"
#include "server/config.h"
#include "server/swap.h"

#define MIB (1ull << 20)

static char dir[64];
static struct srv_swaps swaps;
static struct srv_config *config;
static struct srv_export *section;

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/var/tmp/nbd-swap-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	srv_swaps_init(&swaps);
	config = srv_config_new();
	section = srv_config_add(config, "swap-*");
	section->swapdir = g_strdup(dir);
	section->swapsize = MIB;
	return 0;
}

static int teardown(void **state)
{
	char command[96];

	(void)state;
	srv_config_put(config);
	srv_swaps_destroy(&swaps);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static void bind_and_run(void)
{
	assert_int_equal(srv_swaps_bind(&swaps, config), 0);
	srv_swaps_in_force(&swaps, config);
	assert_int_equal(srv_swaps_run(&swaps), 0);
}

static const char *path_of(const char *file)
{
	static char path[400];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return path;
}

static void make(const char *file, off_t size)
{
	int fd = open(path_of(file), O_CREAT | O_EXCL | O_WRONLY, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static bool exists(const char *file)
{
	struct stat st;

	return !lstat(path_of(file), &st);
}

static bool gone_within(const char *file, unsigned int ms)
{
	for (; ms && exists(file); ms -= ms < 20 ? ms : 20)
		usleep(20000);
	return !exists(file);
}

static struct srv_swap_owner session(uint8_t n)
{
	struct srv_swap_owner who = { .kind = SRV_OWNER_SESSION };

	memset(who.id, n, sizeof(who.id));
	return who;
}

static enum srv_swap_result open_as(const char *name, uint8_t n, struct srv_swap_opened *o)
{
	struct srv_swap_owner who = session(n);
	enum srv_swap_result result = srv_swap_open(section, name, &who, o);

	if (o->fd >= 0)
		close(o->fd);
	return result;
}

static void names(void **state)
{
	static const char *const good[] = { "a",   "swap-node1", "swap-52:54:00:12:34:56",
					    "a.b", "A_b+c@d",	 "-",
					    "x." };
	static const char *const bad[] = { "",	  ".",	  "..",	   ".a",    "a/b",   "/a",
					   "a..", "a..b", "../a",  "a b",   "a\n",   "a*",
					   "a%s", "a\\",  "a\xff", "a\x01", "a'b$(", "a\"" };
	char text[SRV_SWAP_NAME_MAX + 2];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(*good); i++)
		assert_null(srv_swap_bad_name(good[i]));
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_non_null(srv_swap_bad_name(bad[i]));
	memset(text, 'a', sizeof(text));
	text[SRV_SWAP_NAME_MAX + 1] = 0;
	assert_non_null(srv_swap_bad_name(text));
	text[SRV_SWAP_NAME_MAX] = 0;
	assert_null(srv_swap_bad_name(text));
}

static void patterns(void **state)
{
	(void)state;
	assert_true(srv_swap_is_pattern("swap-*"));
	assert_false(srv_swap_is_pattern("swap-"));
	assert_true(srv_swap_matches("swap-*", "swap-1"));
	assert_true(srv_swap_matches("swap-*", "swap--"));
	assert_false(srv_swap_matches("swap-*", "swap-"));
	assert_false(srv_swap_matches("swap-*", "swap"));
	assert_false(srv_swap_matches("swap-*", "Swap-1"));
	assert_false(srv_swap_matches("swap-*", ""));
	assert_true(srv_swap_matches("*", "x"));
	assert_false(srv_swap_matches("*", ""));
	assert_true(srv_swap_matches("*.swap", "a.swap"));
	assert_false(srv_swap_matches("a*a", "a"));
	assert_false(srv_swap_matches("a*a", "aa"));
	assert_true(srv_swap_matches("a*a", "aba"));
	assert_false(srv_swap_matches("plain", "plain"));
}

static void sums(void **state)
{
	(void)state;
	assert_true(srv_swap_fits(0, 10, 10));
	assert_false(srv_swap_fits(1, 10, 10));
	assert_true(srv_swap_fits(5, 5, 10));
	assert_false(srv_swap_fits(11, 0, 10));
	assert_false(srv_swap_fits(20, 5, 10));
	assert_true(srv_swap_fits(UINT64_MAX / 2, 10, 0));
	assert_false(srv_swap_fits(UINT64_MAX, 1, 0));
	assert_false(srv_swap_fits(UINT64_MAX - 1, 10, UINT64_MAX));
}

static void times(void **state)
{
	(void)state;
	assert_true(srv_swap_left(1000, 2, 1000) == 2000);
	assert_true(srv_swap_left(1000, 2, 2999) == 1);
	assert_true(srv_swap_left(1000, 2, 3000) == 0);
	assert_true(srv_swap_left(1000, 2, 999999) == 0);
	assert_true(srv_swap_left(1000, UINT64_MAX, 5000) > 1000000);
	assert_true(srv_swap_left(INT64_MAX - 1, 1u << 30, 0) > 1000000);
}

static void first_use(void **state)
{
	struct srv_swap_owner who = session(1);
	struct srv_swap_opened o;
	struct stat st;

	(void)state;
	bind_and_run();
	assert_int_equal(srv_swap_look(section, "swap-a", &who, &o), SRV_SWAP_OK);
	assert_true(o.size == MIB);
	assert_false(exists("swap-a.swap"));
	assert_int_equal(open_as("swap-a", 1, &o), SRV_SWAP_OK);
	assert_true(o.created && o.size == MIB);
	assert_int_equal(lstat(path_of("swap-a.swap"), &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, MIB);
	assert_int_equal(st.st_blocks, 0);
	assert_int_equal(st.st_nlink, 1);
	srv_swap_leave(o.file);
	assert_int_equal(open_as("swap-a", 1, &o), SRV_SWAP_OK);
	assert_false(o.created);
	srv_swap_leave(o.file);
}

static void preallocated(void **state)
{
	struct srv_swap_opened o;
	struct stat st;

	(void)state;
	section->preallocate = true;
	bind_and_run();
	assert_int_equal(open_as("swap-a", 1, &o), SRV_SWAP_OK);
	assert_int_equal(lstat(path_of("swap-a.swap"), &st), 0);
	assert_true((uint64_t)st.st_blocks * 512 >= MIB);
	srv_swap_leave(o.file);
	/* More than any disk has */
	section->swapsize = 1ull << 43;
	assert_int_equal(open_as("swap-b", 1, &o), SRV_SWAP_FAILED);
	assert_true(o.error == ENOSPC || o.error == EFBIG);
	assert_false(exists("swap-b.swap") || exists(".swap-b.new"));
	/* and nothing of it is promised */
	section->quota = 2 * MIB;
	section->swapsize = MIB;
	assert_int_equal(open_as("swap-c", 1, &o), SRV_SWAP_OK);
	srv_swap_leave(o.file);
}

static void one_client(void **state)
{
	struct srv_swap_owner none = { .kind = SRV_OWNER_IPV4, .id = { 127, 0, 0, 1 } };
	struct srv_swap_opened a, b, c;

	(void)state;
	bind_and_run();
	assert_int_equal(open_as("swap-a", 1, &a), SRV_SWAP_OK);
	assert_int_equal(open_as("swap-a", 2, &b), SRV_SWAP_IN_USE);
	assert_int_equal(srv_swap_open(section, "swap-a", &none, &b), SRV_SWAP_IN_USE);
	assert_int_equal(open_as("swap-b", 2, &b), SRV_SWAP_OK);
	/* Several connections of one */
	assert_int_equal(open_as("swap-a", 1, &c), SRV_SWAP_OK);
	assert_ptr_equal(a.file, c.file);
	srv_swap_leave(a.file);
	assert_int_equal(open_as("swap-a", 2, &a), SRV_SWAP_IN_USE);
	srv_swap_leave(c.file);
	/* Given to another, it is no longer the first one's, also not when it is free again */
	assert_int_equal(open_as("swap-a", 2, &a), SRV_SWAP_OK);
	srv_swap_leave(a.file);
	assert_int_equal(open_as("swap-a", 1, &a), SRV_SWAP_LOST);
	assert_int_equal(open_as("swap-a", 2, &a), SRV_SWAP_OK);
	srv_swap_leave(a.file);
	srv_swap_leave(b.file);
	/* Who tells no session may always come back */
	assert_int_equal(srv_swap_open(section, "swap-c", &none, &c), SRV_SWAP_OK);
	close(c.fd);
	srv_swap_leave(c.file);
	assert_int_equal(open_as("swap-c", 2, &c), SRV_SWAP_OK);
	srv_swap_leave(c.file);
	assert_int_equal(srv_swap_open(section, "swap-c", &none, &c), SRV_SWAP_OK);
	close(c.fd);
	srv_swap_leave(c.file);
}

static void quota(void **state)
{
	struct srv_swap_opened a, b, c;
	struct srv_swap_owner who = session(3);

	(void)state;
	section->quota = 2 * MIB;
	section->swapgrace = 1;
	bind_and_run();
	assert_int_equal(open_as("swap-a", 1, &a), SRV_SWAP_OK);
	assert_int_equal(open_as("swap-b", 2, &b), SRV_SWAP_OK);
	assert_int_equal(open_as("swap-c", 3, &c), SRV_SWAP_QUOTA);
	assert_true(c.promised == 2 * MIB);
	assert_int_equal(srv_swap_look(section, "swap-c", &who, &c), SRV_SWAP_QUOTA);
	assert_false(exists("swap-c.swap"));
	/* Those that are there are not affected, and make room when they are gone */
	assert_int_equal(open_as("swap-a", 1, &c), SRV_SWAP_OK);
	srv_swap_leave(c.file);
	srv_swap_leave(a.file);
	capture_start();
	assert_true(gone_within("swap-a.swap", 5000));
	usleep(50000);
	assert_said(capture_end(), "swap-a.swap removed: nobody has used it for 1 seconds");
	assert_int_equal(open_as("swap-c", 3, &c), SRV_SWAP_OK);
	srv_swap_leave(b.file);
	srv_swap_leave(c.file);
}

static void grace(void **state)
{
	struct srv_swap_opened a, b;

	(void)state;
	make("swap-old.swap", MIB);
	make(".swap-half.new", 4096);
	make("other", 4096);
	make("swap-empty.swap", 0);
	assert_int_equal(symlink("/etc/passwd", path_of("swap-link.swap")), 0);
	section->swapgrace = 1;
	capture_start();
	bind_and_run();
	assert_said(capture_end(), "1 file of 1048576 bytes found");
	assert_false(exists(".swap-half.new"));
	assert_true(exists("swap-old.swap"));
	assert_int_equal(open_as("swap-a", 1, &a), SRV_SWAP_OK);
	assert_int_equal(open_as("swap-b", 2, &b), SRV_SWAP_OK);
	srv_swap_leave(b.file);
	capture_start();
	assert_true(gone_within("swap-old.swap", 5000));
	assert_true(gone_within("swap-b.swap", 5000));
	usleep(100000);
	capture_end();
	/* In use, or none of ours */
	assert_true(exists("swap-a.swap") && exists("other") && exists("swap-empty.swap") &&
		    exists("swap-link.swap"));
	/* A new file would look to the session like the one it has pages in */
	assert_int_equal(open_as("swap-b", 2, &b), SRV_SWAP_LOST);
	assert_int_equal(open_as("swap-b", 3, &b), SRV_SWAP_OK);
	srv_swap_leave(b.file);
	srv_swap_leave(a.file);
}

/* Not looked after while no configuration has it, and then with all of its grace again */
/* A file that cannot be opened just now has all of its grace again: somebody wants it */
static void failed_again(void **state)
{
	struct srv_swap_info info = { 0 };
	struct srv_swap_opened o;
	char other[400];

	(void)state;
	bind_and_run();
	strcpy(other, path_of("other"));
	assert_int_equal(open_as("swap-a", 1, &o), SRV_SWAP_OK);
	assert_int_equal(link(path_of("swap-a.swap"), other), 0);
	srv_swap_leave(o.file);
	pthread_mutex_lock(&swaps.lock);
	o.file->idle_since -= 3500 * 1000;
	pthread_mutex_unlock(&swaps.lock);
	assert_int_equal(open_as("swap-a", 1, &o), SRV_SWAP_FAILED);
	assert_int_equal(o.error, EPERM);
	assert_true(srv_swap_next_file(section, &info));
	assert_int_equal(info.users, 0);
	assert_true(info.left > 3500 * 1000);
	assert_int_equal(unlink(other), 0);
	assert_int_equal(open_as("swap-a", 1, &o), SRV_SWAP_OK);
	srv_swap_leave(o.file);
}

static void set_busy(struct srv_swap_file *f, bool busy)
{
	pthread_mutex_lock(&swaps.lock);
	f->busy = busy;
	pthread_mutex_unlock(&swaps.lock);
}

/* A file that a hanging disk keeps in somebody's hand is not waited for for ever */
static void hangs(void **state)
{
	struct srv_swap_opened o;
	struct srv_swap_file *f;

	(void)state;
	swaps.patience = 50;
	bind_and_run();
	assert_int_equal(open_as("swap-a", 1, &o), SRV_SWAP_OK);
	f = o.file;
	set_busy(f, true);
	assert_int_equal(open_as("swap-a", 1, &o), SRV_SWAP_FAILED);
	assert_int_equal(o.error, EBUSY);
	assert_int_equal(f->users, 1);
	set_busy(f, false);
	srv_swap_leave(f);
}

/* Whose a file is, is known to the next server too; a client without a session leaves no note */
static void noted(void **state)
{
	struct srv_swap_owner none = { .kind = SRV_OWNER_IPV4, .id = { 127, 0, 0, 1 } };
	struct srv_swap_opened o;
	uint8_t id[SRV_SWAP_ID_LEN];
	struct srv_config *old;

	(void)state;
	bind_and_run();
	assert_int_equal(open_as("swap-a", 1, &o), SRV_SWAP_OK);
	srv_swap_leave(o.file);
	assert_int_equal(open_as("swap-b", 7, &o), SRV_SWAP_OK);
	srv_swap_leave(o.file);
	assert_int_equal(srv_swap_open(section, "swap-b", &none, &o), SRV_SWAP_OK);
	close(o.fd);
	srv_swap_leave(o.file);
	assert_int_equal(getxattr(path_of("swap-a.swap"), "user.nbswap.session", id, sizeof(id)),
			 sizeof(id));
	assert_int_equal(id[0], 1);
	assert_int_equal(getxattr(path_of("swap-b.swap"), "user.nbswap.session", id, sizeof(id)),
			 -1);
	/* The next server */
	old = config;
	config = srv_config_new();
	section = srv_config_add(config, "swap-*");
	section->swapdir = g_strdup(dir);
	section->swapsize = MIB;
	srv_config_put(old);
	capture_start();
	bind_and_run();
	capture_end();
	assert_int_equal(open_as("swap-a", 2, &o), SRV_SWAP_OK);
	srv_swap_leave(o.file);
	assert_int_equal(open_as("swap-a", 1, &o), SRV_SWAP_LOST);
	assert_int_equal(open_as("swap-a", 2, &o), SRV_SWAP_OK);
	srv_swap_leave(o.file);
}

static void out_of_force(void **state)
{
	struct srv_config *empty = srv_config_new();
	struct srv_swap_opened o;

	(void)state;
	section->swapgrace = 1;
	bind_and_run();
	assert_int_equal(open_as("swap-a", 1, &o), SRV_SWAP_OK);
	srv_swaps_in_force(&swaps, empty);
	srv_swap_leave(o.file);
	usleep(1500000);
	assert_true(exists("swap-a.swap"));
	srv_swaps_in_force(&swaps, config);
	usleep(300000);
	assert_true(exists("swap-a.swap"));
	capture_start();
	assert_true(gone_within("swap-a.swap", 5000));
	usleep(50000);
	capture_end();
	srv_config_put(empty);
}

static void hostile_directory(void **state)
{
	struct srv_swap_opened o;

	(void)state;
	bind_and_run();
	assert_int_equal(symlink("/etc/passwd", path_of("swap-l.swap")), 0);
	assert_int_equal(open_as("swap-l", 1, &o), SRV_SWAP_FAILED);
	assert_int_equal(o.error, ELOOP);
	assert_int_equal(mkdir(path_of("swap-d.swap"), 0700), 0);
	assert_int_equal(open_as("swap-d", 1, &o), SRV_SWAP_FAILED);
	assert_int_equal(mkfifo(path_of("swap-f.swap"), 0600), 0);
	assert_int_equal(open_as("swap-f", 1, &o), SRV_SWAP_FAILED);
	make("swap-n.swap", MIB);
	assert_int_equal(linkat(section->dir->fd, "swap-n.swap", section->dir->fd, "second", 0), 0);
	assert_int_equal(open_as("swap-n", 1, &o), SRV_SWAP_FAILED);
	assert_int_equal(o.error, EPERM);
	assert_int_equal(unlink(path_of("second")), 0);
	/* One that somebody has put there is taken as it is */
	assert_int_equal(truncate(path_of("swap-n.swap"), 3 * MIB), 0);
	assert_int_equal(open_as("swap-n", 1, &o), SRV_SWAP_OK);
	assert_true(!o.created && o.size == 3 * MIB);
	srv_swap_leave(o.file);
	/* and one that somebody has taken away is not made anew under the session's feet */
	assert_int_equal(unlink(path_of("swap-n.swap")), 0);
	assert_int_equal(open_as("swap-n", 1, &o), SRV_SWAP_LOST);
	assert_int_equal(open_as("swap-n", 1, &o), SRV_SWAP_LOST);
	assert_int_equal(open_as("swap-n", 2, &o), SRV_SWAP_OK);
	assert_true(o.created && o.size == MIB);
	srv_swap_leave(o.file);
}

static void refuse_bind(const char *said)
{
	capture_start();
	assert_int_equal(srv_swaps_bind(&swaps, config), -1);
	assert_said(capture_end(), said);
}

static void one_server(void **state)
{
	struct srv_export *other;
	int fd;

	(void)state;
	fd = open(dir, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	refuse_bind("another nbd-server serves swap from it");
	close(fd);
	other = srv_config_add(config, "other-*");
	other->swapdir = g_strdup_printf("%s/../%s", dir, strrchr(dir, '/') + 1);
	refuse_bind("section [swap-*] has it already");
	srv_swap_dir_put(section->dir);
	section->dir = NULL;
	g_free(other->swapdir);
	other->swapdir = g_strdup("/nonexistent");
	refuse_bind("[other-*] swapdir = /nonexistent: cannot find it: No such file or directory");
}

static void listed(void **state)
{
	struct srv_swap_opened o[3];
	char name[SRV_SWAP_NAME_MAX + 1] = "";
	struct srv_swap_info info = { 0 };
	struct srv_swap_sums sums;

	(void)state;
	make("older-name.swap", MIB);
	capture_start();
	bind_and_run();
	capture_end();
	assert_false(srv_swap_next(section, name));
	assert_int_equal(open_as("swap-b", 1, &o[0]), SRV_SWAP_OK);
	assert_int_equal(open_as("swap-c", 2, &o[1]), SRV_SWAP_OK);
	assert_int_equal(open_as("swap-a", 3, &o[2]), SRV_SWAP_OK);
	assert_true(srv_swap_next(section, name));
	assert_string_equal(name, "swap-a");
	assert_true(srv_swap_next(section, name));
	assert_string_equal(name, "swap-b");
	strcpy(name, "swap-bb");
	assert_true(srv_swap_next(section, name));
	assert_string_equal(name, "swap-c");
	assert_false(srv_swap_next(section, name));
	/* For who looks after the server: all that there is, and who has it */
	assert_true(srv_swap_next_file(section, &info));
	assert_string_equal(info.name, "older-name");
	assert_int_equal(info.owner.kind, SRV_OWNER_NONE);
	assert_int_equal(info.users, 0);
	assert_true(info.left > 0 && info.left <= 3600 * 1000);
	assert_true(srv_swap_next_file(section, &info));
	assert_string_equal(info.name, "swap-a");
	assert_int_equal(info.owner.kind, SRV_OWNER_SESSION);
	assert_int_equal(info.size, MIB);
	assert_int_equal(info.users, 1);
	strcpy(info.name, "swap-c");
	assert_false(srv_swap_next_file(section, &info));
	srv_swap_leave(o[0].file);
	srv_swap_sum(section, &sums);
	assert_int_equal(sums.files, 4);
	assert_int_equal(sums.used, 2);
	assert_int_equal(sums.promised, 4 * MIB);
	srv_swap_leave(o[1].file);
	srv_swap_leave(o[2].file);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(patterns),
		cmocka_unit_test(sums),
		cmocka_unit_test(times),
		T(first_use),
		T(preallocated),
		T(one_client),
		T(quota),
		T(grace),
		T(failed_again),
		T(hangs),
		T(noted),
		T(out_of_force),
		T(hostile_directory),
		T(one_server),
		T(listed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
