// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "capture.h"
#include "server/config.h"

static char dir[64];
static char path[96];

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/nbd-config-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/config", dir);
	return 0;
}

static int teardown(void **state)
{
	char command[96];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static void write_file(const char *name, const char *text)
{
	char file[160];
	FILE *f;

	snprintf(file, sizeof(file), "%s/%s", dir, name);
	f = fopen(file, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* Load a text; what is said must contain @said, and be nothing when that is NULL */
static struct srv_config *load(const char *text, int expected, const char *said)
{
	struct srv_config *config = srv_config_new();
	const char *out;
	int ret;

	write_file("config", text);
	capture_start();
	ret = srv_config_load(config, path);
	out = capture_end();
	if (said)
		assert_said(out, said);
	else
		assert_string_equal(out, "");
	assert_int_equal(ret, expected);
	return config;
}

static void refuse(const char *text, const char *said)
{
	srv_config_put(load(text, -1, said));
}

static void warn(const char *text, const char *said)
{
	srv_config_put(load(text, 0, said));
}

static const struct srv_export *export(const struct srv_config *config, unsigned int i)
{
	assert_true(i < config->exports->len);
	return g_ptr_array_index(config->exports, i);
}

static void defaults(void **state)
{
	struct srv_config *c = load("[generic]\n[disk]\nexportname = /dev/null\n", 0, NULL);
	const struct srv_export *e = export(c, 0);

	(void)state;
	assert_null(c->listenaddr);
	assert_string_equal(c->port, "10809");
	assert_null(c->unixsock);
	assert_false(c->duallisten || c->allowlist);
	assert_null(c->user);
	assert_null(c->group);
	assert_int_equal(c->max_threads, 16);
	assert_int_equal(c->max_clients, 16384);
	assert_int_equal(c->loops, 0);
	assert_int_equal(c->io, SRV_IO_AUTO);
	assert_true(c->buffer_memory == 512 << 20);
	assert_true(c->client_memory == 64 << 20);
	assert_int_equal(c->handshake_timeout, 10);
	assert_null(c->control);
	assert_null(c->metrics);
	assert_int_equal(c->log_level, LOG_INFO);
	assert_int_equal(c->log_format, NBD_LOG_TEXT);
	assert_int_equal(c->exports->len, 1);
	assert_string_equal(e->name, "disk");
	assert_string_equal(e->path, "/dev/null");
	assert_null(e->authfile);
	assert_null(e->description);
	assert_true(e->size == 0 && e->max_connections == 0 && e->timeout == 0);
	assert_true(e->flush && e->fua && e->trim);
	assert_false(e->readonly || e->rotational || e->sync);
	assert_null(e->swapdir);
	assert_false(e->preallocate);
	srv_config_put(c);
}

#define SWAP "[generic]\n[swap-*]\nswapdir = /d\n"

static void swap_exports(void **state)
{
	struct srv_config *c = load(SWAP "swapsize = 2G\nquota = 1T\nswapgrace = 60\n"
					 "[swap-own]\nexportname = /f\n",
				    0, NULL);
	const struct srv_export *e = export(c, 0);

	(void)state;
	assert_string_equal(e->swapdir, "/d");
	assert_true(e->swapsize == 2ull << 30 && e->quota == 1ull << 40);
	assert_int_equal(e->swapgrace, 60);
	assert_true(e->trim && !e->preallocate);
	assert_ptr_equal(srv_config_find(c, "swap-a"), e);
	assert_ptr_equal(srv_config_find(c, "swap-../a"), e);
	assert_ptr_equal(srv_config_find(c, "swap-own"), export(c, 1));
	assert_ptr_equal(srv_config_find(c, ""), export(c, 1));
	assert_null(srv_config_find(c, "swap-"));
	srv_config_put(c);

	c = load(SWAP "swapsize = 64M\npreallocate = true\n", 0, NULL);
	e = export(c, 0);
	assert_true(e->preallocate && !e->trim && !e->quota);
	assert_int_equal(e->swapgrace, 3600);
	assert_null(srv_config_find(c, ""));
	srv_config_put(c);

	refuse(SWAP, "[swap-*]: swapsize = 0: give the size of each client's file");
	refuse(SWAP "swapsize = 2097153\n", "a multiple of 4096");
	refuse(SWAP "swapsize = 512k\n", "swapsize = 512k: expected at least 1m");
	refuse(SWAP "swapsize = 2X\n", "swapsize = 2X: expected a number of bytes");
	refuse(SWAP "swapsize = 2m\nquota = 1m\n", "not one file of swapsize = 2097152 fits");
	refuse(SWAP "swapsize = 2m\nswapgrace = 0\n", "swapgrace = 0: expected a number from 1");
	refuse(SWAP "swapsize = 2m\nexportname = /f\n", "are not for swap exports");
	refuse(SWAP "swapsize = 2m\nreadonly = true\n", "are not for swap exports");
	refuse(SWAP "swapsize = 2m\nfilesize = 2m\n", "are not for swap exports");
	refuse("[generic]\n[swap-*]\nswapdir = d\nswapsize = 2m\n", "give an absolute path");
	refuse("[generic]\n[swap]\nswapdir = /d\nswapsize = 2m\n", "put a * where they differ");
	refuse("[generic]\n[a*b*]\nswapdir = /d\nswapsize = 2m\n", "use one *");
	refuse("[generic]\n[.*]\nswapdir = /d\nswapsize = 2m\n", "begins with a dot");
	refuse("[generic]\n[a/*]\nswapdir = /d\nswapsize = 2m\n", "no client could have the name");
	refuse("[generic]\n[a]\nexportname = /f\nquota = 2m\n", "are for swap exports");
	refuse("[generic]\n[a]\nexportname = /f\npreallocate = true\n", "are for swap exports");
}

static void every_key(void **state)
{
	struct srv_config *c = load("[generic]\n"
				    "listenaddr = 127.0.0.1, ::1\n"
				    "port = 1234\n"
				    "unixsock = /run/x\n"
				    "duallisten = true\n"
				    "user = nobody\n"
				    "group = nogroup\n"
				    "allowlist = true\n"
				    "max_threads = 7\n"
				    "loops = 3\n"
				    "io = threads\n"
				    "buffer_memory = 1g\n"
				    "client_memory = 32m\n"
				    "max_clients = 3\n"
				    "maxperaddress = 2\n"
				    "address_memory = 48m\n"
				    "handshake_timeout = 5\n"
				    "control = /run/c\n"
				    "metrics = [::1]:9\n"
				    "log_level = debug\n"
				    "log_format = json \n"
				    "oldstyle = false\n"
				    "force_tls = false\n"
				    "[first disk]\n"
				    "exportname = /a b\n"
				    "description = a disk\n"
				    "authfile = /allow\n"
				    "virtstyle = none\n"
				    "filesize = 1g\n"
				    "maxconnections = 2\n"
				    "timeout = 60\n"
				    "readonly = true\n"
				    "flush = false\n"
				    "fua = false\n"
				    "trim = false\n"
				    "rotational = true\n"
				    "sync = true\n"
				    "copyonwrite = false\n"
				    "temporary = false\n"
				    "multifile = true\n"
				    "prerun = mount '/a b' %s\n"
				    "postrun = \n"
				    "[second]\n"
				    "exportname=/c%s\n"
				    "virtstyle=none\n",
				    0, NULL);
	const struct srv_export *e = export(c, 0);

	(void)state;
	assert_string_equal(c->listenaddr, "127.0.0.1, ::1");
	assert_string_equal(c->port, "1234");
	assert_string_equal(c->unixsock, "/run/x");
	assert_true(c->duallisten && c->allowlist);
	assert_string_equal(c->user, "nobody");
	assert_string_equal(c->group, "nogroup");
	assert_int_equal(c->max_threads, 7);
	assert_int_equal(c->loops, 3);
	assert_int_equal(c->io, SRV_IO_THREADS);
	assert_true(c->buffer_memory == 1 << 30);
	assert_true(c->client_memory == 32 << 20);
	assert_int_equal(c->max_clients, 3);
	assert_int_equal(c->max_per_address, 2);
	assert_true(c->address_memory == 48 << 20);
	assert_int_equal(c->handshake_timeout, 5);
	assert_string_equal(c->control, "/run/c");
	assert_string_equal(c->metrics, "[::1]:9");
	assert_int_equal(c->log_level, LOG_DEBUG);
	assert_int_equal(c->log_format, NBD_LOG_JSON);
	assert_string_equal(e->name, "first disk");
	assert_string_equal(e->path, "/a b");
	assert_string_equal(e->description, "a disk");
	assert_string_equal(e->authfile, "/allow");
	assert_true(e->size == 1 << 30);
	assert_int_equal(e->max_connections, 2);
	assert_int_equal(e->timeout, 60);
	assert_true(e->readonly && e->rotational && e->sync);
	assert_false(e->flush || e->fua || e->trim);
	assert_true(e->multifile);
	assert_false(e->copyonwrite || e->temporary || e->treefiles);
	assert_string_equal(e->prerun, "mount '/a b' %s");
	assert_null(e->postrun);
	assert_string_equal(export(c, 1)->path, "/c%s");
	srv_config_put(c);
}

#define E "[generic]\n[disk]\nexportname = /f\n"

/* Each names file, section and key */
static void not_heeded(void **state)
{
	static const char *const generic[] = { "splice" };
	static const char *const per_export[] = { "listenaddr", "transactionlog", "datalog",
						  "sparse_cow", "splice" };
	char text[160], said[128];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(generic) / sizeof(*generic); i++) {
		snprintf(text, sizeof(text), "[generic]\n%s = x\n[d]\nexportname = /f\n",
			 generic[i]);
		snprintf(said, sizeof(said), "/config [generic] %s has no effect", generic[i]);
		warn(text, said);
	}
	for (i = 0; i < sizeof(per_export) / sizeof(*per_export); i++) {
		snprintf(text, sizeof(text), E "%s = true\n", per_export[i]);
		snprintf(said, sizeof(said), "/config [disk] %s has no effect", per_export[i]);
		warn(text, said);
	}
	warn("[generic]\nfrobnicate = 1\n", "/config [generic] frobnicate: unknown key");
	warn(E "ReadOnly = true\n", "/config [disk] ReadOnly: unknown key");
}

static void refused(void **state)
{
	static const char *const generic[] = { "oldstyle", "tlsonly" };
	static const char *const per_export[] = { "waitfile", "sdp", "tlsonly" };
	char text[160], said[128];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(generic) / sizeof(*generic); i++) {
		snprintf(text, sizeof(text), "[generic]\n%s = true\n", generic[i]);
		snprintf(said, sizeof(said), "/config [generic] %s = true", generic[i]);
		refuse(text, said);
	}
	for (i = 0; i < sizeof(per_export) / sizeof(*per_export); i++) {
		snprintf(text, sizeof(text), E "%s = true\n", per_export[i]);
		snprintf(said, sizeof(said), "/config [disk] %s = true", per_export[i]);
		refuse(text, said);
		snprintf(text, sizeof(text), E "%s = false\n", per_export[i]);
		srv_config_put(load(text, 0, NULL));
	}
}

static void kinds(void **state)
{
	struct srv_config *c;

	(void)state;
	refuse(E "temporary = true\n", "[disk]: temporary = true: give the size of the export");
	refuse(E "treefiles = true\n", "[disk]: treefiles = true: give the size of the export");
	refuse(E "temporary = true\nfilesize = 1m\nmultifile = true\n",
	       "temporary = true: its file is new for every client");
	refuse(E "temporary = true\nfilesize = 1m\ntreefiles = true\n", "temporary = true");
	refuse(E "temporary = true\nfilesize = 1m\ncopyonwrite = true\n", "temporary = true");
	refuse(E "direct = true\nmultifile = true\n", "direct = true: it is for exports that are");
	refuse(E "direct = true\ncopyonwrite = true\n",
	       "direct = true: it is for exports that are");
	refuse(E "copyonwrite = true\ncowdir = tmp\n", "cowdir = tmp: give an absolute path");
	refuse(E "prerun = touch 'x\n", "[disk]: prerun = touch 'x: no program and arguments");
	refuse(E "postrun = \"\n", "[disk]: postrun = \": no program and arguments");
	refuse("[generic]\n[s-*]\nswapdir = /s\nswapsize = 1m\ncopyonwrite = true\n",
	       "are not for swap exports");
	refuse("[generic]\n[s-*]\nswapdir = /s\nswapsize = 1m\npostrun = true\n",
	       "are not for swap exports");
	c = load(E "filesize = 1m\ntreefiles = true\nmultifile = true\ncopyonwrite = true\n"
		   "cowdir = /tmp\n",
		 0, NULL);
	assert_true(export(c, 0)->treefiles && export(c, 0)->copyonwrite);
	assert_false(export(c, 0)->multifile);
	assert_string_equal(export(c, 0)->cowdir, "/tmp");
	srv_config_put(c);
	c = load(E "copyonwrite = true\nreadonly = true\n", 0, NULL);
	assert_false(export(c, 0)->copyonwrite);
	srv_config_put(c);
}

static void bad_values(void **state)
{
	static const char *const bools[] = { "readonly",   "flush", "fua",	  "trim",
					     "rotational", "sync",  "copyonwrite" };
	char text[160], said[128];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bools) / sizeof(*bools); i++) {
		snprintf(text, sizeof(text), E "%s = yes\n", bools[i]);
		snprintf(said, sizeof(said), "[disk] %s = yes: expected true or false", bools[i]);
		refuse(text, said);
	}
	refuse("[generic]\nallowlist = 1\n", "allowlist = 1: expected true or false");
	refuse("[generic]\nmax_threads = 0\n", "max_threads = 0: expected a number from 1 to 64");
	refuse("[generic]\nmax_threads = 65\n", "max_threads = 65");
	refuse("[generic]\nloops = 257\n", "loops = 257");
	refuse("[generic]\nio = epoll\n", "io = epoll: expected auto, uring or threads");
	refuse("[generic]\nbuffer_memory = 1m\n", "buffer_memory = 1m: expected at least 32m");
	refuse("[generic]\nclient_memory = 33554431\n", "expected at least 32m");
	refuse("[generic]\nmax_clients = -1\n", "max_clients = -1");
	refuse("[generic]\naddress_memory = 1m\n", "expected at least 32m");
	refuse("[generic]\nmaxperaddress = 65537\n", "maxperaddress = 65537");

	refuse("[generic]\nhandshake_timeout = 10s\n", "handshake_timeout = 10s");
	refuse("[generic]\nlog_level = 3\n", "expected error, warning, info or debug");
	refuse("[generic]\nlog_format = xml\n", "log_format = xml: expected text or json");
	refuse(E "filesize = big\n", "filesize = big: expected a number of bytes");
	refuse(E "filesize = 99999999999999999999\n", "filesize = 9999");
	refuse(E "maxconnections = 1x\n", "maxconnections = 1x");
	refuse(E "timeout = -5\n", "timeout = -5");
	refuse(E "virtstyle = whatever\n", "virtstyle = whatever");
	/* All faults of a file are told at once */
	refuse(E "timeout = a\nreadonly = b\n", "readonly = b");
}

