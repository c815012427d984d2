"""Pictures, sounds, videos and files: reading, checking and writing."""
