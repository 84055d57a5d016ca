/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What endangers swap on NBD devices: the driver's findings, explained, and
 * what only userspace can see, each with what comes of it and what mends it.
 */
#ifndef CLIENT_DIAGNOSIS_H
#define CLIENT_DIAGNOSIS_H

#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>

#include "netlink.h"

/* One thing that is wrong; strings are malloc'ed */
struct client_advice {
	char *id;
	uint32_t severity; /* NBDX_SEVERITY_* */
	char *device;	   /* "nb0"; NULL: the machine */
	char *subject;	   /* network device; NULL: none */
	char *what;
	char *consequence;
	char *command; /* what mends it: a command where there is one */
};

struct client_diagnosis {
	unsigned int n;
	struct client_advice *advice;
	bool failed; /* no memory */
};

/* What is examined */
struct client_patient {
	const char *root; /* "" or a directory in place of / */
	bool extended;	  /* our driver */
	const struct client_status *status;
	unsigned int n;
	/* Does the address that we have towards the server expire? */
	bool (*expires)(const struct client_address *server, char interface[IF_NAMESIZE]);
};

/* 0, or -1 without memory; to be freed in both cases */
int client_diagnose(const struct client_patient *patient, struct client_diagnosis *diagnosis);
void client_diagnosis_free(struct client_diagnosis *diagnosis);

/* For client_diagnose(): add an advice; what is formatted */
struct client_advice *client_diagnosis_add(struct client_diagnosis *diagnosis, const char *id,
					   uint32_t severity, const char *device, const char *what,
					   ...) __attribute__((format(printf, 5, 6)));
/* The rest of it; NULL if there was no memory for the advice */
void client_advice_set(struct client_diagnosis *diagnosis, struct client_advice *advice,
		       const char *consequence, const char *command, ...)
	__attribute__((format(printf, 4, 5)));

/* The driver's findings about a device; need is vm.min_free_kbytes for all of them */
void client_diagnose_findings(const struct client_status *status, unsigned long need,
			      struct client_diagnosis *diagnosis);
/* What the machine's files tell */
void client_diagnose_machine(const struct client_patient *patient, unsigned long need,
			     struct client_diagnosis *diagnosis);

/* Examine and report: the exit code of doctor, or -1 with *err filled in */
int client_doctor_report(FILE *out, bool json, const struct client_patient *patient,
			 struct client_error *err);

/* The same for a real machine: client_patient.expires */
bool client_lease_expires(const struct client_address *server, char interface[IF_NAMESIZE]);

#endif /* CLIENT_DIAGNOSIS_H */
