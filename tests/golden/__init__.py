"""Files that tests are held to, each with what made it."""
