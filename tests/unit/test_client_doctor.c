// SPDX-License-Identifier: GPL-2.0-or-later
/* What doctor finds in trees of our own making, and that it finds nothing in a sound one. */
#include <ftw.h>
#include <jansson.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "client/diagnosis.h"

static char root[] = "/tmp/nbd-doctor-XXXXXX";
static struct client_status device;
static struct client_patient patient;
static struct client_diagnosis diagnosis;
static bool leased;

static bool expires(const struct client_address *server, char interface[IF_NAMESIZE])
{
	assert_int_equal(server->sa.sa_family, AF_INET6);
	strcpy(interface, "eth7");
	return leased;
}

/* A file below root, with the directories that lead to it; NULL removes it */
static void put(const char *path, const char *text)
{
	char name[512], *p;
	FILE *f;

	snprintf(name, sizeof(name), "%s%s", root, path);
	if (!text) {
		unlink(name);
		return;
	}
	for (p = strchr(name + sizeof(root), '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		mkdir(name, 0755);
		*p = '/';
	}
	f = fopen(name, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* The advice of that name; NULL: there is none */
static const struct client_advice *examine(const char *id)
{
	unsigned int i;

	client_diagnosis_free(&diagnosis);
	assert_int_equal(client_diagnose(&patient, &diagnosis), 0);
	for (i = 0; i < diagnosis.n; i++) {
		const struct client_advice *advice = &diagnosis.advice[i];

		assert_true(advice->what[0] && advice->consequence[0] && advice->command[0]);
		if (!strcmp(advice->id, id))
			return advice;
	}
	return NULL;
}

/* The file's new text makes the finding, its old text takes it away */
static void finds(const char *path, const char *bad, const char *good, const char *id,
		  uint32_t severity, const char *what, const char *command)
{
	const struct client_advice *advice;

	put(path, bad);
	advice = examine(id);
	if (!advice)
		fail_msg("%s is not found", id);
	assert_int_equal(advice->severity, severity);
	if (!strstr(advice->what, what))
		fail_msg("%s says: %s", id, advice->what);
	if (!strstr(advice->command, command))
		fail_msg("%s advises: %s", id, advice->command);
	assert_int_equal(diagnosis.n, 1);
	put(path, good);
	assert_null(examine(id));
	assert_int_equal(diagnosis.n, 0);
}

static void test_nothing(void **unused)
{
	(void)unused;
	assert_null(examine("anything"));
	assert_int_equal(diagnosis.n, 0);
}

/* Without a single file, as in a container: nothing to find, nothing to fall over */
static void test_no_files(void **unused)
{
	const char *was = patient.root;

	(void)unused;
	patient.root = "/nonexistent";
	assert_null(examine("anything"));
	assert_int_equal(diagnosis.n, 0);
	patient.root = was;
}

static void test_machine(void **unused)
{
	(void)unused;
	finds("/sys/module/zswap/parameters/enabled", "Y\n", "N\n", "zswap", NBDX_SEVERITY_WARNING,
	      "zswap", "echo N > /sys/module/zswap/parameters/enabled");
	finds("/proc/sys/net/ipv4/udp_mem", "1000 2000 9000\n", "128\t256\t512\n", "udp-mem",
	      NBDX_SEVERITY_WARNING, "36000 kB", "net.ipv4.udp_mem=\"128 256 512\"");
	finds("/proc/sys/net/ipv4/tcp_mem", "1000 2000 9000\n", "128\t256\t512\n", "tcp-mem",
	      NBDX_SEVERITY_NOTE, "36000 kB", "net.ipv4.tcp_mem");
	finds("/proc/sys/net/core/high_order_alloc_disable", "0\n", "1\n", "high-order-alloc",
	      NBDX_SEVERITY_NOTE, "32 kB", "sysctl -w net.core.high_order_alloc_disable=1");
	finds("/sys/kernel/realtime", "1\n", "0\n", "rt-kernel", NBDX_SEVERITY_WARNING,
	      "PREEMPT_RT", "boot");
	finds("/proc/version", "Linux version 6.1 #1 SMP PREEMPT_RT Debian\n",
	      "Linux version 6.1 #1 SMP PREEMPT_DYNAMIC Debian\n", "rt-kernel",
	      NBDX_SEVERITY_WARNING, "PREEMPT_RT", "boot");
	finds("/proc/sys/kernel/hung_task_panic", "1\n", "0\n", "hung-task-panic",
	      NBDX_SEVERITY_WARNING, "panics", "sysctl -w kernel.hung_task_panic=0");
	finds("/sys/fs/cgroup/system.slice/systemd-oomd.service/cgroup.procs", "311\n", "",
	      "systemd-oomd", NBDX_SEVERITY_WARNING, "systemd-oomd",
	      "systemctl disable --now systemd-oomd");
	finds("/sys/fs/cgroup/system.slice/earlyoom.service/cgroup.procs", "311\n", NULL,
	      "earlyoom", NBDX_SEVERITY_WARNING, "earlyoom", "systemctl disable --now earlyoom");
	finds("/sys/module/nbd/parameters/oom_patience", "0\n", "600\n", "oom-patience",
	      NBDX_SEVERITY_WARNING, "oom_patience is 0", "parameters/oom_patience");
}

/* Untracked or not is of no concern where nobody tracks */
static void test_conntrack(void **unused)
{
	(void)unused;
	put("/sys/module/nbd/parameters/untrack", "N\n");
	assert_null(examine("untrack-off"));
	put("/proc/sys/net/netfilter/nf_conntrack_max", "65536\n");
	finds("/sys/module/nbd/parameters/untrack", "N\n", "Y\n", "untrack-off",
	      NBDX_SEVERITY_WARNING, "untrack is N", "echo Y > /sys/module/nbd/parameters/untrack");
}

static void test_min_free(void **unused)
{
	struct client_status two[2] = { device, device };

	(void)unused;
	finds("/proc/sys/vm/min_free_kbytes", "19999\n", "20000\n", "min-free-sum",
	      NBDX_SEVERITY_WARNING, "all devices for swap together need 20000",
	      "sysctl -w vm.min_free_kbytes=20000");
	finds("/proc/sys/vm/watermark_boost_factor", "15000\n", "0\n", "watermark-boost",
	      NBDX_SEVERITY_NOTE, "150 %", "sysctl -w vm.watermark_boost_factor=0");

	/* a second device: its reserve comes on top */
	two[1].index = 1;
	strcpy(two[1].name, "nb1");
	patient.status = two;
	patient.n = 2;
	finds("/proc/sys/vm/min_free_kbytes", "25333\n", "25334\n", "min-free-sum",
	      NBDX_SEVERITY_WARNING, "need 25334", "vm.min_free_kbytes=25334");
	/* unless it is not meant for swap */
	two[1].flags = 0;
	put("/proc/sys/vm/min_free_kbytes", "20000\n");
	assert_null(examine("min-free-sum"));
	patient.status = &device;
	patient.n = 1;
	finds("/proc/meminfo", "MemTotal: 70000 kB\n", "MemTotal: 1000000 kB\n", "min-free-capped",
	      NBDX_SEVERITY_WARNING, "more than a quarter of the memory, 17500", "fewer");
}

static void test_device(void **unused)
{
	(void)unused;
	finds("/sys/block/nb0/queue/scheduler", "none [mq-deadline] bfq\n",
	      "[none] mq-deadline bfq\n", "elevator", NBDX_SEVERITY_WARNING, "mq-deadline",
	      "echo none > /sys/block/nb0/queue/scheduler");
	assert_null(examine("not-for-swap"));

	device.flags = 0;
	finds("/proc/swaps", "Filename Type Size\n/dev/nb0p2 partition 1000\n",
	      "Filename Type Size\n/dev/nb1 partition 1000\n/dev/sda2 partition 5\n",
	      "not-for-swap", NBDX_SEVERITY_WARNING, "without -swap", "swapoff /dev/nb0");
	put("/proc/swaps", "Filename Type Size\n/dev/nbd0 partition 1000\n");
	assert_non_null(examine("not-for-swap"));
	device.flags = NBDX_FLAG_SWAP;
	assert_null(examine("not-for-swap"));
}

static void test_lease(void **unused)
{
	const struct client_advice *advice;

	(void)unused;
	leased = true;
	advice = examine("address-expires");
	assert_non_null(advice);
	assert_string_equal(advice->subject, "eth7");
	assert_string_equal(advice->device, "nb0");
	assert_non_null(strstr(advice->command, "dev eth7 valid_lft forever"));
	leased = false;
}

static void test_mainline(void **unused)
{
	(void)unused;
	patient.extended = false;
	assert_int_equal(examine("mainline-driver")->severity, NBDX_SEVERITY_UNSAFE);
	patient.extended = true;
}

/* Every name that the driver may give is explained */
static void test_every_finding_has_a_remedy(void **unused)
{
	struct client_finding finding = { .severity = NBDX_SEVERITY_NOTE,
					  .subject = "eth3",
					  .text = "so it is" };
	FILE *f = fopen("kernel/nbd/findings.c", "r");
	char line[256], id[64], what[2];
	unsigned int n = 0;

	(void)unused;
	assert_non_null(f);
	device.finding = &finding;
	device.nfindings = 1;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, " { .id = \"%63[a-z0-9-]%1[\"]", id, what) != 2)
			continue;
		finding.id = id;
		if (!examine(id))
			fail_msg("%s is not passed on", id);
		assert_int_equal(diagnosis.n, 1);
		assert_string_equal(diagnosis.advice[0].what, "so it is");
		assert_string_equal(diagnosis.advice[0].subject, "eth3");
		assert_null(strchr(diagnosis.advice[0].command, '{'));
		n++;
	}
	fclose(f);
	assert_true(n > 20);

	/* in the words that the device calls for */
	finding.id = "napi-threaded";
	assert_string_equal(examine("napi-threaded")->command,
			    "echo 0 > /sys/class/net/eth3/threaded");
	finding.id = "dead-conn-timeout";
	assert_string_equal(examine("dead-conn-timeout")->command,
			    "nbd-client set /dev/nb0 -dead-timeout 0");
	finding.id = "min-free";
	assert_string_equal(examine("min-free")->command, "sysctl -w vm.min_free_kbytes=20000");
	device.finding = NULL;
	device.nfindings = 0;
}

