"""How many people a frame shows, and whether a person's face and hands are visible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

# A second face counts as a person from this part of the first one's height on: smaller ones are pictures on the wall,
# or an audience.
SECOND = 0.4


def has_face(k: Keypoints) -> bool:
    """Whether a face is seen."""
    return bool(k.face_score.max() > VISIBLE)


def has_hand(k: Keypoints) -> bool:
    """Whether a hand is seen."""
    return bool(k.hands_score.max() > VISIBLE)


def face_height(k: Keypoints, height: int) -> float:
    """Height of the face points in pixels; 0 without a face."""
    return float(np.ptp(k.face[:, 1])) * height if has_face(k) else 0.0


def people_count(found: Sequence[Keypoints]) -> int:
    """How many people of a similar size there are; small ones in the background do not count."""
    if not found:
        return 0
    heights = [face_height(k, 1) for k in found]
    largest = max(heights)
    if largest == 0:
        return len(found)
    return sum(h >= SECOND * largest for h in heights)
