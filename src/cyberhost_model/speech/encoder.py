"""What a speech encoder is, and the window of its features that belongs to each video frame (paper, section 3.1).

The hidden states of all layers of a pretrained encoder are used ("multi-stage features"). All encoders give 50 steps a
second: step k stands for [k, k + 1) * 20 ms.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cyberhost_model.speech.level import SpeechLevel, speech_level

STEP = 320  # samples at 16 kHz a step
STEPS_PER_SECOND = 50


class SpeechEncoder(Protocol):
    """Interface of speech encoders. `speech.registry` finds them by the kind that a folder's config.json names.

    An encoder is a `torch.nn.Module` that derives from `FeatureStream` and gives `stream`.
    """

    layers: int
    """Hidden states of a step."""
    dim: int
    """Width of a hidden state."""

    def to(self, device: torch.device) -> Any:
        """Move the weights to `device`, as `torch.nn.Module.to` does."""

    def level(self, blocks: Iterable[np.ndarray]) -> SpeechLevel:
        """See `FeatureStream.level`."""

    def stream(self, blocks: Iterable[np.ndarray], level: SpeechLevel) -> Iterator[Tensor]:
        """See `FeatureStream.stream`."""

    def features(self, samples: np.ndarray, level: SpeechLevel | None = None) -> Tensor:
        """See `FeatureStream.features`."""

    def stream_windows(
        self, blocks: Iterable[np.ndarray], level: SpeechLevel, n_frames: int, fps: float, tokens: int
    ) -> Iterator[Tensor]:
        """See `FeatureStream.stream_windows`."""

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json, with "kind", and the weights to `folder`."""


class FeatureStream:
    """Base class of speech encoders: everything that follows from `stream`."""

    layers: int
    dim: int

    def level(self, blocks: Iterable[np.ndarray]) -> SpeechLevel:
        """Measure what `stream` must know of a whole recording, mono 16 kHz `blocks`, float (n,) in order."""
        return speech_level(blocks)

    def stream(self, blocks: Iterable[np.ndarray], level: SpeechLevel) -> Iterator[Tensor]:
        """Encode mono 16 kHz `blocks`, float (n,) in order, to pieces (t, layers, dim), float32 on the CPU.

        `level`: `FeatureStream.level` of the whole recording.
        """
        raise NotImplementedError

    def features(self, samples: np.ndarray, level: SpeechLevel | None = None) -> Tensor:
        """Encode all of `samples`, float (n,) in [-1, 1] at 16 kHz: (ceil(n / 320), layers, dim).

        Dropout is off. `level` defaults to that of the samples.
        """
        samples = np.asarray(samples, np.float32)
        pieces = list(self.stream([samples], level or self.level([samples])))
        return torch.cat(pieces) if pieces else torch.zeros(0, self.layers, self.dim)

    def stream_windows(
        self, blocks: Iterable[np.ndarray], level: SpeechLevel, n_frames: int, fps: float, tokens: int
    ) -> Iterator[Tensor]:
        """Encode a sound that comes in blocks to the windows of its frames, as `frame_windows` cuts them.

        Yields `n_frames` tensors (tokens, layers, dim) in order.
        """
        buffer, first, frame = torch.zeros(0, self.layers, self.dim), 0, 0
        for piece in self.stream(blocks, level):
            buffer = torch.cat([buffer, piece])
            ready = frame
            while ready < n_frames and window_start(ready, fps, tokens) + tokens <= first + len(buffer):
                ready += 1
            yield from frame_windows(buffer, ready - frame, fps, tokens, frame, first)
            frame = ready
            keep = min(max(window_start(frame, fps, tokens), first), first + len(buffer) - 1)
            buffer, first = buffer[keep - first :], keep
        if len(buffer):
            yield from frame_windows(buffer, n_frames - frame, fps, tokens, frame, first)


def window_start(frame: int, fps: float, tokens: int, centred: bool = True) -> int:
    """Compute the first step of a frame's window: `tokens` steps around (frame + 0.5) / fps seconds.

    centred False: around the step in which the frame begins and the one after it, as EchoMimicV2 does (the same at 25
    frames a second and an even number of tokens).

    It is negative before the sound begins. At 25 fps and an even number of tokens the window is exactly even: its two
    middle steps are 2 * frame and 2 * frame + 1, so what sounds at t seconds is in the middle of frame floor(25 t).
    Otherwise it is even to half a step (10 ms).
    """
    rate = Fraction(fps).limit_denominator(1001)
    if not centred:
        return STEPS_PER_SECOND * frame * rate.denominator // rate.numerator + 1 - tokens // 2
    return (STEPS_PER_SECOND * (2 * frame + 1) * rate.denominator + (1 - tokens) * rate.numerator) // (
        2 * rate.numerator
    )


def frame_windows(
    features: Tensor,
    n_frames: int,
    fps: float,
    tokens: int,
    first_frame: int = 0,
    first_step: int = 0,
    centred: bool = True,
) -> Tensor:
    """Cut the windows of `n_frames` frames from `first_frame` on: (n_frames, tokens, layers, dim).

    features: (T, layers, dim), beginning with step `first_step`. Before the first and after the last step, that step
    is repeated. centred: see `window_start`. Raises ValueError if T is 0.
    """
    if not len(features):
        raise ValueError("frame_windows needs at least one step of features")
    starts = torch.tensor(
        [window_start(f, fps, tokens, centred) for f in range(first_frame, first_frame + n_frames)], dtype=torch.long
    )
    index = starts[:, None] + torch.arange(tokens) - first_step
    return features[index.clamp(0, len(features) - 1).to(features.device)]
