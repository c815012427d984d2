"""Frames of a film in which something is before the mouth: a hand, a cup, a microphone that comes and goes.

Detectors of hands miss most hands before a face. So the skin around the lips is compared with what is usual there: a
mouth that speaks changes little of it, and something before the mouth changes much of it at once. The limits are of
nine films of five people who sign, and three of one who speaks (docs/results.md, dubbed films).
"""

from __future__ import annotations

import copy
import os
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import cv2
import numpy as np

from cyberhost_model.perception.geometry import face_height

SIDE = 32
"""Side of a view in pixels."""
# Where the eyes' middles, the bridge and the end of the nose lie in a view: none of them moves with the mouth.
_PLACES = np.array([[8.4, -1.2], [22.8, -1.2], [15.6, 3.6], [15.6, 8.4]], np.float32)
_POINTS = (slice(36, 42), slice(42, 48), slice(27, 31), slice(31, 36))
_LIPS = slice(48, 60)
_NEAR, _WIDE = 1, 4  # pixels of a view from the lips, between which skin is looked at
_OTHER = 25  # levels from which a pixel is another one
_COVERED, _FREE = 0.12, 0.015  # shares of other pixels: something comes, and it is gone
_FOLLOWS = 0.2  # how much of a new frame is taken into what was seen a short time ago
_LONGEST = 4.0  # seconds: what stays for longer is how the mouth looks now
_FRAMES = 201  # of which the median is what is usual
_RECORD = np.dtype([("pixels", np.uint8, (SIDE, SIDE, 3)), ("around", bool, (SIDE, SIDE))])


@dataclass(frozen=True)
class MouthView:
    """The skin around a mouth, wherever the head is."""

    pixels: np.ndarray
    """uint8 (SIDE, SIDE, 3)."""
    around: np.ndarray
    """bool (SIDE, SIDE): what is near the lips and not of them."""

    @staticmethod
    def of(frame: np.ndarray, face: np.ndarray) -> MouthView | None:
        """Cut it out of a frame, uint8 (H, W, 3), with the 68 points (68, 2) of the face in pixels.

        None where the points lie on each other.
        """
        if face_height(face) < 1:
            return None
        points = np.array([face[part].mean(0) for part in _POINTS], np.float32)
        place, _ = cv2.estimateAffinePartial2D(points, _PLACES, method=cv2.LMEDS)
        if place is None or not np.isfinite(place).all():
            return None
        pixels = cv2.warpAffine(frame, place, (SIDE, SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
        lips = np.zeros((SIDE, SIDE), np.uint8)
        outline = face[_LIPS] @ place[:, :2].T + place[:, 2]
        cv2.fillConvexPoly(lips, cv2.convexHull(np.clip(outline, -SIDE, 2 * SIDE).astype(np.int32)), 1)
        return MouthView(pixels, (_dilated(lips, _WIDE) > 0) & (_dilated(lips, _NEAR) == 0))

    def differs(self, usual: np.ndarray) -> float:
        """Measure how much of the skin around the lips is not as in `usual` (SIDE, SIDE, 3): 0..1."""
        other = np.abs(self.pixels.astype(np.float32) - usual).max(-1) > _OTHER
        return float(other[self.around].mean()) if self.around.any() else 0.0


class StoredViews(Sequence[MouthView | None]):
    """Views of a film's frames in a temporary file: 4 kB a frame, 370 MB an hour, are not held in memory."""

    def __init__(self) -> None:
        """Begin without views."""
        self._file = tempfile.TemporaryFile()
        self._numbers = array("q")  # of each frame's record in the file, -1 where there is no view

    def append(self, view: MouthView | None) -> None:
        """Store the view of the next frame."""
        number = -1
        if view is not None:
            number = self._file.seek(0, os.SEEK_END) // _RECORD.itemsize
            self._file.write(np.array((view.pixels, view.around), _RECORD).tobytes())
        self._numbers.append(number)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> MouthView | None: ...

    @overload
    def __getitem__(self, index: slice) -> StoredViews: ...

    def __getitem__(self, index: int | slice) -> MouthView | None | StoredViews:
        if isinstance(index, slice):
            part = copy.copy(self)  # of the same file
            part._numbers = self._numbers[index]
            return part
        if (number := self._numbers[index]) < 0:
            return None
        self._file.seek(number * _RECORD.itemsize)
        record = np.frombuffer(self._file.read(_RECORD.itemsize), _RECORD)[0]
        return MouthView(record["pixels"], record["around"])


def _dilated(mask: np.ndarray, pixels: int) -> np.ndarray:
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1,) * 2))


def covered_mouths(views: Sequence[MouthView | None], fps: float) -> np.ndarray:
    """Say in which frames of one shot something is before the mouth: bool (T,).

    views: None where no face is seen; nothing is before it there.
    """
    known = [i for i, view in enumerate(views) if view is not None]
    covered = np.zeros(len(views), bool)
    if not known:
        return covered
    every = -(-len(known) // _FRAMES)
    samples = [view.pixels for i in known[::every] if (view := views[i]) is not None]
    usual = np.median(np.stack(samples), 0).astype(np.float32)
    before, since = usual, 0
    for i, view in enumerate(views):
        if view is None:
            continue
        least = min(view.differs(usual), view.differs(before))
        covered[i] = since < _LONGEST * fps and least > (_FREE if since else _COVERED)
        since = since + 1 if covered[i] else 0
        if not covered[i]:
            # The beginning of the film is compared with what is usual alone.
            before = view.pixels.astype(np.float32) if before is usual else before + _FOLLOWS * (view.pixels - before)
    return covered