static void bad_structure(void **state)
{
	(void)state;
	refuse("[disk]\nexportname = /f\n", "the first section must be [generic]");
	refuse("no section\n", "/config");
	refuse("[generic]\nno value\n", "/config");
	refuse("[generic]\n[disk]\n", "[disk]: exportname is missing");
	refuse("[generic]\n[disk]\nexportname = f\n", "exportname = f: give an absolute path");
	refuse("[generic]\n[disk]\nexportname = /d/%s\n", "a file per client address");
	refuse("[generic]\n[disk]\nexportname = /d/%s\nvirtstyle = iphash\n",
	       "a file per client address");
	refuse("[generic]\nincludedir = /nonexistent/dir\n",
	       "cannot read includedir /nonexistent/dir");
	unlink(path);
	capture_start();
	assert_int_equal(srv_config_load(&(struct srv_config){ 0 }, path), -1);
	assert_said(capture_end(), "cannot read configuration file");
}

static void empty_file(void **state)
{
	struct srv_config *c = load("# nothing\n", 0, NULL);

	(void)state;
	assert_int_equal(c->exports->len, 0);
	srv_config_put(c);
}

static void include(void **state)
{
	char text[160], sub[96];
	struct srv_config *c;

	(void)state;
	snprintf(sub, sizeof(sub), "%s/conf.d", dir);
	assert_int_equal(mkdir(sub, 0700), 0);
	snprintf(text, sizeof(text), "[generic]\nincludedir = %s\n[a]\nexportname = /a\n", sub);
	c = load(text, 0, NULL);
	assert_int_equal(c->exports->len, 1);
	srv_config_put(c);

	write_file("conf.d/2.conf", "[c]\nexportname = /c\n");
	write_file("conf.d/1.conf", "[b]\nexportname = /b\n");
	write_file("conf.d/not", "[d]\nexportname = /d\n");
	c = load(text, 0, NULL);
	assert_int_equal(c->exports->len, 3);
	assert_string_equal(export(c, 0)->name, "a");
	assert_string_equal(export(c, 1)->name, "b");
	assert_string_equal(export(c, 2)->name, "c");
	srv_config_put(c);

	write_file("conf.d/3.conf", "[b]\nexportname = /b\n");
	refuse(text, "conf.d/3.conf [b]: there is already an export of this name");
	write_file("conf.d/3.conf", "[generic]\nport = 1\n");
	refuse(text, "conf.d/3.conf [generic]: this section belongs in the main");
	write_file("conf.d/3.conf", "[x]\nexportname = /x\nnonsense = 1\n");
	warn(text, "conf.d/3.conf [x] nonsense: unknown key");
}

