// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ktls.h"

#include <errno.h>
#include <glib.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef TCP_ULP
#define TCP_ULP 31
#endif
#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define RECORD_ALERT 21

static bool loaded(void)
{
	g_autofree char *text = NULL;
	g_auto(GStrv) words = NULL;

	if (!g_file_get_contents("/proc/sys/net/ipv4/tcp_available_ulp", &text, NULL, NULL))
		return false;
	words = g_strsplit(g_strstrip(text), " ", -1);
	return g_strv_contains((const char *const *)words, "tls");
}

bool srv_ktls_available(void)
{
	bool ret;
	int fd;

	if (loaded())
		return true;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	/* Not on such a socket, but what that takes has been loaded */
	ret = !setsockopt(fd, SOL_TCP, TCP_ULP, "tls", sizeof("tls")) || errno == ENOTCONN;
	close(fd);
	return ret;
}

/* What GnuTLS has of one direction */
struct keys {
	gnutls_datum_t iv, key;
	unsigned char seq[8];
	bool tls13;
};

/* The fields are of one name in all of the kernel's structures, and of sizes of their own */
#define FILL(info, keys)                                              \
	((keys)->key.size == sizeof((info)->key) &&                   \
	 (memcpy((info)->key, (keys)->key.data, sizeof((info)->key)), \
	  memcpy((info)->rec_seq, (keys)->seq, sizeof((info)->rec_seq)), true))

/*
 * The first 4 of the 12 bytes of a nonce never change.  The others are what the
 * number of a record is added to in TLS 1.3, and in 1.2 that number.
 */
static bool split_nonce(const struct keys *keys, unsigned char *salt, unsigned char *iv)
{
	if (keys->iv.size < (keys->tls13 ? 12u : 4u))
		return false;
	memcpy(salt, keys->iv.data, 4);
	memcpy(iv, keys->tls13 ? keys->iv.data + 4 : keys->seq, 8);
	return true;
}

union info {
	struct tls_crypto_info any;
	struct tls12_crypto_info_aes_gcm_128 gcm128;
	struct tls12_crypto_info_aes_gcm_256 gcm256;
	struct tls12_crypto_info_chacha20_poly1305 chacha;
};

/* The kernel's form of it; its size, or 0 if it has none */
static socklen_t fill(union info *info, gnutls_cipher_algorithm_t cipher, const struct keys *keys)
{
	info->any.version = keys->tls13 ? TLS_1_3_VERSION : TLS_1_2_VERSION;
	switch (cipher) {
	case GNUTLS_CIPHER_AES_128_GCM:
		info->any.cipher_type = TLS_CIPHER_AES_GCM_128;
		return FILL(&info->gcm128, keys) &&
				       split_nonce(keys, info->gcm128.salt, info->gcm128.iv) ?
			       sizeof(info->gcm128) :
			       0;
	case GNUTLS_CIPHER_AES_256_GCM:
		info->any.cipher_type = TLS_CIPHER_AES_GCM_256;
		return FILL(&info->gcm256, keys) &&
				       split_nonce(keys, info->gcm256.salt, info->gcm256.iv) ?
			       sizeof(info->gcm256) :
			       0;
	case GNUTLS_CIPHER_CHACHA20_POLY1305:
		info->any.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
		if (keys->iv.size != sizeof(info->chacha.iv))
			return 0;
		memcpy(info->chacha.iv, keys->iv.data, sizeof(info->chacha.iv));
		return FILL(&info->chacha, keys) ? sizeof(info->chacha) : 0;
	default:
		return 0;
	}
}

/* By TLS_CIPHER_*: the kernel looks for its module in vain each time it is asked */
static _Atomic uint64_t missing;

static int hand_over(int fd, const union info *info, socklen_t len)
{
	uint64_t cipher = 1ull << info->any.cipher_type % 64;

	if (atomic_load(&missing) & cipher)
		return -ENOENT;
	if (setsockopt(fd, SOL_TCP, TCP_ULP, "tls", sizeof("tls")) < 0)
		return -errno;
	if (!setsockopt(fd, SOL_TLS, TLS_TX, info, len))
		return 0;
	if (errno == ENOENT)
		atomic_fetch_or(&missing, cipher);
	return -errno;
}

int srv_ktls_start(gnutls_session_t session, int fd)
{
	gnutls_protocol_t version = gnutls_protocol_get_version(session);
	gnutls_datum_t mac;
	struct keys keys;
	union info info;
	socklen_t len;
	int ret;

	if (version != GNUTLS_TLS1_3 && version != GNUTLS_TLS1_2)
		return -EOPNOTSUPP;
	keys.tls13 = version == GNUTLS_TLS1_3;
	if (gnutls_record_get_state(session, 0, &mac, &keys.iv, &keys.key, keys.seq))
		return -EOPNOTSUPP;
	memset(&info, 0, sizeof(info));
	len = fill(&info, gnutls_cipher_get(session), &keys);
	ret = len ? hand_over(fd, &info, len) : -EOPNOTSUPP;
	gnutls_memset(&info, 0, sizeof(info));
	return ret;
}

int srv_ktls_bye(int fd)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	/* A warning, close_notify */
	unsigned char alert[] = { GNUTLS_AL_WARNING, GNUTLS_A_CLOSE_NOTIFY };
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(1)] = { 0 };
	struct iovec iov = { alert, sizeof(alert) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *head = CMSG_FIRSTHDR(&msg);

	head->cmsg_level = SOL_TLS;
	head->cmsg_type = TLS_SET_RECORD_TYPE;
	head->cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(head) = RECORD_ALERT;
	/* A record that was only partly sent is lost if the socket is closed, and goes before this */
	if (poll(&room, 1, 0) == 0)
		return -EAGAIN;
	return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EAGAIN ? -EAGAIN : 0;
}
