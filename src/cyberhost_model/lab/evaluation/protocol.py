"""Digests of files and of settings."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cyberhost_model.media.files import hexdigest

# Ids of the protocols. A value is comparable with another one only under the same id; a table column never mixes them.


PROTOCOL = "cyberhost-eval-1"
"""The public networks (docs/reference/evaluation.md)."""

PROTOCOL_EMBEDDED = "cyberhost-eval-1-embedded"
"""CSIM, AKD, HKC and HKV with the detector and face encoder that come with the embedded model."""

METRICS = ("SSIM", "PSNR", "FID", "FVD", "CSIM", "SyncC", "SyncD", "AKD", "HKC", "HKV")
"""The headline metrics in the order of the paper's tables."""


# Versions of what decides about a number.


_LIBRARIES = (
    "cyberhost",
    "torch",
    "numpy",
    "scipy",
    "pillow",
    "opencv-python-headless",
    "imageio-ffmpeg",
    "onnxruntime",
)


def versions() -> dict[str, str]:
    """Library -> version, of those that are installed; the Python, the machine and the ffmpeg too."""
    import imageio_ffmpeg

    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "ffmpeg": imageio_ffmpeg.get_ffmpeg_version(),
    }
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    return hexdigest(path, hashlib.sha256())


def settings_digest(*parts: Any) -> str:
    """Hex digest of anything JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
