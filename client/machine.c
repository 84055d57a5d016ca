// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What /proc and /sys tell of a machine that swaps over the network.  Each
 * check stands alone: a file that is not there means that there is nothing to
 * find.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device.h"
#include "diagnosis.h"
#include "reserve.h"

/* What the driver counts on that sockets which nobody reads hold at most, kB */
#define UNREAD_SOCKETS 2048ul

/* The file's text; false if it cannot be read */
static bool read_text(const struct client_patient *patient, const char *path, char *text,
		      size_t size)
{
	char name[512];
	ssize_t n;
	int fd;

	snprintf(name, sizeof(name), "%s%s", patient->root, path);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	close(fd);
	if (n < 0)
		return false;
	text[n] = '\0';
	return true;
}

static bool read_number(const struct client_patient *patient, const char *path,
			unsigned long *number)
{
	char text[64], *end;

	if (!read_text(patient, path, text, sizeof(text)))
		return false;
	*number = strtoul(text, &end, 10);
	return end != text;
}

static bool exists(const struct client_patient *patient, const char *path)
{
	char name[512];

	snprintf(name, sizeof(name), "%s%s", patient->root, path);
	return !access(name, F_OK);
}

static void check_driver(const struct client_patient *patient, struct client_diagnosis *d)
{
	if (patient->extended)
		return;
	client_advice_set(
		d,
		client_diagnosis_add(d, "mainline-driver", NBDX_SEVERITY_UNSAFE, NULL,
				     "the kernel's own nbd driver is loaded, not nbswap's"),
		"It needs memory to free memory, and a process to connect again: an outage or a shortage loses swap or stops the machine.",
		"modprobe -r nbd && modprobe nbd, with nbswap's nbd.ko in /lib/modules/$(uname -r)/updates and depmod run");
}

static void check_min_free(const struct client_patient *patient, unsigned long need,
			   struct client_diagnosis *d)
{
	char meminfo[512];
	const struct client_reserve here = { .meminfo = meminfo };
	unsigned long now, most;

	snprintf(meminfo, sizeof(meminfo), "%s/proc/meminfo", patient->root);
	most = client_reserve_most(&here);
	if (most && need > most)
		client_advice_set(
			d,
			client_diagnosis_add(
				d, "min-free-capped", NBDX_SEVERITY_WARNING, NULL,
				"the devices for swap need a vm.min_free_kbytes of %lu, more than a quarter of the memory, %lu, which is the most that nbd-client sets",
				need, most),
			"Sending and receiving may find the reserve empty: swap stalls until something else frees memory, or for ever.",
			"use fewer connections or devices, a card with smaller rings (ethtool -G), or add memory");
	else if (need && read_number(patient, "/proc/sys/vm/min_free_kbytes", &now) && now < need)
		client_advice_set(
			d,
			client_diagnosis_add(
				d, "min-free-sum", NBDX_SEVERITY_WARNING, NULL,
				"vm.min_free_kbytes is %lu, and all devices for swap together need %lu",
				now, need),
			"Sending and receiving may find the reserve empty: swap stalls until something else frees memory, or for ever.",
			"sysctl -w vm.min_free_kbytes=%lu", need);
}

static void check_boost(const struct client_patient *patient, unsigned long need,
			struct client_diagnosis *d)
{
	unsigned long factor;

	if (!need || !read_number(patient, "/proc/sys/vm/watermark_boost_factor", &factor) ||
	    !factor)
		return;
	client_advice_set(
		d,
		client_diagnosis_add(
			d, "watermark-boost", NBDX_SEVERITY_NOTE, NULL,
			"vm.watermark_boost_factor is %lu: the kernel keeps up to %lu %% more free than vm.min_free_kbytes asks for, now and then",
			factor, factor / 100),
		"A small machine is left with little memory to use while it lasts; the OOM killer may come though much is free.",
		"sysctl -w vm.watermark_boost_factor=0");
}

static void check_zswap(const struct client_patient *patient, struct client_diagnosis *d)
{
	char text[8];

	if (!read_text(patient, "/sys/module/zswap/parameters/enabled", text, sizeof(text)) ||
	    text[0] != 'Y')
		return;
	client_advice_set(
		d,
		client_diagnosis_add(d, "zswap", NBDX_SEVERITY_WARNING, NULL,
				     "zswap compresses pages in memory before they are swapped out"),
		"It takes its memory from the reserve, all of it if need be, before the first page goes out.",
		"echo N > /sys/module/zswap/parameters/enabled (for ever: zswap.enabled=0 on the kernel command line)");
}

