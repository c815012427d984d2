"""Gestures for speech alone: strokes of the hands that a seed chooses, paced by the speech.

Not in the paper. For networks that move by poses of the hands and know no body movement map (EchoMimicV2), and those
whose hands are better driven than left to the speech alone (`sampling.gestures`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from cyberhost_model.driving.sequence import HANDS, PoseSequence
from cyberhost_model.driving.template import fit_length, load_template
from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

_SEED = 0x6E57  # gestures draw from a generator of their own
_ARMS = ((5, 6, 7), (2, 3, 4))
"""Shoulder, elbow and wrist of the left and the right arm, among a sequence's points."""
_SLOW = 0.25  # pace of a stroke in a pause; 1 in loud speech
_DEPTH = 25.0  # dB below loud speech from which on nobody speaks
_QUICK, _SETTLE = 0.15, 0.5  # seconds: deviations of the Gaussians that pace and size of strokes are smoothed with
_SIZES = (0.4, 1.0)  # of a stroke
_IDLE = 0.15  # size of the other hand's stroke, where one hand leads
_LEADS = ("both", "left", "right")
_TOUCHING = 0.6  # palms between a hand and what it rests on


def speech_gesture(
    blocks: Iterable[np.ndarray],
    n_frames: int,
    fps: float,
    seed: int,
    movement: float = 1.0,
    free: tuple[bool, bool] = (True, True),
) -> PoseSequence:
    """Make `n_frames` frames of a speaker's hands for mono 16 kHz `blocks`, float (n,) in order.

    The hands rest, sway, and open in strokes (the templates "rest" and "open_palms") of both hands or of one, as
    `seed` says; strokes go on while somebody speaks, the faster the louder, and sink in pauses. movement: factor of
    their pace and, below 1, of their size. free: whether the left and the right hand may move (`free_hands`); the
    other stays. Nothing jumps: all strokes begin and end where the hands rest.
    """
    speaks = speech_activity(blocks, n_frames, fps)
    stroke, rest = load_template("open_palms"), fit_length(load_template("rest"), n_frames, fps)
    pace = _SLOW + (1 - _SLOW) * _smooth(speaks, _QUICK * fps)
    seconds = np.cumsum(pace) * movement / fps
    number = (seconds // stroke.seconds).astype(int)
    sizes = _stroke_sizes(np.random.default_rng([seed, _SEED]), int(number[-1]) + 1)[number]
    sizes = sizes * (_smooth(speaks, _SETTLE * fps) * min(movement, 1.0))[:, None]
    round_trip = stroke.with_points(*(np.concatenate([a, a[:1]]) for a in (stroke.points(), stroke.scores())))
    moved = round_trip.sampled(seconds % stroke.seconds * stroke.fps, fps).points() - stroke.points()[:1]
    points = rest.points()
    for side in (0, 1):
        for place in (list(_ARMS[side]), HANDS[side]):
            if free[side]:
                points[:, place] += sizes[:, side, None, None] * moved[:, place]
            else:
                points[:, place] = points[:1, place]
    return rest.with_points(points, rest.scores())


def free_hands(person: Keypoints, aspect: float, least: float = VISIBLE) -> tuple[bool, bool]:
    """Whether the left and the right hand touch nothing: not the other hand, its arm, or the face.

    aspect: width over height of the picture. least: score from which on a hand is one; others are not free. Hands that
    rest on each other, crossed arms and a chin in a hand would be torn apart by strokes.
    """
    place = person.map(lambda points: points * [aspect, 1])
    left, right = (_is_free(place, side, least) for side in (0, 1))
    return left, right


def _is_free(place: Keypoints, side: int, least: float) -> bool:
    if place.hands_score[side].max() < least:
        return False
    hand, other = place.hands[side], 1 - side
    near = [place.face] if place.face_score.max() > VISIBLE else []
    if place.hands_score[other].max() > VISIBLE:
        near.append(place.hands[other])
    _, elbow, wrist = _ARMS[other]
    if min(place.body_score[[elbow, wrist]]) > VISIBLE:
        along = np.linspace(0, 1, 9)[:, None]
        near.append(place.body[elbow] + along * (place.body[wrist] - place.body[elbow]))
    gap = np.linalg.norm(hand[:, None] - np.concatenate([np.full((1, 2), np.inf), *near]), axis=-1).min()
    return bool(gap > _TOUCHING * np.linalg.norm(hand[9] - hand[0]))


def _stroke_sizes(rng: np.random.Generator, strokes: int) -> np.ndarray:
    """Choose how far the left and the right hand move in each stroke: (strokes, 2)."""
    chosen = []
    for _ in range(strokes):
        size, lead = rng.uniform(*_SIZES), _LEADS[rng.integers(len(_LEADS))]
        chosen.append([size * (_IDLE if lead == other else 1.0) for other in ("right", "left")])
    return np.array(chosen)


def speech_activity(blocks: Iterable[np.ndarray], n_frames: int, fps: float) -> np.ndarray:
    """Measure how loud the speech of each frame is: (n_frames,), 0 silence .. 1 as loud as its loud frames."""
    energy, first = np.zeros(n_frames), 0
    for block in blocks:
        at = ((first + np.arange(len(block))) * (fps / SPEECH_RATE)).astype(int)
        inside = at < n_frames
        energy += np.bincount(at[inside], np.square(block[inside], dtype=np.float64), n_frames)
        first += len(block)
    power = energy * (fps / SPEECH_RATE)
    loud = np.percentile(power, 95)
    if loud < 1e-8:  # -80 dBFS: digital silence
        return np.zeros(n_frames)
    return np.clip(10 * np.log10(np.maximum(power, 1e-12) / loud) / _DEPTH + 1, 0, 1)


def _smooth(values: np.ndarray, deviation: float) -> np.ndarray:
    """Smooth values (n,) by a Gaussian; beyond the ends they stay."""
    reach = max(1, math.ceil(3 * deviation))
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    return np.convolve(np.pad(values, reach, mode="edge"), weights / weights.sum(), mode="valid")
