"""Extract where a sound has speech, and its volume, for THEval's measures."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from cyberhost_model.errors import need
from cyberhost_model.lab.evaluation.features.face_mesh import EXTRA
from cyberhost_model.lab.evaluation.protocol import file_sha256
from cyberhost_model.lab.evaluation.theval import VOLUME_STEP, volume_steps
from cyberhost_model.media.audio import SPEECH_RATE, load_audio

LOUD = 0.1
"""Share of the 95th percentile of the volume from which a sound counts as speech, where no detector is asked."""
_VERSION = 1

FindSpeech = Callable[[np.ndarray, np.ndarray], list[tuple[float, float]]]
"""(samples (n,) at 16 kHz, their `volume_steps`) -> segments (start, end) in seconds."""


class SpeechSegments:
    """Extract "segments" (n, 2) in seconds and "volume", see `theval.volume_steps`. A `SoundExtractor`."""

    name = "speech segments"

    def __init__(self, find: FindSpeech, digest: str) -> None:
        self.digest, self._find = f"speech segments/{_VERSION} {digest}", find

    def extract(self, sound: Path) -> dict[str, np.ndarray]:
        """Read a sound file, or a video's sound. Raises InputError."""
        samples = np.concatenate([np.zeros(0, np.float32), *load_audio(sound).stream_mono16k()])
        volume = volume_steps(samples, SPEECH_RATE)
        segments = np.array(self._find(samples, volume), float).reshape(-1, 2)
        return {"segments": segments, "volume": volume.astype(np.float32)}


def loud_segments(samples: np.ndarray, volume: np.ndarray) -> list[tuple[float, float]]:
    """Find where a sound is loud: segments in seconds; none in silence."""
    loud = volume > max(LOUD * float(np.percentile(volume, 95)), 1e-4) if len(volume) else np.zeros(0, bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(int))).reshape(-1, 2)
    return [(float(first) * VOLUME_STEP, float(stop - 1) * VOLUME_STEP) for first, stop in edges]


def load_silero() -> tuple[SpeechSegments, dict[str, str]]:
    """Load Silero's detector of speech: the extractor, and file -> sha256. Raises ResourceError without the library."""
    need("onnxruntime", EXTRA)
    library = need("silero_vad", EXTRA)
    import torch

    network = library.load_silero_vad(onnx=True)
    file = Path(library.__file__).parent / "data" / "silero_vad.onnx"
    sha256 = file_sha256(file)

    def find(samples: np.ndarray, volume: np.ndarray) -> list[tuple[float, float]]:
        found = library.get_speech_timestamps(torch.from_numpy(samples), network, return_seconds=True)
        return [(float(each["start"]), float(each["end"])) for each in found]

    return SpeechSegments(find, f"silero {version('silero-vad')} {sha256}"), {file.name: sha256}