static void find(void **state)
{
	struct srv_config *c = load("[generic]\n[a]\nexportname=/a\n[b]\nexportname=/b\n", 0, NULL);

	(void)state;
	assert_ptr_equal(srv_config_find(c, "a"), export(c, 0));
	assert_ptr_equal(srv_config_find(c, "b"), export(c, 1));
	assert_ptr_equal(srv_config_find(c, ""), export(c, 0));
	assert_null(srv_config_find(c, "ab"));
	assert_null(srv_config_find(c, "A"));
	assert_null(srv_config_find(c, "generic"));
	srv_config_put(c);
}

/* A whole configuration as the server takes it; what it says if that is no good */
static struct srv_config *settle(const char *generic, const char *exports, const char *said)
{
	struct srv_config *c;
	char text[1024];
	const char *out;
	int ret;

	snprintf(text, sizeof(text), "[generic]\n%s\n%s", generic, exports);
	c = load(text, 0, NULL);
	capture_start();
	ret = srv_config_tls(c, "FILE");
	out = capture_end();
	if (said)
		assert_said(out, said);
	else
		assert_string_equal(out, "");
	assert_int_equal(ret, said ? -1 : 0);
	return c;
}

static void unsettled(const char *generic, const char *exports, const char *said)
{
	srv_config_put(settle(generic, exports, said));
}

