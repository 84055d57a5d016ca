// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/tls.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/bytes.h"
#include "common/log.h"
#include "server/config.h"
#include "server/ktls.h"
#include "server/psk.h"

/* Never changed once made: all connections of all loops share it */
struct srv_tls_creds {
	gnutls_certificate_credentials_t x509; /* or NULL */
	gnutls_psk_server_credentials_t psk;   /* or NULL, with all of @keys */
	GHashTable *keys;
	gnutls_priority_t priority;
	bool verify; /* clients by their certificates */
	bool ktls;   /* the kernel sends, if it can */
};

/* Others have their turn after so much has been encrypted */
#define SEND_MAX	     (256 << 10)
/* Records in a row that a call takes and that are not data, such as new keys */
#define RECORDS_WITHOUT_DATA 16
/* What one record becomes, with a message that goes before it */
#define OUT_MAX		     (SRV_TLS_RECORD + 4096)

struct srv_tls {
	gnutls_session_t session;
	const struct srv_tls_creds *creds;
	int fd;
	int error;   /* GnuTLS's, the last one that was no wait */
	bool up;     /* the handshake is over, and nothing has failed since */
	bool midway; /* bytes have come since the last whole record */
	bool dry;    /* the socket had no more when it was asked last */
	bool ktls;   /* the kernel encrypts what is sent, and GnuTLS can send nothing */
	bool stuck;  /* it would have to, see new_keys() */
	bool said_bye;
	unsigned int limit; /* of data and more in one record, if the client has one */
	uint8_t *out;	    /* of OUT_MAX bytes, once the socket has had no room for something */
	size_t out_len;	    /* of these are in use, and have gone */
	size_t out_sent;
	size_t held; /* bytes of data that are in @out, or partly so: they have not gone yet */
};

/* The key of a client; a made-up one does not tell strangers which names there are */
static int find_key(gnutls_session_t session, const gnutls_datum_t *name, gnutls_datum_t *key)
{
	const struct srv_tls *t = gnutls_session_get_ptr(session);
	g_autoptr(GBytes) wanted = g_bytes_new_static(name->data, name->size);
	GBytes *found = g_hash_table_lookup(t->creds->keys, wanted);
	gsize len = 32;
	const void *data = found ? g_bytes_get_data(found, &len) : NULL;

	key->data = gnutls_malloc(len);
	if (!key->data)
		return -1;
	key->size = (unsigned int)len;
	if (found)
		memcpy(key->data, data, len);
	else if (gnutls_rnd(GNUTLS_RND_KEY, key->data, len) < 0) {
		gnutls_free(key->data);
		key->data = NULL;
		return -1;
	}
	return 0;
}

static bool failed(int ret, const char *key, const char *value)
{
	if (ret >= 0)
		return false;
	nbd_err("%s = %s: %s", key, value, gnutls_strerror(ret));
	return true;
}

/* To be found by a reload, too.  Of a file that cannot be read GnuTLS does not say why. */
static bool readable(const char *key, const char *file)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text = NULL;

	if (*file != '/') {
		nbd_err("%s = %s: give an absolute path", key, file);
		return false;
	}
	if (g_file_get_contents(file, &text, NULL, &error))
		return true;
	nbd_err("%s = %s: cannot be read: %s", key, file, error->message);
	return false;
}

static bool load_x509(struct srv_tls_creds *creds, const struct srv_config *config)
{
	const char *cert = config->certfile ? config->certfile : config->keyfile;
	int n;

	if (!readable("keyfile", config->keyfile) || !readable("certfile", cert) ||
	    (config->cacertfile && !readable("cacertfile", config->cacertfile)))
		return false;
	if (failed(gnutls_certificate_allocate_credentials(&creds->x509), "keyfile",
		   config->keyfile) ||
	    failed(gnutls_certificate_set_x509_key_file(creds->x509, cert, config->keyfile,
							GNUTLS_X509_FMT_PEM),
		   "certfile and keyfile", cert))
		return false;
	if (!config->cacertfile)
		return true;
	n = gnutls_certificate_set_x509_trust_file(creds->x509, config->cacertfile,
						   GNUTLS_X509_FMT_PEM);
	if (failed(n, "cacertfile", config->cacertfile))
		return false;
	if (!n) {
		nbd_err("cacertfile = %s: no certificate in it", config->cacertfile);
		return false;
	}
	creds->verify = true;
	return true;
}

