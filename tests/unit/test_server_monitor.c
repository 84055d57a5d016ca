// SPDX-License-Identifier: GPL-2.0-or-later
/* What the control socket and the metrics port say, without the sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "capture.h"
#include "server/connection.h"
#include "server/monitor.h"

static struct srv_server srv;
static struct srv_visitor v;
static struct srv_shard *shard;
static struct srv_counters counters;

static int setup(void **state)
{
	(void)state;
	memset(&srv, 0, sizeof(srv));
	memset(&v, 0, sizeof(v));
	memset(&counters, 0, sizeof(counters));
	pthread_mutex_init(&srv.lock, NULL);
	srv_stats_init(&srv.stats);
	srv.config = srv_config_new();
	v.srv = &srv;
	v.out = g_string_new(NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	g_string_free(v.out, TRUE);
	srv_stats_destroy(&srv.stats);
	srv_config_put(srv.config);
	pthread_mutex_destroy(&srv.lock);
	nbd_log_set_level(LOG_INFO);
	return 0;
}

/* The whole answer to a question */
static const char *ask(const struct srv_service *service, const char *line)
{
	g_string_truncate(v.out, 0);
	v.answering = false;
	v.last = false;
	v.lines = 0;
	v.step = 0;
	service->line(&v, line);
	if (!v.answering)
		service->line(&v, "Host: x");
	if (!v.answering)
		service->line(&v, "");
	assert_true(v.answering);
	while (service->more(&v))
		;
	assert_null(v.at);
	return v.out->str;
}

static void label(void **state)
{
	GString *out = g_string_new("");

	(void)state;
	srv_metrics_label(out, "plain h\xc3\xa9 {,}= \t");
	assert_string_equal(out->str, "plain h\xc3\xa9 {,}= \t");
	g_string_truncate(out, 0);
	srv_metrics_label(out, "a\"b\\c\nd\xff");
	assert_string_equal(out->str, "a\\\"b\\\\c\\nd\xef\xbf\xbd");
	g_string_free(out, TRUE);
}

static void addresses(void **state)
{
	static const char *const bad[] = { "",
					   "1",
					   ":1",
					   "1.2.3.4",
					   "1.2.3.4:",
					   "1.2.3.4:0",
					   "1.2.3.4:65536",
					   "::1:9190",
					   "1.2.3.4:1x",
					   "[]:1" };
	struct srv_listener l = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		capture_start();
		assert_int_equal(srv_metrics_open(&l, bad[i]), -1);
		capture_end();
		assert_said(capture_text, "expected ADDRESS:PORT");
		assert_int_equal(l.n, 0);
	}
}

static void http(void **state)
{
	static const struct {
		const char *line, *answer;
	} cases[] = {
		{ "GET /metrics HTTP/1.0", "HTTP/1.0 200 OK\r\n" },
		{ "GET /metrics?x=y HTTP/1.1", "HTTP/1.0 200 OK\r\n" },
		{ "HEAD /metrics HTTP/1.1", "HTTP/1.0 200 OK\r\n" },
		{ "GET / HTTP/1.1", "HTTP/1.0 404 " },
		{ "GET /metricsx HTTP/1.1", "HTTP/1.0 404 " },
		{ "POST /metrics HTTP/1.1", "HTTP/1.0 405 " },
		{ "GET /metrics", "HTTP/1.0 400 " },
		{ "GET  /metrics HTTP/1.1", "HTTP/1.0 400 " },
		{ "GET /metrics HTTP/2", "HTTP/1.0 400 " },
		{ "", "HTTP/1.0 400 " },
		{ "NBDMAGIC", "HTTP/1.0 400 " },
	};
	const char *answer;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		answer = ask(&srv_metrics, cases[i].line);
		assert_int_equal(strncmp(answer, cases[i].answer, strlen(cases[i].answer)), 0);
		assert_non_null(strstr(answer, "\r\n\r\n"));
		assert_true(v.last);
	}
	/* The head of an answer alone, and junk is not waited for */
	answer = ask(&srv_metrics, "HEAD /metrics HTTP/1.1");
	assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
	v.answering = false;
	v.lines = 0;
	srv_metrics.line(&v, "junk");
	assert_true(v.answering);
	v.answering = false;
	v.lines = 0;
	srv_metrics.line(&v, "GET /metrics HTTP/1.0");
	assert_false(v.answering);
}

