"""What `tools/bench` measures: a file for each subcommand; `machine` prints, `programs` loads the yardsticks."""
