"""Key points packed for the page's script, which draws them over the films."""

from __future__ import annotations

import base64

import numpy as np

from cyberhost_model.conditions.pose_maps import CONTOURS, FINGERS, LIMBS, hue
from cyberhost_model.lab.evaluation.features.extractor import Features
from cyberhost_model.lab.evaluation.features.people import BODY, COUNT, FACE, HANDS
from cyberhost_model.perception.keypoints import VISIBLE

EXTRACTORS = ("dwpose", "embedded")
"""Those that give key points, by name."""


_ABSENT = 65535


_REACH = 1.0  # points may lie this many picture sides outside


_STEPS = (_ABSENT - 1) / (1 + 2 * _REACH)


def bones() -> list[tuple[int, int, str, int]]:
    """(point, point, colour, width in thousandths of the picture's height) of every line of a skeleton, numbered as
    the key points' features.
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


def pack(points: np.ndarray, scores: np.ndarray) -> str:
    """Points (T, 2 x COUNT) in 0..1 and their scores (T, COUNT) -> base64 of uint16, little-endian, (T, COUNT, 2): x
    and y from -1 to 2 of the picture's sides, 65535 for what is not seen.
    """
    points = np.asarray(points, np.float32).reshape(-1, COUNT, 2)
    packed = np.full(points.shape, _ABSENT, "<u2")
    seen = (np.asarray(scores) > VISIBLE) & np.isfinite(points).all(-1)
    packed[seen] = np.round((np.clip(points[seen], -_REACH, 1 + _REACH) + _REACH) * _STEPS)
    return base64.b64encode(packed.tobytes()).decode()


def drawn(features: Features, fps: float, start: float, seconds: float) -> str:
    """The canvas over a film of a stretch of a video; features of key points, `people.keypoint_rows`, of frames at
    `fps`.
    """
    first, last = int(start * fps), int((start + seconds) * fps) + 1
    points = pack(features["points"][first:last], features["scores"][first:last])
    return (
        f'<canvas aria-hidden="true" data-fps="{fps:.6g}" data-start="{start - first / fps:.4f}" '
        f'data-points="{points}"></canvas>'
    )
