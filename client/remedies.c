// SPDX-License-Identifier: GPL-2.0-or-later
/* What the driver's findings mean, by their names, and what to do about them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "diagnosis.h"

#define RAISE	  "sysctl -w vm.min_free_kbytes={kb}"
#define ELSEWHERE "nbd-client -d /dev/{dev}, then connect it to a server on another machine"
#define DIRECT	  "ip route add SERVER dev CARD, then nbd-client -d /dev/{dev} and connect again"

/* {dev}: the device; {nic}: the network device; {kb}: vm.min_free_kbytes for all of them */
static const struct {
	const char *id, *consequence, *command;
} remedies[] = {
	{ "handed-over",
	  "When the connection breaks only a process can make a new one, and it may itself be swapped out: swap is lost.",
	  "nbd-client -d /dev/{dev}, then nbd-client HOST PORT /dev/{dev} -swap, by TCP and without -preinit" },
	{ "unix-socket",
	  "To write a page out the process behind the socket needs memory, which is only to be had by writing pages out: the machine stops.",
	  "nbd-client -d /dev/{dev}, then connect it by TCP to a server on another machine" },
	{ "server-local",
	  "To write a page out the server needs memory, which is only to be had by writing pages out: the machine stops.",
	  ELSEWHERE },
	{ "container",
	  "A server in a container of this machine needs memory to write pages out, which is only to be had by writing pages out.",
	  ELSEWHERE },
	{ "dead-conn-timeout",
	  "An outage longer than that kills every process that owns a page on the device.",
	  "nbd-client set /dev/{dev} -dead-timeout 0" },
	{ "tls",
	  "One allocation that fails breaks the connection, and only a process can make a new one.",
	  "nbd-client -d /dev/{dev}, then connect without TLS over a network that needs none" },
	{ "ipsec",
	  "Packets are not sent while only the reserve is left; when keys are renewed meanwhile the connection is gone.",
	  "ip xfrm policy add dir out dst SERVER proto tcp dport 10809 priority 0 action allow (and the opposite with dir in)" },
	{ "tunnel",
	  "Packets are not sent and not received while only the reserve is left, and nothing ends that.",
	  DIRECT },
	{ "nic-wireless",
	  "When the access point renews its keys and the process that answers is swapped out, the connection is gone, and with it the swap.",
	  DIRECT },
	{ "nic-virtio",
	  "If interrupts ever find no memory at all, the machine stops for good.  The larger vm.min_free_kbytes is, the less likely that is.",
	  RAISE ", or give this virtual machine another card: -device e1000e" },
	{ "nic-stmmac",
	  "If interrupts ever find no memory for a whole ring, nothing is received until the card is reset.",
	  "ethtool -G {nic} rx 1024; " RAISE },
	{ "nic-page-pool",
	  "While others hold all that interrupts may use, nothing is received, and swap waits for them.",
	  RAISE },
	{ "nic-ordinary",
	  "While others hold all that interrupts may use, nothing is received, and swap waits for them.",
	  RAISE },
	{ "nic-heads",
	  "While others hold all that interrupts may use, received packets may be lost for want of some hundred bytes each.",
	  RAISE },
	{ "nic-unknown", "It may stop for good, or not at all.",
	  "test it: stress it with swap while memory is short, before you rely on it" },
	{ "nic-offload",
	  "While others hold all that interrupts may use, nothing is sent, and swap waits for them.",
	  "ethtool -K {nic} tx on sg on tso on" },
	{ "nic-gro", "A flood of other connections that are not read can take the reserve away.",
	  "ethtool -K {nic} gro off" },
	{ "napi-threaded",
	  "Acknowledgements and routes are not made from the reserve there: connections stall and are made again.",
	  "echo 0 > /sys/class/net/{nic}/threaded" },
	{ "bond-lacp", "Three lost LACP packets in a row take the link away while memory is short.",
	  "ip link set {nic} down; ip link set {nic} type bond mode active-backup; ip link set {nic} up" },
	{ "conntrack",
	  "After an outage while memory is short the connection may not come back before memory does.",
	  "nft insert rule inet filter input ct state untracked accept; nft insert rule inet filter output ct state untracked accept" },
	{ "no-fence",
	  "After an outage a page may hold what it held earlier: programs see corrupt memory.",
	  "nbd-client set /dev/{dev} -fence-delay 1, or use a server that knows sessions (nbswap's nbd-server)" },
	{ "kernel",
	  "While nobody but those entitled to the reserve gets memory, packets may not be sent or received: swap stands still, on some cards for ever.",
	  "install a kernel with nbswap's network patches (kernel/net-patches)" },
	{ "fence-delay",
	  "A server that holds a write back for longer than that may write it over a newer one.",
	  "use a server that knows sessions (nbswap's nbd-server), or nbd-client set /dev/{dev} -fence-delay SECONDS" },
	{ "min-free",
	  "Sending and receiving may find the reserve empty: swap stalls until something else frees memory, or for ever.",
	  RAISE },
};

/* The template with what stands in braces filled in; NULL without memory */
static char *expand(const char *template, const char *dev, const char *nic, unsigned long kb)
{
	char number[24], *text = NULL;
	const struct {
		const char *name, *value;
	} words[] = { { "{dev}", dev }, { "{nic}", nic ? nic : "CARD" }, { "{kb}", number } };
	size_t size;
	FILE *out = open_memstream(&text, &size);
	unsigned int i;

	if (!out)
		return NULL;
	snprintf(number, sizeof(number), "%lu", kb);
	while (*template) {
		for (i = 0; i < 3; i++)
			if (!strncmp(template, words[i].name, strlen(words[i].name)))
				break;
		if (i < 3) {
			fputs(words[i].value, out);
			template += strlen(words[i].name);
		} else {
			fputc(*template ++, out);
		}
	}
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}

static void explain(const struct client_finding *finding, const char *name, unsigned long need,
		    struct client_diagnosis *diagnosis)
{
	const unsigned int n = sizeof(remedies) / sizeof(remedies[0]);
	struct client_advice *advice;
	unsigned int i;
	char *command;

	advice = client_diagnosis_add(diagnosis, finding->id, finding->severity, name, "%s",
				      finding->text);
	if (advice && finding->subject) {
		advice->subject = strdup(finding->subject);
		diagnosis->failed |= !advice->subject;
	}
	for (i = 0; i < n; i++)
		if (!strcmp(remedies[i].id, finding->id))
			break;
	command = expand(i < n ? remedies[i].command : "", name, finding->subject, need);
	if (command)
		client_advice_set(diagnosis, advice, i < n ? remedies[i].consequence : "", "%s",
				  command);
	else
		diagnosis->failed = true;
	free(command);
}

void client_diagnose_findings(const struct client_status *status, unsigned long need,
			      struct client_diagnosis *diagnosis)
{
	unsigned long own = (unsigned long)((status->min_free + 1023) / 1024);
	unsigned int i;

	for (i = 0; i < status->nfindings; i++)
		explain(&status->finding[i], status->name, need > own ? need : own, diagnosis);
}
