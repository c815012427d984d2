"""Find the face that SyncNet reads: boxes of single frames -> tracks -> square crops of 224 pixels.

Thresholds and cropping are those of the authors' pipeline (joonson/syncnet_python).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.signal import medfilt

from cyberhost_model.perception.geometry import intersection_over_union

MIN_TRACK_FRAMES = 50  # a track with fewer detections is not measured
MIN_FACE_SIDE = 100  # pixels of the box's longer side, mean over the track: a smaller face is too coarse for SyncNet
CROP_SIDE = 224
_MAX_GAP = 25  # frames without a detection inside a track
_SAME_FACE = 0.5  # least overlap of the boxes of one face in two frames
_MEDIAN_FRAMES = 13
_MARGIN = 0.4
_GREY = 110


@dataclass(frozen=True)
class FaceTrack:
    """Hold the boxes of a face from frame `start` on.

    boxes: float64 (n, 4), x0, y0, x1, y1 in pixels, one a frame, interpolated in frames without a detection.
    detections: how many frames have one.
    """

    start: int
    boxes: np.ndarray
    detections: int

    @property
    def side(self) -> float:
        """Mean of the longer side over the track, pixels."""
        return float((self.boxes[:, 2:] - self.boxes[:, :2]).mean(0).max())


def track_faces(boxes: Sequence[np.ndarray], start: int = 0) -> list[FaceTrack]:
    """Link the boxes of one shot, (k, 4) of each frame, most confident first, to tracks in the order they begin.

    start: the number of the first frame.
    """
    remaining = [list(found) for found in boxes]
    tracks = []
    while any(remaining):
        at: list[int] = []
        path: list[np.ndarray] = []
        for frame, found in enumerate(remaining):
            if at and frame - at[-1] > _MAX_GAP:
                break
            for i, box in enumerate(found):
                if not at or intersection_over_union(box, path[-1][None])[0] > _SAME_FACE:
                    at.append(frame)
                    path.append(found.pop(i))
                    break
        numbers = np.arange(at[0], at[-1] + 1)
        whole = np.stack([np.interp(numbers, at, side) for side in np.stack(path, 1).astype(np.float64)], 1)
        tracks.append(FaceTrack(start + at[0], whole, len(at)))
    return tracks


def select_track(tracks: Sequence[FaceTrack]) -> FaceTrack | None:
    """Return the longest track that is long and large enough to be measured, None without one."""
    fit = [t for t in tracks if t.detections >= MIN_TRACK_FRAMES and t.side > MIN_FACE_SIDE]
    return max(fit, key=lambda t: len(t.boxes), default=None)


def smooth_squares(track: FaceTrack) -> np.ndarray:
    """Return the square of each frame, median-filtered over time: float64 (n, 3), centre x, y and half the side."""
    low, high = track.boxes[:, :2], track.boxes[:, 2:]
    middle, half = (low + high) / 2, (high - low).max(1) / 2
    return np.stack([medfilt(values, _MEDIAN_FRAMES) for values in (middle[:, 0], middle[:, 1], half)], 1)


def crop_face(frame: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Crop the face with its chin and some neck, uint8 (224, 224, 3); what lies outside the frame is grey."""
    x, y, half = square
    pad = int(half * (1 + 2 * _MARGIN))  # the corners are rounded as on a frame with that margin
    top, bottom = int(y + pad - half) - pad, int(y + pad + half * (1 + 2 * _MARGIN)) - pad
    left, right = int(x + pad - half * (1 + _MARGIN)) - pad, int(x + pad + half * (1 + _MARGIN)) - pad
    height, width = frame.shape[:2]
    part = frame[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    outside = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    if any(outside):
        part = cv2.copyMakeBorder(part, *outside, cv2.BORDER_CONSTANT, value=(_GREY, _GREY, _GREY))
    return cv2.resize(part, (CROP_SIDE, CROP_SIDE))
