// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "diagnosis.h"
#include "reserve.h"

struct client_advice *client_diagnosis_add(struct client_diagnosis *diagnosis, const char *id,
					   uint32_t severity, const char *device, const char *what,
					   ...)
{
	struct client_advice *advice;
	va_list ap;

	advice = reallocarray(diagnosis->advice, diagnosis->n + 1, sizeof(*advice));
	if (!advice) {
		diagnosis->failed = true;
		return NULL;
	}
	diagnosis->advice = advice;
	advice += diagnosis->n++;
	*advice = (struct client_advice){
		.id = strdup(id),
		.severity = severity,
		.device = device ? strdup(device) : NULL,
	};
	va_start(ap, what);
	if (vasprintf(&advice->what, what, ap) < 0)
		advice->what = NULL;
	va_end(ap);
	if (!advice->id || !advice->what || (device && !advice->device))
		diagnosis->failed = true;
	return advice;
}

void client_advice_set(struct client_diagnosis *diagnosis, struct client_advice *advice,
		       const char *consequence, const char *command, ...)
{
	va_list ap;

	if (!advice)
		return;
	advice->consequence = strdup(consequence);
	va_start(ap, command);
	if (vasprintf(&advice->command, command, ap) < 0)
		advice->command = NULL;
	va_end(ap);
	if (!advice->consequence || !advice->command)
		diagnosis->failed = true;
}

void client_diagnosis_free(struct client_diagnosis *diagnosis)
{
	unsigned int i;

	for (i = 0; i < diagnosis->n; i++) {
		free(diagnosis->advice[i].id);
		free(diagnosis->advice[i].device);
		free(diagnosis->advice[i].subject);
		free(diagnosis->advice[i].what);
		free(diagnosis->advice[i].consequence);
		free(diagnosis->advice[i].command);
	}
	free(diagnosis->advice);
	memset(diagnosis, 0, sizeof(*diagnosis));
}

/* vm.min_free_kbytes for all devices that are meant for swap, kB */
static unsigned long need_of(const struct client_patient *patient)
{
	struct client_reserve_share share[patient->n + 1];
	unsigned int i, n = 0;

	for (i = 0; i < patient->n; i++)
		if (patient->status[i].min_free && patient->status[i].flags & NBDX_FLAG_SWAP)
			share[n++] = client_reserve_share(patient->status[i].reserve,
							  patient->status[i].min_free,
							  patient->status[i].registered,
							  patient->status[i].nlinks);
	return client_reserve_sum(share, n);
}

/* Devices in their order, the machine last; the worst first */
static int compare(const void *a, const void *b)
{
	const struct client_advice *x = a, *y = b;

	if (!x->device != !y->device)
		return x->device ? -1 : 1;
	if (x->device && strcmp(x->device, y->device))
		return strverscmp(x->device, y->device);
	if (x->severity != y->severity)
		return x->severity > y->severity ? -1 : 1;
	return strcmp(x->id, y->id);
}

int client_diagnose(const struct client_patient *patient, struct client_diagnosis *diagnosis)
{
	unsigned long need = need_of(patient);
	unsigned int i;

	memset(diagnosis, 0, sizeof(*diagnosis));
	for (i = 0; i < patient->n; i++)
		client_diagnose_findings(&patient->status[i], need, diagnosis);
	client_diagnose_machine(patient, need, diagnosis);
	if (diagnosis->failed)
		return -1;
	if (diagnosis->n)
		qsort(diagnosis->advice, diagnosis->n, sizeof(*diagnosis->advice), compare);
	return 0;
}
