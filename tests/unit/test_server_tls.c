// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "capture.h"
#include "server/config.h"
#include "server/ktls.h"
#include "server/psk.h"
#include "server/tls.h"

#define HEX   "00112233445566778899aabbccddeeff"
#define BYTES (3u << 20)

static struct srv_config *config;
static struct srv_tls *server;
static gnutls_session_t client;
static gnutls_psk_client_credentials_t client_creds;
static int fd[2];
static uint8_t *sent, *got;
static bool ktls; /* over TCP, and with it where the kernel has it */

/* As socketpair(), and nothing waits once it is there */
static void tcp_pair(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int l = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(at);

	assert_int_equal(bind(l, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(l, 1), 0);
	assert_int_equal(getsockname(l, (struct sockaddr *)&at, &len), 0);
	fd[1] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd[1], (struct sockaddr *)&at, sizeof(at)), 0);
	fd[0] = accept4(l, NULL, NULL, SOCK_NONBLOCK);
	assert_true(fd[0] >= 0);
	assert_int_equal(fcntl(fd[1], F_SETFL, O_NONBLOCK), 0);
	close(l);
}

static int setup(void **state)
{
	char dir[] = "/tmp/nbd-tls-XXXXXX", path[64];
	int small = 4096;
	FILE *f;

	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/psk", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs("alice:" HEX "\n", f);
	fclose(f);
	config = srv_config_new();
	config->pskfile = g_strdup(path);
	config->ktls = ktls;
	capture_start();
	assert_int_equal(srv_config_tls(config, "test"), 0);
	if (ktls && !srv_ktls_available())
		assert_said(capture_end(), "the kernel has no TLS for TCP");
	else
		assert_string_equal(capture_end(), "");
	unlink(path);
	rmdir(dir);

	if (ktls)
		tcp_pair();
	else
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	/* So that there is always a record of which only a part has gone */
	setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	server = srv_tls_new(config->creds, fd[0]);
	assert_non_null(server);
	sent = malloc(BYTES);
	got = malloc(BYTES);
	assert_true(sent && got);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	srv_tls_free(server);
	srv_config_put(config);
	if (client)
		gnutls_deinit(client);
	if (client_creds)
		gnutls_psk_free_client_credentials(client_creds);
	client = NULL;
	client_creds = NULL;
	close(fd[0]);
	close(fd[1]);
	free(sent);
	free(got);
	return 0;
}

static int setup_ktls(void **state)
{
	ktls = true;
	return setup(state);
}

static int teardown_ktls(void **state)
{
	ktls = false;
	return teardown(state);
}

static void new_client(const char *name, const char *hex, const char *version)
{
	gnutls_datum_t key = { (unsigned char *)hex, (unsigned int)strlen(hex) };
	char prio[128];

	snprintf(prio, sizeof(prio), "NORMAL:-VERS-ALL:+%s:+ECDHE-PSK:+DHE-PSK", version);
	assert_int_equal(gnutls_init(&client, GNUTLS_CLIENT | GNUTLS_NONBLOCK), 0);
	assert_int_equal(gnutls_priority_set_direct(client, prio, NULL), 0);
	assert_int_equal(gnutls_psk_allocate_client_credentials(&client_creds), 0);
	assert_int_equal(
		gnutls_psk_set_client_credentials(client_creds, name, &key, GNUTLS_PSK_KEY_HEX), 0);
	assert_int_equal(gnutls_credentials_set(client, GNUTLS_CRD_PSK, client_creds), 0);
	gnutls_transport_set_int(client, fd[1]);
}

/* What was sent is there at once, but over TCP */
static void linger(void)
{
	if (ktls)
		usleep(1000);
}

/* What the server's side comes to */
static int shake_hands(void)
{
	int theirs = GNUTLS_E_AGAIN, ours = -EAGAIN, i;
	bool for_write;

	for (i = 0; i < 1000 && ours == -EAGAIN; i++) {
		if (theirs == GNUTLS_E_AGAIN)
			theirs = gnutls_handshake(client);
		ours = srv_tls_handshake(server, &for_write);
		linger();
	}
	for (i = 0; i < 1000 && theirs == GNUTLS_E_AGAIN; i++) {
		theirs = gnutls_handshake(client);
		linger();
	}
	assert_int_equal(!theirs, !ours);
	return ours;
}

