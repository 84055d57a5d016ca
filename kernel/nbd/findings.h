/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What weakens the promise that swap cannot deadlock: facts about a device's
 * configuration, its sockets and the network cards below them, and the sentences
 * that follow from these.
 */
#ifndef NBD_FINDINGS_H
#define NBD_FINDINGS_H

#include <linux/if.h>
#include <linux/types.h>

#include "reserve.h"

struct nbd_device;
struct nbd_link;
struct net;
struct net_device;
struct sock;

/**
 * struct nbd_link_facts - what a link's socket was like when it became ready
 * @family: AF_INET, AF_INET6, AF_UNIX; 0: there has been none yet
 * @ifindex: device that its route leads to, 0: none
 * @mss: TCP payload of a packet, 0: not TCP
 * @sndbuf: the most its send buffer may grow to, bytes
 * @rcvbuf: the most its receive buffer may grow to, bytes
 * @local: the other end is this machine
 * @tracked: it was answered only once conntrack followed it
 * @xfrm: its packets are transformed, as by IPsec
 * @ulp: another protocol, such as TLS, sits between it and TCP
 */
struct nbd_link_facts {
	u16 family;
	int ifindex;
	u32 mss;
	u32 sndbuf;
	u32 rcvbuf;
	bool local;
	bool tracked;
	bool xfrm;
	bool ulp;
};

/* struct nbd_nic.flags */
#define NBD_NIC_THREADED	0x01	/* polled by threads */
#define NBD_NIC_NO_SG		0x02	/* no scatter-gather */
#define NBD_NIC_NO_CSUM		0x04	/* computes no checksums */
#define NBD_NIC_NO_TSO		0x08	/* does not cut packets into segments */
#define NBD_NIC_GRO		0x10	/* packets received are merged */
#define NBD_NIC_LACP		0x20	/* a bond that lives by LACP */
#define NBD_NIC_TUNNEL		0x40	/* packets leave in others */
#define NBD_NIC_WIRELESS	0x80
#define NBD_NIC_LOWEST		0x100	/* no device below it */
#define NBD_NIC_ROUTE		0x200	/* a link's route leads to it */
#define NBD_NIC_VETH		0x400
#define NBD_NIC_RPS		0x800	/* receive packet steering */

/* What happens when a card's driver finds no memory to receive into */
enum nbd_nic_class {
	NBD_NIC_VIRTUAL,	/* it receives into nobody's memory */
	NBD_NIC_UNKNOWN,
	NBD_NIC_COPIES,		/* its ring is fixed, packets are copied from the reserve */
	NBD_NIC_ENTITLED,	/* refills from the reserve */
	NBD_NIC_ORDINARY,	/* does not, and tries again by itself */
	NBD_NIC_PAGE_POOL,	/* does not, as its pages come from a pool that does not */
	NBD_NIC_STOPS,		/* does not, and tries again when the next packet arrives */
	NBD_NIC_BLOCKS,		/* does not, and then waits for reclaim, receiving nothing */
};

/**
 * struct nbd_nic - a network device below a link, at one moment
 * @ifindex: its index
 * @name: its name
 * @driver: of the hardware, or the kind of a virtual device
 * @class: see there
 * @flags: NBD_NIC_*
 * @queues: receive queues in use
 * @packet: memory of one packet received, bytes
 */
struct nbd_nic {
	int ifindex;
	char name[IFNAMSIZ];
	char driver[20];
	enum nbd_nic_class class;
	u32 flags;
	u32 queues;
	u32 packet;
};

/**
 * struct nbd_nics - the network devices below the links of a device
 * @n: how many
 * @nic: each once
 */
struct nbd_nics {
	unsigned int n;
	struct nbd_nic nic[NBD_RESERVE_NICS];
};

/* The size of a card's receive ring, as it was when it could be asked last */
struct nbd_nic_ring {
	int ifindex;
	u32 ring;
	unsigned long asked;	/* jiffies */
};

#define NBD_FINDING_TEXT	256

/**
 * struct nbd_finding - something that weakens the promise
 * @id: stable name
 * @severity: NBDX_SEVERITY_*
 * @subject: name of the network device it is about, NULL: of none
 * @text: a clause or sentence without a full stop: what, and what comes of it
 */
struct nbd_finding {
	const char *id;
	u32 severity;
	const char *subject;
	char text[NBD_FINDING_TEXT];
};

/* nic.c */
void nbd_nics_add(struct nbd_nics *nics, struct net *net, int ifindex);
u32 nbd_nic_ring(struct net *net, int ifindex);
bool nbd_nic_bears_polling(const struct net_device *dev);

/* findings.c */
void nbd_reserve_register(struct nbd_device *dev);
void nbd_reserve_unregister(struct nbd_device *dev);
void nbd_findings_note(struct nbd_link *link, struct sock *sk);
int nbd_findings_visit(struct nbd_device *dev, bool first,
		       int (*say)(const struct nbd_finding *finding, void *arg), void *arg);
void nbd_reserve_of_device(struct nbd_device *dev, struct nbd_reserve *reserve, u64 *min_free,
			   u32 *guarantees);

#endif /* NBD_FINDINGS_H */
