/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The other side of a server session: builds what a client sends, keeps what it gets. */
#ifndef SESSION_PEER_H
#define SESSION_PEER_H

#include <stdio.h>

#include "common/bytes.h"
#include "server/session.h"

#define PEER_OUT (1 << 20)

struct peer {
	struct srv_session s;
	struct srv_handshake hs;
	enum srv_event last;	     /* what the session wanted when it could not go on */
	size_t step;		     /* bytes fed at a time; 0: all */
	bool refuse;		     /* every export */
	enum srv_open_result result; /* with which; 0: unknown */
	bool hold;		     /* stop when TLS is to begin */
	bool busy;		     /* older connections cannot be drained */
	unsigned int secured;	     /* times TLS was begun */
	unsigned int fences;	     /* times that was asked for */
	unsigned int opens;	     /* exports asked for, and the last one's name */
	char opened[NBD_WIRE_MAX_STRING + 1];
	struct srv_export_info info;
	size_t got;  /* bytes the session sent */
	size_t seen; /* of these, looked at by peer_reply() */
	uint8_t out[PEER_OUT];
	unsigned int n_requests; /* that were to be answered, and the last 16 of them */
	struct srv_request req[16];
};

static inline void peer_init(struct peer *p, srv_list_fn list)
{
	memset(p, 0, sizeof(*p));
	srv_session_init(&p->s, list, p);
	srv_session_lend(&p->s, &p->hs);
	p->s.can_fence = true;
	p->info = (struct srv_export_info){
		.size = 1 << 20,
		.flags = NBD_WIRE_FLAG_HAS_FLAGS | NBD_WIRE_FLAG_SEND_FLUSH |
			 NBD_WIRE_FLAG_SEND_FUA | NBD_WIRE_FLAG_SEND_TRIM |
			 NBD_WIRE_FLAG_SEND_WRITE_ZEROES | NBD_WIRE_FLAG_CAN_MULTI_CONN,
		.min_block = 1,
		.preferred_block = 4096,
		.max_payload = NBD_WIRE_DEF_MAX_PAYLOAD,
		.name = "disk",
		.description = "a disk",
	};
}

/* Answer whatever the session wants, passing over the payload of good WRITEs */
static inline void peer_run(struct peer *p, const uint8_t **in, size_t *len)
{
	for (;;) {
		p->last = srv_session_next(&p->s, in, len);
		switch (p->last) {
		case SRV_MORE:
		case SRV_CLOSE:
			return;
		case SRV_SEND:
			assert_true(p->s.out_len && p->got + p->s.out_len <= PEER_OUT);
			memcpy(p->out + p->got, p->s.out, p->s.out_len);
			p->got += p->s.out_len;
			srv_session_sent(&p->s);
			break;
		case SRV_OPEN:
			p->opens++;
			snprintf(p->opened, sizeof(p->opened), "%s", p->s.name);
			srv_session_opened(&p->s,
					   p->refuse ? (p->result ? p->result : SRV_OPEN_UNKNOWN) :
						       SRV_OPEN_OK,
					   &p->info, "no such export");
			break;
		case SRV_FENCE:
			p->fences++;
			srv_session_fenced(&p->s, !p->busy);
			break;
		case SRV_STARTTLS:
			if (p->hold)
				return;
			p->secured++;
			srv_session_secured(&p->s);
			break;
		case SRV_REQUEST:
			p->req[p->n_requests++ % 16] = p->s.req;
			break;
		}
	}
}

static inline void peer_send(struct peer *p, const void *data, size_t len)
{
	const uint8_t *in = data;
	size_t n, left;

	do {
		n = p->step && p->step < len ? p->step : len;
		left = n;
		len -= n;
		peer_run(p, &in, &left);
		if (p->last == SRV_CLOSE)
			return;
		assert_int_equal(left, 0);
	} while (len);
}

static inline void peer_greet(struct peer *p, uint32_t flags)
{
	uint8_t buf[4];

	peer_send(p, NULL, 0);
	assert_int_equal(p->got, NBD_WIRE_GREETING_LEN);
	p->seen = p->got;
	nbd_put_be32(buf, flags);
	peer_send(p, buf, sizeof(buf));
}

static inline void peer_option(struct peer *p, uint32_t opt, const void *data, uint32_t len)
{
	uint8_t head[NBD_WIRE_OPTION_LEN];

	nbd_put_be64(head, NBD_WIRE_OPTION_MAGIC);
	nbd_put_be32(head + 8, opt);
	nbd_put_be32(head + 12, len);
	peer_send(p, head, sizeof(head));
	if (len && p->last != SRV_CLOSE)
		peer_send(p, data, len);
}

/* INFO or GO for a name, with information requests */
static inline void peer_go(struct peer *p, uint32_t opt, const char *name, unsigned int n,
			   const uint16_t *wants)
{
	uint8_t buf[SRV_MAX_OPTION];
	uint32_t len = (uint32_t)strlen(name);
	unsigned int i;

	nbd_put_be32(buf, len);
	memcpy(buf + 4, name, len);
	nbd_put_be16(buf + 4 + len, (uint16_t)n);
	for (i = 0; i < n; i++)
		nbd_put_be16(buf + 6 + len + 2 * i, wants[i]);
	peer_option(p, opt, buf, 6 + len + 2 * n);
}

/* The next option reply: its type; its data and length where asked for */
static inline uint32_t peer_reply(struct peer *p, uint32_t opt, const uint8_t **data, uint32_t *len)
{
	const uint8_t *head = p->out + p->seen;
	uint32_t n;

	assert_true(p->got - p->seen >= NBD_WIRE_OPT_REPLY_LEN);
	assert_true(nbd_get_be64(head) == NBD_WIRE_OPT_REPLY_MAGIC);
	assert_int_equal(nbd_get_be32(head + 8), opt);
	n = nbd_get_be32(head + 16);
	p->seen += NBD_WIRE_OPT_REPLY_LEN;
	assert_true(p->got - p->seen >= n);
	if (data)
		*data = p->out + p->seen;
	if (len)
		*len = n;
	p->seen += n;
	return nbd_get_be32(head + 12);
}

static inline void peer_header(uint8_t *buf, uint16_t flags, uint16_t type, uint64_t offset,
			       uint32_t length)
{
	nbd_put_be32(buf, NBD_WIRE_REQUEST_MAGIC);
	nbd_put_be16(buf + 4, flags);
	nbd_put_be16(buf + 6, type);
	nbd_put_be64(buf + 8, 0x1122334455667788ULL);
	nbd_put_be64(buf + 16, offset);
	nbd_put_be32(buf + 24, length);
}

#endif /* SESSION_PEER_H */
