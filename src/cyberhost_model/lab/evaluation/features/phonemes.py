"""Extract phonemes with times from a sound, by hama's recogniser of English (extra `articulation`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

from cyberhost_model.errors import ResourceError, need
from cyberhost_model.lab.evaluation.articulation import sound_power
from cyberhost_model.media.audio import SPEECH_RATE, load_audio
from cyberhost_model.speech.phonemes import Span

PIECE, SHORTEST_PIECE = 10 * SPEECH_RATE, SPEECH_RATE // 2
"""Samples that the recogniser hears at once, and below which a last piece is left out."""
_VERSION = 1  # of the features below; part of the cache key

Recognise = Callable[[np.ndarray], list[Span]]
"""Samples (n,) at 16 kHz, at most `PIECE` -> the phonemes in them."""


class PhonemeFeatures:
    """Extract "starts" and "ends" (n,) in seconds and "symbols" (n,) in IPA, and "power", see `sound_power`.

    A `SoundExtractor`. digest: what identifies the recogniser and its version.
    """

    name = "phonemes"

    def __init__(self, recognise: Recognise, digest: str) -> None:
        self.recognise, self.digest = recognise, f"phonemes/{_VERSION} {digest}"

    def extract(self, sound: Path) -> dict[str, np.ndarray]:
        """Recognise the phonemes of a sound file, or of a video's sound, piece by piece. Raises InputError."""
        spans: list[Span] = []
        power = [np.zeros(0, np.float32)]
        for number, piece in enumerate(_pieces(load_audio(sound).stream_mono16k())):
            power.append(sound_power(piece))
            if len(piece) >= SHORTEST_PIECE:
                at = number * PIECE / SPEECH_RATE
                spans += [(at + start, at + end, symbol) for start, end, symbol in self.recognise(piece)]
        times = np.array([span[:2] for span in spans], np.float64).reshape(-1, 2)
        symbols = np.array([span[2] for span in spans], dtype=str)
        return {"starts": times[:, 0], "ends": times[:, 1], "symbols": symbols, "power": np.concatenate(power)}


def _pieces(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Cut blocks of any length into pieces of PIECE samples, the last one shorter."""
    rest = np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        while len(rest) >= PIECE:
            yield rest[:PIECE]
            rest = rest[PIECE:]
    if len(rest):
        yield rest


def load_recogniser() -> PhonemeFeatures:
    """Load hama. Raises ResourceError where it is not installed, or has no engine for this kind of machine."""
    hama = need("hama", "articulation")
    try:
        model = hama.ASRModel()
    except (RuntimeError, OSError) as error:
        raise ResourceError(
            f"the recogniser of hama does not run here ({error}): there is one for Linux and macOS"
        ) from None

    def recognise(samples: np.ndarray) -> list[Span]:
        found = model.phoneme_spans(model.transcribe_waveform(np.ascontiguousarray(samples), SPEECH_RATE))
        return [(span.start_ms / 1000, span.end_ms / 1000, str(span.phoneme)) for span in found]

    return PhonemeFeatures(recognise, f"hama {version('hama')}")