/* Each name is in the list for administrators; tests run in the top directory */
static void test_every_name_is_documented(void **unused)
{
	static const char *const sources[] = { "kernel/nbd/findings.c", "client/machine.c" };
	char *text = calloc(1, 1 << 16), line[256], id[64], quoted[70];
	FILE *f = fopen("Documentation/findings.md", "r");
	unsigned int i, n = 0;
	const char *begin;

	(void)unused;
	assert_non_null(f);
	assert_true(fread(text, 1, (1 << 16) - 1, f) > 0);
	fclose(f);
	for (i = 0; i < 2; i++) {
		f = fopen(sources[i], "r");
		assert_non_null(f);
		while (fgets(line, sizeof(line), f)) {
			/* .id = "name", or d, "name", NBDX_SEVERITY_ */
			begin = strstr(line, "\", NBDX_SEVERITY_") ? strstr(line, "d, \"") :
								     strstr(line, ".id = \"");
			if (!begin)
				continue;
			assert_int_equal(sscanf(strchr(begin, '"'), "\"%63[a-z0-9-]", id), 1);
			snprintf(quoted, sizeof(quoted), "`%s`", id);
			if (!strstr(text, quoted))
				fail_msg("findings.md lacks %s", id);
			n++;
		}
		fclose(f);
	}
	assert_true(n > 30);
	free(text);
}

