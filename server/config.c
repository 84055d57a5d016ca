// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/config.h"

#include <string.h>

#include "common/log.h"
#include "common/nbd-wire.h"
#include "common/parse.h"
#include "server/hook.h"
#include "server/ktls.h"
#include "server/swap.h"
#include "server/tls.h"

enum key_kind {
	KEY_STRING,
	KEY_BOOL,
	KEY_UINT, /* from @min to @max */
	KEY_SIZE, /* at least @min, as @note says */
	KEY_IO,
	KEY_LOG_LEVEL,
	KEY_LOG_FORMAT,
	KEY_TLS,
	KEY_NO_EFFECT,	  /* known, harmless to leave out: @note says why */
	KEY_REFUSED_TRUE, /* known, and when true leaving it out would change what clients get */
};

struct key {
	const char *name;
	enum key_kind kind;
	size_t offset; /* of the field in the structure it fills */
	uint64_t min, max;
	const char *note;
};

/* One request of the largest size must fit */
#define SRV_MIN_BUFFERS	 NBD_WIRE_DEF_MAX_PAYLOAD
/* With less the kernel has hardly a page to swap to, and a forgotten unit is likely */
#define SRV_MIN_SWAP	 (1u << 20)

/* Nobody there has ever had it heeded: what it says now must be meant */
#define TLSONLY		 "it has no effect in the reference implementation; set tls = required"

#define IN_CONFIG(field) offsetof(struct srv_config, field)
#define IN_EXPORT(field) offsetof(struct srv_export, field)

static const struct key generic_keys[] = {
	{ "listenaddr", KEY_STRING, IN_CONFIG(listenaddr), 0, 0, NULL },
	{ "port", KEY_STRING, IN_CONFIG(port), 0, 0, NULL },
	{ "unixsock", KEY_STRING, IN_CONFIG(unixsock), 0, 0, NULL },
	{ "duallisten", KEY_BOOL, IN_CONFIG(duallisten), 0, 0, NULL },
	{ "includedir", KEY_STRING, IN_CONFIG(includedir), 0, 0, NULL },
	{ "user", KEY_STRING, IN_CONFIG(user), 0, 0, NULL },
	{ "group", KEY_STRING, IN_CONFIG(group), 0, 0, NULL },
	{ "allowlist", KEY_BOOL, IN_CONFIG(allowlist), 0, 0, NULL },
	{ "loops", KEY_UINT, IN_CONFIG(loops), 0, SRV_MAX_LOOPS, NULL },
	{ "io", KEY_IO, IN_CONFIG(io), 0, 0, NULL },
	{ "buffer_memory", KEY_SIZE, IN_CONFIG(buffer_memory), SRV_MIN_BUFFERS, 0, "at least 32m" },
	{ "client_memory", KEY_SIZE, IN_CONFIG(client_memory), SRV_MIN_BUFFERS, 0, "at least 32m" },
	{ "address_memory", KEY_SIZE, IN_CONFIG(address_memory), SRV_MIN_BUFFERS, 0,
	  "at least 32m" },
	{ "seccomp", KEY_BOOL, IN_CONFIG(seccomp), 0, 0, NULL },
	{ "mlock", KEY_BOOL, IN_CONFIG(mlock), 0, 0, NULL },
	{ "max_threads", KEY_UINT, IN_CONFIG(max_threads), 1, SRV_MAX_THREADS, NULL },
	{ "max_clients", KEY_UINT, IN_CONFIG(max_clients), 1, 65536, NULL },
	{ "maxperaddress", KEY_UINT, IN_CONFIG(max_per_address), 0, 65536, NULL },
	{ "handshake_timeout", KEY_UINT, IN_CONFIG(handshake_timeout), 1, 3600, NULL },
	{ "control", KEY_STRING, IN_CONFIG(control), 0, 0, NULL },
	{ "metrics", KEY_STRING, IN_CONFIG(metrics), 0, 0, NULL },
	{ "log_level", KEY_LOG_LEVEL, IN_CONFIG(log_level), 0, 0, NULL },
	{ "log_format", KEY_LOG_FORMAT, IN_CONFIG(log_format), 0, 0, NULL },
	{ "oldstyle", KEY_REFUSED_TRUE, 0, 0, 0, "oldstyle negotiation is obsolete" },
	{ "tls", KEY_TLS, IN_CONFIG(tls), 0, 0, NULL },
	{ "force_tls", KEY_BOOL, IN_CONFIG(force_tls), 0, 0, NULL },
	{ "tlsonly", KEY_REFUSED_TRUE, 0, 0, 0, TLSONLY },
	{ "certfile", KEY_STRING, IN_CONFIG(certfile), 0, 0, NULL },
	{ "keyfile", KEY_STRING, IN_CONFIG(keyfile), 0, 0, NULL },
	{ "cacertfile", KEY_STRING, IN_CONFIG(cacertfile), 0, 0, NULL },
	{ "pskfile", KEY_STRING, IN_CONFIG(pskfile), 0, 0, NULL },
	{ "tlsprio", KEY_STRING, IN_CONFIG(tlsprio), 0, 0, NULL },
	{ "ktls", KEY_BOOL, IN_CONFIG(ktls), 0, 0, NULL },
	{ "splice", KEY_NO_EFFECT, 0, 0, 0, "splice is not used" },
	{ NULL, 0, 0, 0, 0, NULL },
};

