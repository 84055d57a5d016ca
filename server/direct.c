// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Exports that do without the page cache are tried out before anybody uses them:
 * who asked for it is to hear that it cannot be had, and not to be given something
 * else.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "server/backend.h"
#include "server/config.h"

static int complain(const struct srv_export *export, int err)
{
	const char *path = export->swapdir ? export->swapdir : export->path;

	if (err == -EMSGSIZE)
		nbd_err("[%s] direct = true: the size of %s is not a multiple of the blocks that "
			"direct I/O needs; set filesize to one, or remove direct",
			export->name, path);
	else
		nbd_err("[%s] direct = true: %s cannot be used without the page cache: %s; "
			"remove direct",
			export->name, path, strerror(-err));
	return -1;
}

/* A file without a name, in the place of those that will be made */
static struct srv_backend *open_in(const char *dir, const char **what)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct srv_backend *b;

	if (fd < 0)
		return NULL;
	b = srv_file_adopt(fd, what);
	if (!b)
		close(fd);
	return b;
}

static int check(const struct srv_export *export)
{
	struct srv_backend *b;
	const char *what;
	int ret;

	if (export->swapdir)
		b = open_in(export->swapdir, &what);
	else
		b = srv_file_open(export->path, true, export->size, &what);
	/* Not there yet, or not as large as it will be: clients are told if that stays so */
	if (!b)
		return 0;
	ret = srv_file_direct(b, &what);
	b->ops->close(b);
	return ret ? complain(export, ret) : 0;
}

int srv_direct_check(const struct srv_config *config)
{
	const struct srv_export *export;
	int ret = 0;
	guint i;

	for (i = 0; i < config->exports->len; i++) {
		export = g_ptr_array_index(config->exports, i);
		if (export->direct && check(export))
			ret = -1;
	}
	return ret;
}
