"""LiveSpeech: speech features of a sound that is still being spoken, for clip after clip of a video.

The features of a clip's frames are encoded with what was said before, and with `look_ahead` seconds of what is said
after the clip. They depend on the samples alone, not on the pieces in which these came.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from torch import Tensor

from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.speech.encoder import STEP, SpeechEncoder, frame_windows, window_start
from cyberhost_model.speech.level import RunningLevel, SpeechLevel

LOOK_AHEAD = 0.2
"""Seconds of speech after a clip that its frames are made with, at most."""
USUAL_LEVEL = SpeechLevel(0.0, 0.05)
"""Stands for the voice until it is heard: -26 dB of full scale, as a recording or a microphone with gain control is."""
_CONTEXT = 100  # steps (2 s) before the first one needed: all that a step of the tiny encoder depends on
_MIRRORED = 480
"""Samples that are heard backwards where speech is not known yet, for a sound that breaks off is heard as an end.

With these 30 ms lips that touch correlate with those of the whole sound at 0.986, without them at 0.978, with 0.2 s of
them at 0.980 (docs/user/live.md).
"""
_HISTORY = 30_000  # pieces of 20 ms, 10 minutes, from which the level is measured


class LiveSpeech:
    """Windows of speech features for the frames of a sound that grows; its `windows` are the source of a `Job`.

    `push`, `cut` and `close` may be called from another thread than the one that takes the windows.
    """

    def __init__(
        self,
        encoder: SpeechEncoder,
        fps: float,
        clip: int,
        tokens: int,
        look_ahead: float = LOOK_AHEAD,
        level: SpeechLevel | None = None,
    ) -> None:
        """Begin without a sound.

        clip: frames of a clip; tokens: steps of a frame's window. level: of the voice, where it is known; otherwise it
        is measured while the sound goes by.
        """
        self.encoder, self.fps, self.clip, self.tokens = encoder, fps, clip, tokens
        self.look_ahead = round(look_ahead * SPEECH_RATE)
        self._rate = Fraction(fps).limit_denominator(1001)
        self._level, self._running = level, RunningLevel(_HISTORY, USUAL_LEVEL)
        self._lock = threading.Lock()
        self._samples, self._start = np.zeros(0, np.float32), 0  # `_start`: the sample that they begin with
        self._measured = 0  # samples from which the level is known
        self._total: int | None = None

    @property
    def end(self) -> int:
        """Samples at 16 kHz that were pushed, but for those that were cut off."""
        return self._start + len(self._samples)

    def push(self, samples: np.ndarray) -> None:
        """Append mono samples at 16 kHz, float (n,) in [-1, 1]."""
        with self._lock:
            self._samples = np.concatenate([self._samples, samples.astype(np.float32, copy=False)])

    def close(self, total: int) -> None:
        """End the sound: it covers `total` frames, the last of which are made without look-ahead."""
        self._total = total

    def cut(self, frame: int) -> None:
        """Drop all sound from a frame on, and go on from there with what is pushed next."""
        with self._lock:
            self._samples = self._samples[: max(0, self._sample(frame) - self._start)]
            self._measured = min(self._measured, self.end)

    def reaches(self, frame: int) -> bool:
        """Return whether the windows of the clip that begins at `frame` are certain."""
        if self._total is not None:
            return frame < self._total
        return self.end >= self._sample(frame + self.clip) + self.look_ahead

    def samples(self, start: int, stop: int) -> np.ndarray:
        """Copy the samples from `start` on that were pushed and are kept, at most to `stop`: float32 (n,).

        Kept are those that windows of later frames need: 2 s before the frame whose window was taken last.
        """
        with self._lock:
            return self._samples[max(0, start - self._start) : max(0, stop - self._start)].copy()

    def windows(self, first: int) -> Iterator[Tensor]:
        """Yield the windows (tokens, layers, D) of the frames from `first` on, to the last one of a sound that ended.

        A clip's may be taken once it `reaches` that.
        """
        while self._total is None or first < self._total:
            frames = self.clip if self._total is None else min(self.clip, self._total - first)
            step = max(0, window_start(first, self.fps, self.tokens) - _CONTEXT)
            samples = self._take(step * STEP, self._sample(first + self.clip) + self.look_ahead)
            if self._total is None:
                samples = np.concatenate([samples, samples[: -1 - _MIRRORED : -1]])
            features = self.encoder.features(samples, self._level or self._running.level())
            yield from frame_windows(features, frames, self.fps, self.tokens, first, step)
            first += frames

    def _take(self, start: int, stop: int) -> np.ndarray:
        """Copy the samples from `start` to `stop`, forget those before, and measure the level of those before `stop`.

        Up to `stop` is what has been pushed, unless the sound has ended.
        """
        with self._lock:
            self._samples, self._start = self._samples[start - self._start :], start
            stop = min(stop, self.end)
            self._running.take(self._samples[self._measured - start : stop - start])
            self._measured = stop
            return self._samples[: stop - start].copy()

    def _sample(self, frame: int) -> int:
        """Compute the first sample of a frame, rounded up."""
        return math.ceil(frame * SPEECH_RATE / self._rate)
