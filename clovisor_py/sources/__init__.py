"""Where segments come from: iterables of batches of Segments."""