/* The report, and the exit code */
static int report(bool json, char **text)
{
	struct client_error err;
	size_t size;
	FILE *out = open_memstream(text, &size);
	int ret = client_doctor_report(out, json, &patient, &err);

	fclose(out);
	return ret;
}

static void test_report(void **unused)
{
	struct client_finding findings[] = {
		{ .id = "nic-gro", .severity = NBDX_SEVERITY_NOTE, .subject = "eth3", .text = "x" },
		{ .id = "tls", .severity = NBDX_SEVERITY_UNSAFE, .text = "bad\033\n" },
	};
	json_t *json, *first;
	char *text;

	(void)unused;
	assert_int_equal(report(false, &text), 0);
	assert_string_equal(text, "1 device: 0 unsafe, 0 warnings, 0 notes\n");
	free(text);

	device.finding = findings;
	device.nfindings = 1;
	assert_int_equal(report(false, &text), 0); /* a note is no reason to worry */
	assert_non_null(strstr(text, "nb0\n  note: nic-gro\n    x\n"));
	assert_non_null(strstr(text, "\n    -> ethtool -K eth3 gro off\n"));
	free(text);

	put("/sys/module/zswap/parameters/enabled", "Y\n");
	assert_int_equal(report(false, &text), 1);
	assert_non_null(strstr(text, "\n\nthis machine\n  warning: zswap\n"));
	assert_non_null(strstr(text, "\n\n1 device: 0 unsafe, 1 warnings, 1 notes\n"));
	free(text);

	/* the worst of a device comes first, and nothing reaches the terminal as it is */
	device.nfindings = 2;
	assert_int_equal(report(false, &text), 3);
	assert_non_null(strstr(text, "nb0\n  unsafe: tls\n    bad\\x1b\\x0a\n"));
	assert_null(strchr(text, '\033'));
	free(text);
	assert_int_equal(report(true, &text), 3);
	json = json_loads(text, 0, NULL);
	free(text);
	assert_string_equal(json_string_value(json_object_get(json, "driver")), "nbswap");
	assert_int_equal(json_array_size(json_object_get(json, "devices")), 1);
	assert_int_equal(json_array_size(json_object_get(json, "findings")), 3);
	first = json_array_get(json_object_get(json, "findings"), 0);
	assert_string_equal(json_string_value(json_object_get(first, "id")), "tls");
	assert_string_equal(json_string_value(json_object_get(first, "severity")), "unsafe");
	assert_string_equal(json_string_value(json_object_get(first, "device")), "nb0");
	assert_true(json_is_null(json_object_get(first, "subject")));
	first = json_array_get(json_object_get(json, "findings"), 2);
	assert_true(json_is_null(json_object_get(first, "device")));
	json_decref(json);
	put("/sys/module/zswap/parameters/enabled", "N\n");
	device.finding = NULL;
	device.nfindings = 0;
}

