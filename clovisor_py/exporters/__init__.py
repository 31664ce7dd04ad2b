"""One file per exporter, chosen by URL. Each ends with `EXPORTER = Exporter(...)`; nothing else needs to know it."""