#define A "[a]\nexportname = /f\n"
#define B "[b]\nexportname = /g\n"

static void tls_modes(void **state)
{
	static const struct {
		const char *generic, *a;
		enum srv_tls_mode expected, first, second;
		bool somewhere;
	} cases[] = {
		{ "", "", SRV_TLS_OFF, SRV_TLS_OFF, SRV_TLS_OFF, false },
		{ "tls = off\n", "tls = off", SRV_TLS_OFF, SRV_TLS_OFF, SRV_TLS_OFF, false },
		{ "KEY", "", SRV_TLS_OPTIONAL, SRV_TLS_OPTIONAL, SRV_TLS_OPTIONAL, false },
		{ "KEYtls = off\n", "", SRV_TLS_OFF, SRV_TLS_OFF, SRV_TLS_OFF, false },
		{ "KEY", "tls = off", SRV_TLS_OPTIONAL, SRV_TLS_OFF, SRV_TLS_OPTIONAL, false },
		{ "KEYforce_tls = false\n", "force_tls = true", SRV_TLS_OPTIONAL, SRV_TLS_REQUIRED,
		  SRV_TLS_OPTIONAL, true },
		{ "KEYtls = optional\n", "tls = required\nforce_tls = true", SRV_TLS_OPTIONAL,
		  SRV_TLS_REQUIRED, SRV_TLS_OPTIONAL, true },
		{ "KEYforce_tls = true\n", "", SRV_TLS_REQUIRED, SRV_TLS_REQUIRED, SRV_TLS_REQUIRED,
		  true },
		{ "KEYtls = required\n", "tls = required", SRV_TLS_REQUIRED, SRV_TLS_REQUIRED,
		  SRV_TLS_REQUIRED, true },
	};
	char generic[256], exports[256];
	struct srv_config *c;
	bool key;
	size_t i;

	(void)state;
	write_file("psk", "alice:00112233445566778899aabbccddeeff\n");
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		key = !strncmp(cases[i].generic, "KEY", 3);
		snprintf(generic, sizeof(generic), "%s%s%s", key ? "pskfile = " : "",
			 key ? dir : "", key ? "/psk\n" : "");
		strcat(generic, cases[i].generic + (key ? 3 : 0));
		snprintf(exports, sizeof(exports), A "%s\n" B, cases[i].a);
		c = settle(generic, exports, NULL);
		assert_int_equal(c->tls, cases[i].expected);
		assert_int_equal(export(c, 0)->tls, cases[i].first);
		assert_int_equal(export(c, 1)->tls, cases[i].second);
		assert_int_equal(c->tls_somewhere, cases[i].somewhere);
		assert_int_equal(!c->creds, c->tls == SRV_TLS_OFF);
		srv_config_put(c);
	}
}

