// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "commands.h"
#include "format.h"
#include "session.h"
#include "text.h"

/* Size and flags of every export of the list, over the connection that listed them */
static int ask_details(int fd, struct client_nego *nego, struct client_export_list *list,
		       int64_t deadline, struct client_error *err)
{
	struct client_export *export;
	unsigned int i;

	for (i = 0; i < list->n; i++) {
		export = &list->export[i];
		client_nego_info(nego, export->name);
		if (client_session_run(fd, nego, deadline, err))
			return -1;
		/* the description of the list is as good as that of the information */
		nego->export.name = export->name;
		if (export->description) {
			free(nego->export.description);
			nego->export.description = export->description;
		}
		*export = nego->export;
		memset(&nego->export, 0, sizeof(nego->export));
	}
	return 0;
}

static int list_from(const struct client_args *args, const struct client_address *address,
		     struct client_export_list *list, struct client_error *err)
{
	int64_t deadline = client_clock_ms() + (int64_t)args->connect_timeout;
	struct client_nego *nego;
	char text[CLIENT_ADDRESS_TEXT];
	int fd, ret;

	fd = client_session_connect(address, deadline, err);
	if (fd < 0)
		return -1;
	nego = malloc(sizeof(*nego));
	if (!nego) {
		close(fd);
		return client_error_set(err, CLIENT_FAILED, "out of memory");
	}
	client_nego_init(nego, CLIENT_NEGO_LIST, "", list);
	ret = client_session_run(fd, nego, deadline, err);
	if (!ret && (args->details || args->json))
		ret = ask_details(fd, nego, list, deadline, err);
	if (ret) {
		client_error_prefix(err, client_address_text(&address->sa, address->len, text));
	} else {
		/* a courtesy: the server closes as well without */
		client_nego_abort(nego);
		if (send(fd, nego->out, nego->out_len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			ret = 0;
	}
	client_nego_free(nego);
	free(nego);
	close(fd);
	return ret;
}

static int print(const struct client_args *args, const struct client_export_list *list, FILE *out,
		 struct client_error *err)
{
	json_t *array = args->json ? json_array() : NULL;
	unsigned int i;
	char *name;

	for (i = 0; i < list->n; i++) {
		if (args->json) {
			json_array_append_new(array, client_format_export_json(&list->export[i]));
		} else if (args->details) {
			client_format_export(out, &list->export[i]);
		} else {
			name = client_text_escape(list->export[i].name);
			fprintf(out, "%s\n", name ? name : "?");
			free(name);
		}
	}
	if (!args->json)
		return 0;
	return client_format_print_json(out, json_pack("{s:o}", "exports", array), err);
}

int client_list(const struct client_args *args, FILE *out, struct client_error *err)
{
	struct client_addresses addresses;
	struct client_export_list list = { 0 };
	struct client_error last;
	unsigned int i;
	int ret = -1;

	if (client_connect_addresses(args, &addresses, err))
		return -1;
	for (i = 0; i < addresses.n && ret; i++) {
		client_export_list_free(&list);
		ret = list_from(args, &addresses.address[i], &list, &last);
		if (ret && (!i || last.code == CLIENT_REFUSED))
			*err = last;
	}
	if (!ret)
		ret = print(args, &list, out, err);
	client_export_list_free(&list);
	return ret;
}
