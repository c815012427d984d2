"""What is read off a video's frames and sound, once for all metrics."""