static const struct key export_keys[] = {
	{ "exportname", KEY_STRING, IN_EXPORT(path), 0, 0, NULL },
	{ "description", KEY_STRING, IN_EXPORT(description), 0, 0, NULL },
	{ "authfile", KEY_STRING, IN_EXPORT(authfile), 0, 0, NULL },
	{ "virtstyle", KEY_STRING, IN_EXPORT(virtstyle), 0, 0, NULL },
	{ "filesize", KEY_SIZE, IN_EXPORT(size), 0, 0, NULL },
	{ "maxconnections", KEY_UINT, IN_EXPORT(max_connections), 0, 65536, NULL },
	{ "maxperaddress", KEY_UINT, IN_EXPORT(max_per_address), 0, 65536, NULL },
	{ "timeout", KEY_UINT, IN_EXPORT(timeout), 0, 1u << 30, NULL },
	{ "readonly", KEY_BOOL, IN_EXPORT(readonly), 0, 0, NULL },
	{ "flush", KEY_BOOL, IN_EXPORT(flush), 0, 0, NULL },
	{ "fua", KEY_BOOL, IN_EXPORT(fua), 0, 0, NULL },
	{ "trim", KEY_BOOL, IN_EXPORT(trim), 0, 0, NULL },
	{ "rotational", KEY_BOOL, IN_EXPORT(rotational), 0, 0, NULL },
	{ "sync", KEY_BOOL, IN_EXPORT(sync), 0, 0, NULL },
	{ "direct", KEY_BOOL, IN_EXPORT(direct), 0, 0, NULL },
	{ "multifile", KEY_BOOL, IN_EXPORT(multifile), 0, 0, NULL },
	{ "treefiles", KEY_BOOL, IN_EXPORT(treefiles), 0, 0, NULL },
	{ "temporary", KEY_BOOL, IN_EXPORT(temporary), 0, 0, NULL },
	{ "copyonwrite", KEY_BOOL, IN_EXPORT(copyonwrite), 0, 0, NULL },
	{ "cowdir", KEY_STRING, IN_EXPORT(cowdir), 0, 0, NULL },
	{ "prerun", KEY_STRING, IN_EXPORT(prerun), 0, 0, NULL },
	{ "postrun", KEY_STRING, IN_EXPORT(postrun), 0, 0, NULL },
	{ "cephuser", KEY_STRING, IN_EXPORT(cephuser), 0, 0, NULL },
	{ "cephconf", KEY_STRING, IN_EXPORT(cephconf), 0, 0, NULL },
	{ "rbd_takeover", KEY_BOOL, IN_EXPORT(rbd_takeover), 0, 0, NULL },
	{ "swapdir", KEY_STRING, IN_EXPORT(swapdir), 0, 0, NULL },
	{ "swapsize", KEY_SIZE, IN_EXPORT(swapsize), SRV_MIN_SWAP, 0, "at least 1m" },
	{ "quota", KEY_SIZE, IN_EXPORT(quota), SRV_MIN_SWAP, 0, "at least 1m" },
	{ "swapgrace", KEY_UINT, IN_EXPORT(swapgrace), 1, 1u << 30, NULL },
	{ "preallocate", KEY_BOOL, IN_EXPORT(preallocate), 0, 0, NULL },
	{ "listenaddr", KEY_NO_EFFECT, 0, 0, 0, "it belongs in [generic]" },
	{ "splice", KEY_NO_EFFECT, 0, 0, 0, "splice is not used" },
	{ "transactionlog", KEY_NO_EFFECT, 0, 0, 0, "transaction logs are not written" },
	{ "datalog", KEY_NO_EFFECT, 0, 0, 0, "transaction logs are not written" },
	{ "sparse_cow", KEY_NO_EFFECT, 0, 0, 0, "files of copyonwrite are always sparse" },
	{ "waitfile", KEY_REFUSED_TRUE, 0, 0, 0, "waiting for a file is not supported" },
	{ "sdp", KEY_REFUSED_TRUE, 0, 0, 0, "SDP is not supported" },
	{ "tls", KEY_TLS, IN_EXPORT(tls), 0, 0, NULL },
	{ "force_tls", KEY_BOOL, IN_EXPORT(force_tls), 0, 0, NULL },
	{ "tlsonly", KEY_REFUSED_TRUE, 0, 0, 0, TLSONLY },
	{ NULL, 0, 0, 0, 0, NULL },
};

