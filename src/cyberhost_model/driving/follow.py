"""Following one person from frame to frame, with any detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..conditions.finder import PeopleFinder
from ..conditions.keypoints import Keypoints, points_box

if TYPE_CHECKING:
    from ..conditions.detector import KeypointDetector

FPS = 25.0
SEARCH = 12  # frames: how often the whole picture is searched for people, though one is followed from frame to frame
SIMILAR = 0.5  # a second person of that part of the followed one's size is told
FAR = 1.5  # face heights the person may have moved since the last frame that showed them; once more for every second after it


@dataclass
class Follower:
    """found: the person's key points in each frame, None where they are not seen; crowded: whether somebody of similar size was seen beside.

    With a `KeypointDetector` a look where the person was takes the place of most searches.
    """

    detector: KeypointDetector | PeopleFinder
    found: list[Keypoints | None] = field(default_factory=list)
    crowded: list[bool] = field(default_factory=list)
    _last: Keypoints | None = None
    _lost: int = 0

    def take(self, frame: np.ndarray, changed: bool) -> None:
        """One more frame, uint8 (H, W, 3) RGB; `changed`: it has little in common with the one before."""
        person, crowded = None, bool(self.crowded and self.crowded[-1])
        if self._last is not None and not (changed or self._lost or len(self.found) % SEARCH == 0):
            person = self._look(frame, self._last)
        if person is None:
            people, scale = self._search(frame), np.array([frame.shape[1], frame.shape[0]])
            person = self._choose(people, scale, changed)
            crowded = person is not None and sum(_size(k, scale) >= SIMILAR * _size(person, scale) for k in people) > 1
            if person is not None:
                person = self._look(frame, person) or person
        self.found.append(person)
        self.crowded.append(crowded and person is not None)
        self._lost = 0 if person else self._lost + 1
        self._last = person or (None if changed else self._last)

    def repeat(self) -> None:
        """A frame equal to the one before."""
        self.found.append(self.found[-1])
        self.crowded.append(self.crowded[-1])

    def _search(self, frame: np.ndarray) -> list[Keypoints]:
        """Everybody in the frame, the largest first; of a `KeypointDetector` faces alone."""
        if isinstance(self.detector, PeopleFinder):
            return self.detector.people(frame)
        return [found.keypoints for found in self.detector.detect(frame, people=0)]

    def _look(self, frame: np.ndarray, last: Keypoints) -> Keypoints | None:
        """The whole person whose face is about where `last` has it; None for a detector that cannot look without searching."""
        if isinstance(self.detector, PeopleFinder):
            return None
        found = self.detector.follow(frame, last)
        return found.keypoints if found else None

    def _choose(self, people: Sequence[Keypoints], scale: np.ndarray, changed: bool) -> Keypoints | None:
        """The followed person among those of a frame; the largest where nobody is followed yet."""
        if not people or self._last is None or changed:
            return people[0] if people else None
        away = [float(np.linalg.norm(_middle(k, scale) - _middle(self._last, scale))) for k in people]
        nearest = int(np.argmin(away))
        return people[nearest] if away[nearest] <= FAR * _size(self._last, scale) * (1 + self._lost / FPS) else None


def _box(person: Keypoints, scale: np.ndarray) -> np.ndarray:
    """Corners (2, 2) in pixels of the face; of the head and shoulders where no face is seen."""
    box = points_box(person.face, person.face_score) or points_box(person.body[[0, 1, 2, 5, 14, 15, 16, 17]], person.body_score[[0, 1, 2, 5, 14, 15, 16, 17]])
    return np.array(box or (0, 0, 1, 1), np.float64).reshape(2, 2) * scale


def _middle(person: Keypoints, scale: np.ndarray) -> np.ndarray:
    return _box(person, scale).mean(0)


def _size(person: Keypoints, scale: np.ndarray) -> float:
    low, high = _box(person, scale)
    return float(high[1] - low[1])
