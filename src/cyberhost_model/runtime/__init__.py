"""A model made ready, and videos made with it."""
