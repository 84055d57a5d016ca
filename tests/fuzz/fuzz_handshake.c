// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzz the driver's handshake: the input is what a server sends.  Its first
 * byte says what the client wants, its second the length of the pieces.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/nbd/handshake.h"
#include "nbd-wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char name[] = "export";
	static const uint8_t session[NBD_WIRE_X_SESSION_LEN] = "session";
	struct nbd_handshake *hs;
	size_t at = 2, steps = 0, len;
	uint8_t *buf;

	if (size < 2)
		return 0;
	hs = malloc(sizeof(*hs)); /* so that the sanitizer guards its ends */
	if (!hs)
		abort();
	nbd_handshake_start(hs, name, sizeof(name) - 1, data[0] & 1, data[0] & 2 ? session : NULL);
	while (hs->state != NBD_HS_DONE && hs->state != NBD_HS_FAILED) {
		if (hs->out_len > sizeof(hs->out))
			abort();
		hs->out_len = 0;
		buf = nbd_handshake_buffer(hs, &len);
		/* Every state wants something, or the caller would wait for ever */
		if (!len || buf < hs->in || buf + len > hs->in + sizeof(hs->in))
			abort();
		if (len > data[1] + 1u)
			len = data[1] + 1u;
		if (len > size - at)
			len = size - at;
		if (!len) {
			nbd_handshake_closed(hs);
			break;
		}
		memcpy(buf, data + at, len);
		at += len;
		nbd_handshake_received(hs, len);
		if (++steps > size)
			abort();
	}
	if (hs->state == NBD_HS_FAILED &&
	    (!hs->error || !hs->text[0] || !memchr(hs->text, 0, sizeof(hs->text))))
		abort();
	/* Nobody is fenced who did not ask, or could not */
	if (hs->fenced && (!(data[0] & 2) || data[0] & 1))
		abort();
	free(hs);
	return 0;
}