static void use(const char *export)
{
	assert_non_null(srv_stats_use(&srv.stats, export, 0, &shard));
	srv_count_begin(&counters, shard);
	srv_count_answer(&counters, shard, SRV_READ, 512, false, 1500);
	srv_count_begin(&counters, shard);
	srv_count_answer(&counters, shard, SRV_READ, 512, true, 40000000000);
	srv_count_begin(&counters, shard);
}

static void metrics(void **state)
{
	static const char *const lines[] = {
		"\nnbd_server_clients_total 7\n",
		"\nnbd_server_refused_total{limit=\"max_clients\"} 0\n",
		"\nnbd_server_refused_total{limit=\"maxperaddress\"} 3\n",
		"\n# TYPE nbd_server_requests_total counter\n",
		"\nnbd_server_export_clients{export=\"a\\\"\"} 1\n",
		"\nnbd_server_requests_in_flight{export=\"b\"} 1\n",
		"\nnbd_server_requests_total{export=\"a\\\"\",command=\"read\"} 2\n",
		"\nnbd_server_requests_total{export=\"b\",command=\"write\"} 0\n",
		"\nnbd_server_request_errors_total{export=\"b\",command=\"read\"} 1\n",
		"\nnbd_server_bytes_total{export=\"b\",command=\"read\"} 512\n",
		"\nnbd_server_request_duration_seconds_bucket{export=\"b\",command=\"read\","
		"le=\"0.000001\"} 0\n",
		"\nnbd_server_request_duration_seconds_bucket{export=\"b\",command=\"read\","
		"le=\"0.000002\"} 1\n",
		"\nnbd_server_request_duration_seconds_bucket{export=\"b\",command=\"read\","
		"le=\"33.554432\"} 1\n",
		"\nnbd_server_request_duration_seconds_bucket{export=\"b\",command=\"read\","
		"le=\"+Inf\"} 2\n",
		"\nnbd_server_request_duration_seconds_sum{export=\"b\",command=\"read\"} "
		"40.000001500\n",
		"\nnbd_server_request_duration_seconds_count{export=\"b\",command=\"read\"} 2\n",
	};
	const char *page, *family;
	size_t i;

	(void)state;
	srv.came = 7;
	srv.refused[SRV_REFUSED_ADDRESS] = 3;
	use("a\"");
	use("b");
	page = ask(&srv_metrics, "GET /metrics HTTP/1.0");
	for (i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		assert_said(page, lines[i]);
	/* What was never asked for has no histogram; a family has one head, before both exports */
	assert_null(strstr(page, "duration_seconds_count{export=\"b\",command=\"write\"}"));
	family = strstr(page, "# TYPE nbd_server_bytes_total ");
	assert_non_null(family);
	assert_null(strstr(family + 1, "# TYPE nbd_server_bytes_total "));
}

static json_t *first_line(const char *text)
{
	const char *end = strchr(text, '\n');

	assert_non_null(end);
	return json_loadb(text, (size_t)(end - text), 0, NULL);
}

static void questions(void **state)
{
	static const char *const bad[] = { "",		"Status",      "status now",
					   "GET / X",	"log-level x", "log-level debug x",
					   "counters ", "{}" };
	json_t *line;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		line = first_line(ask(&srv_control, bad[i]));
		assert_true(json_is_string(json_object_get(line, "error")));
		assert_true(v.last);
		json_decref(line);
	}
	assert_int_equal(nbd_log_level(), LOG_INFO);
	capture_start();
	assert_string_equal(ask(&srv_control, "log-level error"),
			    "{\"log_level\":\"error\"}\n{\"done\":true}\n");
	capture_end();
	assert_said(capture_text, "log level is now error");
	assert_false(v.last);
	assert_int_equal(nbd_log_level(), LOG_ERR);
	assert_string_equal(ask(&srv_control, "log-level"),
			    "{\"log_level\":\"error\"}\n{\"done\":true}\n");
	assert_string_equal(ask(&srv_control, "clients"), "{\"done\":true}\n");
	assert_string_equal(ask(&srv_control, "counters"), "{\"done\":true}\n");
}