static void tls_contradictions(void **state)
{
	char psk[128], text[256];

	(void)state;
	write_file("psk", "alice:00112233445566778899aabbccddeeff\n");
	write_file("junk", "no key\n");
	snprintf(psk, sizeof(psk), "pskfile = %s/psk", dir);

	unsettled("tls = optional", A, "FILE [generic] tls = optional: give a keyfile");
	unsettled("tls = required", A, "FILE [generic] tls = required: give a keyfile");
	unsettled("force_tls = true", A, "FILE [generic] tls = required: give a keyfile");
	unsettled("", A "tls = optional", "FILE [a] tls = optional: [generic] has no TLS");
	unsettled("", A "force_tls = true", "FILE [a] tls = required: [generic] has no TLS");
	unsettled("certfile = /c", A, "FILE [generic] certfile = /c: there is no keyfile");
	unsettled("cacertfile = /c", A, "FILE [generic] cacertfile = /c: there is no keyfile");
	unsettled("keyfile = /nonexistent/k", A, "keyfile = /nonexistent/k: cannot be read");
	unsettled("keyfile = k", A, "keyfile = k: give an absolute path");
	unsettled("pskfile = /nonexistent/k", A, "pskfile = /nonexistent/k: cannot be read");
	unsettled("pskfile = k", A, "pskfile = k: give an absolute path");
	snprintf(text, sizeof(text), "pskfile = %s/junk", dir);
	unsettled(text, A, "/junk line 1: expected NAME:KEY");
	snprintf(text, sizeof(text), "keyfile = %s/junk", dir);
	unsettled(text, A, "/junk");
	snprintf(text, sizeof(text), "%s\ntlsprio = NORMAL:+FANCY", psk);
	unsettled(text, A, "tlsprio = NORMAL:+FANCY: ");
	snprintf(text, sizeof(text), "%s\ntls = off\nforce_tls = true", psk);
	unsettled(text, A, "FILE [generic] tls = off: force_tls = true says");
	snprintf(text, sizeof(text), "%s\ntls = required", psk);
	unsettled(text, A B "tls = off", "FILE [b] tls = off: [generic] requires it for all");
	unsettled(psk, A "tls = optional\nforce_tls = true", "FILE [a] tls = optional: force_tls");
	refuse("[generic]\ntls = on\n", "tls = on: expected off, optional or required");
	refuse(E "tls =\n", "[disk] tls = : expected off, optional or required");
	refuse(E "tlsonly = true\n", "it has no effect in the reference implementation; "
				     "set tls = required");
}

