"""One file per protocol. Each ends with `PROTOCOL = Protocol(...)`; nothing else needs to know it (see `_registry`)."""