static void export_free(void *p)
{
	struct srv_export *export = p;

	g_free(export->name);
	g_free(export->path);
	g_free(export->description);
	g_free(export->authfile);
	g_free(export->virtstyle);
	g_free(export->cowdir);
	g_free(export->prerun);
	g_free(export->postrun);
	g_free(export->cephuser);
	g_free(export->cephconf);
	g_free(export->swapdir);
	srv_swap_dir_put(export->dir);
	g_free(export->nospace);
	g_free(export);
}

struct srv_config *srv_config_new(void)
{
	struct srv_config *config = g_new0(struct srv_config, 1);

	config->refs = 1;
	config->port = g_strdup_printf("%d", NBD_WIRE_PORT);
	config->seccomp = true;
	config->max_threads = SRV_DEF_THREADS;
	config->max_clients = SRV_DEF_CLIENTS;
	config->handshake_timeout = SRV_DEF_HANDSHAKE;
	config->log_level = LOG_INFO;
	config->buffer_memory = SRV_DEF_BUFFERS;
	config->client_memory = SRV_DEF_CLIENT;
	config->exports = g_ptr_array_new_with_free_func(export_free);
	return config;
}

int srv_config_io(const char *text, enum srv_io *io)
{
	static const char *const names[] = {
		[SRV_IO_AUTO] = "auto",
		[SRV_IO_URING] = "uring",
		[SRV_IO_THREADS] = "threads",
	};
	int i;

	for (i = SRV_IO_AUTO; i <= SRV_IO_THREADS; i++) {
		if (!strcmp(text, names[i])) {
			*io = i;
			return 0;
		}
	}
	return -1;
}

static const char *const tls_modes[] = {
	[SRV_TLS_UNSET] = "",
	[SRV_TLS_OFF] = "off",
	[SRV_TLS_OPTIONAL] = "optional",
	[SRV_TLS_REQUIRED] = "required",
};

/* What the two keys for it say together; without either it is @otherwise */
static int settle_tls(enum srv_tls_mode *mode, bool force, enum srv_tls_mode otherwise,
		      const char *file, const char *section)
{
	if (force && *mode != SRV_TLS_UNSET && *mode != SRV_TLS_REQUIRED) {
		nbd_err("%s [%s] tls = %s: force_tls = true says that it is required; remove one",
			file, section, tls_modes[*mode]);
		return -1;
	}
	if (force)
		*mode = SRV_TLS_REQUIRED;
	else if (*mode == SRV_TLS_UNSET)
		*mode = otherwise;
	return 0;
}

