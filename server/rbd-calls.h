/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The functions of librbd and librados that are called.  The libraries are loaded
 * when an export needs them: they are large, and with mlock every server would
 * have ten times its memory.
 */
#ifndef SRV_RBD_CALLS_H
#define SRV_RBD_CALLS_H

#include <rados/librados.h>
#include <rbd/librbd.h>

#define SRV_RBD_LIBRARY	   "librbd.so.1"

/* One to a line */
/* clang-format off */
#define SRV_RBD_CALLS(call) \
	call(rados_cluster_fsid) \
	call(rados_conf_read_file) \
	call(rados_conf_set) \
	call(rados_connect) \
	call(rados_create) \
	call(rados_ioctx_create) \
	call(rados_ioctx_destroy) \
	call(rados_ioctx_get_id) \
	call(rados_ioctx_set_namespace) \
	call(rados_shutdown) \
	call(rbd_close) \
	call(rbd_config_image_list) \
	call(rbd_config_image_list_cleanup) \
	call(rbd_diff_iterate2) \
	call(rbd_discard) \
	call(rbd_flush) \
	call(rbd_get_features) \
	call(rbd_get_id) \
	call(rbd_get_size) \
	call(rbd_get_stripe_count) \
	call(rbd_is_exclusive_lock_owner) \
	call(rbd_lock_acquire) \
	call(rbd_lock_break) \
	call(rbd_lock_get_owners) \
	call(rbd_lock_get_owners_cleanup) \
	call(rbd_open) \
	call(rbd_open_read_only) \
	call(rbd_read) \
	call(rbd_stat) \
	call(rbd_write) \
	call(rbd_write_zeroes)
/* clang-format on */

#define SRV_RBD_CALL(name) __typeof__(name) *name;

/* Set once, before anything is opened */
extern struct srv_rbd_calls {
	SRV_RBD_CALLS(SRV_RBD_CALL)
} srv_ceph;

#endif /* SRV_RBD_CALLS_H */
