// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Who may write has the image's exclusive lock.  A gateway that takes it from
 * another one first has the cluster refuse all that the other one still sends.
 * That holds for what the other one has in its memory, and so there must be
 * nothing there that a client takes for written: librbd's cache stays off.
 *
 * Opening, locking and closing wait for the cluster, and some of it for ever.
 * Each image has a thread of its own for that, while there is some to do, and
 * nobody waits for it longer than WAIT_MS.  The lock of the registry is never
 * held meanwhile.
 */
#ifdef SRV_RBD

#include "server/rbd-image.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <rbd/features.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "server/rbd-calls.h"
#include "server/server.h"

/* What the cluster has for an answer to a connect or a command, in seconds */
#define CLUSTER_TIMEOUT "8"
/* and an image's thread for what it is at, before a client is told that it takes too long */
#define WAIT_MS		10000
/* The images that are closed when the server ends have so long to give their locks back */
#define END_MS		5000
/* Others may take or give back the lock while it is looked at: how often to look */
#define LOCK_TRIES	5
#define MAX_OWNERS	8

/* Of the list, and of what the images say is */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static struct srv_image *images;

static int fail(struct srv_image *im, int ret, const char *what)
{
	snprintf(im->what, sizeof(im->what), "%s", what);
	return ret;
}

void srv_image_lose(struct srv_image *im)
{
	if (atomic_exchange(&im->lost, true))
		return;
	pthread_mutex_lock(&lock);
	im->useless = true;
	pthread_mutex_unlock(&lock);
	nbd_err("%s: another gateway has taken the image, or the cluster has shut this one "
		"out; its clients are disconnected as they ask for something",
		im->path);
}

/*
 * Connecting, in the thread
 */

static int connect_cluster(struct srv_image *im)
{
	static const char *const settings[][2] = {
		{ "client_mount_timeout", CLUSTER_TIMEOUT },
		{ "rados_mon_op_timeout", CLUSTER_TIMEOUT },
		/* What has been answered must be there for the next gateway */
		{ "rbd_cache", "false" },
		{ "rbd_persistent_cache_mode", "disabled" },
	};
	size_t i;
	int ret;

	ret = srv_ceph.rados_create(&im->cluster, im->user);
	if (ret) {
		im->cluster = NULL;
		return fail(im, ret, "begin to connect to the cluster of");
	}
	ret = srv_ceph.rados_conf_read_file(im->cluster, im->conf);
	if (ret)
		return fail(im, ret, "read Ceph's configuration (see cephconf) for");
	for (i = 0; i < G_N_ELEMENTS(settings); i++) {
		ret = srv_ceph.rados_conf_set(im->cluster, settings[i][0], settings[i][1]);
		/* Older libraries do not have what they are told to leave alone */
		if (ret && ret != -ENOENT)
			return fail(im, ret, "set up Ceph's client for");
	}
	ret = srv_ceph.rados_connect(im->cluster);
	if (!ret)
		return 0;
	snprintf(im->what, sizeof(im->what),
		 "connect as client.%.40s (see that its key is there, and cephuser and cephconf "
		 "right) to the cluster of",
		 im->user);
	return ret;
}

/* The same for two that share the image, whatever it was called when they opened it */
static int identify(struct srv_image *im, const char *namespace)
{
	g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
	char fsid[64] = "", id[256] = "", pool[32];
	gsize len = 32;
	guint8 digest[32];
	int ret;

	ret = srv_ceph.rados_cluster_fsid(im->cluster, fsid, sizeof(fsid));
	if (ret >= 0)
		ret = srv_ceph.rbd_get_id(im->image, id, sizeof(id));
	if (ret < 0)
		return ret;
	snprintf(pool, sizeof(pool), "/%lld/", (long long)srv_ceph.rados_ioctx_get_id(im->io));
	g_checksum_update(sum, (const guchar *)fsid, -1);
	g_checksum_update(sum, (const guchar *)pool, -1);
	g_checksum_update(sum, (const guchar *)namespace, -1);
	g_checksum_update(sum, (const guchar *)"/", 1);
	g_checksum_update(sum, (const guchar *)id, -1);
	g_checksum_get_digest(sum, digest, &len);
	memcpy(im->id, digest, sizeof(im->id));
	return 0;
}

static int examine(struct srv_image *im, const char *namespace)
{
	uint64_t stripes;
	rbd_image_info_t info;
	int ret;

	ret = srv_ceph.rbd_stat(im->image, &info, sizeof(info));
	if (ret >= 0)
		ret = srv_ceph.rbd_get_stripe_count(im->image, &stripes);
	if (ret >= 0)
		ret = identify(im, namespace);
	if (ret < 0)
		return fail(im, ret, "examine");
	im->unit = info.obj_size * (stripes ? stripes : 1);
	return 0;
}

