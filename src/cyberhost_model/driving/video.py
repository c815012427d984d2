"""A driving video -> the key points of one person in it. Frames go by one at a time; only their key points are kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..conditions.finder import PeopleFinder
from ..conditions.keypoints import Keypoints
from ..dataset.shots import CUT, ShotFinder, small_picture
from ..errors import InputError
from ..inputs.frames import stream_frames
from .follow import FPS, Follower
from .formats import is_sequence_file, read_sequence
from .sequence import PoseSequence
from .smooth import clean, stretches

if TYPE_CHECKING:
    from ..conditions.detector import KeypointDetector

_HELD = 5  # frames: a picture that is shown for longer was frozen on purpose; down to about 4 frames a second it is only slow


def embedded_detector() -> KeypointDetector:
    """The detector that comes with the embedded model."""
    from ..conditions.detector import KeypointDetector
    from ..model_folder import EMBEDDED

    return KeypointDetector.from_pretrained(EMBEDDED / "tiny" / "detector")


def read_driving(
    path: str | os.PathLike[str],
    detector: KeypointDetector | PeopleFinder | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> PoseSequence:
    """A key point file (.npz, .json) as it is, or the poses of a video, read by `detector` (default: the embedded one). Raises InputError."""
    return read_sequence(path) if is_sequence_file(path) else read_poses(path, detector or embedded_detector(), progress)


def read_poses(
    path: str | os.PathLike[str],
    detector: KeypointDetector | PeopleFinder,
    progress: Callable[[int, int | None], None] | None = None,
    max_seconds: float | None = None,
    smooth: bool = True,
) -> PoseSequence:
    """The key points of the person in a video, at 25 frames a second of its own time, cleaned (`smooth.clean`) unless `smooth` is False.

    The person with the largest face is followed. What a user should know, with times, is in `warnings`: several people, cuts, stretches that
    show nobody. progress: called as `progress(frames done, None)`. Raises InputError for what is no video, and where nobody is found in it.
    """
    follower, finder, faults = Follower(detector), ShotFinder(), []  # type: ignore[var-annotated]
    repeated: list[bool] = []
    last: np.ndarray | None = None
    for i, frame in enumerate(stream_frames(path, FPS, max_seconds=max_seconds, faults=faults)):
        changed = finder.add(i / FPS, small_picture(frame)) > CUT
        repeated.append(last is not None and np.array_equal(frame, last))
        if repeated[-1]:
            follower.repeat()
        else:
            follower.take(frame, changed)
        last = frame
        if progress is not None:
            progress(i + 1, None)
    found = follower.found
    if last is None or all(k is None for k in found):
        raise InputError(f"{path}: nobody is found in it; give a video of one person whose face is seen, at least a tenth of the picture's height")
    sequence = PoseSequence.of([k or Keypoints.empty() for k in found], FPS, (last.shape[1], last.shape[0]))
    sequence = sequence.with_points(sequence.points(), np.clip(sequence.scores(), 0, 1))  # some detectors' scores are no probabilities
    cuts = [round(b.end * FPS) for b in finder.breaks() if b.start == b.end]  # a moving camera may look like a dissolve, in which no pose jumps
    if smooth:
        sequence = _cleaned(_without_repeats(sequence, repeated), cuts)
    sequence.warnings += [*(f"{path}: parts of it are damaged ({fault}); what can be decoded is used" for fault in faults),
                          *_told(follower.crowded, "several people of similar size are seen", "the one with the largest face is followed"),
                          *_told([k is None for k in found], "nobody is seen", "there the driving says nothing"),
                          *_told(_at(cuts, len(found)), "the picture is cut", "the pose jumps there; give a single shot")]  # fmt: skip
    return sequence


def _without_repeats(sequence: PoseSequence, repeated: Sequence[bool]) -> PoseSequence:
    """A slower video's repeated frames taken out, so that its motion is put between the frames it has; what stands still for long does stand."""
    scores = sequence.scores()
    for start, stop in stretches(np.array(repeated)):
        if stop - start <= _HELD and stop < len(scores):
            scores[start:stop] = 0
    return sequence.with_points(sequence.points(), scores)


def _cleaned(sequence: PoseSequence, cuts: Sequence[int]) -> PoseSequence:
    """Each shot cleaned by itself: across a cut nothing is bridged."""
    edges = [0, *sorted({c for c in cuts if 0 < c < len(sequence)}), len(sequence)]
    pieces = [clean(sequence.cut(a, b)) for a, b in zip(edges, edges[1:], strict=False)]
    joined = [np.concatenate([getattr(p, name)() for p in pieces]) for name in ("points", "scores")]
    return sequence.with_points(*joined)


def _at(frames: Sequence[int], n: int) -> list[bool]:
    wanted = set(frames)
    return [i in wanted for i in range(n)]


def _told(flags: Sequence[bool], what: str, so: str) -> list[str]:
    """One line about where something is the case, with the first few times; none where it never is."""
    edges = stretches(np.array(flags, bool)).tolist()
    if not edges:
        return []
    times = [f"{a / FPS:.2f}" if b - a == 1 else f"{a / FPS:.2f}-{b / FPS:.2f}" for a, b in edges[:5]]
    more = f" and {len(edges) - 5} more" if len(edges) > 5 else ""
    return [f"{what} at {', '.join(times)}{more} s: {so}"]
