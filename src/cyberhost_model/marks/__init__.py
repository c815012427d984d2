"""Marks by which a video says that it was made: watermark, label, container tags, Content Credentials, run record."""
