/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images of Ceph, if the server was built with librbd. */
#ifndef SRV_BACKEND_RBD_H
#define SRV_BACKEND_RBD_H

#include <stdbool.h>
#include <stdint.h>

#define SRV_RBD_PREFIX	 "rbd:"
#define SRV_RBD_DEF_USER "admin"
/* Descriptors that the client of the cluster takes for an image, if there are not too many OSDs */
#define SRV_RBD_FDS	 128

struct srv_backend;

struct srv_rbd {
	const char *path; /* rbd:POOL/IMAGE or rbd:POOL/NAMESPACE/IMAGE */
	const char *user; /* without "client." */
	const char *conf; /* Ceph's configuration; NULL: where Ceph looks for it */
	bool readonly;
	uint64_t size; /* 0: the image's own */
};

/*
 * Have Ceph's library, before anything else is called; by one thread at a time.
 * NULL, or why that is not possible and what to do.
 */
const char *srv_rbd_missing(void);

/* Does the path have the parts it must have behind the prefix? */
bool srv_rbd_check_path(const char *path);

/*
 * Returns NULL with errno set, after about 10 seconds at the latest; *@what then
 * names the step that failed, until the thread calls another function of these.
 */
struct srv_backend *srv_rbd_open(const struct srv_rbd *want, const char **what);

/*
 * Have the image's lock, if it is not read-only, before anything is changed.
 * @takeover: take it from a gateway that has it.  0 or a negative errno, with the
 * same time limit and *@what: -EBUSY if it is another one's, -ESHUTDOWN if this
 * one has been shut out since it was opened, so that it must be opened anew.
 */
int srv_rbd_use(struct srv_backend *b, bool takeover, const char **what);

/* All are closed: wait until their locks have been given back, but not for ever */
void srv_rbd_end(void);

#endif /* SRV_BACKEND_RBD_H */
