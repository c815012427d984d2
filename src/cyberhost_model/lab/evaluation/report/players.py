"""Put copies of videos into players, with the key points that the page's script draws over them."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

from cyberhost_model.conditions.pose_maps import CONTOURS, FINGERS, LIMBS, hue
from cyberhost_model.lab.evaluation.features.extractor import Features
from cyberhost_model.lab.evaluation.features.people import BODY, FACE, HANDS, KEYPOINTS
from cyberhost_model.lab.evaluation.metric import Role
from cyberhost_model.lab.evaluation.report.clip_copies import ClipCopies, ClipCopy
from cyberhost_model.lab.evaluation.results import Evaluation
from cyberhost_model.media.video_reader import probe_video
from cyberhost_model.perception.keypoints import VISIBLE

EXTRACTORS = ("dwpose", "embedded")
"""Names of the extractors of key points."""

_ABSENT = 65535
_REACH = 1.0  # points may lie this many picture sides outside
_STEPS = (_ABSENT - 1) / (1 + 2 * _REACH)


@dataclass(frozen=True)
class SkeletonOverlay:
    """Hold the key points of a stretch of a video for the page's script.

    points: of the frames, see `pack_keypoints`. fps: of these frames. start: seconds from the first of them to the
    start of the copy.
    """

    points: str
    fps: float
    start: float


@dataclass(frozen=True)
class Player:
    """Hold a copy of a video and its title. muted: of two copies with sound only one is heard."""

    title: str
    copy: ClipCopy
    overlay: SkeletonOverlay | None = None
    muted: bool = False


def make_player(
    evaluation: Evaluation, video: str, role: Role, title: str, start: float, copies: ClipCopies, muted: bool = False
) -> Player:
    """Copy a video from `start` seconds on, with its skeleton where key points were measured."""
    path = getattr(evaluation.paths[video], role)
    copy = copies.make(path, start)
    features = find_keypoints(evaluation, video, role)
    overlay = None
    if features is not None:
        overlay = skeleton_overlay(features, float(probe_video(path).fps), start, copies.seconds)
    return Player(title, copy, overlay, muted)


def find_keypoints(evaluation: Evaluation, video: str, role: Role) -> Features | None:
    """Return the key points of a video, None where none were measured."""
    return next((found for name in EXTRACTORS if (found := evaluation.features(video, role, name)) is not None), None)


def skeleton_overlay(features: Features, fps: float, start: float, seconds: float) -> SkeletonOverlay:
    """Pack the key points (`people.keypoint_rows`, of frames at `fps`) of a stretch of a video."""
    first, last = int(start * fps), int((start + seconds) * fps) + 1
    points = pack_keypoints(features["points"][first:last], features["scores"][first:last])
    return SkeletonOverlay(points, fps, start - first / fps)


def skeleton_lines() -> list[tuple[int, int, str, int]]:
    """Return every line of a skeleton: (point, point, colour, width in thousandths of the picture's height).

    Points are numbered as in the key points' features.
    """
    lines = [(BODY.start + a, BODY.start + b, _colour(20 * i), 8) for i, (a, b) in enumerate(LIMBS)]
    for first in (HANDS.start, HANDS.start + 21):
        lines += [(first + a, first + b, _colour(18 * i), 5) for i, (a, b) in enumerate(FINGERS)]
    for first, stop, closed in CONTOURS:
        points = [FACE.start + p for p in range(first, stop)] + ([FACE.start + first] if closed else [])
        lines += [(a, b, "#fff", 3) for a, b in zip(points, points[1:], strict=False)]
    return lines


def _colour(degrees: float) -> str:
    return "#{:02x}{:02x}{:02x}".format(*hue(degrees))


def pack_keypoints(points: np.ndarray, scores: np.ndarray) -> str:
    """Pack points (T, 256) in 0..1 and their scores (T, 128) for the page's script.

    Returns base64 of uint16, little-endian, (T, 128, 2): x and y from -1 to 2 of the picture's sides, 65535 for a point
    that is not visible.
    """
    points = np.asarray(points, np.float32).reshape(-1, KEYPOINTS, 2)
    packed = np.full(points.shape, _ABSENT, "<u2")
    visible = (np.asarray(scores) > VISIBLE) & np.isfinite(points).all(-1)
    packed[visible] = np.round((np.clip(points[visible], -_REACH, 1 + _REACH) + _REACH) * _STEPS)
    return base64.b64encode(packed.tobytes()).decode()
