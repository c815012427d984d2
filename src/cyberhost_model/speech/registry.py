"""Speech encoders by kind: a folder's config.json names its kind, and the kind names the function that loads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cyberhost_model.errors import ModelError
from cyberhost_model.hub.tensors import config_entry
from cyberhost_model.reading import short
from cyberhost_model.speech import wav2vec2, whisper
from cyberhost_model.speech.encoder import SpeechEncoder

Loader = Callable[[Path], SpeechEncoder]
"""Folder -> the encoder in eval mode, float32, on the CPU. Raises ModelError."""

ENCODERS: dict[str, Loader] = {
    wav2vec2.KIND: wav2vec2.Wav2Vec2Encoder.from_pretrained,
    whisper.KIND: whisper.WhisperEncoder.from_pretrained,
}
"""Kind -> its loader."""


def register(kind: str, loader: Loader) -> None:
    """Register a speech encoder: folders whose config.json has "kind": `kind` are loaded by `loader`."""
    ENCODERS[kind] = loader


def load_speech(folder: Path) -> SpeechEncoder:
    """Load the speech encoder in `folder`, of whichever kind it is; without a kind it is a wav2vec 2.0.

    Raises ModelError.
    """
    kind = config_entry(folder, "kind") or wav2vec2.KIND
    if not isinstance(kind, str) or kind not in ENCODERS:
        raise ModelError(
            f"{folder}: no speech encoder of the kind {short(kind)} is known; known are {', '.join(ENCODERS)}"
        )
    return ENCODERS[kind](folder)
