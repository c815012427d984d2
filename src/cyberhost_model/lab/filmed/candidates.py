"""Which stretches of a video could be a clip: shots cut where the person, the face or the picture's soundness
changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from cyberhost_model.lab.filmed.detectors import PeopleDetector
from cyberhost_model.lab.filmed.manifest import FPS, Reason
from cyberhost_model.lab.filmed.settings import Settings
from cyberhost_model.lab.filmed.source import Video, rgb, thumbnail
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.perception.people import has_face, people_count
from cyberhost_model.perception.shots import ShotFinder, shots

LOOKS = 5.0  # frames a second that the detector sees in the first pass
_LONGEST = 1280  # pixels: larger frames are looked at reduced, in this pass alone
_HEAL = 2  # looks: a fault no longer than that between good ones is the detector's, not the video's


@dataclass
class Glimpse:
    """What the detector saw at one time: the person, or the reason why the frame is of no use."""

    time: float
    reason: Reason | None
    person: Keypoints | None


@dataclass
class Candidate:
    """A stretch of the source, seconds; `reason` where it is ruled out already.

    `people`: the key points of its looks.
    """

    start: float
    end: float
    reason: Reason | None = None
    people: list[Keypoints] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Frames at 25 a second that fit."""
        return int((self.end - self.start) * FPS + 1e-6)


@dataclass
class Analysis:
    """The first pass over a video: what could be clips, the size (W, H) of its upright frames, and the time it
    covers.
    """

    candidates: list[Candidate]
    size: tuple[int, int]
    start: float
    end: float


def look_at(found: list[Keypoints], finds_faceless: bool) -> tuple[Reason | None, Keypoints | None]:
    """Whether a frame's people make it usable."""
    if not found:
        return (Reason.NO_PERSON if finds_faceless else Reason.NO_FACE), None
    if people_count(found) > 1:
        return Reason.SEVERAL_PEOPLE, None
    return (None, found[0]) if has_face(found[0]) else (Reason.NO_FACE, None)


def analyse_video(video: Video, detector: PeopleDetector, settings: Settings) -> Analysis | None:
    """Go through a video once, at any length in constant memory but for the key points.

    None when no frame can be decoded.
    """
    finder, looks, size = ShotFinder(), [], (0, 0)
    due, end = -math.inf, 0.0
    for time, frame, broken in video.frames():
        finder.add(time, thumbnail(frame))
        if broken:
            looks.append(Glimpse(time, Reason.DAMAGED, None))
        elif time >= due:
            due = max(due + 1 / LOOKS, time + 0.5 / LOOKS)
            reason, person = look_at(detector([rgb(frame, video.aspect, _LONGEST)])[0], detector.finds_faceless)
            looks.append(Glimpse(time, reason, person))
        if size == (0, 0):
            size = _upright_size(frame, video.aspect)
        end = time
    if not finder.times:
        return None
    usual = float(np.median(np.diff(finder.times))) if len(finder.times) > 1 else 1 / FPS
    stop = end + min(usual, 1.0)  # the last frame is shown as long as the others
    found: list[Candidate] = []
    for begin, finish, transition in shots(finder.breaks(), finder.times[0], stop):
        found += _of_shot(
            begin, finish, [x for x in looks if begin - 1e-6 <= x.time < finish - 1e-6], transition, settings
        )
    return Analysis(found, size, finder.times[0], stop)


def _upright_size(frame: object, aspect: float) -> tuple[int, int]:
    picture = rgb(frame, aspect)
    return picture.shape[1], picture.shape[0]


def _of_shot(
    begin: float, end: float, looks: Sequence[Glimpse], transition: bool, settings: Settings
) -> list[Candidate]:
    if transition:
        return [Candidate(begin, end, Reason.TRANSITION)]
    if end - begin < settings.min_seconds - 1e-6:
        return [Candidate(begin, end, Reason.CUT_TOO_SHORT)]
    runs = _runs(healed(looks))
    if not runs:
        return [Candidate(begin, end, Reason.UNDECODABLE)]
    # What is good ends with its last good look and begins with its first; the fault takes the time in between.
    edges = [begin]
    for (reason, members), (_, following) in zip(runs, runs[1:], strict=False):
        edges.append(members[-1].time if reason is None else following[0].time)
    edges.append(end)
    out = []
    for (reason, members), start, stop in zip(runs, edges, edges[1:], strict=False):
        out += _pieces(start, stop, members, settings) if reason is None else [Candidate(start, stop, reason)]
    return out


def healed(looks: Sequence[Glimpse]) -> list[Glimpse]:
    """Short faults between good looks are taken out; damage is not a matter of opinion and stays."""
    kept: list[Glimpse] = []
    runs = _runs(looks)
    for i, (reason, members) in enumerate(runs):
        inside = 0 < i < len(runs) - 1 and runs[i - 1][0] is None and runs[i + 1][0] is None
        if reason is None or reason is Reason.DAMAGED or not inside or len(members) > _HEAL:
            kept += members
    return kept


def _runs(looks: Sequence[Glimpse]) -> list[tuple[Reason | None, list[Glimpse]]]:
    return [(reason, list(members)) for reason, members in groupby(looks, key=lambda x: x.reason)]


def _pieces(start: float, stop: float, members: list[Glimpse], settings: Settings) -> list[Candidate]:
    """A good stretch cut into equal clips no longer than the longest."""
    length = stop - start
    if length < settings.min_seconds - 1e-6:
        return [Candidate(start, stop, Reason.TOO_SHORT)]
    n = max(1, math.ceil(length / settings.max_seconds - 1e-6))
    step = math.floor(length / n * FPS + 1e-6) / FPS
    out = []
    for i in range(n):
        a, b = start + i * step, start + (i + 1) * step
        out.append(
            Candidate(
                a,
                b,
                None,
                [x.person for x in members if x.person is not None and a - 1 / LOOKS <= x.time <= b + 1 / LOOKS],
            )
        )
    return out