static int settle_export(struct srv_config *config, struct srv_export *export, const char *file)
{
	if (settle_tls(&export->tls, export->force_tls, config->tls, file, export->name))
		return -1;
	config->tls_somewhere |= export->tls == SRV_TLS_REQUIRED;
	if (config->tls == SRV_TLS_OFF && export->tls != SRV_TLS_OFF) {
		nbd_err("%s [%s] tls = %s: [generic] has no TLS; give a keyfile or a pskfile "
			"there, and no tls = off",
			file, export->name, tls_modes[export->tls]);
		return -1;
	}
	/* Before TLS no client can say which export it wants */
	if (config->tls == SRV_TLS_REQUIRED && export->tls != SRV_TLS_REQUIRED) {
		nbd_err("%s [%s] tls = %s: [generic] requires it for all exports; set it for each "
			"one instead",
			file, export->name, tls_modes[export->tls]);
		return -1;
	}
	return 0;
}

/* A certificate without its key: the administrator means TLS, and there would be none */
static bool has_key(const struct srv_config *config, const char *file)
{
	if (config->tls == SRV_TLS_OFF || config->keyfile ||
	    (!config->certfile && !config->cacertfile))
		return true;
	nbd_err("%s [generic] %s = %s: there is no keyfile with the server's private key; add it, "
		"or tls = off",
		file, config->certfile ? "certfile" : "cacertfile",
		config->certfile ? config->certfile : config->cacertfile);
	return false;
}

int srv_config_tls(struct srv_config *config, const char *file)
{
	bool any = config->keyfile || config->pskfile;
	bool said = config->tls != SRV_TLS_UNSET || config->force_tls;
	guint i;

	if (!has_key(config, file) ||
	    settle_tls(&config->tls, config->force_tls, any ? SRV_TLS_OPTIONAL : SRV_TLS_OFF, file,
		       "generic"))
		return -1;
	if (config->tls != SRV_TLS_OFF && !any) {
		nbd_err("%s [generic] tls = %s: give a keyfile with a certificate, or a pskfile",
			file, tls_modes[config->tls]);
		return -1;
	}
	for (i = 0; i < config->exports->len; i++) {
		if (settle_export(config, g_ptr_array_index(config->exports, i), file))
			return -1;
	}
	if (config->tls == SRV_TLS_OFF)
		return 0;
	if (config->cacertfile && !said && !config->tls_somewhere)
		nbd_warn("%s [generic] cacertfile = %s: clients without TLS are asked for no "
			 "certificate and served all the same; set tls = required, or tls = "
			 "optional if that is meant",
			 file, config->cacertfile);
	if (config->ktls && !srv_ktls_available())
		nbd_warn("%s [generic] ktls = true: the kernel has no TLS for TCP, and GnuTLS "
			 "encrypts; if there is one, load it: modprobe tls",
			 file);
	config->creds = srv_tls_creds_new(config);
	return config->creds ? 0 : -1;
}

void srv_config_log(const struct srv_config *config)
{
	nbd_log_set_level(config->log_level);
	nbd_log_set_format(config->log_format);
}

struct srv_config *srv_config_get(struct srv_config *config)
{
	g_atomic_int_inc(&config->refs);
	return config;
}

void srv_config_put(struct srv_config *config)
{
	if (!config || !g_atomic_int_dec_and_test(&config->refs))
		return;
	g_ptr_array_unref(config->exports);
	g_free(config->listenaddr);
	g_free(config->port);
	g_free(config->unixsock);
	g_free(config->includedir);
	g_free(config->certfile);
	g_free(config->keyfile);
	g_free(config->cacertfile);
	g_free(config->pskfile);
	g_free(config->tlsprio);
	srv_tls_creds_free(config->creds);
	g_free(config->user);
	g_free(config->group);
	g_free(config->control);
	g_free(config->metrics);
	g_free(config);
}

struct srv_export *srv_config_add(struct srv_config *config, const char *name)
{
	struct srv_export *export = g_new0(struct srv_export, 1);

