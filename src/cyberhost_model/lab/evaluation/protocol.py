"""Name the protocols of the metrics, and identify what decides about a number: files, settings, library versions.

Two values are comparable only under the same protocol id. A table column never mixes protocols.
"""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cyberhost_model.media.files import hexdigest

PROTOCOL = "cyberhost-eval-1"
"""The public networks (docs/reference/evaluation.md)."""

PROTOCOL_EMBEDDED = "cyberhost-eval-1-embedded"
"""CSIM, AKD, HKC and HKV with the detector and face encoder of the embedded model."""

PROTOCOL_ARTICULATION = "cyberhost-articulation-1"
"""Closure, Opening and LipLoudness; the embedded detector reads the lips, whatever networks the others use."""

PROTOCOL_REGIONS = "cyberhost-regions-1"
"""Measures of face and hands alone; the embedded detector finds them, whatever networks the others use."""

REGIONS = ("face", "hands")
"""Parts of a frame that have measures of their own."""

PROTOCOL_LPIPS = "cyberhost-lpips-1"
"""LPIPS v0.1 on AlexNet, of frames as they are."""

PROTOCOL_TEMPORAL = "cyberhost-temporal-1"
"""Flicker and Dynamics: optical flow by DIS, which has no weights."""

PROTOCOL_THEVAL = "theval-2511.04520"
"""THEval's measures by its own landmarks (MediaPipe) and speech detector (Silero)."""

PROTOCOL_THEVAL_EMBEDDED = "theval-2511.04520-embedded"
"""The same formulas on the points of the embedded detector; speech is where the sound is loud."""

_LIBRARIES = (
    "cyberhost",
    "torch",
    "numpy",
    "scipy",
    "pillow",
    "opencv-python-headless",
    "imageio-ffmpeg",
    "onnxruntime",
    "hama",
    "mediapipe",
    "silero-vad",
)


def library_versions() -> dict[str, str]:
    """Return library -> version of those that are installed, with the Python, the platform and the ffmpeg."""
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
    """Return the hex digest of a file's content."""
    return hexdigest(path, hashlib.sha256())


def settings_digest(*parts: Any) -> str:
    """Return the hex digest of anything JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
