/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel TLS: once the handshake is over, the kernel encrypts what is sent.  What
 * is received stays with GnuTLS, which has the keys for it alone, so that records
 * that are not data are understood.
 */
#ifndef SRV_KTLS_H
#define SRV_KTLS_H

#include <gnutls/gnutls.h>
#include <stdbool.h>

/* Has the kernel TLS for TCP?  To be asked as root first, since it is loaded for no one else. */
bool srv_ktls_available(void);

/*
 * Hand the keys for sending to the kernel.  Nothing that was encrypted may be left
 * to be sent, and GnuTLS must send nothing afterwards.
 *
 * 0; -EOPNOTSUPP: not with this cipher or version; or what setsockopt() says, such
 * as -ENOENT without the module "tls" and -EOPNOTSUPP on a Unix socket.  Then all
 * is as before.  May wait for the kernel to load a cipher's module, once for each.
 */
int srv_ktls_start(gnutls_session_t session, int fd);

/* close_notify, once there is room for it behind all that was sent: 0, or -EAGAIN */
int srv_ktls_bye(int fd);

#endif /* SRV_KTLS_H */