	export->name = g_strdup(name);
	export->flush = true;
	export->fua = true;
	export->trim = true;
	export->rbd_takeover = true;
	export->swapgrace = SRV_DEF_GRACE;
	export->nospace = g_new0(struct srv_nospace, 1);
	g_ptr_array_add(config->exports, export);
	return export;
}

const struct srv_export *srv_config_find(const struct srv_config *config, const char *name)
{
	const struct srv_export *export;
	guint i;

	for (i = 0; i < config->exports->len; i++) {
		export = g_ptr_array_index(config->exports, i);
		if (!export->swapdir && (!*name || !strcmp(export->name, name)))
			return export;
	}
	/* Whoever has a section of its own is not meant by a pattern */
	for (i = 0; i < config->exports->len; i++) {
		export = g_ptr_array_index(config->exports, i);
		if (export->swapdir && srv_swap_matches(export->name, name))
			return export;
	}
	return NULL;
}

/* The one * of a pattern stands for a name's part: with a letter there the rest must be one too */
static bool check_pattern(const struct srv_export *export, const char *where)
{
	g_autofree char *name = g_strdup(export->name);
	char *star = strchr(name, '*');
	const char *bad;

	if (!star) {
		nbd_err("%s: swapdir = %s: the section's name stands for many; "
			"put a * where they differ, as in [swap-*]",
			where, export->swapdir);
		return false;
	}
	*star = 'x';
	bad = srv_swap_bad_name(name);
	if (!bad)
		return true;
	nbd_err("%s: swapdir = %s: no client could have the name that the section's stands for: "
		"%s; use one * and otherwise letters, digits and ._-+:@",
		where, export->swapdir, bad);
	return false;
}

static bool check_swap(const struct srv_export *export, const char *where)
{
	if (export->path || export->size || export->readonly || export->virtstyle) {
		nbd_err("%s: swapdir = %s: exportname, filesize, readonly and virtstyle are not "
			"for swap exports; remove them",
			where, export->swapdir);
		return false;
	}
	if (export->multifile || export->treefiles || export->temporary || export->copyonwrite ||
	    export->prerun || export->postrun) {
		nbd_err("%s: swapdir = %s: multifile, treefiles, temporary, copyonwrite, prerun "
			"and postrun are not for swap exports; remove them",
			where, export->swapdir);
		return false;
	}
	if (*export->swapdir != '/') {
		nbd_err("%s: swapdir = %s: give an absolute path", where, export->swapdir);
		return false;
	}
	if (!export->swapsize || export->swapsize % 4096) {
		nbd_err("%s: swapsize = %llu: give the size of each client's file, a multiple of "
			"4096",
			where, (unsigned long long)export->swapsize);
		return false;
	}
	if (!srv_swap_fits(0, export->swapsize, export->quota)) {
		nbd_err("%s: quota = %llu: not one file of swapsize = %llu fits; raise it", where,
			(unsigned long long)export->quota, (unsigned long long)export->swapsize);
		return false;
	}
	return check_pattern(export, where);
}

static bool check_hook(const char *key, const char *command, const char *where)
{
	g_autofree char *why = NULL;

	if (!command || srv_hook_check(command, &why))
		return true;
	nbd_err("%s: %s = %s: no program and arguments: %s", where, key, command, why);
	return false;
}

/* What the file is, and what else of its kind there is */
static bool check_kind(const struct srv_export *export, const char *where)
{
	if (export->temporary && (export->multifile || export->treefiles || export->copyonwrite)) {
		nbd_err("%s: temporary = true: its file is new for every client; "
			"remove multifile, treefiles and copyonwrite",
			where);
		return false;
	}
	if ((export->temporary || export->treefiles) && !export->size) {
		nbd_err("%s: %s = true: give the size of the export as filesize", where,
			export->temporary ? "temporary" : "treefiles");
		return false;
	}
	if (export->direct &&
	    (export->multifile || export->treefiles || export->temporary || export->copyonwrite)) {
		nbd_err("%s: direct = true: it is for exports that are one file of their own; "
			"remove multifile, treefiles, temporary and copyonwrite, or direct",
			where);
		return false;
	}
	if (export->cowdir && *export->cowdir != '/') {
		nbd_err("%s: cowdir = %s: give an absolute path", where, export->cowdir);
		return false;
	}
	return check_hook("prerun", export->prerun, where) &&
	       check_hook("postrun", export->postrun, where);
}

