"""The face SyncNet looks at: boxes of single frames -> tracks -> square crops of 224 pixels, as the authors' pipeline
cuts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.signal import medfilt

from cyberhost_model.perception.geometry import intersection_over_union

LEAST_FRAMES = 50  # a track with fewer detections is not measured
LEAST_SIDE = 100  # pixels of the longer side of the box, mean over the track: a smaller face is too coarse for SyncNet
_GAP = 25  # frames that may be missed
_SAME = 0.5  # overlap of one face in two frames
_SMOOTH = 13  # frames of the median
_MARGIN = 0.4
_GREY = 110
CROP = 224


@dataclass(frozen=True)
class Track:
    """A face from frame `start` on.

    boxes float64 (n, 4) in pixels, one a frame, those of missed frames interpolated; `seen`: detections among them.
    """

    start: int
    boxes: np.ndarray
    seen: int

    @property
    def side(self) -> float:
        """Mean of the longer side, pixels."""
        return float((self.boxes[:, 2:] - self.boxes[:, :2]).mean(0).max())


def follow(boxes: Sequence[np.ndarray], start: int = 0) -> list[Track]:
    """All tracks in one shot: boxes (k, 4) of each frame, the surest first -> tracks in the order they begin.

    `start` numbers the first frame.
    """
    left = [list(found) for found in boxes]
    tracks = []
    while any(left):
        at: list[int] = []
        path: list[np.ndarray] = []
        for frame, found in enumerate(left):
            if at and frame - at[-1] > _GAP:
                break
            for i, box in enumerate(found):
                if not at or intersection_over_union(box, path[-1][None])[0] > _SAME:
                    at.append(frame)
                    path.append(found.pop(i))
                    break
        numbers = np.arange(at[0], at[-1] + 1)
        whole = np.stack([np.interp(numbers, at, side) for side in np.stack(path, 1).astype(np.float64)], 1)
        tracks.append(Track(start + at[0], whole, len(at)))
    return tracks


def measured(tracks: Sequence[Track]) -> Track | None:
    """The longest track that is long and large enough; None without one."""
    fit = [t for t in tracks if t.seen >= LEAST_FRAMES and t.side > LEAST_SIDE]
    return max(fit, key=lambda t: len(t.boxes), default=None)


def smooth_squares(track: Track) -> np.ndarray:
    """float64 (n, 3): centre x, y and half the side of the square at each frame, freed of single jumps."""
    low, high = track.boxes[:, :2], track.boxes[:, 2:]
    middle, half = (low + high) / 2, (high - low).max(1) / 2
    return np.stack([medfilt(values, _SMOOTH) for values in (middle[:, 0], middle[:, 1], half)], 1)


def crop(frame: np.ndarray, square: np.ndarray) -> np.ndarray:
    """The face with its chin and some neck, uint8 (224, 224, 3); what lies outside the frame is grey."""
    x, y, half = square
    pad = int(half * (1 + 2 * _MARGIN))  # the corners are rounded as on a frame with that margin
    top, bottom = int(y + pad - half) - pad, int(y + pad + half * (1 + 2 * _MARGIN)) - pad
    left, right = int(x + pad - half * (1 + _MARGIN)) - pad, int(x + pad + half * (1 + _MARGIN)) - pad
    height, width = frame.shape[:2]
    inside = frame[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    outside = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    part = (
        cv2.copyMakeBorder(inside, *outside, cv2.BORDER_CONSTANT, value=(_GREY, _GREY, _GREY))
        if any(outside)
        else inside
    )
    return cv2.resize(part, (CROP, CROP))
