"""Frozen public networks whose features and scores the metrics use."""
