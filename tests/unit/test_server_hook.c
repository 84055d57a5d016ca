// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "capture.h"
#include "server/hook.h"
#include "server/server.h"

static char how[100];

static bool run(const char *command, const char *file)
{
	*how = 0;
	return srv_hook_run(command, file, srv_now_ms() + 10000, how, sizeof(how));
}

/* What it writes is where the log is: standard output may be a client */
static void said(const char *command, const char *file, const char *expected)
{
	capture_start();
	assert_true(run(command, file));
	assert_string_equal(capture_end(), expected);
}

static void arguments(void **state)
{
	(void)state;
	said("printf '<%b>\\n' a 'b c' \"d e\" f\\ g", "", "<a>\n<b c>\n<d e>\n<f g>\n");
	said("printf '<%b>\\n' %s x%sy%s", "/f", "</f>\n<x/fy/f>\n");
}

/* Whatever the name is, it stays one argument, and nothing looks for commands in it */
static void hostile_names(void **state)
{
	(void)state;
	said("/bin/echo %s", "a; touch $(x) 'b \"c %s", "a; touch $(x) 'b \"c %s\n");
	said("/bin/echo $HOME '*' | cat; true %s", "f", "$HOME * | cat; true f\n");
}

static void ends(void **state)
{
	(void)state;
	assert_true(run("true", ""));
	assert_false(run("false", ""));
	assert_string_equal(how, "ended with status 1");
	assert_false(run("sh -c 'kill -9 $$'", ""));
	assert_string_equal(how, "was ended by signal 9");
	assert_false(run("/nonexistent/program", ""));
	assert_string_equal(how, "cannot be started: No such file or directory");
	assert_false(run("'", ""));
	assert_string_equal(how, "cannot be taken apart");
}

/* With all that it has started */
static void too_long(void **state)
{
	int64_t begun = srv_now_ms();

	(void)state;
	capture_start();
	assert_false(srv_hook_run("sh -c 'sleep 30 & sleep 31; echo not killed'", "", begun + 200,
				  how, sizeof(how)));
	assert_string_equal(capture_end(), "");
	assert_string_equal(how, "took too long and was killed");
	assert_true(srv_now_ms() - begun < 5000);
	/* One that has had to wait for its turn until then is not even begun */
	assert_false(srv_hook_run("true", "", begun, how, sizeof(how)));
	assert_string_equal(how, "was not begun in time");
}

/* A server blocks signals and ignores some; a command must not find it so */
static void surroundings(void **state)
{
	sigset_t set, old;

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	assert_int_equal(sigprocmask(SIG_BLOCK, &set, &old), 0);
	assert_int_not_equal(signal(SIGPIPE, SIG_IGN), SIG_ERR);
	/* The signals below 29; the C library has some of its own above */
	said("sh -c 'grep -E ^Sig[BI] /proc/self/status | cut -c 18-; cat'", "",
	     "0000000\n0000000\n");
	signal(SIGPIPE, SIG_DFL);
	assert_int_equal(sigprocmask(SIG_SETMASK, &old, NULL), 0);
}

/* A command is not ended because the server has too many clients to wait for it */
static void no_descriptors(void **state)
{
	struct rlimit limit, low;
	int fds[64], n = 0;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	while (n < 64 && (fds[n] = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0)
		n++;
	assert_in_range(n, 1, 63);
	assert_true(run("sleep 0.1", ""));
	while (n)
		close(fds[--n]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void checked(void **state)
{
	char *why = NULL;

	(void)state;
	assert_true(srv_hook_check("a 'b c' \"%s\"", &why));
	assert_null(why);
	assert_false(srv_hook_check("a 'b", &why));
	assert_non_null(why);
	g_free(why);
	assert_false(srv_hook_check("  ", &why));
	g_free(why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arguments),	cmocka_unit_test(hostile_names),
		cmocka_unit_test(ends),		cmocka_unit_test(too_long),
		cmocka_unit_test(surroundings), cmocka_unit_test(no_descriptors),
		cmocka_unit_test(checked),
	};

	return cmocka_run_group_tests_name("server hook", tests, NULL, NULL);
}
