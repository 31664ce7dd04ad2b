"""The command line: one file per command; a command only translates options into one call."""
