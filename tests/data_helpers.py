"""Small training material made on the spot: drawn people and a synthetic voice."""

from pathlib import Path

import numpy as np
import soundfile

from cyberhost_model.lab.synthetic.clips import ClipGenerator
from cyberhost_model.lab.synthetic.sources import People, SpeechLibrary

RATE = 16000


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """Syllables of a buzzing voice with pauses: float32 at 16 kHz."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * t + rng.uniform(0, 6)) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * t), 0, 1) * (np.sin(2 * np.pi * 0.4 * t + 1) > -0.5)
    return (0.15 * buzz * syllables).astype(np.float32)


def speech_folder(folder: Path) -> Path:
    """Nine seconds each of four speakers."""
    folder.mkdir(exist_ok=True)
    for speaker in ("1", "2", "3", "30"):
        soundfile.write(folder / f"{speaker}-0.flac", voice(9, int(speaker)), RATE)
    return folder


def small_synth(folder: Path, frames: int = 16, size: tuple[int, int] = (128, 128)) -> ClipGenerator:
    """Drawn people of 128 x 128 who speak."""
    return ClipGenerator(
        People([], drawn=1.0), SpeechLibrary(speech_folder(folder)), seed=3, frames=frames, sizes=(size,)
    )