static bool load_psk(struct srv_tls_creds *creds, const char *file)
{
	creds->keys = srv_psk_load(file);
	if (!creds->keys)
		return false;
	if (failed(gnutls_psk_allocate_server_credentials(&creds->psk), "pskfile", file) ||
	    failed(gnutls_psk_set_server_known_dh_params(creds->psk, GNUTLS_SEC_PARAM_MEDIUM),
		   "pskfile", file))
		return false;
	gnutls_psk_set_server_credentials_function2(creds->psk, find_key);
	return true;
}

static bool load_priority(struct srv_tls_creds *creds, const struct srv_config *config)
{
	const char *text = config->tlsprio ? config->tlsprio : SRV_TLS_PRIORITY;
	g_autofree char *all = g_strconcat(text, creds->psk ? ":+ECDHE-PSK:+DHE-PSK" : "", NULL);
	const char *at;
	int ret = gnutls_priority_init(&creds->priority, all, &at);

	if (ret < 0)
		nbd_err("tlsprio = %s: %s, from '%s' on; see the priority strings of GnuTLS", text,
			gnutls_strerror(ret), at);
	return ret >= 0;
}

struct srv_tls_creds *srv_tls_creds_new(const struct srv_config *config)
{
	struct srv_tls_creds *creds = g_new0(struct srv_tls_creds, 1);

	creds->ktls = config->ktls;
	if ((!config->keyfile || load_x509(creds, config)) &&
	    (!config->pskfile || load_psk(creds, config->pskfile)) && load_priority(creds, config))
		return creds;
	srv_tls_creds_free(creds);
	return NULL;
}

void srv_tls_creds_free(struct srv_tls_creds *creds)
{
	if (!creds)
		return;
	if (creds->priority)
		gnutls_priority_deinit(creds->priority);
	if (creds->x509)
		gnutls_certificate_free_credentials(creds->x509);
	if (creds->psk)
		gnutls_psk_free_server_credentials(creds->psk);
	if (creds->keys)
		g_hash_table_unref(creds->keys);
	g_free(creds);
}

