/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device names.  Device N is /dev/nbN or /dev/nbdN, depending on how the driver
 * was loaded; both spellings mean it, and messages name the one that exists.
 */
#ifndef CLIENT_DEVICE_H
#define CLIENT_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"

#define CLIENT_DEVICE_NAME 32
#define CLIENT_SYSFS	   "/sys/block"
#define CLIENT_DEV	   "/dev"

/* Index of "nbN", "nbdN", "/dev/nbN", "/dev/nbdN"; -1: not such a name */
int client_device_index(const char *name);
/* The same, but a partition ("nbd0p1") stands for its device */
int client_device_index_of_partition(const char *name);

/* Name in sysfs; without one *exists is false and the name is "nbN" */
const char *client_device_name(const char *sysfs, int index, char name[CLIENT_DEVICE_NAME],
			       bool *exists);

/* The device as messages name it: as in sysfs, or as given if it is not there */
const char *client_device_called(const char *sysfs, const char *given,
				 char name[CLIENT_DEVICE_NAME]);

/* Text of a sysfs attribute of the device, without newline; -1 and errno if there is none */
int client_device_attr(const char *sysfs, const char *name, const char *attr, char *buf, int size);

/*
 * Open the node of the device, which also makes the kernel look for partitions.
 * The node may appear late: try for timeout_ms.  Returns the file descriptor.
 */
int client_device_open(const char *sysfs, const char *dev, int index, int flags,
		       unsigned int timeout_ms, struct client_error *err);

/*
 * Open and close the node, in a process of its own: looking for partitions
 * reads from the device, and when its server has gone again that may take for
 * ever.  After timeout_ms for the node and as much again for the reading this
 * returns with an error.
 */
int client_device_settle(const char *sysfs, const char *dev, int index, unsigned int timeout_ms,
			 struct client_error *err);

#endif /* CLIENT_DEVICE_H */
