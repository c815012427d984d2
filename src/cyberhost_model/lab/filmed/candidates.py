"""Find the stretches of a video that could be a clip: shots, cut where the person, the face or the decoding fails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from cyberhost_model.config import FPS
from cyberhost_model.lab.filmed.detectors import PeopleDetector
from cyberhost_model.lab.filmed.manifest import Reason
from cyberhost_model.lab.filmed.settings import Settings
from cyberhost_model.lab.filmed.source import OpenVideo, thumbnail, to_rgb
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.perception.people import count_people, has_face
from cyberhost_model.perception.shots import ShotFinder, shots

OBSERVATION_FPS = 5.0  # frames a second that the detector gets in this pass
_MAX_SIDE = 1280  # pixels; larger frames are reduced, in this pass alone
_MAX_DETECTOR_ERROR = 2  # observations: a shorter failure between good ones is the detector's, not the video's
_EPS = 1e-6  # seconds


@dataclass
class Observation:
    """Hold what the detector found at one time: the person, or the reason why the frame is of no use."""

    time: float
    reason: Reason | None
    person: Keypoints | None


@dataclass
class Candidate:
    """Describe a stretch of the source, in seconds.

    reason: why it is rejected already, None where it is not. people: the key points of its observations.
    """

    start: float
    end: float
    reason: Reason | None = None
    people: list[Keypoints] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """How many frames at 25 a second fit into it."""
        return int((self.end - self.start) * FPS + _EPS)


@dataclass
class Analysis:
    """Hold the first pass over a video: its candidates, the size (W, H) of its upright frames, the time it covers."""

    candidates: list[Candidate]
    size: tuple[int, int]
    start: float
    end: float


def classify_frame(found: list[Keypoints], finds_faceless: bool) -> tuple[Reason | None, Keypoints | None]:
    """Return why a frame with these people is of no use, or the one person in it.

    finds_faceless: whether the detector also finds people without a visible face.
    """
    if not found:
        return (Reason.NO_PERSON if finds_faceless else Reason.NO_FACE), None
    if count_people(found) > 1:
        return Reason.SEVERAL_PEOPLE, None
    return (None, found[0]) if has_face(found[0]) else (Reason.NO_FACE, None)


def analyse_video(
    video: OpenVideo,
    detector: PeopleDetector,
    settings: Settings,
    begin: float = -math.inf,
    stop: float = math.inf,
) -> Analysis | None:
    """Read a video once, from `begin` to before `stop` seconds, and find its candidates.

    None where no frame can be decoded.

    Memory does not grow with the video's length, but for the key points of the observations.
    """
    finder, observations, size = ShotFinder(), [], (0, 0)
    due, end = -math.inf, 0.0
    for time, frame, broken in video.frames(None if begin == -math.inf else begin):
        if time < begin - _EPS:
            continue
        if time >= stop - _EPS:
            break
        finder.add(time, thumbnail(frame))
        if broken:
            observations.append(Observation(time, Reason.DAMAGED, None))
        elif time >= due:
            due = max(due + 1 / OBSERVATION_FPS, time + 0.5 / OBSERVATION_FPS)
            people = detector([to_rgb(frame, video.aspect, _MAX_SIDE)])[0]
            observations.append(Observation(time, *classify_frame(people, detector.finds_faceless)))
        if size == (0, 0):
            height, width, _ = to_rgb(frame, video.aspect).shape
            size = width, height
        end = time
    if not finder.times:
        return None
    interval = float(np.median(np.diff(finder.times))) if len(finder.times) > 1 else 1 / FPS
    end += min(interval, 1.0)  # the last frame is shown as long as the others
    candidates: list[Candidate] = []
    for first, last, transition in shots(finder.breaks(), finder.times[0], end):
        of_shot = [x for x in observations if first - _EPS <= x.time < last - _EPS]
        candidates += split_shot(first, last, of_shot, transition, settings)
    return Analysis(candidates, size, finder.times[0], end)


def split_shot(
    begin: float, end: float, observations: Sequence[Observation], transition: bool, settings: Settings
) -> list[Candidate]:
    """Split a shot into candidates: usable stretches, and rejected ones with the reason."""
    if transition:
        return [Candidate(begin, end, Reason.TRANSITION)]
    if end - begin < settings.min_seconds - _EPS:
        return [Candidate(begin, end, Reason.CUT_TOO_SHORT)]
    runs = _runs(drop_detector_errors(observations))
    if not runs:
        return [Candidate(begin, end, Reason.UNDECODABLE)]
    # A usable stretch goes from its first to its last good observation; the time between belongs to the failure.
    edges = [begin]
    for (reason, members), (_, following) in zip(runs, runs[1:], strict=False):
        edges.append(members[-1].time if reason is None else following[0].time)
    edges.append(end)
    out = []
    for (reason, members), start, stop in zip(runs, edges, edges[1:], strict=False):
        out += _equal_clips(start, stop, members, settings) if reason is None else [Candidate(start, stop, reason)]
    return out


def drop_detector_errors(observations: Sequence[Observation]) -> list[Observation]:
    """Leave out short failures between good observations. Damaged frames are no detector's error and stay."""
    kept: list[Observation] = []
    runs = _runs(observations)
    for i, (reason, members) in enumerate(runs):
        inside = 0 < i < len(runs) - 1 and runs[i - 1][0] is None and runs[i + 1][0] is None
        if reason is None or reason is Reason.DAMAGED or not inside or len(members) > _MAX_DETECTOR_ERROR:
            kept += members
    return kept


def _runs(observations: Sequence[Observation]) -> list[tuple[Reason | None, list[Observation]]]:
    return [(reason, list(members)) for reason, members in groupby(observations, key=lambda x: x.reason)]


def _equal_clips(start: float, stop: float, members: list[Observation], settings: Settings) -> list[Candidate]:
    """Cut a usable stretch into equal clips no longer than the longest."""
    length = stop - start
    if length < settings.min_seconds - _EPS:
        return [Candidate(start, stop, Reason.TOO_SHORT)]
    n = max(1, math.ceil(length / settings.max_seconds - _EPS))
    step = math.floor(length / n * FPS + _EPS) / FPS
    near = 1 / OBSERVATION_FPS
    out = []
    for i in range(n):
        a, b = start + i * step, start + (i + 1) * step
        people = [x.person for x in members if x.person is not None and a - near <= x.time <= b + near]
        out.append(Candidate(a, b, None, people))
    return out
