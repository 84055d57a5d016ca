// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One file has one client, which may have several connections: those that told
 * the same session or, if they told none, come from the same address.  Another
 * client gets the file when no connection is left.  From then on the session
 * before is refused: it would take the other's pages for its own.  The same
 * holds for a session whose file was removed; a new, empty one would look to
 * its kernel like the old one, with every page lost.  The session that has a file
 * is noted with it, so that the next server knows it as well.
 */
#include "server/swap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/server.h"

/* After the default handshake_timeout nobody waits for the answer any longer */
#define PATIENCE_MS (SRV_DEF_HANDSHAKE * 1000)

void srv_swaps_init(struct srv_swaps *swaps)
{
	pthread_condattr_t attr;

	*swaps = (struct srv_swaps){ .patience = PATIENCE_MS };
	srv_list_init(&swaps->dirs);
	pthread_mutex_init(&swaps->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&swaps->changed, &attr);
	pthread_cond_init(&swaps->wake, &attr);
	pthread_condattr_destroy(&attr);
}

/* Where a name is, or belongs, among the files.  The lock is held, as for all that follow. */
static guint position(const struct srv_swap_dir *dir, const char *name, bool *there)
{
	const struct srv_swap_file *f;
	guint low = 0, high = dir->files->len, middle;
	int order;

	*there = false;
	while (low < high) {
		middle = low + (high - low) / 2;
		f = g_ptr_array_index(dir->files, middle);
		order = strcmp(f->name, name);
		if (!order) {
			*there = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct srv_swap_file *find(const struct srv_swap_dir *dir, const char *name)
{
	bool there;
	guint i = position(dir, name, &there);

	return there ? g_ptr_array_index(dir->files, i) : NULL;
}

static struct srv_swap_file *add(struct srv_swap_dir *dir, const char *name, uint64_t size)
{
	size_t len = strlen(name) + 1;
	struct srv_swap_file *f = calloc(1, sizeof(*f) + len);
	bool there;

	if (!f)
		return NULL;
	f->dir = dir;
	f->size = size;
	f->idle_since = srv_now_ms();
	memcpy(f->name, name, len);
	g_ptr_array_insert(dir->files, (gint)position(dir, name, &there), f);
	dir->promised += size;
	return f;
}

static void drop(struct srv_swap_file *f)
{
	struct srv_swap_dir *dir = f->dir;
	bool there;

	dir->promised -= f->size;
	g_ptr_array_remove_index(dir->files, position(dir, f->name, &there));
	free(f);
}

static bool same(const struct srv_swap_owner *a, const struct srv_swap_owner *b)
{
	return a->kind == b->kind && !memcmp(a->id, b->id, sizeof(a->id));
}

/* What @owner had written is gone, for it */
static void lose(struct srv_swap_dir *dir, const struct srv_swap_owner *owner)
{
	if (owner->kind == SRV_OWNER_SESSION)
		memcpy(dir->lost[dir->n_lost++ % SRV_SWAP_LOST_MAX], owner->id, sizeof(owner->id));
}

static bool has_lost(const struct srv_swap_dir *dir, const struct srv_swap_owner *who)
{
	unsigned int i;

	for (i = 0; i < dir->n_lost && i < SRV_SWAP_LOST_MAX; i++) {
		if (who->kind == SRV_OWNER_SESSION &&
		    !memcmp(dir->lost[i], who->id, sizeof(who->id)))
			return true;
	}
	return false;
}

static void dir_free(struct srv_swap_dir *dir)
{
	guint i;

	for (i = 0; i < dir->files->len; i++)
		free(g_ptr_array_index(dir->files, i));
	g_ptr_array_unref(dir->files);
	srv_list_del(&dir->link);
	close(dir->fd);
	g_free(dir->path);
	g_free(dir);
}

static void dir_put(struct srv_swap_dir *dir)
{
	if (!--dir->refs)
		dir_free(dir);
}

/* An entry may be met twice */
static void found(void *ctx, const char *name, uint64_t size, const uint8_t *session)
{
	struct srv_swap_dir *dir = ctx;
	struct srv_swap_file *f = find(dir, name) ? NULL : add(dir, name, size);

	if (!f || !session)
		return;
	f->owner.kind = SRV_OWNER_SESSION;
	memcpy(f->owner.id, session, sizeof(f->owner.id));
}

static void say_unusable(const struct srv_export *export, const char *what, int error)
{
	nbd_err("[%s] swapdir = %s: cannot %s it: %s; make it a directory of the user that the "
		"server runs as",
		export->name, export->swapdir, what, strerror(error));
}

/* A directory that is not known yet; says what fails */
static struct srv_swap_dir *dir_new(struct srv_swaps *swaps, const struct srv_export *export,
				    const struct stat *st)
{
	struct srv_swap_dir *dir;
	const char *what;
	int fd = srv_swap_dir_open(export->swapdir, &what), ret;

	if (fd == -EWOULDBLOCK) {
		nbd_err("[%s] swapdir = %s: another nbd-server serves swap from it; "
			"give each a directory of its own",
			export->name, export->swapdir);
		return NULL;
	}
	if (fd < 0) {
		say_unusable(export, what, -fd);
		return NULL;
	}
	dir = g_new0(struct srv_swap_dir, 1);
	dir->swaps = swaps;
	dir->path = g_strdup(export->swapdir);
	dir->fd = fd;
	dir->id[0] = st->st_dev;
	dir->id[1] = st->st_ino;
	dir->refs = 1;
	dir->files = g_ptr_array_new();
	srv_list_init(&dir->link);
	ret = srv_swap_dir_scan(fd, found, dir, &what);
	if (ret) {
		say_unusable(export, what, -ret);
		dir_free(dir);
		return NULL;
	}
	if (dir->files->len)
		nbd_info("swapdir %s: %u file%s of %llu bytes found; what nobody uses within "
			 "%llu seconds is removed",
			 dir->path, dir->files->len, dir->files->len == 1 ? "" : "s",
			 (unsigned long long)dir->promised, (unsigned long long)export->swapgrace);
	return dir;
}

/* The section before this one that has the same directory under whatever name, or NULL */
static const char *has_it_too(const struct srv_config *config, guint n,
			      const struct srv_swap_dir *dir)
{
	const struct srv_export *other;
	guint i;

	for (i = 0; i < n; i++) {
		other = g_ptr_array_index(config->exports, i);
		if (other->dir == dir)
			return other->name;
	}
	return NULL;
}

/* The directory if it is known already, with a reference; the lock is held */
static struct srv_swap_dir *known(struct srv_swaps *swaps, const struct stat *st)
{
	struct srv_swap_dir *dir;
	struct srv_list *item;

	for (item = swaps->dirs.next; item != &swaps->dirs; item = item->next) {
		dir = srv_entry(item, struct srv_swap_dir, link);
		if (dir->id[0] == st->st_dev && dir->id[1] == st->st_ino) {
			dir->refs++;
			return dir;
		}
	}
	return NULL;
}

/*
 * The directory of the section @n of @config, with a reference.  One thread
 * calls this; one that is not known is nobody else's while it is read.
 */
static struct srv_swap_dir *dir_get(struct srv_swaps *swaps, const struct srv_config *config,
				    guint n)
{
	const struct srv_export *export = g_ptr_array_index(config->exports, n);
	struct srv_swap_dir *dir;
	const char *other;
	struct stat st;

	if (stat(export->swapdir, &st) < 0) {
		say_unusable(export, "find", errno);
		return NULL;
	}
	pthread_mutex_lock(&swaps->lock);
	dir = known(swaps, &st);
	pthread_mutex_unlock(&swaps->lock);
	if (!dir) {
		dir = dir_new(swaps, export, &st);
		if (!dir)
			return NULL;
		pthread_mutex_lock(&swaps->lock);
		srv_list_add(&swaps->dirs, &dir->link);
		pthread_mutex_unlock(&swaps->lock);
	}
	other = has_it_too(config, n, dir);
	if (!other)
		return dir;
	nbd_err("[%s] swapdir = %s: section [%s] has it already; give each a directory of its own",
		export->name, export->swapdir, other);
	srv_swap_dir_put(dir);
	return NULL;
}

int srv_swaps_bind(struct srv_swaps *swaps, struct srv_config *config)
{
	struct srv_export *export;
	int ret = 0;
	guint i;

	for (i = 0; i < config->exports->len; i++) {
		export = g_ptr_array_index(config->exports, i);
		if (!export->swapdir)
			continue;
		export->dir = dir_get(swaps, config, i);
		if (!export->dir)
			ret = -1;
	}
	return ret;
}

void srv_swap_dir_put(struct srv_swap_dir *dir)
{
	struct srv_swaps *swaps;

	if (!dir)
		return;
	swaps = dir->swaps;
	pthread_mutex_lock(&swaps->lock);
	dir_put(dir);
	pthread_mutex_unlock(&swaps->lock);
}

/* Nobody has removed files for a while: those without users get all of their grace again */
static void start_grace(struct srv_swap_dir *dir)
{
	struct srv_swap_file *f;
	guint i;

	for (i = 0; i < dir->files->len; i++) {
		f = g_ptr_array_index(dir->files, i);
		f->idle_since = srv_now_ms();
	}
}

static bool is_of(const struct srv_config *config, const struct srv_swap_dir *dir, uint64_t *grace)
{
	const struct srv_export *export;
	guint i;

	for (i = 0; i < config->exports->len; i++) {
		export = g_ptr_array_index(config->exports, i);
		if (export->dir != dir)
			continue;
		*grace = export->swapgrace;
		return true;
	}
	return false;
}

void srv_swaps_in_force(struct srv_swaps *swaps, const struct srv_config *config)
{
	struct srv_swap_dir *dir;
	struct srv_list *item;
	bool before;

	pthread_mutex_lock(&swaps->lock);
	for (item = swaps->dirs.next; item != &swaps->dirs; item = item->next) {
		dir = srv_entry(item, struct srv_swap_dir, link);
		before = dir->in_force;
		dir->in_force = is_of(config, dir, &dir->grace);
		if (dir->in_force && !before)
			start_grace(dir);
	}
	pthread_cond_signal(&swaps->wake);
	pthread_mutex_unlock(&swaps->lock);
}

/* The next file to be removed; *@left: how long that is, at least */
static struct srv_swap_file *next_due(struct srv_swaps *swaps, int64_t *left)
{
	int64_t now = srv_now_ms(), wait;
	struct srv_swap_dir *dir;
	struct srv_swap_file *f, *first = NULL;
	struct srv_list *item;
	guint i;

	*left = INT64_MAX;
	for (item = swaps->dirs.next; item != &swaps->dirs; item = item->next) {
		dir = srv_entry(item, struct srv_swap_dir, link);
		for (i = 0; dir->in_force && i < dir->files->len; i++) {
			f = g_ptr_array_index(dir->files, i);
			if (f->users || f->busy)
				continue;
			wait = srv_swap_left(f->idle_since, dir->grace, now);
			if (first && wait >= *left)
				continue;
			first = f;
			*left = wait;
		}
	}
	return first;
}

/* The lock is held, but not while the disk is at it */
static void expire(struct srv_swaps *swaps, struct srv_swap_file *f)
{
	struct srv_swap_dir *dir = f->dir;
	uint64_t grace = dir->grace;
	int ret;

	dir->refs++;
	f->busy = true;
	pthread_mutex_unlock(&swaps->lock);
	ret = srv_swap_file_remove(dir->fd, f->name);
	if (ret)
		nbd_log_about(NULL, f->name, LOG_ERR,
			      "export '%s': cannot remove %s/%s" SRV_SWAP_SUFFIX
			      ": %s; tried again in %llu seconds",
			      f->name, dir->path, f->name, strerror(-ret),
			      (unsigned long long)grace);
	else
		nbd_log_about(NULL, f->name, LOG_INFO,
			      "export '%s': %s/%s" SRV_SWAP_SUFFIX
			      " removed: nobody has used it for %llu seconds",
			      f->name, dir->path, f->name, (unsigned long long)grace);
	pthread_mutex_lock(&swaps->lock);
	f->busy = false;
	f->idle_since = srv_now_ms();
	if (!ret) {
		lose(dir, &f->owner);
		drop(f);
	}
	dir_put(dir);
	pthread_cond_broadcast(&swaps->changed);
}

static void *remove_files(void *arg)
{
	struct srv_swaps *swaps = arg;
	struct srv_swap_file *f;
	struct timespec end;
	int64_t left;

	pthread_mutex_lock(&swaps->lock);
	while (!swaps->quit) {
		f = next_due(swaps, &left);
		if (!f) {
			pthread_cond_wait(&swaps->wake, &swaps->lock);
		} else if (!left) {
			expire(swaps, f);
		} else {
			clock_gettime(CLOCK_MONOTONIC, &end);
			/* Whatever the grace: not so long that a sum runs over */
			end.tv_sec += left / 1000 < 86400 ? left / 1000 + 1 : 86400;
			pthread_cond_timedwait(&swaps->wake, &swaps->lock, &end);
		}
	}
	pthread_mutex_unlock(&swaps->lock);
	return NULL;
}

int srv_swaps_run(struct srv_swaps *swaps)
{
	bool needed;
	int ret = 0;

	pthread_mutex_lock(&swaps->lock);
	needed = !srv_list_empty(&swaps->dirs);
	pthread_mutex_unlock(&swaps->lock);
	/* Called by one thread only, as is srv_swaps_destroy() */
	if (needed && !swaps->running) {
		ret = pthread_create(&swaps->thread, NULL, remove_files, swaps);
		swaps->running = !ret;
	}
	return -ret;
}

void srv_swaps_destroy(struct srv_swaps *swaps)
{
	if (swaps->running) {
		pthread_mutex_lock(&swaps->lock);
		swaps->quit = true;
		pthread_cond_signal(&swaps->wake);
		pthread_mutex_unlock(&swaps->lock);
		pthread_join(swaps->thread, NULL);
	}
	pthread_cond_destroy(&swaps->wake);
	pthread_cond_destroy(&swaps->changed);
	pthread_mutex_destroy(&swaps->lock);
}

/* May @who have the file @f of this name, or a new one if that is NULL? */
static enum srv_swap_result may_use(const struct srv_export *export, const struct srv_swap_file *f,
				    const struct srv_swap_owner *who, struct srv_swap_opened *o)
{
	const struct srv_swap_dir *dir = export->dir;

	o->size = f ? f->size : export->swapsize;
	o->promised = dir->promised;
	if (f && f->users && !same(&f->owner, who))
		return SRV_SWAP_IN_USE;
	if (has_lost(dir, who))
		return SRV_SWAP_LOST;
	if (!f && !srv_swap_fits(dir->promised, export->swapsize, export->quota))
		return SRV_SWAP_QUOTA;
	return SRV_SWAP_OK;
}

enum srv_swap_result srv_swap_look(const struct srv_export *export, const char *name,
				   const struct srv_swap_owner *who, struct srv_swap_opened *o)
{
	struct srv_swaps *swaps = export->dir->swaps;
	enum srv_swap_result result;

	pthread_mutex_lock(&swaps->lock);
	result = may_use(export, find(export->dir, name), who, o);
	pthread_mutex_unlock(&swaps->lock);
	return result;
}

/*
 * Find a file, which may be none.  Whoever has it in hand is waited for, but a
 * disk that hangs must not take one thread of the pool after the other: false
 * then.
 */
static bool find_idle(struct srv_swap_dir *dir, const char *name, struct srv_swap_file **f)
{
	struct srv_swaps *swaps = dir->swaps;
	int64_t end = srv_now_ms() + swaps->patience;
	const struct timespec until = { .tv_sec = end / 1000, .tv_nsec = end % 1000 * 1000000 };

	while ((*f = find(dir, name)) && (*f)->busy) {
		if (pthread_cond_timedwait(&swaps->changed, &swaps->lock, &until))
			return false;
	}
	return true;
}

/* One more connection has the file, or did not get it: @o->error */
static enum srv_swap_result settle(struct srv_swap_file *f, bool fresh,
				   const struct srv_swap_owner *before, struct srv_swap_opened *o)
{
	struct srv_swap_dir *dir = f->dir;
	bool gone = o->error == ENOENT && !fresh;

	f->busy = false;
	pthread_cond_broadcast(&dir->swaps->changed);
	if (!o->error) {
		/* Found on the disk it may have another size than was thought */
		dir->promised += o->size - f->size;
		f->size = o->size;
		if (!same(before, &f->owner))
			lose(dir, before);
		o->file = f;
		return SRV_SWAP_OK;
	}
	f->owner = *before;
	if (gone)
		lose(dir, before);
	if (--f->users)
		return gone ? SRV_SWAP_LOST : SRV_SWAP_FAILED;
	if (gone || fresh) {
		drop(f);
	} else {
		/* The last one may have left meanwhile, and whoever wants the file may try again */
		f->idle_since = srv_now_ms();
		pthread_cond_signal(&dir->swaps->wake);
	}
	return gone ? SRV_SWAP_LOST : SRV_SWAP_FAILED;
}

/* The file that has been opened is another client's from now on, also for the next server */
static void note(struct srv_swap_opened *o, const struct srv_swap_owner *who)
{
	int ret = srv_swap_file_note(o->fd, who->kind == SRV_OWNER_SESSION ? who->id : NULL,
				     &o->what);

	if (!ret)
		return;
	close(o->fd);
	o->fd = -1;
	o->error = -ret;
}

enum srv_swap_result srv_swap_open(const struct srv_export *export, const char *name,
				   const struct srv_swap_owner *who, struct srv_swap_opened *o)
{
	struct srv_swap_dir *dir = export->dir;
	struct srv_swaps *swaps = dir->swaps;
	enum srv_swap_result result;
	struct srv_swap_owner before;
	struct srv_swap_file *f;
	bool fresh;

	*o = (struct srv_swap_opened){ .fd = -1, .what = "allocate memory for", .error = ENOMEM };
	pthread_mutex_lock(&swaps->lock);
	if (!find_idle(dir, name, &f)) {
		pthread_mutex_unlock(&swaps->lock);
		o->what = "wait any longer for";
		o->error = EBUSY;
		return SRV_SWAP_FAILED;
	}
	result = may_use(export, f, who, o);
	fresh = !f;
	if (result == SRV_SWAP_OK && fresh)
		f = add(dir, name, export->swapsize);
	if (result != SRV_SWAP_OK || !f) {
		pthread_mutex_unlock(&swaps->lock);
		return result == SRV_SWAP_OK ? SRV_SWAP_FAILED : result;
	}
	before = f->owner;
	f->owner = *who;
	f->users++;
	f->busy = true;
	pthread_mutex_unlock(&swaps->lock);

	o->fd = srv_swap_file_open(dir->fd, name, &o->size, &o->what);
	if (o->fd == -ENOENT && fresh) {
		o->fd = srv_swap_file_create(dir->fd, name, o->size, export->preallocate, &o->what);
		o->created = o->fd >= 0;
	}
	o->error = o->fd < 0 ? -o->fd : 0;
	if (!o->error && !same(&before, who))
		note(o, who);

	pthread_mutex_lock(&swaps->lock);
	result = settle(f, fresh, &before, o);
	pthread_mutex_unlock(&swaps->lock);
	return result;
}

void srv_swap_leave(struct srv_swap_file *f)
{
	struct srv_swaps *swaps = f->dir->swaps;

	pthread_mutex_lock(&swaps->lock);
	if (!--f->users) {
		f->idle_since = srv_now_ms();
		pthread_cond_signal(&swaps->wake);
	}
	pthread_mutex_unlock(&swaps->lock);
}

bool srv_swap_next(const struct srv_export *export, char name[SRV_SWAP_NAME_MAX + 1])
{
	const struct srv_swap_dir *dir = export->dir;
	const struct srv_swap_file *f;
	bool next = false, there;
	guint i;

	pthread_mutex_lock(&dir->swaps->lock);
	i = position(dir, name, &there);
	for (i += there; i < dir->files->len && !next; i++) {
		f = g_ptr_array_index(dir->files, i);
		/* Of a section whose name was another one before there may be others */
		next = srv_swap_matches(export->name, f->name);
		if (next)
			memcpy(name, f->name, strlen(f->name) + 1);
	}
	pthread_mutex_unlock(&dir->swaps->lock);
	return next;
}

bool srv_swap_next_file(const struct srv_export *export, struct srv_swap_info *info)
{
	const struct srv_swap_dir *dir = export->dir;
	const struct srv_swap_file *f;
	bool next, there;
	guint i;

	pthread_mutex_lock(&dir->swaps->lock);
	i = position(dir, info->name, &there);
	i += there;
	next = i < dir->files->len;
	if (next) {
		f = g_ptr_array_index(dir->files, i);
		*info = (struct srv_swap_info){
			.owner = f->owner,
			.size = f->size,
			.users = f->users,
			.left = srv_swap_left(f->idle_since, dir->grace, srv_now_ms()),
		};
		memcpy(info->name, f->name, strlen(f->name) + 1);
	}
	pthread_mutex_unlock(&dir->swaps->lock);
	return next;
}

void srv_swap_sum(const struct srv_export *export, struct srv_swap_sums *sums)
{
	const struct srv_swap_dir *dir = export->dir;
	const struct srv_swap_file *f;
	guint i;

	pthread_mutex_lock(&dir->swaps->lock);
	*sums = (struct srv_swap_sums){ .files = dir->files->len, .promised = dir->promised };
	for (i = 0; i < dir->files->len; i++) {
		f = g_ptr_array_index(dir->files, i);
		sums->used += f->users > 0;
	}
	pthread_mutex_unlock(&dir->swaps->lock);
}