static bool check_rbd(const struct srv_export *export, const char *where)
{
	const char *missing = srv_rbd_missing();

	if (missing) {
		nbd_err("%s: exportname = %s: %s", where, export->path, missing);
		return false;
	}
	if (!srv_rbd_check_path(export->path)) {
		nbd_err("%s: exportname = %s: give rbd:POOL/IMAGE or rbd:POOL/NAMESPACE/IMAGE",
			where, export->path);
		return false;
	}
	if (export->multifile || export->treefiles || export->temporary || export->copyonwrite ||
	    export->direct) {
		nbd_err("%s: exportname = %s: multifile, treefiles, temporary, copyonwrite and "
			"direct are not for images of Ceph; remove them",
			where, export->path);
		return false;
	}
	if (export->cephconf && *export->cephconf != '/') {
		nbd_err("%s: cephconf = %s: give an absolute path", where, export->cephconf);
		return false;
	}
	return check_hook("prerun", export->prerun, where) &&
	       check_hook("postrun", export->postrun, where);
}

bool srv_export_check(const struct srv_export *export, const char *where)
{
	if (!srv_export_is_rbd(export) &&
	    (export->cephuser || export->cephconf || !export->rbd_takeover)) {
		nbd_err("%s: cephuser, cephconf and rbd_takeover are for images of Ceph; give "
			"exportname = rbd:POOL/IMAGE, or remove them",
			where);
		return false;
	}
	if (export->swapdir)
		return check_swap(export, where);
	if (export->swapsize || export->quota || export->preallocate ||
	    export->swapgrace != SRV_DEF_GRACE) {
		nbd_err("%s: swapsize, quota, swapgrace and preallocate are for swap exports; "
			"add swapdir = DIRECTORY, or remove them",
			where);
		return false;
	}
	if (!export->path || !*export->path) {
		nbd_err("%s: exportname is missing: give the file or block device to export",
			where);
		return false;
	}
	if (srv_export_is_rbd(export))
		return check_rbd(export, where);
	if (*export->path != '/') {
		nbd_err("%s: exportname = %s: give an absolute path", where, export->path);
		return false;
	}
	if (export->virtstyle && strcmp(export->virtstyle, "none") &&
	    strcmp(export->virtstyle, "ipliteral") && strcmp(export->virtstyle, "iphash") &&
	    !g_str_has_prefix(export->virtstyle, "cidrhash ")) {
		nbd_err("%s: virtstyle = %s: not a style; use none", where, export->virtstyle);
		return false;
	}
	if (strstr(export->path, "%s") && g_strcmp0(export->virtstyle, "none")) {
		nbd_err("%s: %s: a file per client address is not supported; "
			"set virtstyle = none if %%s is part of the name",
			where, export->path);
		return false;
	}
	return check_kind(export, where);
}

/* Where a value was found, for messages */
struct place {
	const char *file;
	const char *section;
	const struct key *key;
	const char *value;
};

static int bad_value(const struct place *at, const char *expected)
{
	nbd_err("%s [%s] %s = %s: expected %s", at->file, at->section, at->key->name, at->value,
		expected);
	return -1;
}

static int parse_bool(const struct place *at, bool *value)
{
	*value = !strcmp(at->value, "true");
	if (*value || !strcmp(at->value, "false"))
		return 0;
	return bad_value(at, "true or false");
}

static int parse_io(const struct place *at, enum srv_io *value)
{
	if (!srv_config_io(at->value, value))
		return 0;
	return bad_value(at, "auto, uring or threads");
}

static int parse_log(const struct place *at, void *field)
{
	if (at->key->kind == KEY_LOG_LEVEL) {
		if (!nbd_log_parse_level(at->value, field))
			return 0;
		return bad_value(at, "error, warning, info or debug");
	}
	if (!nbd_log_parse_format(at->value, field))
		return 0;
	return bad_value(at, "text or json");
}

