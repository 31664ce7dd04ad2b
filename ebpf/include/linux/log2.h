/* Part of the stand-in for a kernel source tree (see kconfig.h): bcc includes it and needs nothing from it. */