/*
 * Has the setting that value?  What is said for the image or its pool goes before
 * what this server has set.  0, or a negative errno with @what said.
 */
static int check_setting(struct srv_image *im, const char *name, const char *value,
			 const char *what)
{
	rbd_config_option_t *options = NULL;
	bool differs = true;
	int i, n = 0, ret;

	/* How many are there? */
	ret = srv_ceph.rbd_config_image_list(im->image, NULL, &n);
	if (ret == -ERANGE) {
		options = calloc((size_t)n, sizeof(*options));
		if (!options)
			return fail(im, -ENOMEM, "examine");
		ret = srv_ceph.rbd_config_image_list(im->image, options, &n);
	}
	if (ret < 0) {
		free(options);
		return fail(im, ret, "read the settings of");
	}
	for (i = 0; options && i < n; i++)
		differs &= strcmp(options[i].name, name) || strcmp(options[i].value, value);
	if (options)
		srv_ceph.rbd_config_image_list_cleanup(options, n);
	free(options);
	return differs ? fail(im, -EINVAL, what) : 0;
}

static int open_image(struct srv_image *im)
{
	g_auto(GStrv) part = g_strsplit(im->path + strlen(SRV_RBD_PREFIX), "/", -1);
	const char *namespace = part[2] ? part[1] : "";
	const char *name = part[2] ? part[2] : part[1];
	int ret;

	ret = connect_cluster(im);
	if (ret)
		return ret;
	ret = srv_ceph.rados_ioctx_create(im->cluster, part[0], &im->io);
	if (ret) {
		im->io = NULL;
		return fail(im, ret, "find the pool (create it, or correct exportname) of");
	}
	srv_ceph.rados_ioctx_set_namespace(im->io, namespace);
	if (im->readonly)
		ret = srv_ceph.rbd_open_read_only(im->io, name, &im->image, NULL);
	else
		ret = srv_ceph.rbd_open(im->io, name, &im->image, NULL);
	if (ret) {
		im->image = NULL;
		return fail(im, ret, "open the image (create it, or correct exportname) of");
	}
	ret = check_setting(im, "rbd_cache", "false",
			    "do without rbd_cache (remove it from the image or its pool) for");
	return ret ? ret : examine(im, namespace);
}

/*
 * The lock, in the thread
 */

/* May the thread still change who has the lock?  Not when those who wanted that have left. */
static bool wanted(struct srv_image *im)
{
	bool yes;

	pthread_mutex_lock(&lock);
	yes = im->waiters;
	pthread_mutex_unlock(&lock);
	return yes;
}

static int break_lock(struct srv_image *im, const char *owner)
{
	int ret;

	if (!im->takeover) {
		snprintf(im->what, sizeof(im->what), "take the lock, which is held by %.60s, of",
			 owner);
		return -EBUSY;
	}
	if (!wanted(im))
		return fail(im, -ETIMEDOUT, "lock in time");
	ret = srv_ceph.rbd_lock_break(im->image, RBD_LOCK_MODE_EXCLUSIVE, owner);
	/* Somebody else has been faster: look again */
	if (ret == -ENOENT || ret == -EBUSY)
		return 0;
	if (ret < 0)
		return fail(im, ret, "shut out the gateway that has the lock of");
	nbd_warn("%s: taken over from %s, which can change it no longer", im->path, owner);
	return 0;
}

/* Who has the lock, as the cluster knows it; "": nobody.  0 or a negative errno. */
static int find_owner(struct srv_image *im, char *owner)
{
	char *owners[MAX_OWNERS];
	size_t n = MAX_OWNERS;
	rbd_lock_mode_t mode;
	int ret;

	*owner = 0;
	ret = srv_ceph.rbd_lock_get_owners(im->image, &mode, owners, &n);
	if (ret == -ENOENT)
		return 0;
	if (ret < 0)
		return fail(im, ret, "find out who has the lock of");
	if (n)
		snprintf(owner, SRV_IMAGE_OWNER, "%s", owners[0]);
	srv_ceph.rbd_lock_get_owners_cleanup(owners, n);
	return 0;
}

