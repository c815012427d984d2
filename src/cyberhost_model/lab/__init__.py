"""The lab: evaluation, training, and the data for both. The product imports nothing of it."""
