/* Part of the stand-in for a kernel source tree (see kconfig.h): bcc brings its own bpf.h. */
#include <linux/types.h>
