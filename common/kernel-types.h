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

#define U64_MAX				  UINT64_MAX

#define ARRAY_SIZE(a)			  (sizeof(a) / sizeof((a)[0]))

#define min(a, b)			  ((a) < (b) ? (a) : (b))
#define max(a, b)			  ((a) > (b) ? (a) : (b))
#define min_t(type, a, b)		  min((type)(a), (type)(b))
#define max3(a, b, c)			  max(max(a, b), c)

#define check_add_overflow(a, b, sum)	  __builtin_add_overflow(a, b, sum)
#define check_mul_overflow(a, b, product) __builtin_mul_overflow(a, b, product)

static inline u64 div_u64(u64 a, u32 b)
{
	return a / b;
}

#endif /* NBD_KERNEL_TYPES_H */
