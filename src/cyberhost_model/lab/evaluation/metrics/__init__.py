"""One metric a file: features to values."""