static void connect_with(const char *version)
{
	new_client("alice", HEX, version);
	assert_int_equal(shake_hands(), 0);
	assert_false(srv_tls_midway(server));
}

static void says_who_it_is(void **state)
{
	char *text;

	(void)state;
	connect_with("VERS-TLS1.3");
	text = srv_tls_describe(server);
	assert_non_null(strstr(text, "TLS1.3"));
	assert_non_null(strstr(text, ", as alice"));
	g_free(text);
}

/* Pieces of all sizes, as replies have them: short heads, short data, long data, nothing */
static void send_everything(bool key_updates)
{
	static const size_t sizes[] = { 16, 4096, 16, 100, 0, 28, 16384, 1, 70000, 0, 20, 16383 };
	size_t begun = 0, done = 0, part = 0, i = 0, n, read = 0, turn = 0;
	struct iovec iov[5];
	uint8_t none;
	ssize_t ret;

	for (n = 0; n < BYTES; n++)
		sent[n] = (uint8_t)(n * 7 + (n >> 8) * 13 + (n >> 16));
	while (read < BYTES) {
		/* Up to five pieces, of which a part has gone already */
		for (n = 0, begun = done; n < 5 && begun < BYTES; n++) {
			size_t len = sizes[(i + n) % 12] - (n ? 0 : part);

			if (len > BYTES - begun)
				len = BYTES - begun;
			iov[n] = (struct iovec){ sent + begun, len };
			begun += len;
		}
		ret = n ? srv_tls_send(server, iov, n) : -EAGAIN;
		assert_true(ret > 0 || ret == -EAGAIN);
		for (done += ret > 0 ? (size_t)ret : 0, part += ret > 0 ? (size_t)ret : 0;
		     part >= sizes[i % 12]; i++)
			part -= sizes[i % 12];
		ret = gnutls_record_recv(client, got + read, turn % 3 ? 5000 : 20000);
		assert_true(ret > 0 || ret == GNUTLS_E_AGAIN);
		if (ret > 0)
			read += (size_t)ret;
		/* The server has to answer with one of its own, in the middle of all this */
		if (key_updates && turn % 50 == 10 && turn < 300)
			assert_int_equal(gnutls_session_key_update(client, GNUTLS_KU_PEER), 0);
		if (key_updates)
			assert_int_equal(srv_tls_recv(server, &(struct iovec){ &none, 1 }, 1),
					 -EAGAIN);
		turn++;
	}
	assert_int_equal(done, BYTES);
	assert_memory_equal(sent, got, BYTES);
}

static void sends_whatever_has_room(void **state)
{
	(void)state;
	connect_with("VERS-TLS1.3");
	send_everything(false);
}

static void sends_with_tls12(void **state)
{
	(void)state;
	connect_with("VERS-TLS1.2");
	send_everything(false);
}

/* New keys, and with them data: nothing else tells that these are there */
static void reads_on_after_new_keys(void **state)
{
	uint8_t byte = 0;

	(void)state;
	connect_with("VERS-TLS1.3");
	assert_int_equal(gnutls_session_key_update(client, 0), 0);
	assert_int_equal(gnutls_record_send(client, "x", 1), 1);
	assert_int_equal(srv_tls_recv(server, &(struct iovec){ &byte, 1 }, 1), 1);
	assert_int_equal(byte, 'x');
	/* Alone they are no message begun */
	assert_int_equal(gnutls_session_key_update(client, 0), 0);
	assert_int_equal(srv_tls_recv(server, &(struct iovec){ &byte, 1 }, 1), -EAGAIN);
	assert_false(srv_tls_midway(server));
}

