// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Places and memory for requests, which all connections of a loop share: who
 * finds none waits in the order they came, and has it from whoever gives some
 * back, or from somebody who makes no use of it.  Those from one address wait for
 * each other before they wait for all.
 */
#include "server/connection.h"

/* Who waits for memory this long may have it from somebody who makes no use of it */
#define RECLAIM_MS 5000

/* A place that has not been used after all */
void srv_room_put_back(struct srv_req *req)
{
	struct srv_loop *l = req->conn->loop;

	req->conn->n_requests--;
	req->next = l->free_requests;
	l->free_requests = req;
}

/* Who has waited longest for the address's own memory tries */
static void wake_share(struct srv_loop *l, struct srv_share *share)
{
	if (!srv_list_empty(&share->waiting))
		srv_list_add(&l->ready,
			     &srv_entry(share->waiting.next, struct srv_conn, crowded)->ready);
	else
		srv_list_del(&share->crowded);
}

static void give_back(struct srv_loop *l, struct srv_share *share, size_t size)
{
	share->memory -= size;
	wake_share(l, share);
}

void srv_room_free(struct srv_req *req)
{
	struct srv_conn *c = req->conn;
	struct srv_loop *l = c->loop;

	if (req->begun)
		srv_count_drop(&c->counters, c->shard);
	if (req->buf) {
		c->memory -= srv_arena_size(req->size);
		if (c->share)
			give_back(l, c->share, srv_arena_size(req->size));
		srv_arena_put(&l->arena, req->buf);
	}
	srv_room_put_back(req);
	/* There may be more in the socket that had no room */
	srv_list_add(&l->ready, &c->ready);
	/* The one that has waited longest tries; if it still cannot, so does nobody else */
	if (!srv_list_empty(&l->waiting))
		srv_list_add(&l->ready,
			     &srv_entry(l->waiting.next, struct srv_conn, waiting)->ready);
}

void srv_room_free_queue(struct srv_req_queue *q)
{
	struct srv_req *req;

	while ((req = srv_req_take(q)))
		srv_room_free(req);
}

/* May @c take from what all share?  Not before those who came first. */
static bool my_turn(struct srv_conn *c)
{
	struct srv_list *first = c->loop->waiting.next;

	return first == &c->loop->waiting || first == &c->waiting;
}

static void wait_for_memory(struct srv_conn *c)
{
	if (srv_list_empty(&c->waiting))
		c->wait_from = c->loop->now;
	srv_list_add(&c->loop->waiting, &c->waiting);
}

/* May the client's address have @size more?  It waits apart from others if not. */
static bool fits_share(struct srv_conn *c, size_t size)
{
	struct srv_share *share = c->share;
	size_t limit;

	if (!share)
		return true;
	limit = c->listed->address_memory / c->srv->n_loops;
	/* The largest request must do */
	if (limit < SRV_ARENA_MAX)
		limit = SRV_ARENA_MAX;
	if (share->memory + size <= limit &&
	    (srv_list_empty(&share->waiting) || share->waiting.next == &c->crowded))
		return true;
	if (srv_list_empty(&c->crowded))
		c->wait_from = c->loop->now;
	srv_list_add(&share->waiting, &c->crowded);
	srv_list_add(&c->loop->crowded, &share->crowded);
	return false;
}

/* Out of the queue of all; the next one may have its turn now */
static void leave_queue(struct srv_conn *c)
{
	struct srv_loop *l = c->loop;

	if (srv_list_empty(&c->waiting))
		return;
	srv_list_del(&c->waiting);
	if (!srv_list_empty(&l->waiting))
		srv_list_add(&l->ready,
			     &srv_entry(l->waiting.next, struct srv_conn, waiting)->ready);
}

void srv_room_got(struct srv_conn *c)
{
	if (!srv_list_empty(&c->crowded)) {
		srv_list_del(&c->crowded);
		wake_share(c->loop, c->share);
	}
	leave_queue(c);
}

/* A place for one more request; NULL when the connection has to wait for it */
struct srv_req *srv_room_new(struct srv_conn *c)
{
	struct srv_loop *l = c->loop;
	struct srv_req *req;

	if (c->n_requests >= SRV_CONN_REQUESTS)
		return NULL;
	if (!l->free_requests || !my_turn(c)) {
		wait_for_memory(c);
		return NULL;
	}
	srv_room_got(c);
	req = l->free_requests;
	l->free_requests = req->next;
	req->conn = c;
	req->buf = NULL;
	req->got = 0;
	req->reply = 0;
	req->begun = 0;
	req->worked = 0;
	c->n_requests++;
	return req;
}

static uint32_t data_size(const struct srv_request *r)
{
	if (r->error)
		return 0;
	if (r->type == NBD_WIRE_CMD_BLOCK_STATUS)
		return SRV_EXTENTS_LEN;
	if (r->type != NBD_WIRE_CMD_READ && r->type != NBD_WIRE_CMD_WRITE)
		return 0;
	return (uint32_t)r->length;
}

/* Memory for a request's data; false when it has to wait */
bool srv_room_memory(struct srv_conn *c, struct srv_req *req)
{
	size_t size;

	if (req->buf)
		return true;
	req->size = data_size(&req->r);
	if (!req->size)
		return true;
	size = srv_arena_size(req->size);
	/* Its own requests give it back */
	if (c->memory && c->memory + size > c->listed->client_memory)
		return false;
	/* Who waits for its own address stands in nobody else's way */
	if (!fits_share(c, size)) {
		leave_queue(c);
		return false;
	}
	if (my_turn(c))
		req->buf = srv_arena_get(&c->loop->arena, req->size);
	if (!req->buf) {
		wait_for_memory(c);
		return false;
	}
	srv_room_got(c);
	c->memory += size;
	if (c->share)
		c->share->memory += size;
	return true;
}

/* For @first, who waits for memory of its address (@share) or of all (NULL) */
static void reclaim(struct srv_loop *l, const struct srv_share *share, const struct srv_conn *first)
{
	struct srv_conn *c, *worst = NULL;
	struct srv_list *item;

	if (l->now - first->wait_from < RECLAIM_MS)
		return;
	for (item = l->all.next; item != &l->all; item = item->next) {
		c = srv_entry(item, struct srv_conn, all);
		/* The disk's delay is not the client's */
		if ((share && c->share != share) || !c->n_requests || c->at_disk[SRV_DISK_READS] ||
		    c->at_disk[SRV_DISK_CHANGES] || l->now - c->last_io < RECLAIM_MS)
			continue;
		if (!worst || c->memory > worst->memory)
			worst = c;
	}
	if (!worst)
		return;
	srv_conn_cut(worst, "it holds memory that others wait for, and neither sends nor reads");
	srv_list_add(&l->ready, &worst->ready);
}

void srv_room_reclaim(struct srv_loop *l)
{
	const struct srv_share *share;
	struct srv_list *item;

	if (!srv_list_empty(&l->waiting))
		reclaim(l, NULL, srv_entry(l->waiting.next, struct srv_conn, waiting));
	for (item = l->crowded.next; item != &l->crowded; item = item->next) {
		share = srv_entry(item, struct srv_share, crowded);
		reclaim(l, share, srv_entry(share->waiting.next, struct srv_conn, crowded));
	}
}
