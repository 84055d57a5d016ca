// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "capture.h"
#include "server/options.h"

static struct srv_options o;

static enum srv_option_result parse(const char *line)
{
	g_auto(GStrv) words = g_strsplit(line, " ", -1);
	g_autofree char **argv = NULL;
	enum srv_option_result result;
	guint i, n = g_strv_length(words);

	/* getopt moves the words about: a copy of the vector keeps them freed once */
	argv = g_new0(char *, n + 2);
	argv[0] = (char *)"nbd-server";
	for (i = 0; i < n; i++)
		argv[i + 1] = words[i];
	srv_options_free(&o);
	capture_start();
	result = srv_options_parse(&o, (int)n + 1, argv);
	capture_end();
	return result;
}

static int teardown(void **state)
{
	(void)state;
	srv_options_free(&o);
	return 0;
}

static void addresses(void **state)
{
	static const struct {
		const char *word, *listen, *port;
	} good[] = {
		{ "10809", NULL, "10809" },
		{ "1.2.3.4@10809", "1.2.3.4", "10809" },
		{ "1.2.3.4:10809", "1.2.3.4", "10809" },
		{ "host.example:1", "host.example", "1" },
		{ "::1@10809", "::1", "10809" },
		{ "[::1]@10809", "::1", "10809" },
		{ "[::1]:10809", "::1", "10809" },
		{ "::@65535", "::", "65535" },
	};
	static const char *const bad[] = { "",		"x",	    "65536", "-1",
					   "1.2.3.4@0", "1.2.3.4@", "@1",    ":1",
					   "::1:10809", "10809x",   "unix:" };
	g_autofree char *line = NULL;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(*good); i++) {
		g_free(line);
		line = g_strdup_printf("%s /f", good[i].word);
		assert_int_equal(parse(line), SRV_OPTIONS_RUN);
		assert_int_equal(g_strcmp0(o.listen, good[i].listen), 0);
		assert_string_equal(o.port, good[i].port);
		assert_string_equal(o.path, "/f");
		assert_false(o.inetd || o.foreground);
	}
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		g_free(line);
		line = g_strdup_printf("%s /f", bad[i]);
		assert_int_equal(parse(line), SRV_OPTIONS_BAD);
		assert_true(*capture_text);
	}
	assert_int_equal(parse("unix:/run/s /f"), SRV_OPTIONS_RUN);
	assert_string_equal(o.unix_path, "/run/s");
	assert_null(o.port);
	assert_int_equal(parse("0 /f"), SRV_OPTIONS_RUN);
	assert_true(o.inetd && o.foreground);
}

static void operands(void **state)
{
	g_autofree char *here = g_get_current_dir();
	g_autofree char *file = g_build_filename(here, "f", NULL);

	(void)state;
	assert_int_equal(parse("1 f 64k"), SRV_OPTIONS_RUN);
	assert_string_equal(o.path, file);
	assert_true(o.size == 65536);
	assert_int_equal(parse("-r 1 -M 3 /f -l /a 1G"), SRV_OPTIONS_RUN);
	assert_true(o.readonly && o.size == 1 << 30 && o.max_connections == 3);
	assert_string_equal(o.authfile, "/a");
	assert_int_equal(parse("1"), SRV_OPTIONS_BAD);
	assert_int_equal(parse("1 /f 0"), SRV_OPTIONS_BAD);
	assert_int_equal(parse("1 /f 1x"), SRV_OPTIONS_BAD);
	assert_int_equal(parse("1 /f 1 extra"), SRV_OPTIONS_BAD);
	assert_said(capture_text, "extra");
}

static void every_option(void **state)
{
	(void)state;
	assert_int_equal(parse("1 /f -n -p /run/p --handshake-timeout 3 -C c"), SRV_OPTIONS_RUN);
	assert_true(o.foreground && o.handshake_timeout == 3);
	assert_string_equal(o.pid_file, "/run/p");
	assert_true(o.config_file && *o.config_file == '/');
	assert_int_equal(parse("--read-only --dont-fork --max-connections 2 --pid-file /p "
			       "--authorize-file /a --config-file /c 1 /f"),
			 SRV_OPTIONS_RUN);
	assert_true(o.readonly && o.foreground && o.max_connections == 2);
	assert_int_equal(parse("1 /f --output-config x --nodaemon"), SRV_OPTIONS_RUN);
	assert_string_equal(o.output_section, "x");
	assert_int_equal(parse("1 /f --log-format json --log-level debug"), SRV_OPTIONS_RUN);
	assert_true(o.log_format_given && o.log_format == NBD_LOG_JSON);
	assert_true(o.log_level_given && o.log_level == LOG_DEBUG);
	assert_int_equal(parse("1 /f --log-format xml"), SRV_OPTIONS_BAD);
	assert_said(capture_text, "--log-format xml: expected text or json");
	assert_int_equal(parse("1 /f --log-level loud"), SRV_OPTIONS_BAD);
	assert_said(capture_text, "--log-level loud: expected error, warning, info or debug");
	assert_int_equal(parse("--help"), SRV_OPTIONS_HELP);
	assert_int_equal(parse("-V"), SRV_OPTIONS_VERSION);
	assert_int_equal(parse("--version"), SRV_OPTIONS_VERSION);
	assert_int_equal(parse("-c 1 /f"), SRV_OPTIONS_RUN);
	assert_true(o.copyonwrite && !o.multifile);
	assert_int_equal(parse("1 /f --multi-file"), SRV_OPTIONS_RUN);
	assert_true(o.multifile && !o.copyonwrite);
	assert_int_equal(parse("--nonsense"), SRV_OPTIONS_BAD);
	assert_said(capture_text, "--nonsense: no such option");
	assert_int_equal(parse("1 /f -x"), SRV_OPTIONS_BAD);
	assert_said(capture_text, "-x: no such option");
	assert_int_equal(parse("1 /f -C"), SRV_OPTIONS_BAD);
	assert_said(capture_text, "-C: the option needs a value");
	assert_int_equal(parse("-M x 1 /f"), SRV_OPTIONS_BAD);
	assert_int_equal(parse("--handshake-timeout 0 1 /f"), SRV_OPTIONS_BAD);
	assert_int_equal(parse("-r"), SRV_OPTIONS_BAD);
	assert_int_equal(parse("-c"), SRV_OPTIONS_BAD);
	assert_int_equal(parse("-m"), SRV_OPTIONS_BAD);
	assert_int_equal(parse("-C /c -M 2"), SRV_OPTIONS_BAD);
}

