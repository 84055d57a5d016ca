/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client's half of the NBD handshake, without I/O: the caller sends what is
 * in out[], reads exactly `need` bytes into in[] and calls client_nego_input(),
 * until the state is one of the last three.  Reading exactly what is needed
 * leaves the first byte of the transmission phase in the socket, for the kernel.
 *
 * Nothing the server sends is trusted: every length has a bound, and so has the
 * number of replies.
 */
#ifndef CLIENT_NEGOTIATE_H
#define CLIENT_NEGOTIATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/nbd-wire.h"
#include "error.h"

/* The longest legal reply: NBD_WIRE_REP_SERVER with name and description */
#define CLIENT_NEGO_MAX_REPLY (4 + 2 * NBD_WIRE_MAX_STRING)
/* Client flags, an option and its data: name, its length, one information request */
#define CLIENT_NEGO_MAX_SEND \
	(NBD_WIRE_CLIENT_FLAGS_LEN + NBD_WIRE_OPTION_LEN + NBD_WIRE_MAX_STRING + 4 + 2 + 2)
#define CLIENT_NEGO_MAX_ITEMS	64   /* information replies to one option */
#define CLIENT_NEGO_MAX_EXPORTS 4096 /* in a list */

enum client_nego_state {
	CLIENT_NEGO_GREETING,	  /* waits for the server's magic and flags */
	CLIENT_NEGO_REPLY,	  /* waits for the header of an option reply */
	CLIENT_NEGO_DATA,	  /* waits for the data of an option reply */
	CLIENT_NEGO_EXPORT,	  /* waits for the answer to EXPORT_NAME */
	CLIENT_NEGO_READY,	  /* option answered: another one may follow */
	CLIENT_NEGO_TRANSMISSION, /* done, the export is open */
	CLIENT_NEGO_FAILED,	  /* err says why */
};

enum client_nego_goal {
	CLIENT_NEGO_GO,		 /* open the export, by EXPORT_NAME if the server is old */
	CLIENT_NEGO_EXPORT_NAME, /* open the export by EXPORT_NAME */
	CLIENT_NEGO_LIST,	 /* names of all exports */
};

struct client_export {
	char *name;	   /* lists alone */
	char *description; /* NULL: none was sent */
	bool known;	   /* size and flags were told */
	bool has_block_size;
	uint64_t size;
	uint16_t flags; /* NBD_WIRE_FLAG_* */
	uint32_t min_block, preferred_block, max_payload;
	char *problem; /* why the server tells nothing of it, NULL: it does */
};

struct client_export_list {
	unsigned int n;
	unsigned int allocated;
	struct client_export *export;
};

struct client_nego {
	enum client_nego_state state;
	enum client_nego_goal goal;
	char name[NBD_WIRE_MAX_STRING + 1];
	bool fixed, no_zeroes;	   /* as both sides offer */
	uint32_t option;	   /* under way */
	uint32_t reply, reply_len; /* type and data length of the reply under way */
	unsigned int items;
	struct client_export export; /* of GO, EXPORT_NAME or INFO */
	struct client_export_list *list;
	size_t need;	/* bytes of in[] to be read next */
	size_t out_len; /* bytes of out[] to be sent first */
	uint8_t in[CLIENT_NEGO_MAX_REPLY + 1];
	uint8_t out[CLIENT_NEGO_MAX_SEND];
	struct client_error err;
};

/* name is the export to open; list is filled in for CLIENT_NEGO_LIST */
void client_nego_init(struct client_nego *nego, enum client_nego_goal goal, const char *name,
		      struct client_export_list *list);

/* The caller has read nego->need bytes into nego->in; what is in out[] has been sent */
void client_nego_input(struct client_nego *nego);

/*
 * In state READY: ask for size and flags of an export.  READY again with
 * nego->export filled in; export.problem, if set, is why it is not.
 */
void client_nego_info(struct client_nego *nego, const char *name);

/* In state READY: say goodbye; the answer need not be read */
void client_nego_abort(struct client_nego *nego);

void client_nego_free(struct client_nego *nego);
void client_export_free(struct client_export *export);
void client_export_list_free(struct client_export_list *list);

static inline bool client_nego_busy(const struct client_nego *nego)
{
	return nego->state < CLIENT_NEGO_READY;
}

#endif /* CLIENT_NEGOTIATE_H */