static void counters_of_exports(void **state)
{
	const char *text;

	(void)state;
	use("a");
	use("b\xff");
	text = ask(&srv_control, "counters");
	assert_string_equal(text, "{\"export\":{\"name\":\"a\",\"clients\":1,\"in_flight\":1,"
				  "\"dropped\":0,\"commands\":{\"read\":{\"requests\":2,"
				  "\"bytes\":512,\"errors\":1}}}}\n"
				  "{\"export\":{\"name\":\"b\xef\xbf\xbd\",\"clients\":1,"
				  "\"in_flight\":1,\"dropped\":0,\"commands\":{\"read\":"
				  "{\"requests\":2,\"bytes\":512,\"errors\":1}}}}\n"
				  "{\"done\":true}\n");
}

static void latencies(void **state)
{
	json_t *line, *export, *read;

	(void)state;
	use("a");
	line = first_line(ask(&srv_control, "latency"));
	export = json_object_get(line, "export");
	assert_int_equal(json_array_size(json_object_get(export, "bounds_us")), SRV_BUCKETS - 1);
	read = json_object_get(json_object_get(export, "commands"), "read");
	assert_int_equal(json_integer_value(json_object_get(read, "requests")), 2);
	read = json_object_get(read, "buckets");
	assert_int_equal(json_array_size(read), SRV_BUCKETS);
	assert_int_equal(json_integer_value(json_array_get(read, 1)), 1);
	assert_int_equal(json_integer_value(json_array_get(read, SRV_BUCKETS - 1)), 1);
	json_decref(line);
}

/* More clients than are looked at in one go, in the order of the list */
static void many_clients(void **state)
{
	enum { N = 150 };
	struct srv_conn *conns = calloc(N, sizeof(*conns));
	struct srv_export export = { .name = (char *)"x" };
	const char *text;
	char part[64];
	unsigned int i;

	(void)state;
	assert_non_null(conns);
	for (i = 0; i < N; i++) {
		conns[i].id = N - i;
		conns[i].next = i + 1 < N ? &conns[i + 1] : NULL;
		snprintf(conns[i].peer, sizeof(conns[i].peer), "1.2.3.4 port %u", i);
	}
	conns[0].claimed = &export;
	conns[1].turn = 5;
	memset(conns[1].session_id, 0xa5, sizeof(conns[1].session_id));
	conns[1].session_link = 3;
	conns[2].leaving = true;
	srv.conns = conns;
	text = ask(&srv_control, "clients");
	assert_said(text, "\"id\":150,\"peer\":\"1.2.3.4 port 0\",\"export\":\"x\","
			  "\"state\":\"serving\"");
	assert_said(text, "\"state\":\"handshake\"");
	assert_said(text, "\"session\":{\"id\":\"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5\",\"link\":3}");
	assert_said(text, "\"state\":\"leaving\"");
	for (i = N; i; i--) {
		snprintf(part, sizeof(part), "{\"client\":{\"id\":%u,", i);
		assert_int_equal(strncmp(text, part, strlen(part)), 0);
		text = strchr(text, '\n') + 1;
	}
	assert_string_equal(text, "{\"done\":true}\n");
	free(conns);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(label),
		cmocka_unit_test(addresses),
		TEST(http),
		TEST(metrics),
		TEST(questions),
		TEST(counters_of_exports),
		TEST(latencies),
		TEST(many_clients),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
