"""RED: rate, errors, duration, for every session, always."""
