// SPDX-License-Identifier: GPL-2.0-or-later
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "device.h"
#include "diagnosis.h"
#include "format.h"
#include "text.h"

/* Beside the exit codes of every command */
#define DOCTOR_WARNINGS 1
#define DOCTOR_UNSAFE	3

static void print_field(FILE *out, const char *title, const char *text)
{
	char *escaped = client_text_escape(text ? text : "");

	if (escaped && *escaped)
		fprintf(out, "    %s%s\n", title, escaped);
	free(escaped);
}

static void print_text(FILE *out, const struct client_patient *patient,
		       const struct client_diagnosis *diagnosis)
{
	unsigned int count[NBDX_SEVERITY_UNSAFE + 1] = { 0 };
	const char *device = "";
	unsigned int i;

	for (i = 0; i < diagnosis->n; i++) {
		const struct client_advice *advice = &diagnosis->advice[i];
		const char *about = advice->device ? advice->device : "this machine";

		if (strcmp(about, device))
			fprintf(out, "%s%s\n", i ? "\n" : "", about);
		device = about;
		fprintf(out, "  %s: %s\n", client_format_severity(advice->severity), advice->id);
		print_field(out, "", advice->what);
		print_field(out, "", advice->consequence);
		print_field(out, "-> ", advice->command);
		if (advice->severity <= NBDX_SEVERITY_UNSAFE)
			count[advice->severity]++;
	}
	fprintf(out, "%s%u device%s: %u unsafe, %u warnings, %u notes\n", i ? "\n" : "", patient->n,
		patient->n == 1 ? "" : "s", count[NBDX_SEVERITY_UNSAFE],
		count[NBDX_SEVERITY_WARNING], count[NBDX_SEVERITY_NOTE]);
}

static json_t *advice_json(const struct client_advice *advice)
{
	json_t *object = json_object();

	json_object_set_new(object, "id", client_format_string(advice->id));
	json_object_set_new(object, "severity",
			    json_string(client_format_severity(advice->severity)));
	json_object_set_new(object, "device", client_format_string(advice->device));
	json_object_set_new(object, "subject", client_format_string(advice->subject));
	json_object_set_new(object, "what", client_format_string(advice->what));
	json_object_set_new(object, "consequence", client_format_string(advice->consequence));
	json_object_set_new(object, "command", client_format_string(advice->command));
	return object;
}

static int print_json(FILE *out, const struct client_patient *patient,
		      const struct client_diagnosis *diagnosis, struct client_error *err)
{
	json_t *devices = json_array(), *findings = json_array();
	unsigned int i;

	for (i = 0; i < patient->n; i++)
		json_array_append_new(devices, client_format_string(patient->status[i].name));
	for (i = 0; i < diagnosis->n; i++)
		json_array_append_new(findings, advice_json(&diagnosis->advice[i]));
	return client_format_print_json(out,
					json_pack("{s:s, s:o, s:o}", "driver",
						  patient->extended ? "nbswap" : "mainline",
						  "devices", devices, "findings", findings),
					err);
}

int client_doctor_report(FILE *out, bool json, const struct client_patient *patient,
			 struct client_error *err)
{
	struct client_diagnosis diagnosis;
	uint32_t worst = NBDX_SEVERITY_NOTE;
	unsigned int i;
	int ret;

	ret = client_diagnose(patient, &diagnosis);
	if (ret)
		client_error_set(err, CLIENT_FAILED, "out of memory");
	else if (json)
		ret = print_json(out, patient, &diagnosis, err);
	else
		print_text(out, patient, &diagnosis);
	for (i = 0; i < diagnosis.n; i++)
		if (diagnosis.advice[i].severity > worst)
			worst = diagnosis.advice[i].severity;
	client_diagnosis_free(&diagnosis);
	if (ret || worst == NBDX_SEVERITY_NOTE)
		return ret;
	return worst == NBDX_SEVERITY_WARNING ? DOCTOR_WARNINGS : DOCTOR_UNSAFE;
}

/* Those asked for, or all */
static int find_devices(struct client_genl *genl, const struct client_args *args,
			struct client_devices *devices, struct client_error *err)
{
	unsigned int i;

	if (!args->ndevices)
		return client_devices_get(genl, -1, devices, err);
	for (i = 0; i < args->ndevices; i++) {
		if (client_devices_get(genl, client_device_index(args->devices[i]), devices, err))
			return -1;
		if (devices->status[devices->n - 1].state == NBDX_STATE_FREE)
			return client_error_set(err, CLIENT_FAILED, "%s is not connected",
						devices->status[devices->n - 1].name);
	}
	return 0;
}

int client_doctor(const struct client_args *args, FILE *out, struct client_error *err)
{
	struct client_devices devices = { 0 };
	struct client_patient patient = { .root = "", .expires = client_lease_expires };
	struct client_genl genl;
	int ret;

	if (client_genl_open(&genl, err)) {
		ret = -1;
		goto out;
	}
	ret = find_devices(&genl, args, &devices, err);
	patient.extended = genl.extended;
	patient.status = devices.status;
	patient.n = devices.n;
	if (!ret)
		ret = client_doctor_report(out, args->json, &patient, err);
	client_devices_free(&devices);
	client_genl_close(&genl);
out:
	/* 1 and 3 are findings: what cannot be found out must not look like one */
	if (ret < 0 && err->code == CLIENT_FAILED)
		err->code = CLIENT_CANNOT_TELL;
	return ret;
}
