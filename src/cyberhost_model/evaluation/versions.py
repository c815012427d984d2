"""Versions of what decides about a number."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_LIBRARIES = ("cyberhost", "torch", "numpy", "scipy", "pillow", "opencv-python-headless", "imageio-ffmpeg", "onnxruntime")


def versions() -> dict[str, str]:
    """Library -> version, of those that are installed; the Python, the machine and the ffmpeg too."""
    import imageio_ffmpeg

    found = {"python": platform.python_version(), "platform": platform.platform(), "ffmpeg": imageio_ffmpeg.get_ffmpeg_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
