/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the driver's portable sources take from the kernel's headers, for
 * compiling them in userspace, where they are tested.
 */
#ifndef NBD_KERNEL_TYPES_H
#define NBD_KERNEL_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#endif /* NBD_KERNEL_TYPES_H */
