"""Poses of a puppet: single random ones, and the performance of a speech.

In a performance the mouth follows the speech exactly; head, brows and arms move with it, and wander a little.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cyberhost_model.conditions.blink import blinks
from cyberhost_model.config import FPS
from cyberhost_model.errors import InputError
from cyberhost_model.lab.synthetic.puppet import Pose, Puppet
from cyberhost_model.lab.synthetic.speech_motion import SpeechMotion
from cyberhost_model.reading import Unreadable, one_line, read_arrays


def random_pose(rng: np.random.Generator, puppet: Puppet, calm: float = 1.0) -> Pose:
    """Draw a pose with every part moved at random; `calm` scales the amount, 1 is the widest that looks natural."""
    n = lambda s: float(np.clip(rng.normal(0, s), -2.2 * s, 2.2 * s)) * calm  # noqa: E731
    arm = 0.4 if puppet.clasped else 1.0
    one = lambda: tuple(n(s * arm) for s in _ARM_POSES)  # noqa: E731
    left = one()
    right = left if puppet.clasped else one()
    opening = float(np.clip(rng.beta(0.8, 1.1), 0, 1)) if rng.random() < 0.75 else 0.0
    return Pose(
        opening=opening,
        width=float(np.clip(rng.normal(0, 0.5), -1, 1)),
        blink=float(rng.random() < 0.45) * rng.random() ** 0.5,
        brow=n(0.5),
        yaw=n(0.12),
        pitch=n(0.1),
        roll=n(0.05),
        shift=(n(0.04), n(0.04)),
        sway=(n(0.05), n(0.025)),
        arms=(left, right),  # type: ignore[arg-type]
        closure=float(opening == 0 and rng.random() < 0.6),
    )


# Body points of a gesture file (OpenPose): shoulder, elbow, wrist of the left and the right arm.
_CHAINS = ((5, 6, 7), (2, 3, 4))
# Radians at shoulder, elbow and wrist: deviation of random poses; how far an arm goes up with the loudest syllable, and
# outward with the widest vowel.
_ARM_POSES, _BEAT, _OUTWARD = (0.08, 0.22, 0.15), (-0.16, -0.85, -0.3), (0.16, 0.65, 0.2)
_CLASPED = (0.0, -0.3, 0.0)  # share of it for hands that rest on each other: elbows turn the other way to lift them
_RIGHT = 0.8  # of the left arm's beats: two arms that do the same look drilled
_REACH = (0.15, 0.45)  # radians: recorded turns of upper arm and forearm saturate here, where the puppet's cuts show
# Of hands that reach out: how far, in face heights; seconds of a move, and of a rest after it.
_FARTHEST, _MOVE, _REST = 2.2, (0.25, 0.7), (0.0, 0.5)
_RESTING = 0.2  # share of arms that do not


def wander(rng: np.random.Generator, times: np.ndarray, slow: float = 6.0, quick: float = 1.1) -> np.ndarray:
    """Draw smooth noise of unit deviation at `times` (seconds).

    Eight waves with periods from `slow` to `quick` seconds, slower ones larger.
    """
    periods = np.exp(rng.uniform(np.log(quick), np.log(slow), 8))
    weights = periods**0.7
    waves = np.sin(2 * np.pi * times[:, None] / periods + rng.uniform(0, 2 * np.pi, 8)) * weights
    return (waves.sum(1) / np.sqrt((weights**2).sum() / 2)).astype(np.float32)


def _smooth(x: np.ndarray, frames: int) -> np.ndarray:
    kernel = np.hanning(frames + 2)[1:-1]
    return np.convolve(np.pad(x, frames // 2, mode="edge"), kernel / kernel.sum(), "valid")[: len(x)].astype(np.float32)


def load_gestures(folder: str | Path) -> list[np.ndarray]:
    """Load the arm motion of recorded gestures.

    For each `.npz` (body (T, 18, 2) at 24-25 fps) an array (T, 2, 2): how upper arm and forearm of the left and the
    right arm turn against their own mean, in radians, mirrored so that both arms turn outward alike. Raises InputError
    where there are none.
    """
    out = []
    files = sorted(Path(folder).glob("*.npz"))
    if not files:
        raise InputError(f"{folder}: holds no recorded gestures (.npz)")
    for path in files:
        body = _read_body(path)
        turns = np.zeros((len(body), 2, 2), np.float32)
        for side, (s, e, w) in enumerate(_CHAINS):
            sign = 1.0 if side == 0 else -1.0
            angles = [np.unwrap(np.arctan2(*(body[:, b] - body[:, a]).T[::-1])) for a, b in ((s, e), (e, w))]
            upper, fore = angles[0] - np.median(angles[0]), angles[1] - np.median(angles[1])
            turns[:, side] = np.stack([upper, fore - upper], 1) * sign
        out.append(np.stack([_smooth(t, 5) for t in turns.reshape(len(body), 4).T], 1).reshape(-1, 2, 2))
    return out


def _read_body(path: Path) -> np.ndarray:
    """Read the body of a recorded gesture, float32 (T, 18, 2). Raises InputError."""
    try:
        body = read_arrays(path).get("body")
    except (OSError, Unreadable) as error:
        raise InputError(f"{path}: no recorded gesture ({one_line(error)}); leave the file out") from None
    if body is None or body.ndim != 3 or body.shape[1:] != (18, 2) or not len(body) or body.dtype.kind not in "iuf":
        raise InputError(f"{path}: holds no body of (frames, 18, 2); leave the file out")
    body = body.astype(np.float32)
    if not np.isfinite(body).all():
        raise InputError(f"{path}: body has points that are no numbers; leave the file out")
    return body


def perform(
    motion: SpeechMotion,
    rng: np.random.Generator,
    clasped: bool,
    gestures: list[np.ndarray] | None = None,
    fps: float = FPS,
) -> list[Pose]:
    """Make a pose for each frame of `motion`.

    clasped: hands move together and little. gestures: real arm motion, see `load_gestures`.
    """
    n = len(motion.opening)
    times = np.arange(n, dtype=np.float32) / fps
    w = lambda amount, **k: amount * wander(rng, times, **k)  # noqa: E731
    lively = float(np.exp(rng.normal(0, 0.3)))
    # What the body does with the speech follows from a few tenths of a second of it, which the network hears too: the
    # loudness (stress), and whether the vowels are wide or round (a side to turn to). The rest wanders.
    stress, side = _smooth(motion.energy, 7), _smooth(motion.width, 9)
    pitch = w(0.015 * lively) + 0.16 * stress
    yaw, roll = w(0.02 * lively) + 0.3 * side, w(0.01 * lively) + 0.1 * side
    shift = np.stack([w(0.006 * lively) + 0.1 * side, w(0.005 * lively) + 0.06 * stress], 1)
    sway = np.stack(
        [
            w(0.01 * lively, quick=2.0) + 0.05 * side,
            w(0.005 * lively, quick=2.0) + 0.006 * np.sin(2 * np.pi * times / rng.uniform(3, 5)),
        ],
        1,
    )
    brow = np.clip(w(0.2) + 0.8 * (stress - 0.4), -1, 1)
    arms = np.zeros((n, 2, 3), np.float32)
    for arm, (beat, out) in enumerate(((1.0, 1.0), (_RIGHT, -_RIGHT))):
        turn = stress[:, None] * beat * np.array(_BEAT) + side[:, None] * out * np.array(_OUTWARD)
        arms[:, arm] = turn * rng.uniform(0.9, 1.1) + np.stack([w(0.01), w(0.03), w(0.03)], 1)
    if gestures and rng.random() < 0.3:
        clip = gestures[int(rng.integers(len(gestures)))]
        reach = min(len(clip), n)
        start = int(rng.integers(len(clip) - reach + 1))
        turns = np.resize(clip[start : start + reach], (n, 2, 2))
        if rng.random() < 0.5:
            turns = turns[:, ::-1]
        limit = np.array(_REACH, np.float32)
        arms[:, :, :2] = 0.5 * arms[:, :, :2] + limit * np.tanh(turns * 0.6 / limit) * rng.uniform(0.4, 1)
    if clasped:
        arms = arms[:, :1].repeat(2, 1) * np.array(_CLASPED, np.float32)
    often = 3.0 if rng.random() < 0.5 else 1.0  # lids that move teach more
    shut = list(blinks(rng, times.tolist(), often))
    return [
        Pose(
            float(motion.opening[i]),
            float(motion.width[i]),
            float(shut[i]),
            float(brow[i]),
            float(yaw[i]),
            float(pitch[i]),
            float(roll[i]),
            (float(shift[i, 0]), float(shift[i, 1])),
            (float(sway[i, 0]), float(sway[i, 1])),
            (tuple(map(float, arms[i, 0])), tuple(map(float, arms[i, 1]))),  # type: ignore[arg-type]
            float(motion.closure[i]),
        )
        for i in range(n)
    ]


def reach_out(poses: list[Pose], rng: np.random.Generator, puppet: Puppet, fps: float = FPS) -> list[Pose]:
    """Let the hands of a performance go to places between chin and hips, as those of people who sign.

    Key points of filmed people ask for hands a face or two from where the picture has them; arms that swing do not go
    there.
    """
    paths = [_reaching_path(len(poses), rng, puppet, side, fps) for side in (0, 1)]
    if puppet.clasped:
        paths[1] = paths[0]
    both = zip(poses, *(path.tolist() for path in paths), strict=True)
    return [replace(pose, reach=(tuple(left), tuple(right))) for pose, left, right in both]


def _reaching_path(n: int, rng: np.random.Generator, puppet: Puppet, side: int, fps: float) -> np.ndarray:
    """Draw how far a hand reaches in each of n frames, (n, 2) face heights: from place to place, with rests."""
    if side not in puppet.bones or rng.random() < _RESTING:
        return np.zeros((n, 2))
    shoulder, _, wrist = (bone.start for bone in puppet.bones[side])
    outward, chin = np.sign(shoulder[0] - puppet.neck[0]), puppet.points.face[8]
    times, places = [0.0], [np.zeros(2)]  # the picture's own place first
    while times[-1] < n / fps:
        across = puppet.neck[0] + outward * puppet.span * rng.uniform(-0.3, 0.9)
        down = chin[1] + rng.uniform(-0.2 * puppet.face.height, 2.2 * puppet.span)
        step = (np.array([across, down]) - wrist) / puppet.face.height
        place = step * min(1.0, _FARTHEST / max(float(np.linalg.norm(step)), 1e-6)) * rng.uniform(0.3, 1.0)
        for seconds in (rng.uniform(*_MOVE), rng.uniform(*_REST)):
            times.append(times[-1] + seconds)
            places.append(place)
    path = [np.interp(np.arange(n) / fps, times, along) for along in np.array(places).T]
    return np.stack([_smooth(along, 5) for along in path], 1)
