/* Part of the stand-in for a kernel source tree (see kconfig.h). */
#define PAGE_SIZE 4096