static ssize_t pull(gnutls_transport_ptr_t ptr, void *buf, size_t len)
{
	struct srv_tls *t = ptr;
	ssize_t n;

	do {
		n = recv(t->fd, buf, len, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	t->dry = n < 0 && errno == EAGAIN;
	if (n < 0)
		gnutls_transport_set_errno(t->session, errno);
	t->midway |= n > 0;
	return n;
}

static ssize_t send_now(struct srv_tls *t, const struct iovec *iov, size_t n)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };
	ssize_t ret;

	do {
		ret = sendmsg(t->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (ret < 0 && errno == EINTR);
	return ret;
}

/* Is everything gone?  If not, errno is EAGAIN or says what is wrong. */
static bool flush(struct srv_tls *t)
{
	struct iovec iov;
	ssize_t n;

	while (t->out_sent < t->out_len) {
		iov = (struct iovec){ t->out + t->out_sent, t->out_len - t->out_sent };
		n = send_now(t, &iov, 1);
		if (n < 0)
			return false;
		t->out_sent += (size_t)n;
	}
	t->out_len = 0;
	t->out_sent = 0;
	return true;
}

/* Keep what the socket has no room for, from byte @skip on; how many bytes there was room for */
static size_t keep(struct srv_tls *t, const giovec_t *iov, int n_iov, size_t skip)
{
	size_t kept = 0, n;

	if (!t->out)
		t->out = malloc(OUT_MAX);
	for (; t->out && n_iov; iov++, n_iov--) {
		if (skip >= iov->iov_len) {
			skip -= iov->iov_len;
			continue;
		}
		n = iov->iov_len - skip;
		if (n > OUT_MAX - t->out_len)
			n = OUT_MAX - t->out_len;
		memcpy(t->out + t->out_len, (const uint8_t *)iov->iov_base + skip, n);
		t->out_len += n;
		kept += n;
		if (n < iov->iov_len - skip)
			break;
		skip = 0;
	}
	return kept;
}

/*
 * Once there is TLS, GnuTLS never has to wait: a record that did not go as a whole
 * would be lost for it when the client asks for new keys at that moment.
 */
static ssize_t push(gnutls_transport_ptr_t ptr, const giovec_t *iov, int n_iov)
{
	struct srv_tls *t = ptr;
	size_t total = 0;
	ssize_t n = 0;
	int i;

	/* What it encrypts is of no use any more, and nothing asks it to: see new_keys() */
	if (t->ktls) {
		gnutls_transport_set_errno(t->session, EPROTO);
		return -1;
	}
	for (i = 0; i < n_iov; i++)
		total += iov[i].iov_len;
	if (!t->out_len)
		n = send_now(t, (const struct iovec *)iov, (size_t)n_iov);
	if (n < 0 && errno != EAGAIN) {
		gnutls_transport_set_errno(t->session, errno);
		return -1;
	}
	if (n < 0)
		n = 0;
	if ((size_t)n < total)
		n += (ssize_t)keep(t, iov, n_iov, (size_t)n);
	if (n)
		return n;
	gnutls_transport_set_errno(t->session, t->out ? EAGAIN : ENOMEM);
	return -1;
}

/* A certificate made for a server, say, does not make its owner a client */
static void verify_client(gnutls_session_t session)
{
	static gnutls_typed_vdata_st purpose = {
		.type = GNUTLS_DT_KEY_PURPOSE_OID,
		.data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT,
	};

	gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
	gnutls_session_set_verify_cert2(session, &purpose, 1, 0);
}

/* Extensions by number; of the second, two bytes are the limit */
#define EXT_MAX_FRAGMENT_LENGTH 1
#define EXT_RECORD_SIZE_LIMIT	28

/* The later one counts, of the extensions and of two hellos */
static int look_at_extension(void *ctx, unsigned int id, const unsigned char *data,
			     unsigned int size)
{
	struct srv_tls *t = ctx;

	if (id == EXT_RECORD_SIZE_LIMIT && size == 2)
		t->limit = nbd_get_be16(data);
	else if (id == EXT_MAX_FRAGMENT_LENGTH)
		t->limit = 0;
	return 0;
}

/* RFC 8449 and RFC 6066: GnuTLS heeds it, and does not tell what it is */
static int look_for_limit(gnutls_session_t session, unsigned int type, unsigned int when,
			  unsigned int incoming, const gnutls_datum_t *msg)
{
	(void)type;
	(void)when;
	(void)incoming;
	gnutls_ext_raw_parse(gnutls_session_get_ptr(session), look_at_extension, msg,
			     GNUTLS_EXT_RAW_FLAG_TLS_CLIENT_HELLO);
	return 0;
}

struct srv_tls *srv_tls_new(const struct srv_tls_creds *creds, int fd)
{
	struct srv_tls *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->creds = creds;
	t->fd = fd;
	/* No tickets: a connection lasts, and what resumes it would be one more secret to keep */
	if (gnutls_init(&t->session,
			GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS))
		goto err;
	gnutls_session_set_ptr(t->session, t);
	gnutls_transport_set_ptr(t->session, t);
	gnutls_transport_set_pull_function(t->session, pull);
	gnutls_transport_set_vec_push_function(t->session, push);
	if (gnutls_priority_set(t->session, creds->priority) ||
	    (creds->x509 &&
	     gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, creds->x509)) ||
	    (creds->psk && gnutls_credentials_set(t->session, GNUTLS_CRD_PSK, creds->psk)))
		goto err;
	if (creds->verify)
		verify_client(t->session);
	t->limit = SRV_TLS_RECORD + 1;
	if (creds->ktls)
		gnutls_handshake_set_hook_function(t->session, GNUTLS_HANDSHAKE_CLIENT_HELLO,
						   GNUTLS_HOOK_PRE, look_for_limit);
	return t;
err:
	srv_tls_free(t);
	return NULL;
}

void srv_tls_free(struct srv_tls *t)
{
	if (!t)
		return;
	if (t->session)
		gnutls_deinit(t->session);
	free(t->out);
	free(t);
}

/* The socket is what is wrong; GnuTLS has a word for that */
static ssize_t not_flushed(struct srv_tls *t)
{
	if (errno == EAGAIN)
		return -EAGAIN;
	t->up = false;
	t->error = GNUTLS_E_PUSH_ERROR;
	return -EPROTO;
}

/*
 * The client has new keys, and may want ours to be new as well: these the kernel
 * cannot change, and the client may rely on it.
 */
static int new_keys(gnutls_session_t session, unsigned int type, unsigned int when,
		    unsigned int incoming, const gnutls_datum_t *msg)
{
	struct srv_tls *t = gnutls_session_get_ptr(session);

	(void)type;
	(void)when;
	if (!incoming || !msg->size || !msg->data[msg->size - 1])
		return 0;
	t->stuck = true;
	return GNUTLS_E_UNIMPLEMENTED_FEATURE;
}

static void start_ktls(struct srv_tls *t)
{
	bool tls13 = gnutls_protocol_get_version(t->session) == GNUTLS_TLS1_3;

	/* The kernel makes records as large as there is data; TLS 1.3 counts one byte more */
	if (t->limit < SRV_TLS_RECORD + (tls13 ? 1u : 0u))
		return;
	t->ktls = !srv_ktls_start(t->session, t->fd);
	if (t->ktls)
		gnutls_handshake_set_hook_function(t->session, GNUTLS_HANDSHAKE_KEY_UPDATE,
						   GNUTLS_HOOK_PRE, new_keys);
}

int srv_tls_handshake(struct srv_tls *t, bool *write)
{
	int ret = t->up ? 0 : gnutls_handshake(t->session);

	if (ret && ret != GNUTLS_E_AGAIN) {
		t->error = ret;
		/* That a warning has come is no reason to go on: no client has one to give */
		(void)gnutls_alert_send_appropriate(t->session, ret);
		return -EPROTO;
	}
	t->up = !ret;
	*write = gnutls_record_get_direction(t->session);
	if (!flush(t)) {
		*write = true;
		return (int)not_flushed(t);
	}
	t->midway &= !t->up;
	if (ret)
		return -EAGAIN;
	if (t->creds->ktls && !t->ktls)
		start_ktls(t);
	return 0;
}

/* The owner's name in the client's certificate */
static char *subject(gnutls_session_t session)
{
	unsigned int n;
	const gnutls_datum_t *list = gnutls_certificate_get_peers(session, &n);
	gnutls_datum_t dn = { NULL, 0 };
	gnutls_x509_crt_t crt;
	char *text = NULL;

	if (!list || !n || gnutls_x509_crt_init(&crt))
		return NULL;
	if (!gnutls_x509_crt_import(crt, list, GNUTLS_X509_FMT_DER) &&
	    !gnutls_x509_crt_get_dn3(crt, &dn, 0))
		text = g_strndup((const char *)dn.data, dn.size);
	gnutls_free(dn.data);
	gnutls_x509_crt_deinit(crt);
	return text;
}

char *srv_tls_describe(const struct srv_tls *t)
{
	char *desc = gnutls_session_get_desc(t->session), *text;
	g_autofree char *who = NULL, *printable = NULL;

	if (gnutls_auth_client_get_type(t->session) == GNUTLS_CRD_PSK)
		who = g_strdup(gnutls_psk_server_get_username(t->session));
	else if (t->creds->verify)
		who = subject(t->session);
	printable = g_strescape(who ? who : "", NULL);
	text = g_strdup_printf("%.120s%s%s%.200s", desc ? desc : "unknown",
			       t->ktls ? ", sent by the kernel" : "", who ? ", as " : "",
			       printable);
	gnutls_free(desc);
	return text;
}

/* A result of GnuTLS that is no number of bytes */
static ssize_t stopped(struct srv_tls *t, ssize_t ret)
{
	if (ret == GNUTLS_E_AGAIN)
		return -EAGAIN;
	t->up = false;
	t->error = (int)ret;
	/* A client that just hangs up has been cut off from nothing: requests say their length */
	return ret == GNUTLS_E_PREMATURE_TERMINATION ? 0 : -EPROTO;
}

ssize_t srv_tls_recv(struct srv_tls *t, const struct iovec *iov, size_t n)
{
	unsigned int tries;
	ssize_t ret;

	while (n > 1 && !iov->iov_len) {
		iov++;
		n--;
	}
	/* GnuTLS takes a few in a second, and no more */
	for (tries = 0; tries < RECORDS_WITHOUT_DATA; tries++) {
		t->dry = false;
		ret = gnutls_record_recv(t->session, iov->iov_base, iov->iov_len);
		/* A whole record, but not of data, as new keys are: more may be there */
		if (ret != GNUTLS_E_AGAIN || t->dry)
			break;
		t->midway = false;
	}
	if (ret < 0)
		return stopped(t, ret);
	t->midway = false;
	return ret;
}

/* Where in an iovec the next bytes are */
struct place {
	const struct iovec *iov, *end;
	size_t skip;
};

static void skip(struct place *at, size_t n)
{
	at->skip += n;
	while (at->iov < at->end && at->skip >= at->iov->iov_len) {
		at->skip -= at->iov->iov_len;
		at->iov++;
	}
}

/*
 * What goes into the next record: where it is, if it is there in one piece, and
 * else a copy of several, so that each reply does not become two small records.
 */
static const uint8_t *next_record(struct place at, uint8_t *copy, size_t *len)
{
	const uint8_t *piece = (const uint8_t *)at.iov->iov_base + at.skip;
	size_t n = at.iov->iov_len - at.skip;

	*len = 0;
	if (n >= SRV_TLS_RECORD || at.iov + 1 == at.end) {
		*len = n < SRV_TLS_RECORD ? n : SRV_TLS_RECORD;
		return piece;
	}
	while (at.iov < at.end && *len < SRV_TLS_RECORD) {
		piece = (const uint8_t *)at.iov->iov_base + at.skip;
		n = at.iov->iov_len - at.skip;
		if (n > SRV_TLS_RECORD - *len)
			n = SRV_TLS_RECORD - *len;
		memcpy(copy + *len, piece, n);
		*len += n;
		skip(&at, n);
	}
	return copy;
}

/* As much as may be sent in one turn, or a part of it */
static ssize_t send_by_kernel(struct srv_tls *t, const struct iovec *iov, size_t n)
{
	struct iovec some[64];
	size_t i, total = 0;
	ssize_t ret;

	/* With the key that the client wants to be gone */
	if (t->stuck)
		return -EPROTO;
	for (i = 0; i < n && i < G_N_ELEMENTS(some) && total < SEND_MAX; i++) {
		some[i] = iov[i];
		if (some[i].iov_len > SEND_MAX - total)
			some[i].iov_len = SEND_MAX - total;
		total += some[i].iov_len;
	}
	ret = send_now(t, some, i);
	return ret < 0 ? not_flushed(t) : ret;
}

ssize_t srv_tls_send(struct srv_tls *t, const struct iovec *iov, size_t n)
{
	struct place at = { .iov = iov, .end = iov + n };
	uint8_t copy[SRV_TLS_RECORD];
	const uint8_t *record;
	ssize_t ret, total = 0;
	size_t len;

	if (t->ktls)
		return send_by_kernel(t, iov, n);
	skip(&at, 0);
	for (;;) {
		if (!flush(t))
			return total ? total : not_flushed(t);
		total += (ssize_t)t->held;
		skip(&at, t->held);
		t->held = 0;
		if (at.iov == at.end || total >= SEND_MAX)
			return total;
		record = next_record(at, copy, &len);
		ret = gnutls_record_send(t->session, record, len);
		if (ret < 0)
			return total ? total : stopped(t, ret);
		t->held = (size_t)ret;
	}
}

bool srv_tls_midway(const struct srv_tls *t)
{
	return t->midway;
}

int srv_tls_bye(struct srv_tls *t)
{
	if (!t->up)
		return 0;
	if (t->ktls)
		return srv_ktls_bye(t->fd);
	if (flush(t) && !t->said_bye) {
		t->said_bye = true;
		(void)gnutls_bye(t->session, GNUTLS_SHUT_WR);
	}
	return !flush(t) && errno == EAGAIN ? -EAGAIN : 0;
}

const char *srv_tls_error(const struct srv_tls *t)
{
	return t->stuck ?
		       "new keys are wanted, which the kernel cannot change: see ktls in nbd-server(5)" :
		       gnutls_strerror(t->error);
}
