"""Cut face and hands out of frames, so that a measure can be taken of these alone.

The regions are the squares of the paper's section 3.2 (`perception.crops`) about the points of the embedded detector,
whatever networks the other measures use; what reaches outside of the picture is cut off. Matching frames of two videos
are cut at the place where the ground truth has the region, so that a hand that is elsewhere, or melted, counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import Compare, VideoInfo
from cyberhost_model.lab.evaluation.features.people import PersonFinder
from cyberhost_model.lab.evaluation.protocol import REGIONS
from cyberhost_model.perception.crops import face_box, hand_boxes
from cyberhost_model.perception.geometry import Box
from cyberhost_model.perception.keypoints import Keypoints

WHOLE = "whole"
SMALLEST = 16
"""Pixels of a crop's shorter side; a smaller one shows too little to be measured."""


def region_boxes(person: Keypoints | None, size: tuple[int, int]) -> dict[str, list[Box]]:
    """Return the squares of face and hands that are seen, in pixels of a picture of `size` (W, H)."""
    if person is None:
        return {name: [] for name in REGIONS}
    found = {"face": [face_box(person, size)], "hands": hand_boxes(person, size)}
    return {name: [box for box in boxes if box is not None] for name, boxes in found.items()}


def crop(frame: np.ndarray, box: Box) -> np.ndarray | None:
    """Cut a box out of uint8 (H, W, 3), pixels as they are, as far as it lies inside; None for less than SMALLEST."""
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = (round(edge) for edge in box)
    cut = frame[max(0, y0) : min(height, max(0, y1)), max(0, x0) : min(width, max(0, x1))]
    return cut if min(cut.shape[:2]) >= SMALLEST else None


def region_crops(frame: np.ndarray, person: Keypoints | None) -> dict[str, list[np.ndarray]]:
    """Cut the regions of a person out of a frame: name -> pictures, uint8."""
    boxes = region_boxes(person, (frame.shape[1], frame.shape[0]))
    return {name: [cut for box in of if (cut := crop(frame, box)) is not None] for name, of in boxes.items()}


class ComparedRegions:
    """Compare the regions of matching frames: "face" and "hands", (n,), NaN where the ground truth shows none.

    Several crops of a region (two hands) give their mean. whole: also "whole", of the frames as they are. A
    `PairExtractor`.
    """

    def __init__(self, name: str, version: str, compare: Compare, finder: PersonFinder, whole: bool = False) -> None:
        self.name, self.digest = name, f"{name}/{version} {finder.digest}"
        self._compare, self._finder = compare, finder
        self._parts = (WHOLE, *REGIONS) if whole else REGIONS
        self._values: dict[str, list[float]] = {}

    def begin(self, info: VideoInfo) -> None:
        """Start a pair of videos."""
        self._values = {part: [] for part in self._parts}

    def push(self, generated: np.ndarray, ground_truth: np.ndarray) -> None:
        """Compare the next matching frames, both uint8 (n, H, W, 3)."""
        for made, true in zip(generated, ground_truth, strict=True):
            boxes = region_boxes(self._finder(true), (true.shape[1], true.shape[0]))
            for part, values in self._values.items():
                pairs = [(made, true)] if part == WHOLE else [(crop(made, b), crop(true, b)) for b in boxes[part]]
                values.append(self._mean(pairs))

    def _mean(self, pairs: Sequence[tuple[np.ndarray | None, np.ndarray | None]]) -> float:
        found = [self._compare(a, b) for a, b in pairs if a is not None and b is not None]
        return float(np.mean(found)) if found else float("nan")

    def finish(self) -> dict[str, np.ndarray]:
        """Return the values of all pairs."""
        return {part: np.asarray(values, float) for part, values in self._values.items()}
