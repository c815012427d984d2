"""Speech features with one step for each video frame, as Hallo hears: the window of a frame is one of frames.

What the convolutions of a wav2vec 2.0 make of a minute of sound is interpolated to the frames of that minute, and then
goes through the transformer. Hallo2's program hears minute by minute so; Hallo's hears longer sounds as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cyberhost_model.media.audio import SPEECH_RATE

if TYPE_CHECKING:
    from cyberhost_model.speech.wav2vec2 import Wav2Vec2Encoder

MINUTE = 60 * SPEECH_RATE
_SHORTEST = 400  # samples that the convolutions need
_TINY = 1e-7  # added to a sound's variance


def encode_by_frame(
    encoder: Wav2Vec2Encoder, blocks: Iterable[np.ndarray], n_frames: int, fps: float
) -> Iterator[Tensor]:
    """Encode mono 16 kHz `blocks` to pieces (frames, layers, dim) of a minute each, n_frames in all.

    Where the sound has fewer frames, silence follows it; where it has more, the rest is not heard.
    """
    rate = Fraction(fps).limit_denominator(1001)
    buffer, heard, made = np.zeros(0, np.float32), 0, 0
    for block in blocks:
        buffer = np.concatenate([buffer, np.asarray(block, np.float32)])
        while len(buffer) > MINUTE:
            heard += MINUTE
            count = min(_frames(heard, rate), n_frames) - made
            if not count:
                return
            yield _encode(encoder, buffer[:MINUTE], count, 0)
            buffer, made = buffer[MINUTE:], made + count
    if made < n_frames:
        silent = max(0, n_frames - _frames(heard + len(buffer), rate))
        yield _encode(encoder, buffer, n_frames - made, silent * int(SPEECH_RATE // fps))


def windows_of_frames(pieces: Iterable[Tensor], n_frames: int, tokens: int) -> Iterator[Tensor]:
    """Cut the window of every frame, `tokens` frames with it in the middle: n_frames of (tokens, layers, dim).

    Before the first frame and after the last one, that one is repeated.
    """
    before, after = tokens // 2, tokens - 1 - tokens // 2
    kept: Tensor | None = None
    first, frame = 0, 0  # `first`: the frame that `kept` begins with
    for piece in pieces:
        kept = piece if kept is None else torch.cat([kept, piece])
        end = first + len(kept)
        while frame < n_frames and (frame + after < end or end >= n_frames):
            index = torch.arange(frame - before, frame + after + 1).clamp(0, min(n_frames, end) - 1) - first
            yield kept[index]
            frame += 1
        keep_from = max(first, frame - before)
        kept, first = kept[keep_from - first :], keep_from


def _frames(samples: int, rate: Fraction) -> int:
    """Count the frames that samples cover."""
    return -(-samples * rate.numerator // (SPEECH_RATE * rate.denominator))


@torch.no_grad()
def _encode(encoder: Wav2Vec2Encoder, samples: np.ndarray, count: int, silent: int) -> Tensor:
    """Encode samples (n,), with `silent` zeros behind them, to (count, layers, dim), float32 on the CPU."""
    mean, variance = (samples.mean(), samples.var()) if len(samples) else (0.0, 0.0)
    levelled = (samples - mean) / np.sqrt(variance + _TINY)
    padded = np.pad(levelled.astype(np.float32), (0, max(silent, _SHORTEST - len(samples))))
    like = next(encoder.parameters())
    made = encoder.model.feature_extractor(torch.from_numpy(padded)[None].to(like))
    steps = F.interpolate(made, size=count, mode="linear", align_corners=True).transpose(1, 2)
    return encoder.transform(steps)[0].float().cpu()