/* Look who has the lock and take it, or take the one step towards it that is possible: 1 or 0 */
static int try_lock(struct srv_image *im)
{
	char owner[SRV_IMAGE_OWNER];
	int ret, mine = 0;

	/* Who has been shut out is told so here */
	ret = find_owner(im, owner);
	if (ret)
		return ret;
	/* If it was ours, those who have written would go on as if it still were */
	if (*im->owner)
		return strcmp(im->owner, owner) ? -ESHUTDOWN : 1;
	if (*owner) {
		ret = srv_ceph.rbd_is_exclusive_lock_owner(im->image, &mine);
		if (ret < 0)
			return fail(im, ret, "find out who has the lock of");
		if (!mine)
			return break_lock(im, owner);
	}
	ret = srv_ceph.rbd_lock_acquire(im->image, RBD_LOCK_MODE_EXCLUSIVE);
	/* Another one has been faster */
	if (ret == -EROFS || ret == -EBUSY || ret == -EAGAIN)
		return 0;
	if (ret < 0)
		return fail(im, ret, "lock");
	ret = find_owner(im, owner);
	if (ret)
		return ret;
	memcpy(im->owner, owner, sizeof(owner));
	return *owner ? 1 : -ESHUTDOWN;
}

static int lock_image(struct srv_image *im)
{
	uint64_t features;
	int i, ret;

	ret = srv_ceph.rbd_get_features(im->image, &features);
	if (ret < 0)
		return fail(im, ret, "examine");
	if (!(features & RBD_FEATURE_EXCLUSIVE_LOCK))
		return fail(im, -EOPNOTSUPP,
			    "have without the feature exclusive-lock (rbd feature enable adds it)");
	/* Without that a gateway which has lost the lock without noticing would go on writing */
	ret = check_setting(
		im, "rbd_blocklist_on_break_lock", "true",
		"shut others out, as rbd_blocklist_on_break_lock is not true (set it), of");
	if (ret)
		return ret;
	fail(im, 0, "lock, as others do the same,");
	for (i = 0; i < LOCK_TRIES; i++) {
		ret = try_lock(im);
		if (ret)
			return ret < 0 ? ret : 0;
	}
	return -EAGAIN;
}

/*
 * The thread
 */

static void close_image(struct srv_image *im)
{
	if (im->image)
		srv_ceph.rbd_close(im->image);
	if (im->io)
		srv_ceph.rados_ioctx_destroy(im->io);
	if (im->cluster)
		srv_ceph.rados_shutdown(im->cluster);
	im->image = NULL;
	im->io = NULL;
	im->cluster = NULL;
}

/* It is on the list no longer, or has never been there */
static void free_image(struct srv_image *im)
{
	free(im->path);
	free(im->user);
	free(im->conf);
	free(im);
}

static void unlist(struct srv_image *im)
{
	struct srv_image **p;

	for (p = &images; *p != im; p = &(*p)->next)
		;
	*p = im->next;
}

/* What is to be done has been said in @im, and that it is at work.  lock is held. */
static void work(struct srv_image *im)
{
	bool opens = im->step == SRV_IMAGE_OPEN;
	int ret;

	if (!im->closing) {
		pthread_mutex_unlock(&lock);
		ret = opens ? open_image(im) : lock_image(im);
		if (ret == -ESHUTDOWN)
			srv_image_lose(im);
		if (ret && opens)
			close_image(im);
		pthread_mutex_lock(&lock);
		im->error = ret;
		if (opens) {
			im->open = !ret;
			im->useless |= ret;
		}
		im->closing = !im->users;
	}
	if (im->closing) {
		pthread_mutex_unlock(&lock);
		/* Gives the lock back, if we have it */
		close_image(im);
		pthread_mutex_lock(&lock);
		unlist(im);
		free_image(im);
	} else {
		im->busy = false;
	}
	pthread_cond_broadcast(&moved);
}

