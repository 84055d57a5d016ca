/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the server was told to do: by its configuration file, its command line, or both. */
#ifndef SRV_CONFIG_H
#define SRV_CONFIG_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/log.h"
#include "server/backend-rbd.h"
#include "server/nospace.h"

#define SRV_DEF_CONFIG	  "/etc/nbd-server/config"
#define SRV_DEF_ALLOW	  "/etc/nbd-server/allow"
#define SRV_DEF_PID_FILE  "/var/run/nbd-server.pid"
#define SRV_DEF_CONTROL	  "/run/nbd-server/control"
#define SRV_DEF_HANDSHAKE 10 /* seconds */
#define SRV_DEF_CLIENTS	  16384
#define SRV_DEF_THREADS	  16
#define SRV_MAX_THREADS	  64
#define SRV_MAX_LOOPS	  256
#define SRV_DEF_BUFFERS	  (512ull << 20) /* of all clients */
#define SRV_DEF_CLIENT	  (64ull << 20)	 /* of one */
#define SRV_DEF_GRACE	  3600		 /* seconds */

/* What does the disk's work */
enum srv_io { SRV_IO_AUTO, SRV_IO_URING, SRV_IO_THREADS };

/* May, or must, clients have TLS? */
enum srv_tls_mode {
	SRV_TLS_UNSET, /* not told; nothing is so any longer once the configuration is complete */
	SRV_TLS_OFF,
	SRV_TLS_OPTIONAL,
	SRV_TLS_REQUIRED,
};

struct srv_swap_dir;
struct srv_tls_creds;

struct srv_export {
	char *name;	   /* "" for the one on the command line; of swap exports, the pattern */
	char *path;	   /* NULL for swap exports */
	char *description; /* or NULL */
	char *authfile;	   /* or NULL */
	char *virtstyle;   /* or NULL: what %s in @path means */
	uint64_t size;	   /* 0: the file's own */
	uint64_t max_connections; /* 0: no limit */
	uint64_t max_per_address; /* the same, of one address */
	uint64_t timeout;	  /* seconds a client may be idle; 0: for ever */
	bool readonly;
	bool flush;
	bool fua;
	bool trim;
	bool rotational;
	bool sync;
	bool direct;	/* without the page cache */
	bool force_tls; /* the same as @tls required */
	enum srv_tls_mode tls;
	bool multifile;
	bool treefiles;
	bool temporary;
	bool copyonwrite;
	char *cowdir; /* or NULL: where the file is */
	char *prerun; /* commands, see hook.h; or NULL */
	char *postrun;
	/* Images of Ceph, see backend-rbd.h: */
	char *cephuser; /* or NULL */
	char *cephconf; /* or NULL */
	bool rbd_takeover;
	/* Swap exports, see swap.h: */
	char *swapdir;	    /* or NULL: the section is one export */
	uint64_t swapsize;  /* of each file */
	uint64_t quota;	    /* of all together; 0: no limit */
	uint64_t swapgrace; /* seconds that a file is kept without a client */
	bool preallocate;
	struct srv_swap_dir *dir;    /* NULL until srv_swaps_bind() */
	struct srv_nospace *nospace; /* the export's own, and not a part of what never changes */
};

/* Never changed once in use; a reload makes a new one.  Counted. */
struct srv_config {
	int refs;
	char *listenaddr; /* comma-separated; NULL: every address */
	char *port;
	char *unixsock;
	bool duallisten;
	char *includedir;
	char *user;
	char *group;
	char *control; /* the socket for nbd-server ctl; NULL: none */
	bool control_default;
	char *metrics; /* ADDRESS:PORT; NULL: none */
	bool allowlist;
	bool seccomp;	/* system calls are filtered */
	bool mlock;	/* nothing of the server may leave memory */
	char *certfile; /* NULL: the certificate is in @keyfile */
	char *keyfile;
	char *cacertfile; /* NULL: clients need no certificate */
	char *pskfile;
	char *tlsprio;
	bool ktls;		     /* the kernel encrypts what is sent */
	bool force_tls;		     /* the same as @tls required */
	enum srv_tls_mode tls;	     /* required: for all exports, and for everything else */
	bool tls_somewhere;	     /* an export requires it */
	struct srv_tls_creds *creds; /* NULL: TLS is off */
	uint64_t loops;		     /* 0: one for each core */
	enum srv_io io;
	uint64_t buffer_memory;	 /* for the data of requests, of all clients */
	uint64_t client_memory;	 /* and of one connection */
	uint64_t address_memory; /* and of one address; 0: no limit */
	uint64_t max_threads;	 /* reads, and changes, of one client at the disk at a time */
	uint64_t max_clients;
	uint64_t max_per_address;   /* clients; 0: no limit */
	uint64_t handshake_timeout; /* seconds */
	int log_level;		    /* the least urgent priority that is written */
	enum nbd_log_format log_format;
	GPtrArray *exports; /* struct srv_export *, in the file's order */
};

/* Defaults and no exports */
struct srv_config *srv_config_new(void);
struct srv_config *srv_config_get(struct srv_config *config);
void srv_config_put(struct srv_config *config);

/*
 * Add what a configuration file says.  Errors and everything that is not
 * heeded are written to the log, with file, section and key.  0 or -1.
 */
int srv_config_load(struct srv_config *config, const char *file);

/*
 * All has been added: settle who has TLS, and read what that takes.  Says what is
 * wrong, with @file.  0 or -1.
 */
int srv_config_tls(struct srv_config *config, const char *file);

/* A new export with default settings, owned by the configuration */
struct srv_export *srv_config_add(struct srv_config *config, const char *name);

/* Have the log as the configuration wants it */
void srv_config_log(const struct srv_config *config);

/* auto, uring or threads; 0, or -1 for anything else */
int srv_config_io(const char *text, enum srv_io *io);

/* Are commands run for its clients? */
static inline bool srv_export_has_hooks(const struct srv_export *export)
{
	return export->prerun || export->postrun;
}

/* Is it an image of Ceph? */
static inline bool srv_export_is_rbd(const struct srv_export *export)
{
	return export->path && g_str_has_prefix(export->path, SRV_RBD_PREFIX);
}

/* May it take very long to open it? */
static inline bool srv_export_is_slow(const struct srv_export *export)
{
	return srv_export_has_hooks(export) || srv_export_is_rbd(export);
}

/* Is the path usable?  If not, says why; @where leads the message. */
bool srv_export_check(const struct srv_export *export, const char *where);

/* direct.c: can every export be used as `direct` says?  If not, says why.  0 or -1. */
int srv_direct_check(const struct srv_config *config);

/*
 * The export a client asked for; "" is the first one that is no swap export.
 * NULL when there is none.
 */
const struct srv_export *srv_config_find(const struct srv_config *config, const char *name);

#endif /* SRV_CONFIG_H */
