/* Stands in for a kernel source tree, which nodes often lack: bcc includes this file first. The program uses UAPI headers
 * and these few names only. */
#ifndef CLOVISOR_KCONFIG_H
#define CLOVISOR_KCONFIG_H

#define CONFIG_BPF_SYSCALL 1
#define __BCC__ 1

#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;
#define true 1
#define false 0
typedef __SIZE_TYPE__ size_t;
typedef unsigned long uintptr_t;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ntohs(x) __builtin_bswap16(x)
#define ntohl(x) __builtin_bswap32(x)
#else
#define ntohs(x) (x)
#define ntohl(x) (x)
#endif
#define htons(x) ntohs(x)
#define htonl(x) ntohl(x)

#endif