static void receives_into_what_is_there(void **state)
{
	struct iovec iov[2] = { { NULL, 0 }, { NULL, 0 } };
	size_t begun = 0, read = 0, n;
	ssize_t ret;

	(void)state;
	connect_with("VERS-TLS1.3");
	for (n = 0; n < BYTES; n++)
		sent[n] = (uint8_t)(n * 3 + (n >> 10));
	while (read < BYTES) {
		if (begun < BYTES) {
			ret = gnutls_record_send(client, sent + begun, BYTES - begun);
			assert_true(ret > 0 || ret == GNUTLS_E_AGAIN);
			begun += ret > 0 ? (size_t)ret : 0;
		}
		/* Into the first that has room */
		iov[read % 2] =
			(struct iovec){ got + read, BYTES - read < 999 ? BYTES - read : 999 };
		iov[1 - read % 2] = (struct iovec){ sent, read % 2 ? 0 : 16 };
		ret = srv_tls_recv(server, iov, 2);
		assert_true(ret > 0 || ret == -EAGAIN);
		read += ret > 0 ? (size_t)ret : 0;
	}
	assert_memory_equal(sent, got, BYTES);
	gnutls_bye(client, GNUTLS_SHUT_WR);
	assert_int_equal(srv_tls_recv(server, iov, 2), 0);
}

static void hanging_up_is_no_error(void **state)
{
	uint8_t buf[16];

	(void)state;
	connect_with("VERS-TLS1.3");
	shutdown(fd[1], SHUT_WR);
	assert_int_equal(srv_tls_recv(server, &(struct iovec){ buf, sizeof(buf) }, 1), 0);
}

static void half_a_record_is_midway(void **state)
{
	uint8_t buf[16];
	struct iovec iov = { buf, sizeof(buf) };

	(void)state;
	connect_with("VERS-TLS1.3");
	assert_int_equal(write(fd[1],
			       "\x17\3\3\0\x20"
			       "abc",
			       8),
			 8);
	assert_int_equal(srv_tls_recv(server, &iov, 1), -EAGAIN);
	assert_true(srv_tls_midway(server));
	/* And what is no record is an error that is told */
	assert_int_equal(write(fd[1], buf, 16), 16);
	assert_int_equal(write(fd[1], buf, 16), 16);
	assert_int_equal(srv_tls_recv(server, &iov, 1), -EPROTO);
	assert_true(*srv_tls_error(server));
	srv_tls_bye(server);
}

static void plain_text_is_no_handshake(void **state)
{
	bool for_write;

	(void)state;
	assert_int_equal(srv_tls_handshake(server, &for_write), -EAGAIN);
	assert_false(for_write);
	assert_int_equal(write(fd[1], "IHAVEOPT\0\0\0\10\0\0\0\0", 16), 16);
	assert_int_equal(srv_tls_handshake(server, &for_write), -EPROTO);
}

/* Nobody finds out which names there are: a wrong name is refused as a wrong key is */
static void wrong_key_and_wrong_name(void **state)
{
	static const char *const version[] = { "VERS-TLS1.3", "VERS-TLS1.2" };
	char why[2][160];
	int i;

	for (i = 0; i < 4; i++) {
		if (i) {
			teardown(state);
			setup(state);
		}
		if (i % 2)
			new_client("mallory", HEX, version[i / 2]);
		else
			new_client("alice", "ff" HEX, version[i / 2]);
		assert_int_equal(shake_hands(), -EPROTO);
		snprintf(why[i % 2], sizeof(why[0]), "%s", srv_tls_error(server));
		if (i % 2)
			assert_string_equal(why[0], why[1]);
	}
}

static void old_versions_are_refused(void **state)
{
	(void)state;
	new_client("alice", HEX, "VERS-TLS1.1");
	assert_int_equal(shake_hands(), -EPROTO);
}

static GHashTable *parse(const char *text, const char *said)
{
	GHashTable *keys;
	const char *out;

	capture_start();
	keys = srv_psk_parse(text, "F");
	out = capture_end();
	if (said)
		assert_said(out, said);
	else
		assert_string_equal(out, "");
	assert_int_equal(!keys, said ? 1 : 0);
	/* What is said does not give keys away */
	assert_null(strstr(out, "c0ffee"));
	return keys;
}