static int parse_tls(const struct place *at, enum srv_tls_mode *value)
{
	int mode;

	for (mode = SRV_TLS_OFF; mode <= SRV_TLS_REQUIRED; mode++) {
		if (!strcmp(at->value, tls_modes[mode])) {
			*value = mode;
			return 0;
		}
	}
	return bad_value(at, "off, optional or required");
}

static int parse_number(const struct place *at, uint64_t *value)
{
	const struct key *key = at->key;
	char range[64];

	if (key->kind == KEY_SIZE) {
		if (nbd_parse_size(at->value, value))
			return bad_value(at, "a number of bytes");
		return *value < key->min ? bad_value(at, key->note) : 0;
	}
	if (!nbd_parse_uint(at->value, key->max, value) && *value >= key->min)
		return 0;
	g_snprintf(range, sizeof(range), "a number from %llu to %llu", (unsigned long long)key->min,
		   (unsigned long long)key->max);
	return bad_value(at, range);
}

static int parse_value(const struct place *at, void *into)
{
	const struct key *key = at->key;
	char *field = (char *)into + key->offset;
	bool on = true;

	switch (key->kind) {
	case KEY_STRING:
		if (strlen(at->value) > NBD_WIRE_MAX_STRING)
			return bad_value(at, "at most 4096 bytes");
		g_free(*(char **)(void *)field);
		*(char **)(void *)field = g_strdup(at->value);
		return 0;
	case KEY_BOOL:
		return parse_bool(at, (bool *)field);
	case KEY_UINT:
	case KEY_SIZE:
		return parse_number(at, (uint64_t *)(void *)field);
	case KEY_IO:
		return parse_io(at, (enum srv_io *)(void *)field);
	case KEY_LOG_LEVEL:
	case KEY_LOG_FORMAT:
		return parse_log(at, field);
	case KEY_TLS:
		return parse_tls(at, (enum srv_tls_mode *)(void *)field);
	case KEY_NO_EFFECT:
		nbd_warn("%s [%s] %s has no effect: %s", at->file, at->section, key->name,
			 key->note);
		return 0;
	case KEY_REFUSED_TRUE:
		if (parse_bool(at, &on))
			return -1;
		break;
	}
	if (!on)
		return 0;
	nbd_err("%s [%s] %s = %s: %s; remove the line", at->file, at->section, key->name, at->value,
		key->note);
	return -1;
}

/* Every key of a section into @into; all of them are looked at even after an error */
static int load_section(GKeyFile *kf, const char *file, const char *section, const struct key *keys,
			void *into)
{
	g_auto(GStrv) names = g_key_file_get_keys(kf, section, NULL, NULL);
	const struct key *key;
	int ret = 0;
	char **name;

	for (name = names; name && *name; name++) {
		g_autoptr(GError) error = NULL;
		g_autofree char *value = NULL;

		for (key = keys; key->name && strcmp(key->name, *name); key++)
			;
		if (!key->name) {
			nbd_warn("%s [%s] %s: unknown key, ignored", file, section, *name);
			continue;
		}
		value = g_key_file_get_string(kf, section, *name, &error);
		if (!value) {
			nbd_err("%s [%s] %s: %s", file, section, *name, error->message);
			ret = -1;
			continue;
		}
		if (key->kind != KEY_STRING)
			g_strchomp(value);
		if (parse_value(&(struct place){ file, section, key, value }, into))
			ret = -1;
	}
	return ret;
}

/* Some keys decide about others */
static void tidy(struct srv_export *export)
{
	/* TRIM would give back what was taken so that it is there */
	if (export->preallocate)
		export->trim = false;
	if (export->treefiles)
		export->multifile = false;
	/* What is only read needs no place for what is written */
	if (export->readonly)
		export->copyonwrite = false;
	if (export->prerun && !*export->prerun)
		g_clear_pointer(&export->prerun, g_free);
	if (export->postrun && !*export->postrun)
		g_clear_pointer(&export->postrun, g_free);
	if (export->cephuser && !*export->cephuser)
		g_clear_pointer(&export->cephuser, g_free);
	if (export->cephconf && !*export->cephconf)
		g_clear_pointer(&export->cephconf, g_free);
	if (export->cowdir && !*export->cowdir)
		g_clear_pointer(&export->cowdir, g_free);
}

