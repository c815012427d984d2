"""FeatureFile: the speech features of a whole recording in a temporary file, read window by window in any order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from cyberhost_model.speech.encoder import frame_windows, window_start


class FeatureFile:
    """Features (T, layers, dim) in a file without a name: 400 kB a second of Whisper tiny, and no memory."""

    def __init__(self, pieces: Iterable[Tensor], layers: int, dim: int) -> None:
        """Write `pieces` (t, layers, dim), as `FeatureStream.stream` yields them; the file goes with this object."""
        self._file = tempfile.TemporaryFile()
        self._step, self.steps = (layers, dim), 0
        for piece in pieces:
            self._file.write(piece.numpy().astype(np.float32).tobytes())
            self.steps += len(piece)

    def windows(self, first: int, frames: int, fps: float, tokens: int, centred: bool = True) -> Tensor:
        """Cut the windows of `frames` frames from `first` on, as `frame_windows`: (frames, tokens, layers, dim)."""
        start = min(max(window_start(first, fps, tokens, centred), 0), self.steps - 1)
        stop = min(max(window_start(first + frames - 1, fps, tokens, centred) + tokens, start + 1), self.steps)
        width = self._step[0] * self._step[1]
        self._file.seek(4 * width * start)
        read = np.frombuffer(self._file.read(4 * width * (stop - start)), np.float32)
        features = torch.from_numpy(read.reshape(-1, *self._step).copy())
        return frame_windows(features, frames, fps, tokens, first, start, centred)
