/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Authorization files: who may use an export. */
#ifndef SRV_ACL_H
#define SRV_ACL_H

#include <stdbool.h>
#include <sys/socket.h>

/*
 * Does one line of an authorization file match the address?  The line holds
 * an IPv4 or IPv6 address, or a network as ADDRESS/PREFIXLENGTH; what follows
 * a '#' is ignored.  Returns 1 or 0, or -1 for a line that is neither.
 */
int srv_acl_match(const char *line, const struct sockaddr *addr);

/*
 * May a client at @addr use an export with this authorization file?  Everyone
 * may when there is no such file; nobody when it cannot be read.  A client on
 * a Unix socket has no address: the socket's permissions decide.
 */
bool srv_acl_allows(const char *file, const struct sockaddr *addr);

#endif /* SRV_ACL_H */
