"""Sound to speech features."""
