"""A driving video -> the key points of one person in it. Frames go by one at a time; only their key points are kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cyberhost_model.config import FPS, LARGEST
from cyberhost_model.driving.pose_folder import is_pose_folder, read_pose_folder
from cyberhost_model.driving.sequence import PoseSequence, is_sequence_file, read_sequence
from cyberhost_model.driving.smooth import clean_shots, find_runs
from cyberhost_model.errors import InputError
from cyberhost_model.media.files import check_regular
from cyberhost_model.media.video_reader import stream_frames
from cyberhost_model.perception.detector import Detector, place_from_left
from cyberhost_model.perception.keypoints import Keypoints, bounding_box
from cyberhost_model.perception.registry import embedded_detector
from cyberhost_model.perception.shots import CUT, ShotFinder, thumbnail_of
from cyberhost_model.reading import exists, is_folder

SEARCH = 12  # frames: how often the whole picture is searched for people, though one is followed from frame to frame
SIMILAR = 0.5  # a second person from that part of the followed one's size on is reported
# Face heights the person may have moved since the last frame that showed them; once more for every second after it.
FAR = 1.5
# Frames: a picture that is shown for longer was frozen on purpose; down to about 4 frames a second it is only slow.
_FROZEN = 5


@dataclass
class PersonFollower:
    """Follows one person from frame to frame, with any detector.

    found: the person's key points in each frame, None where nobody is found; crowded: whether somebody of similar size
    is beside. A detector that can `follow` need not search most frames. face: whom to follow, see `config.check_face`;
    chosen anew where a shot begins.
    """

    detector: Detector
    face: int | str = LARGEST
    found: list[Keypoints | None] = field(default_factory=list)
    crowded: list[bool] = field(default_factory=list)
    _last: Keypoints | None = None
    _lost: int = 0

    def take(self, frame: np.ndarray, changed: bool) -> None:
        """Find the person in one more frame, uint8 (H, W, 3) RGB.

        `changed`: it has little in common with the one before.
        """
        person, crowded = None, bool(self.crowded and self.crowded[-1])
        if self._last is not None and not (changed or self._lost or len(self.found) % SEARCH == 0):
            person = self._look(frame, self._last)
        if person is None:
            people, scale = self.detector.search(frame), np.array([frame.shape[1], frame.shape[0]])
            person = self._choose(people, scale, changed)
            crowded = person is not None and sum(_size(k, scale) >= SIMILAR * _size(person, scale) for k in people) > 1
            if person is not None:
                person = self._look(frame, person) or person
        self.found.append(person)
        self.crowded.append(crowded and person is not None)
        self._lost = 0 if person else self._lost + 1
        self._last = person or (None if changed else self._last)

    def repeat(self) -> None:
        """Add a frame equal to the one before."""
        self.found.append(self.found[-1])
        self.crowded.append(self.crowded[-1])

    def _look(self, frame: np.ndarray, last: Keypoints) -> Keypoints | None:
        found = self.detector.follow(frame, last)
        return found.keypoints if found else None

    def _choose(self, people: Sequence[Keypoints], scale: np.ndarray, changed: bool) -> Keypoints | None:
        """The followed person among those of a frame; the one that `face` names where nobody is followed yet."""
        if not people or self._last is None or changed:
            return self._named(people, scale)
        away = [float(np.linalg.norm(_middle(k, scale) - _middle(self._last, scale))) for k in people]
        nearest = int(np.argmin(away))
        return people[nearest] if away[nearest] <= FAR * _size(self._last, scale) * (1 + self._lost / FPS) else None

    def _named(self, people: Sequence[Keypoints], scale: np.ndarray) -> Keypoints | None:
        if self.face == LARGEST or not people:
            return people[0] if people else None
        place = place_from_left(self.face, len(people))
        return None if place is None else sorted(people, key=lambda person: _middle(person, scale)[0])[place]


def _box(person: Keypoints, scale: np.ndarray) -> np.ndarray:
    """Corners (2, 2) in pixels of the face; of the head and shoulders where no face is visible."""
    box = bounding_box(person.face, person.face_score) or bounding_box(
        person.body[[0, 1, 2, 5, 14, 15, 16, 17]], person.body_score[[0, 1, 2, 5, 14, 15, 16, 17]]
    )
    return np.array(box or (0, 0, 1, 1), np.float64).reshape(2, 2) * scale


def _middle(person: Keypoints, scale: np.ndarray) -> np.ndarray:
    return _box(person, scale).mean(0)


def _size(person: Keypoints, scale: np.ndarray) -> float:
    low, high = _box(person, scale)
    return float(high[1] - low[1])


def read_driving(
    path: str | os.PathLike[str],
    detector: Detector | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> PoseSequence:
    """Read a key point file (.npz, .json) or a pose folder of EchoMimicV2, or find the poses in a video.

    detector: for a video (default: the embedded one). Raises InputError.
    """
    if exists(path) and not is_folder(path):
        check_regular(Path(path), "driving video or key point file", "one video")  # a pipe could wait for ever
    if is_pose_folder(path):
        return read_pose_folder(path)
    return (
        read_sequence(path) if is_sequence_file(path) else read_poses(path, detector or embedded_detector(), progress)
    )


def read_poses(
    path: str | os.PathLike[str],
    detector: Detector,
    progress: Callable[[int, int | None], None] | None = None,
    max_seconds: float | None = None,
    smooth: bool = True,
) -> PoseSequence:
    """Find the key points of the person in a video, at 25 frames a second of its own time.

    They are cleaned (`smooth.clean`) unless `smooth` is False. The person with the largest face is followed. What a
    user should know, with times, is in `warnings`: several people, cuts, stretches that show nobody. progress: called
    as `progress(frames done, None)`. Raises InputError for what is no video, and where nobody is found in it.
    """
    follower, finder, faults = PersonFollower(detector), ShotFinder(), []  # type: ignore[var-annotated]
    repeated: list[bool] = []
    last: np.ndarray | None = None
    for i, frame in enumerate(stream_frames(path, FPS, max_seconds=max_seconds, faults=faults)):
        changed = finder.add(i / FPS, thumbnail_of(frame)) > CUT
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
        raise InputError(
            f"{path}: nobody is found in it; give a video of one person whose face is seen, at least a tenth of the "
            "picture's height"
        )
    sequence = PoseSequence.of([k or Keypoints.empty() for k in found], FPS, (last.shape[1], last.shape[0]))
    # Some detectors' scores are no probabilities.
    sequence = sequence.with_points(sequence.points(), np.clip(sequence.scores(), 0, 1))
    # Only hard cuts: a moving camera may look like a dissolve, in which no pose jumps.
    cuts = finder.cuts(FPS)
    if smooth:
        sequence = clean_shots(_hide_repeated(sequence, repeated), cuts)
    sequence.warnings += [
        *(f"{path}: parts of it are damaged ({fault}); what can be decoded is used" for fault in faults),
        *lines_where(
            follower.crowded, "several people of similar size are seen", "the one with the largest face is followed"
        ),
        *lines_where([k is None for k in found], "nobody is visible", "these frames are not driven"),
        *lines_where(_at(cuts, len(found)), "the picture is cut", "the pose jumps there; give a single shot"),
    ]
    return sequence


def _hide_repeated(sequence: PoseSequence, repeated: Sequence[bool]) -> PoseSequence:
    """Hide a slower video's repeated frames, so that its motion is interpolated between the frames it has.

    What stands still for long does stand.
    """
    scores = sequence.scores()
    for start, stop in find_runs(np.array(repeated)):
        if stop - start <= _FROZEN and stop < len(scores):
            scores[start:stop] = 0
    return sequence.with_points(sequence.points(), scores)


def _at(frames: Sequence[int], n: int) -> list[bool]:
    wanted = set(frames)
    return [i in wanted for i in range(n)]


def lines_where(flags: Sequence[bool], what: str, so: str, fps: float = FPS) -> list[str]:
    """Make a line about where something is the case, with the first few times; none where it never is."""
    edges = find_runs(np.array(flags, bool)).tolist()
    if not edges:
        return []
    times = [f"{a / fps:.2f}" if b - a == 1 else f"{a / fps:.2f}-{b / fps:.2f}" for a, b in edges[:5]]
    more = f" and {len(edges) - 5} more" if len(edges) > 5 else ""
    return [f"{what} at {', '.join(times)}{more} s: {so}"]
