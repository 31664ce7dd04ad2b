"""The engine, free of I/O and clocks: segments in, sessions out. Read `pipeline` first."""