static void keys_of_a_file(void **state)
{
	g_autoptr(GBytes) bob = g_bytes_new("bob", 3), raw = g_bytes_new("\0\1", 2);
	g_autoptr(GHashTable) keys = parse("alice:00\n\nbob:C0ffEE\r\n#0001:ff\n", NULL);
	GBytes *key;

	(void)state;
	assert_int_equal(g_hash_table_size(keys), 3);
	key = g_hash_table_lookup(keys, bob);
	assert_non_null(key);
	assert_int_equal(g_bytes_get_size(key), 3);
	assert_memory_equal(g_bytes_get_data(key, NULL), "\xc0\xff\xee", 3);
	assert_non_null(g_hash_table_lookup(keys, raw));
}

static void a_file_of_bytes(void **state)
{
	char file[] = "/tmp/nbd-psk-XXXXXX";
	int f = mkstemp(file);

	(void)state;
	/* What is behind the 0 would be left out without a word */
	assert_int_equal(write(f, "alice:00\n\0bob:00\n", 18), 18);
	close(f);
	capture_start();
	assert_null(srv_psk_load(file));
	assert_said(capture_end(), ": a byte of it is 0");
	unlink(file);
}

static void bad_files_of_keys(void **state)
{
	char *longest = g_strdup_printf("a:%0*d\n", 2 * SRV_PSK_MAX, 0);
	char *longer = g_strdup_printf("a:%0*d\n", 2 * SRV_PSK_MAX + 2, 0);

	(void)state;
	parse("", "pskfile F: no key");
	parse("\n\n", "pskfile F: no key");
	parse("a:00\nc0ffee\n", "pskfile F line 2: expected NAME:KEY");
	parse(":c0ffee\n", "line 1: bad name");
	parse("#c0f:c0ffee\n", "line 1: bad name");
	parse("#:c0ffee\n", "line 1: bad name");
	parse("a:\n", "line 1: expected hexadecimal digits");
	parse("a:c0ffee0\n", "line 1: expected hexadecimal digits");
	parse("a:c0ffeeg0\n", "line 1: expected hexadecimal digits");
	parse("a:00\nb:00\na:c0ffee\n", "line 3: the name has a key already");
	g_hash_table_unref(parse(longest, NULL));
	parse(longer, "line 1: expected hexadecimal digits");
	g_free(longest);
	g_free(longer);
}

static void sends_with_new_keys(void **state)
{
	(void)state;
	connect_with("VERS-TLS1.3");
	send_everything(true);
}

static bool kernel_sends(void)
{
	char *text = srv_tls_describe(server);
	bool ret = strstr(text, "sent by the kernel");

	g_free(text);
	return ret;
}

/* In good order: close_notify comes */
static void part(void)
{
	ssize_t ret = GNUTLS_E_AGAIN;
	char none;
	int i;

	for (i = 0; i < 1000 && ret == GNUTLS_E_AGAIN; i++) {
		srv_tls_bye(server);
		linger();
		ret = gnutls_record_recv(client, &none, 1);
	}
	assert_int_equal(ret, 0);
}

/* In turn with the kernel's, where there is one: a machine without is a test as well */
static void by_the_kernel(void **version)
{
	connect_with(*version);
	assert_int_equal(kernel_sends(), srv_ktls_available());
	send_everything(false);
	part();
}

/* As much as there is room for, and close_notify only when there is room for that as well */
static void kernel_sends_all_before_the_end(void **state)
{
	size_t begun = 0, read = 0;
	ssize_t ret;
	int i;

	(void)state;
	connect_with("VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM");
	memset(sent, 'x', BYTES);
	/* Full for good: what has arrived is acknowledged late */
	for (i = 0; i < 100; i++) {
		ret = srv_tls_send(server, &(struct iovec){ sent + begun, BYTES - begun }, 1);
		begun += ret > 0 ? (size_t)ret : 0;
		if (ret > 0)
			i = 0;
		linger();
	}
	assert_int_equal(ret, -EAGAIN);
	assert_int_equal(srv_tls_bye(server), -EAGAIN);
	for (i = 0, ret = 1; i < 10000 && ret; i++) {
		srv_tls_bye(server);
		linger();
		ret = gnutls_record_recv(client, got, 20000);
		assert_true(ret >= 0 || ret == GNUTLS_E_AGAIN);
		read += ret > 0 ? (size_t)ret : 0;
	}
	/* In good order; and a record that GnuTLS holds is none of what it says has been sent */
	assert_int_equal(ret, 0);
	assert_true(read >= begun);
}

