/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The images of Ceph that this server has open, by librbd.  All connections to an
 * image share it, and it has a client of the cluster for itself: when another
 * gateway shuts that one out, no other image is concerned, and a new one is as
 * good as a restart.
 */
#ifndef SRV_RBD_IMAGE_H
#define SRV_RBD_IMAGE_H

#include <rados/librados.h>
#include <rbd/librbd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/backend-rbd.h"

#define SRV_IMAGE_WHAT	160
#define SRV_IMAGE_OWNER 128

enum srv_image_step { SRV_IMAGE_OPEN, SRV_IMAGE_LOCK };

struct srv_image {
	struct srv_image *next;
	char *path, *user, *conf; /* what tells it from others; @conf: or NULL */
	bool readonly;

	/* Of the thread while there is one, and else as it left them until it is closed */
	rados_t cluster;
	rados_ioctx_t io;
	rbd_image_t image;
	uint64_t id[2];
	uint64_t unit;		     /* what the map of the image tells apart */
	char owner[SRV_IMAGE_OWNER]; /* ourselves, once we have the lock; else empty */

	/* Under the registry's lock: */
	unsigned int users;
	bool busy; /* a thread is at work on it, or will close it */
	enum srv_image_step step;
	unsigned int waiters; /* for the step */
	bool takeover;	      /* SRV_IMAGE_LOCK may take it from others */
	bool open;
	bool closing;
	bool useless; /* it could not be opened, or is lost: not for anybody new */
	int error;    /* of the last step */
	char what[SRV_IMAGE_WHAT];

	atomic_bool lost; /* the cluster takes nothing from us any longer */
};

/*
 * The image that is wanted, open, and shared with all who want the same; NULL with
 * errno set, after about 10 seconds at the latest, and @what as srv_rbd_open() has it.
 */
struct srv_image *srv_image_join(const struct srv_rbd *want, const char **what);

/* The last one closes it, which nobody waits for */
void srv_image_leave(struct srv_image *im);

/* Have its lock, as srv_rbd_use() has it */
int srv_image_use(struct srv_image *im, bool takeover, const char **what);

/* The cluster refuses us: nobody is to wait for an answer, and the next client has a new start */
void srv_image_lose(struct srv_image *im);

/* Wait until all have been closed, but not for ever; complains of the others */
void srv_images_end(void);

#endif /* SRV_RBD_IMAGE_H */