static void *thread_main(void *arg)
{
	pthread_mutex_lock(&lock);
	work(arg);
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* Have a thread do what @im says; lock is held.  0 or a negative errno. */
static int start(struct srv_image *im)
{
	pthread_attr_t attr;
	pthread_t thread;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	im->busy = true;
	ret = pthread_create(&thread, &attr, thread_main, im);
	pthread_attr_destroy(&attr);
	if (ret)
		im->busy = false;
	return -ret;
}

/*
 * The registry; lock is held
 */

/* Wait for what has changed; false when it is too late */
static bool wait_until(int64_t end)
{
	struct timespec ts = {
		.tv_sec = (time_t)(end / 1000),
		.tv_nsec = (long)(end % 1000) * 1000000,
	};

	return pthread_cond_clockwait(&moved, &lock, CLOCK_MONOTONIC, &ts) != ETIMEDOUT;
}

static void leave(struct srv_image *im)
{
	if (--im->users || im->busy)
		return;
	if (!im->open) {
		unlist(im);
		free_image(im);
		return;
	}
	im->closing = true;
	if (!start(im))
		return;
	/* Without a thread for it, this one does it */
	im->busy = true;
	work(im);
}

static bool same(const struct srv_image *im, const struct srv_rbd *want)
{
	return !im->useless && im->readonly == want->readonly && !strcmp(im->path, want->path) &&
	       !strcmp(im->user, want->user) && !g_strcmp0(im->conf, want->conf);
}

static struct srv_image *find(const struct srv_rbd *want)
{
	struct srv_image *im;

	for (im = images; im && !same(im, want); im = im->next)
		;
	return im;
}

static struct srv_image *add(const struct srv_rbd *want)
{
	struct srv_image *im = calloc(1, sizeof(*im));

	if (!im)
		return NULL;
	im->path = strdup(want->path);
	im->user = strdup(want->user);
	im->conf = want->conf ? strdup(want->conf) : NULL;
	im->readonly = want->readonly;
	im->step = SRV_IMAGE_OPEN;
	if (!im->path || !im->user || (want->conf && !im->conf) || start(im)) {
		free_image(im);
		return NULL;
	}
	im->next = images;
	images = im;
	return im;
}

/* Until its thread has done what it is at.  0 or a negative errno. */
static int wait_for(struct srv_image *im, int64_t end)
{
	int ret = 0;

	im->waiters++;
	while (!ret && im->busy) {
		if (!wait_until(end))
			ret = im->busy ? -ETIMEDOUT : 0;
	}
	im->waiters--;
	return ret;
}

/* The image that is wanted, open; NULL with errno set */
static struct srv_image *join(const struct srv_rbd *want, const char **what)
{
	/* It may be gone when somebody reads this */
	static _Thread_local char text[SRV_IMAGE_WHAT];
	int64_t end = srv_now_ms() + WAIT_MS;
	struct srv_image *im;
	int ret;

	/* Its lock must be free before it is opened anew: it would be another one's */
	while ((im = find(want)) && im->closing) {
		if (wait_until(end))
			continue;
		*what = "wait any longer for the end of those who had before";
		errno = ETIMEDOUT;
		return NULL;
	}
	*what = "have a thread for";
	if (!im)
		im = add(want);
	if (!im) {
		errno = EAGAIN;
		return NULL;
	}
	im->users++;
	*what = "wait any longer for the cluster of";
	ret = wait_for(im, end);
	if (!ret && !im->open) {
		ret = im->error;
		memcpy(text, im->what, sizeof(text));
		*what = text;
	}
	if (!ret)
		return im;
	leave(im);
	errno = -ret;
	return NULL;
}

/* 0 or a negative errno; -ESHUTDOWN: it is lost */
static int use(struct srv_image *im, bool takeover, const char **what)
{
	static _Thread_local char text[SRV_IMAGE_WHAT];
	int64_t end = srv_now_ms() + WAIT_MS;
	int ret;

	*what = "wait any longer for the cluster of";
	ret = wait_for(im, end);
	if (ret)
		return ret;
	if (im->useless)
		return -ESHUTDOWN;
	im->step = SRV_IMAGE_LOCK;
	im->takeover = takeover;
	*what = "have a thread for";
	ret = start(im);
	if (ret)
		return ret;
	*what = "wait any longer for the lock of";
	ret = wait_for(im, end);
	if (ret)
		return ret;
	/* Of this step, or of one that somebody has begun since, which is as good */
	memcpy(text, im->what, sizeof(text));
	*what = text;
	return im->error;
}

/*
 * For others
 */

struct srv_image *srv_image_join(const struct srv_rbd *want, const char **what)
{
	struct srv_image *im;
	int error;

	pthread_mutex_lock(&lock);
	im = join(want, what);
	error = errno;
	pthread_mutex_unlock(&lock);
	errno = error;
	return im;
}

void srv_image_leave(struct srv_image *im)
{
	pthread_mutex_lock(&lock);
	leave(im);
	pthread_mutex_unlock(&lock);
}

int srv_image_use(struct srv_image *im, bool takeover, const char **what)
{
	int ret;

	pthread_mutex_lock(&lock);
	ret = use(im, takeover, what);
	pthread_mutex_unlock(&lock);
	return ret;
}

void srv_images_end(void)
{
	int64_t end = srv_now_ms() + END_MS;
	bool late = false;

	pthread_mutex_lock(&lock);
	while (images && !late)
		late = !wait_until(end);
	if (images)
		nbd_warn("%s: the cluster does not answer: the image's lock stays behind",
			 images->path);
	pthread_mutex_unlock(&lock);
}

#endif
