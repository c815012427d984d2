"""Metrics, one a file: features -> values."""