static int load_export(struct srv_config *config, GKeyFile *kf, const char *file,
		       const char *section)
{
	g_autofree char *where = g_strdup_printf("%s [%s]", file, section);
	struct srv_export *export;
	guint i;
	int ret;

	if (strlen(section) > NBD_WIRE_MAX_STRING) {
		nbd_err("%s: section name longer than 4096 bytes", file);
		return -1;
	}
	for (i = 0; i < config->exports->len; i++) {
		export = g_ptr_array_index(config->exports, i);
		if (!strcmp(export->name, section)) {
			nbd_err("%s: there is already an export of this name", where);
			return -1;
		}
	}
	export = srv_config_add(config, section);
	ret = load_section(kf, file, section, export_keys, export);
	tidy(export);
	if (!ret && !srv_export_check(export, where))
		ret = -1;
	return ret;
}

static GKeyFile *read_file(const char *file)
{
	GKeyFile *kf = g_key_file_new();
	g_autoptr(GError) error = NULL;
	g_autofree char *text = NULL;
	gsize len;

	/* Not load_from_file(): that takes no /dev/null */
	if (g_file_get_contents(file, &text, &len, &error) &&
	    g_key_file_load_from_data(kf, text, len, G_KEY_FILE_NONE, &error))
		return kf;
	nbd_err("cannot read configuration file %s: %s", file, error->message);
	g_key_file_free(kf);
	return NULL;
}

static int load_exports(struct srv_config *config, const char *file, GKeyFile *kf, bool main_file)
{
	g_auto(GStrv) sections = g_key_file_get_groups(kf, NULL);
	int ret = 0;
	char **s;

	for (s = sections; *s; s++) {
		if (!strcmp(*s, "generic")) {
			if (main_file)
				continue;
			nbd_err("%s [generic]: this section belongs in the main configuration file",
				file);
			ret = -1;
		} else if (load_export(config, kf, file, *s)) {
			ret = -1;
		}
	}
	return ret;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* *.conf in the directory, by name, so that the order is always the same */
static int load_directory(struct srv_config *config, const char *path)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GError) error = NULL;
	const char *name;
	GKeyFile *kf;
	int ret = 0;
	GDir *dir;
	guint i;

	dir = g_dir_open(path, 0, &error);
	if (!dir) {
		nbd_err("cannot read includedir %s: %s", path, error->message);
		return -1;
	}
	while ((name = g_dir_read_name(dir))) {
		if (g_str_has_suffix(name, ".conf"))
			g_ptr_array_add(names, g_build_filename(path, name, NULL));
	}
	g_dir_close(dir);
	g_ptr_array_sort(names, by_name);

	for (i = 0; i < names->len; i++) {
		name = g_ptr_array_index(names, i);
		kf = read_file(name);
		if (!kf || load_exports(config, name, kf, false))
			ret = -1;
		if (kf)
			g_key_file_free(kf);
	}
	return ret;
}

int srv_config_load(struct srv_config *config, const char *file)
{
	g_autofree char *first = NULL;
	GKeyFile *kf;
	int ret;

	kf = read_file(file);
	if (!kf)
		return -1;
	first = g_key_file_get_start_group(kf);
	if (!first) {
		/* An empty file is fine beside an export on the command line */
		g_key_file_free(kf);
		return 0;
	}
	if (strcmp(first, "generic")) {
		nbd_err("%s: the first section must be [generic]", file);
		g_key_file_free(kf);
		return -1;
	}
	ret = load_section(kf, file, "generic", generic_keys, config);
	if (load_exports(config, file, kf, true))
		ret = -1;
	g_key_file_free(kf);
	if (config->includedir && load_directory(config, config->includedir))
		ret = -1;
	return ret;
}