#define RBD "[generic]\n[disk]\nexportname = rbd:"

static void rbd_anywhere(void **state)
{
	(void)state;
	refuse(E "cephuser = nbd\n", "[disk]: cephuser, cephconf and rbd_takeover are for images");
	refuse(E "cephconf = /c\n", "give exportname = rbd:POOL/IMAGE, or remove them");
	refuse(E "rbd_takeover = false\n", "cephuser, cephconf and rbd_takeover are for images");
	refuse(E "rbd_takeover = no\n", "[disk] rbd_takeover = no: expected true or false");
	refuse(SWAP "swapsize = 1m\ncephuser = nbd\n", "are for images of Ceph");
	assert_true(srv_rbd_check_path("rbd:pool/image"));
	assert_true(srv_rbd_check_path("rbd:pool/space/image"));
	assert_false(srv_rbd_check_path("rbd:"));
	assert_false(srv_rbd_check_path("rbd:pool"));
	assert_false(srv_rbd_check_path("rbd:pool/"));
	assert_false(srv_rbd_check_path("rbd:/image"));
	assert_false(srv_rbd_check_path("rbd:pool//image"));
	assert_false(srv_rbd_check_path("rbd:pool/space/image/more"));
	assert_false(srv_rbd_check_path("rbd:pool/image@snapshot"));
}