static void config_from_line(void **state)
{
	const struct srv_export *e;
	struct srv_config *c;

	(void)state;
	assert_int_equal(parse("::1@1234 /f%s 1m -r -M 2 --handshake-timeout 3 --mlock"),
			 SRV_OPTIONS_RUN);
	c = srv_options_config(&o);
	assert_non_null(c);
	assert_string_equal(c->port, "1234");
	assert_string_equal(c->listenaddr, "::1");
	assert_int_equal(c->handshake_timeout, 3);
	assert_true(c->allowlist);
	assert_true(c->mlock);
	assert_int_equal(c->exports->len, 1);
	e = srv_config_find(c, "");
	assert_string_equal(e->name, "");
	assert_string_equal(e->path, "/f%s");
	assert_string_equal(e->authfile, SRV_DEF_ALLOW);
	assert_true(e->readonly && e->size == 1 << 20 && e->max_connections == 2);
	srv_config_put(c);

	assert_int_equal(parse("1 /f -c -m"), SRV_OPTIONS_RUN);
	c = srv_options_config(&o);
	e = srv_config_find(c, "");
	assert_true(e->copyonwrite && e->multifile);
	srv_config_put(c);

	assert_int_equal(parse("unix:/run/s /f -l /a"), SRV_OPTIONS_RUN);
	c = srv_options_config(&o);
	assert_string_equal(c->unixsock, "/run/s");
	assert_string_equal(srv_config_find(c, "")->authfile, "/a");
	srv_config_put(c);
}

static void line_and_file(void **state)
{
	char file[] = "/tmp/nbd-options-XXXXXX";
	static const char text[] = "[generic]\nport = 1\nunixsock = /s\nlistenaddr = ::1\n"
				   "[a]\nexportname = /a\n";
	g_autofree char *line = NULL;
	struct srv_config *c;
	int fd = mkstemp(file);

	(void)state;
	assert_true(fd >= 0 && write(fd, text, sizeof(text) - 1) == sizeof(text) - 1);
	close(fd);
	line = g_strdup_printf("-C %s 2 /f", file);
	assert_int_equal(parse(line), SRV_OPTIONS_RUN);
	c = srv_options_config(&o);
	assert_int_equal(c->exports->len, 2);
	assert_string_equal(srv_config_find(c, "")->path, "/f");
	assert_string_equal(srv_config_find(c, "a")->path, "/a");
	assert_string_equal(c->port, "2");
	assert_null(c->listenaddr);
	assert_null(c->unixsock);
	srv_config_put(c);

	assert_int_equal(parse("-C /dev/null 2 /f"), SRV_OPTIONS_RUN);
	c = srv_options_config(&o);
	assert_int_equal(c->exports->len, 1);
	assert_null(c->control);
	assert_null(c->metrics);
	srv_config_put(c);

	assert_int_equal(parse("2 /f --control c --metrics 127.0.0.1:9"), SRV_OPTIONS_RUN);
	c = srv_options_config(&o);
	assert_true(*c->control == '/' && g_str_has_suffix(c->control, "/c"));
	assert_false(c->control_default);
	assert_string_equal(c->metrics, "127.0.0.1:9");
	srv_config_put(c);

	assert_int_equal(parse("-C /dev/null"), SRV_OPTIONS_RUN);
	capture_start();
	assert_null(srv_options_config(&o));
	assert_said(capture_end(), "/dev/null: no export");
	unlink(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(addresses, teardown),
		cmocka_unit_test_teardown(operands, teardown),
		cmocka_unit_test_teardown(every_option, teardown),
		cmocka_unit_test_teardown(config_from_line, teardown),
		cmocka_unit_test_teardown(line_and_file, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