/* Exit code of a process in a network of its own with one address, of such a lifetime */
static int ask_in_namespace(const char *lifetime)
{
	struct client_address address = { .len = sizeof(struct sockaddr_in) };
	struct sockaddr_in *in = (struct sockaddr_in *)&address.storage;
	char interface[IF_NAMESIZE] = "", command[256];
	int status;
	pid_t pid = fork();

	if (pid) {
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		return WEXITSTATUS(status);
	}
	snprintf(command, sizeof(command),
		 "ip tuntap add d7 mode tap && ip link set d7 up && "
		 "ip address add 192.0.2.1/24 dev d7 %s",
		 lifetime);
	if (unshare(CLONE_NEWNET) || system(command))
		_exit(9);
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(0xc0000209);
	in->sin_port = htons(10809);
	if (!client_lease_expires(&address, interface))
		_exit(0);
	_exit(strcmp(interface, "d7") ? 8 : 1);
}

static void test_lease_of_a_machine(void **unused)
{
	(void)unused;
	if (geteuid())
		skip(); /* needs a network namespace */
	assert_int_equal(ask_in_namespace("valid_lft 600 preferred_lft 600"), 1);
	assert_int_equal(ask_in_namespace(""), 0);
}

static int set_up(void **unused)
{
	(void)unused;
	if (!mkdtemp(root))
		return -1;
	device = (struct client_status){
		.name = "nb0",
		.state = NBDX_STATE_LIVE,
		.flags = NBDX_FLAG_SWAP,
		.reserve = 2000 * 1024,
		.min_free = 20000 * 1024,
		.nlinks = 1,
	};
	device.link[0].address.len = sizeof(struct sockaddr_in6);
	device.link[0].address.sa.sa_family = AF_INET6;
	patient = (struct client_patient){
		.root = root, .extended = true, .status = &device, .n = 1, .expires = expires
	};
	put("/proc/meminfo", "MemTotal: 1000000 kB\n");
	put("/proc/sys/vm/min_free_kbytes", "20000\n");
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int tear_down(void **unused)
{
	(void)unused;
	client_diagnosis_free(&diagnosis);
	return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_no_files),
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_conntrack),
		cmocka_unit_test(test_min_free),
		cmocka_unit_test(test_device),
		cmocka_unit_test(test_lease),
		cmocka_unit_test(test_mainline),
		cmocka_unit_test(test_every_finding_has_a_remedy),
		cmocka_unit_test(test_every_name_is_documented),
		cmocka_unit_test(test_report),
		cmocka_unit_test(test_lease_of_a_machine),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
