"""Shot boundaries: hard cuts and dissolves, found while the frames go by."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

# Mean absolute difference of thumbnails, 0..255. A cut is a jump of at least CUT that is JUMP times what the frames
# around it do: a quick gesture or a moving camera changes several frames in a row, a cut changes one; a picture that
# moves in jerks has many such frames near each other. A cut inside one scene changes little (from SMALL on): it has to
# stand out all the more. A change above SURE is always a cut.
CUT, JUMP, SURE = 7.0, 3.5, 45.0
SMALL, SMALL_JUMP, SMALL_LONELY = 2.2, 8.0, 2.5
# Frames on either side: the usual difference is taken over the first; within the second a cut has at most two others
# near it, a small one none.
_AROUND, _FAR = 3, 12
# Two pictures BACK seconds apart that differ by DISSOLVE in their mean colours on a coarse grid, which gestures leave
# nearly alone, without a cut.
DISSOLVE, BACK = 22.0, 0.8
_COARSE = (6, 8)


@dataclass(frozen=True)
class Break:
    """Where a shot ends and the next begins, seconds: equal for a hard cut, a stretch for a dissolve."""

    end: float
    start: float


def thumbnail_of(frame: np.ndarray) -> np.ndarray:
    """Make the thumbnail that `ShotFinder` takes of uint8 (H, W, 3): float32 (36, 64, 3), 0..255."""
    return cv2.GaussianBlur(cv2.resize(frame, (64, 36), interpolation=cv2.INTER_AREA), (3, 3), 0).astype(np.float32)


class ShotFinder:
    """Finds breaks between shots in thumbnails that come in order; `breaks` is read after the last."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.scores: list[float] = []  # score of frame i against the different frame before it
        self.slow: list[float] = []  # coarse difference to the frame BACK seconds before
        self._last: np.ndarray | None = None
        self._recent: deque[tuple[float, np.ndarray]] = deque()

    def add(self, time: float, thumb: np.ndarray) -> float:
        """Add one more frame; returns its difference to the frame before it."""
        score = 0.0 if self._last is None else float(np.abs(thumb - self._last).mean())
        h, w = thumb.shape[0] // _COARSE[0], thumb.shape[1] // _COARSE[1]
        coarse = thumb[: h * _COARSE[0], : w * _COARSE[1]].reshape(_COARSE[0], h, _COARSE[1], w, 3).mean((1, 3))
        while len(self._recent) > 1 and self._recent[1][0] <= time - BACK:
            self._recent.popleft()
        self.slow.append(float(np.abs(coarse - self._recent[0][1]).mean()) if self._recent else 0.0)
        self._recent.append((time, coarse))
        self.times.append(time)
        self.scores.append(score)
        self._last = thumb
        return score

    def breaks(self) -> list[Break]:
        """Find all breaks, in order."""
        scores = np.array(self.scores)
        fresh = np.flatnonzero(scores > 0.05)  # repeated frames would make every other one look like a jump
        cuts = []
        for n, i in enumerate(fresh.tolist()):
            around = _others(scores[fresh], n, _AROUND)
            usual = float(np.median(around)) if len(around) else 0.0
            if scores[i] <= min(SURE, max(SMALL, JUMP * usual)):
                continue
            peaks = np.sort(np.append(_others(scores[fresh], n, _FAR), [0.0] * 3))[::-1]
            cut = scores[i] > CUT and scores[i] > JUMP * peaks[2]
            small = scores[i] > SMALL_JUMP * usual and scores[i] > SMALL_LONELY * peaks[0]
            if cut or small or scores[i] > SURE:
                cuts.append(self.times[i])
        return sorted([*(Break(t, t) for t in cuts), *self._dissolves(cuts)], key=lambda b: b.end)

    def cuts(self, fps: float) -> list[int]:
        """Find the hard cuts: the first frame after each, at `fps` frames a second."""
        return [round(found.end * fps) for found in self.breaks() if found.start == found.end]

    def _dissolves(self, cuts: list[float]) -> list[Break]:
        """Stretches in which the picture changes for good although there is no cut."""
        times, slow = np.array(self.times), np.array(self.slow) > DISSOLVE
        for cut in cuts:
            slow &= (times < cut - 1e-6) | (times > cut + BACK + 0.1)
        found: list[Break] = []
        edges = np.flatnonzero(np.diff(np.concatenate([[0], slow.astype(int), [0]])))
        for first, after in edges.reshape(-1, 2).tolist():
            # The difference is large from the middle of a dissolve on, and for BACK after its end.
            begin, end = max(times[first] - BACK / 2, times[0]), times[after - 1] - BACK / 2
            if end > begin:
                found.append(Break(float(begin), float(end)))
        return found


def _others(values: np.ndarray, n: int, reach: int) -> np.ndarray:
    """The values up to `reach` places from number n, without it."""
    return np.concatenate([values[max(0, n - reach) : n], values[n + 1 : n + 1 + reach]])


def shots(breaks: list[Break], start: float, stop: float) -> list[tuple[float, float, bool]]:
    """Split start..stop at the breaks into pieces (begin, end, is a transition)."""
    pieces: list[tuple[float, float, bool]] = []
    at = start
    for b in breaks:
        if b.end > at:
            pieces.append((at, b.end, False))
        if b.start > b.end:
            pieces.append((max(at, b.end), b.start, True))
        at = max(at, b.start)
    if stop > at:
        pieces.append((at, stop, False))
    return pieces
