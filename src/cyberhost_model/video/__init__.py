"""Frames + sound -> mp4."""

from cyberhost_model.video.writer import VideoWriter, check_output, write_video

__all__ = ["VideoWriter", "check_output", "write_video"]