/* Of records, by the client: the kernel makes larger ones, and GnuTLS heeds it */
static void kernel_heeds_no_limit(void **state)
{
	static const char *const version[] = { "VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM",
					       "VERS-TLS1.2:-CIPHER-ALL:+AES-128-GCM" };
	int i;

	for (i = 0; i < 2; i++) {
		if (i) {
			teardown(state);
			setup(state);
		}
		new_client("alice", HEX, version[i]);
		assert_int_equal(gnutls_record_set_max_recv_size(client, 1024), 0);
		assert_int_equal(shake_hands(), 0);
		assert_false(kernel_sends());
		send_everything(false);
	}
}

/* None with CBC, for one: GnuTLS goes on */
static void kernel_has_not_every_cipher(void **state)
{
	(void)state;
	connect_with("VERS-TLS1.2:-CIPHER-ALL:+AES-256-CBC:-MAC-ALL:+SHA1");
	assert_false(kernel_sends());
	send_everything(false);
}

static ssize_t receive_byte(uint8_t *byte)
{
	ssize_t ret = -EAGAIN;
	int i;

	for (i = 0; i < 1000 && ret == -EAGAIN; i++) {
		ret = srv_tls_recv(server, &(struct iovec){ byte, 1 }, 1);
		linger();
	}
	return ret;
}

/* The client's own new keys are no matter; ours are, and the connection ends with a reason */
static void kernel_keeps_its_keys(void **state)
{
	uint8_t byte = 0;
	ssize_t ret;

	(void)state;
	connect_with("VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM");
	assert_int_equal(gnutls_session_key_update(client, 0), 0);
	assert_int_equal(gnutls_record_send(client, "x", 1), 1);
	assert_int_equal(receive_byte(&byte), 1);
	assert_int_equal(gnutls_session_key_update(client, GNUTLS_KU_PEER), 0);
	assert_int_equal(gnutls_record_send(client, "y", 1), 1);
	ret = receive_byte(&byte);
	if (srv_ktls_available()) {
		assert_int_equal(ret, -EPROTO);
		assert_non_null(strstr(srv_tls_error(server), "the kernel cannot change"));
		/* Not a byte more under a key that the client wants to be gone */
		assert_int_equal(srv_tls_send(server, &(struct iovec){ sent, 1 }, 1), -EPROTO);
	} else {
		assert_int_equal(ret, 1);
		assert_int_equal(byte, 'y');
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define K(f) cmocka_unit_test_setup_teardown(f, setup_ktls, teardown_ktls)
#define S(version)                                                                         \
	{                                                                                  \
		"kernel sends " version, by_the_kernel, setup_ktls, teardown_ktls, version \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(says_who_it_is),
		T(sends_whatever_has_room),
		T(sends_with_tls12),
		T(sends_with_new_keys),
		T(receives_into_what_is_there),
		T(reads_on_after_new_keys),
		T(hanging_up_is_no_error),
		T(half_a_record_is_midway),
		T(plain_text_is_no_handshake),
		T(wrong_key_and_wrong_name),
		T(old_versions_are_refused),
		S("VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM"),
		S("VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305"),
		S("VERS-TLS1.2:-CIPHER-ALL:+AES-256-GCM"),
		S("VERS-TLS1.2:-CIPHER-ALL:+CHACHA20-POLY1305"),
		K(kernel_has_not_every_cipher),
		K(kernel_sends_all_before_the_end),
		K(kernel_heeds_no_limit),
		K(kernel_keeps_its_keys),
		cmocka_unit_test(keys_of_a_file),
		cmocka_unit_test(a_file_of_bytes),
		cmocka_unit_test(bad_files_of_keys),
	};

	/* Where the kernel must have it */
	if (getenv("KTLS") && !srv_ktls_available())
		errx(1, "the kernel has no TLS for TCP");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