/* The third number of tcp_mem or udp_mem, in kB */
static unsigned long socket_memory(const struct client_patient *patient, const char *path)
{
	unsigned long pages;
	char text[96];

	if (!read_text(patient, path, text, sizeof(text)) ||
	    sscanf(text, "%*u %*u %lu", &pages) != 1)
		return 0;
	return pages * ((unsigned long)sysconf(_SC_PAGESIZE) / 1024);
}

static void check_sockets(const struct client_patient *patient, struct client_diagnosis *d)
{
	unsigned long udp = socket_memory(patient, "/proc/sys/net/ipv4/udp_mem");
	unsigned long tcp = socket_memory(patient, "/proc/sys/net/ipv4/tcp_mem");

	if (udp > UNREAD_SOCKETS)
		client_advice_set(
			d,
			client_diagnosis_add(
				d, "udp-mem", NBDX_SEVERITY_WARNING, NULL,
				"UDP sockets that nobody reads may hold %lu kB (net.ipv4.udp_mem), and vm.min_free_kbytes allows for %lu",
				udp, UNREAD_SOCKETS),
			"A flood of datagrams to a stopped process can take all memory that network cards receive into: swap waits until it is read.",
			"sysctl -w net.ipv4.udp_mem=\"%lu %lu %lu\"", UNREAD_SOCKETS / 16,
			UNREAD_SOCKETS / 8, UNREAD_SOCKETS / 4);
	if (tcp > UNREAD_SOCKETS)
		client_advice_set(
			d,
			client_diagnosis_add(
				d, "tcp-mem", NBDX_SEVERITY_NOTE, NULL,
				"TCP sockets that nobody reads may hold %lu kB (net.ipv4.tcp_mem), and vm.min_free_kbytes allows for %lu",
				tcp, UNREAD_SOCKETS),
			"Senders to many stopped processes can take memory that network cards receive into.  Connections of the devices themselves do not depend on it.",
			"sysctl -w net.ipv4.tcp_mem, as low as what else runs here allows");
}

static void check_kernel(const struct client_patient *patient, struct client_diagnosis *d)
{
	unsigned long number;
	char text[512];

	if (read_number(patient, "/proc/sys/net/core/high_order_alloc_disable", &number) && !number)
		client_advice_set(
			d,
			client_diagnosis_add(
				d, "high-order-alloc", NBDX_SEVERITY_NOTE, NULL,
				"sockets and network cards take memory in blocks of 32 kB (net.core.high_order_alloc_disable is 0)"),
			"A block stays in use as long as a byte of it does, and blocks for interrupts are set aside from what the reserve can use.",
			"sysctl -w net.core.high_order_alloc_disable=1");
	if ((read_number(patient, "/sys/kernel/realtime", &number) && number) ||
	    (read_text(patient, "/proc/version", text, sizeof(text)) && strstr(text, "PREEMPT_RT")))
		client_advice_set(
			d,
			client_diagnosis_add(d, "rt-kernel", NBDX_SEVERITY_WARNING, NULL,
					     "this is a real-time kernel (PREEMPT_RT)"),
			"There packets are received by threads that may be kept waiting, and how they get memory was not examined.",
			"boot a kernel without PREEMPT_RT");
	if (read_number(patient, "/proc/sys/kernel/hung_task_panic", &number) && number)
		client_advice_set(
			d,
			client_diagnosis_add(
				d, "hung-task-panic", NBDX_SEVERITY_WARNING, NULL,
				"the kernel panics when a task waits for long (kernel.hung_task_panic)"),
			"An outage of two minutes, in which tasks wait for their pages, takes the machine down.",
			"sysctl -w kernel.hung_task_panic=0");
}

static void check_killers(const struct client_patient *patient, struct client_diagnosis *d)
{
	static const char *const services[] = { "systemd-oomd", "earlyoom", "nohang" };
	unsigned long patience;
	char path[128], text[16];
	unsigned int i;

	for (i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
		snprintf(path, sizeof(path), "/sys/fs/cgroup/system.slice/%s.service/cgroup.procs",
			 services[i]);
		if (!read_text(patient, path, text, sizeof(text)) || !text[0])
			continue;
		client_advice_set(
			d,
			client_diagnosis_add(d, services[i], NBDX_SEVERITY_WARNING, NULL,
					     "%s kills when memory pressure is high", services[i]),
			"Pressure is total while swap waits for its server: processes are killed though nothing is lost.",
			"systemctl disable --now %s", services[i]);
	}
	if (read_number(patient, "/sys/module/nbd/parameters/oom_patience", &patience) && !patience)
		client_advice_set(
			d,
			client_diagnosis_add(
				d, "oom-patience", NBDX_SEVERITY_WARNING, NULL,
				"the driver does not hold the OOM killer back (oom_patience is 0)"),
			"Processes are killed within seconds when the server does not answer, though nothing is lost.",
			"echo 600 > /sys/module/nbd/parameters/oom_patience");
}

