/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a netlink message asks for, checked.
 */
#ifndef NBD_ATTRIBUTES_H
#define NBD_ATTRIBUTES_H

#include <linux/types.h>

/* ms, if nobody says otherwise */
#define NBD_LINK_TIMEOUT_DEFAULT	10000
#define NBD_FENCE_DELAY_DEFAULT		1000

struct genl_info;
struct nbd_config;
struct socket;

void nbd_attr_say(struct genl_info *info, const char *fmt, ...) __printf(2, 3);
u64 nbd_attr_u64(struct genl_info *info, int attr, u64 missing);
u32 nbd_attr_u32(struct genl_info *info, int attr, u32 missing);
int nbd_attr_timeouts(struct genl_info *info, u64 *timeout, u64 *dead);
int nbd_attr_recovery(struct genl_info *info, unsigned int *link_timeout,
		      unsigned int *fence_delay);
int nbd_attr_config(struct genl_info *info, struct nbd_config *config);
int nbd_attr_sockets(struct genl_info *info, struct socket **socks, unsigned int *n);
void nbd_attr_put_sockets(struct socket **socks, unsigned int n);

#endif /* NBD_ATTRIBUTES_H */