static void rbd_exports(void **state)
{
	static const char *const not_for_it[] = { "multifile", "treefiles", "temporary",
						  "copyonwrite", "direct" };
	struct srv_config *c;
	char text[200];
	size_t i;

	(void)state;
	if (srv_rbd_missing()) {
		refuse(RBD "p/i\n", "[disk]: exportname = rbd:p/i: ");
		refuse(RBD "p/i\n", srv_rbd_missing());
		return;
	}
	c = load(RBD "p/i\n", 0, NULL);
	assert_true(srv_export_is_rbd(export(c, 0)) && srv_export_is_slow(export(c, 0)));
	assert_null(export(c, 0)->cephuser);
	assert_null(export(c, 0)->cephconf);
	assert_true(export(c, 0)->rbd_takeover);
	srv_config_put(c);

	c = load(RBD "p/n/100%s\ncephuser = nbd\ncephconf = /c\nrbd_takeover = false\n"
		     "readonly = true\nfilesize = 1m\n",
		 0, NULL);
	assert_string_equal(export(c, 0)->path, "rbd:p/n/100%s");
	assert_string_equal(export(c, 0)->cephuser, "nbd");
	assert_string_equal(export(c, 0)->cephconf, "/c");
	assert_false(export(c, 0)->rbd_takeover);
	srv_config_put(c);

	/* As if they had not been given */
	c = load(RBD "p/i\ncephuser =\ncephconf =\n", 0, NULL);
	assert_true(!export(c, 0)->cephuser && !export(c, 0)->cephconf);
	srv_config_put(c);

	refuse(RBD "p\n", "exportname = rbd:p: give rbd:POOL/IMAGE or rbd:POOL/NAMESPACE/IMAGE");
	refuse(RBD "p/i\ncephconf = ceph.conf\n", "cephconf = ceph.conf: give an absolute path");
	for (i = 0; i < sizeof(not_for_it) / sizeof(*not_for_it); i++) {
		snprintf(text, sizeof(text), RBD "p/i\nfilesize = 1m\n%s = true\n", not_for_it[i]);
		refuse(text, "exportname = rbd:p/i: multifile, treefiles, temporary, copyonwrite");
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(defaults),
		T(every_key),
		T(not_heeded),
		T(refused),
		T(kinds),
		T(bad_values),
		T(bad_structure),
		T(empty_file),
		T(include),
		T(find),
		T(swap_exports),
		T(tls_modes),
		T(tls_contradictions),
		T(rbd_anywhere),
		T(rbd_exports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