static void check_conntrack(const struct client_patient *patient, struct client_diagnosis *d)
{
	char text[8];

	if (!read_text(patient, "/sys/module/nbd/parameters/untrack", text, sizeof(text)) ||
	    text[0] != 'N' || !exists(patient, "/proc/sys/net/netfilter/nf_conntrack_max"))
		return;
	client_advice_set(
		d,
		client_diagnosis_add(
			d, "untrack-off", NBDX_SEVERITY_WARNING, NULL,
			"conntrack follows the driver's connections (module parameter untrack is N)"),
		"To connect again needs an entry, for which there may be no memory or no room in its table.",
		"echo Y > /sys/module/nbd/parameters/untrack, and have the firewall accept \"ct state untracked\" to and from the server");
}

static void check_elevator(const struct client_patient *patient, const char *name,
			   struct client_diagnosis *d)
{
	char path[128], text[256], *begin, *end;

	snprintf(path, sizeof(path), "/sys/block/%s/queue/scheduler", name);
	if (!read_text(patient, path, text, sizeof(text)))
		return;
	begin = strchr(text, '[');
	end = begin ? strchr(begin, ']') : NULL;
	if (!end)
		return;
	*end = '\0';
	if (!strcmp(begin + 1, "none"))
		return;
	client_advice_set(d,
			  client_diagnosis_add(d, "elevator", NBDX_SEVERITY_WARNING, name,
					       "it has an I/O scheduler, %s", begin + 1),
			  "A scheduler allocates, and holds writes back that memory waits for.",
			  "echo none > /sys/block/%s/queue/scheduler", name);
}

/* Is the device, or a partition of it, in /proc/swaps? */
static bool is_swap(const struct client_patient *patient, uint32_t index)
{
	char text[8192], *line, *save;

	if (!read_text(patient, "/proc/swaps", text, sizeof(text)))
		return false;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		line[strcspn(line, " \t")] = '\0';
		if (client_device_index_of_partition(line) == (int)index)
			return true;
	}
	return false;
}

static void check_flag(const struct client_patient *patient, const struct client_status *status,
		       struct client_diagnosis *d)
{
	if (!patient->extended || status->flags & NBDX_FLAG_SWAP ||
	    !is_swap(patient, status->index))
		return;
	client_advice_set(
		d,
		client_diagnosis_add(d, "not-for-swap", NBDX_SEVERITY_WARNING, status->name,
				     "swap is on it, but it was connected without -swap"),
		"vm.min_free_kbytes was not raised for it: sending and receiving may find no memory.",
		"swapoff /dev/%s, nbd-client -d /dev/%s, and connect it with -swap", status->name,
		status->name);
}

static void check_lease(const struct client_patient *patient, const struct client_status *status,
			struct client_diagnosis *d)
{
	char interface[IF_NAMESIZE];
	struct client_advice *advice;
	unsigned int i;

	for (i = 0; i < status->nlinks; i++)
		if (status->link[i].address.len &&
		    patient->expires(&status->link[i].address, interface))
			break;
	if (i == status->nlinks)
		return;
	advice = client_diagnosis_add(
		d, "address-expires", NBDX_SEVERITY_WARNING, status->name,
		"the address on %s was given by DHCP or a router, and expires", interface);
	client_advice_set(
		d, advice,
		"The process that renews it may be swapped out or stopped: the address goes, and the connection with it.",
		"give %s a static address and route; now: ip address change ADDRESS dev %s valid_lft forever preferred_lft forever",
		interface, interface);
	if (advice)
		advice->subject = strdup(interface);
}

void client_diagnose_machine(const struct client_patient *patient, unsigned long need,
			     struct client_diagnosis *d)
{
	unsigned int i;

	check_driver(patient, d);
	check_min_free(patient, need, d);
	check_boost(patient, need, d);
	check_zswap(patient, d);
	check_sockets(patient, d);
	check_kernel(patient, d);
	check_killers(patient, d);
	check_conntrack(patient, d);
	for (i = 0; i < patient->n; i++) {
		check_elevator(patient, patient->status[i].name, d);
		check_flag(patient, &patient->status[i], d);
		check_lease(patient, &patient->status[i], d);
	}
}
