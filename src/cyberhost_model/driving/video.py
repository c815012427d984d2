"""A driving video -> the key points of one person in it. Frames go by one at a time; only their key points are kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from ..conditions.detector import Detection, KeypointDetector
from ..conditions.keypoints import Keypoints
from ..dataset.shots import CUT, ShotFinder
from ..errors import InputError
from ..inputs.frames import stream_frames
from .sequence import PoseSequence
from .smooth import clean

FPS = 25.0
SEARCH = 12  # frames: how often the whole picture is searched, though the person is followed from frame to frame
SIMILAR = 0.5  # a second face of that part of the followed one's height is told
FAR = 1.5  # face sizes a second face may lie from where the followed one was last, and still be the same person's; grows with the time
_THUMB = (64, 36)


def embedded_detector() -> KeypointDetector:
    """The detector that comes with the embedded model."""
    from ..model_folder import EMBEDDED

    return KeypointDetector.from_pretrained(EMBEDDED / "tiny" / "detector")


def read_poses(
    path: str | os.PathLike[str],
    detector: KeypointDetector,
    progress: Callable[[int, int | None], None] | None = None,
    max_seconds: float | None = None,
    smooth: bool = True,
) -> PoseSequence:
    """The key points of the person in a video, at 25 frames a second of its own time, cleaned (`smooth.clean`) unless `smooth` is False.

    The person with the largest face is followed. What a user should know, with times, is in `warnings`: several people, cuts, stretches that
    show nobody. progress: called as `progress(frames done, None)`. Raises InputError for what is no video, and where nobody is found in it.
    """
    follower, finder = Follower(detector), ShotFinder()
    size = (0, 0)
    for i, frame in enumerate(stream_frames(path, FPS, max_seconds=max_seconds)):
        size = (frame.shape[1], frame.shape[0])
        changed = finder.add(i / FPS, _thumbnail(frame)) > CUT
        follower.take(frame, changed)
        if progress is not None:
            progress(i + 1, None)
    found = follower.found
    if all(k is None for k in found):
        raise InputError(f"{path}: nobody is found in it; give a video of one person whose face is seen, at least a tenth of the picture's height")
    sequence = PoseSequence.of([k or Keypoints.empty() for k in found], FPS, size)
    cuts = [round(b.end * FPS) for b in finder.breaks()]
    if smooth:
        sequence = _cleaned(sequence, cuts)
    sequence.warnings += [*_told(follower.crowded, "several people of similar size are seen", "the one with the largest face is followed"),
                          *_told([k is None for k in found], "nobody is seen", "there the driving says nothing"),
                          *_told(_at(cuts, len(found)), "the picture is cut", "the pose jumps there; give a single shot")]  # fmt: skip
    return sequence


@dataclass
class Follower:
    """Follows one person from frame to frame. found: the key points of each frame, None where the person is not seen; crowded: whether a face of
    similar size was seen beside."""

    detector: KeypointDetector
    found: list[Keypoints | None] = field(default_factory=list)
    crowded: list[bool] = field(default_factory=list)
    _last: Detection | None = None
    _lost: int = 0

    def take(self, frame: np.ndarray, changed: bool) -> None:
        """One more frame; `changed`: it has little in common with the one before."""
        crowded = bool(self.crowded and self.crowded[-1]) and not changed
        person = None
        if self._last is not None and not changed and len(self.found) % SEARCH and not self._lost:
            person = self.detector.follow(frame, self._last.keypoints)
        if person is None:
            faces = self.detector.detect(frame, people=0)
            chosen = self._choose(faces, changed)
            person = self.detector.follow(frame, chosen.keypoints) or chosen if chosen else None
            crowded = chosen is not None and sum(_height(f) >= SIMILAR * _height(chosen) for f in faces) > 1
        self.found.append(person.keypoints if person else None)
        self.crowded.append(crowded and person is not None)
        self._lost = 0 if person else self._lost + 1
        self._last = person or (None if changed else self._last)

    def _choose(self, faces: Sequence[Detection], changed: bool) -> Detection | None:
        """The followed person's among the faces of a frame, the largest first; the largest where nobody is followed yet."""
        if not faces or self._last is None or changed:
            return faces[0] if faces else None
        was = np.array(self._last.box).reshape(2, 2).mean(0)
        reach = FAR * _height(self._last) * (1 + self._lost / FPS)
        near = [(float(np.linalg.norm(np.array(f.box).reshape(2, 2).mean(0) - was)), n) for n, f in enumerate(faces)]
        distance, n = min(near)
        return faces[n] if distance <= reach else None


def _height(found: Detection) -> float:
    return found.box[3] - found.box[1]


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    """As `dataset.source.thumbnail`: float32 (36, 64, 3), 0..255."""
    return cv2.GaussianBlur(cv2.resize(frame, _THUMB, interpolation=cv2.INTER_AREA), (3, 3), 0).astype(np.float32)


def _cleaned(sequence: PoseSequence, cuts: Sequence[int]) -> PoseSequence:
    """Each shot cleaned by itself: across a cut nothing is bridged."""
    edges = [0, *sorted({c for c in cuts if 0 < c < len(sequence)}), len(sequence)]
    pieces = [clean(sequence.cut(a, b)) for a, b in zip(edges, edges[1:], strict=False)]
    joined = [np.concatenate([getattr(p, name)() for p in pieces]) for name in ("points", "scores")]
    return sequence.with_points(*joined)


def _at(frames: Sequence[int], n: int) -> list[bool]:
    return [i in set(frames) for i in range(n)]


def _told(flags: Sequence[bool], what: str, so: str) -> list[str]:
    """One line about where something is the case, with the first few times; none where it never is."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.array(flags, int), [0]]))).reshape(-1, 2) / FPS
    if len(edges) == 0:
        return []
    times = [f"{a:.2f}" if b - a <= 1 / FPS + 1e-6 else f"{a:.2f}-{b:.2f}" for a, b in edges[:5].tolist()]
    more = f" and {len(edges) - 5} more" if len(edges) > 5 else ""
    return [f"{what} at {', '.join(times)}{more} s: {so}"]
