"""Make the gesture templates of the package: `python scripts/make_templates.py` (`--check` only compares).

Each gesture is a round of key poses of two jointed arms and hands (`data.drawn_pose`, `data.drawn_hands`), joined by
movements of minimum jerk (Flash and Hogan 1985) in which the fingers follow the wrist a little later. The last key is
the first, so that every template goes round.
"""

from __future__ import annotations

import sys
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np

from cyberhost_model.driving.sequence import PoseSequence
from cyberhost_model.driving.template import FOLDER
from cyberhost_model.lab.synthetic.drawn_hands import hand_points
from cyberhost_model.lab.synthetic.drawn_pose import Arm, reach
from cyberhost_model.perception.keypoints import NECK, Keypoints

FPS, SIZE = 25, (512, 512)
SCALE, MIDDLE = 0.25, (0.5, 0.37)  # a head's height in picture heights, and where the neck is
SHOULDER, POLE = 0.7, (0.15, 0.75, -0.5)  # half the shoulders' width in head heights, and where the elbow points
# Nose, eyes, ears and hips in head heights about the neck (x to the picture's right, y down).
TRUNK = {
    0: (0, -0.77),
    14: (-0.145, -0.944),
    15: (0.145, -0.944),
    16: (-0.315, -0.885),
    17: (0.315, -0.885),
    8: (-0.4, 2.15),
    11: (0.4, 2.15),
}
LATER = {"wrist": 0.0, "fingers": 0.05, "palm": 0.03, "curl": 0.09, "spread": 0.09}  # seconds


@dataclass(frozen=True)
class Hand:
    """wrist (outwards, down, to the viewer) in head heights about the neck; fingers, palm: directions in the same
    axes; curl of thumb .. little finger, 0 straight .. 1 fist; spread 0..1.
    """

    wrist: tuple[float, float, float]
    fingers: tuple[float, float, float]
    palm: tuple[float, float, float]
    curl: tuple[float, float, float, float, float]
    spread: float


REST = Hand((0.56, 1.5, 0.55), (-0.55, 0.5, 0.5), (-0.6, 0.05, -0.8), (0.3, 0.3, 0.36, 0.42, 0.46), 0.25)
EASED = replace(REST, wrist=(0.6, 1.47, 0.57), curl=(0.25, 0.22, 0.28, 0.34, 0.4), spread=0.32)
OPEN = Hand((1.12, 1.2, 0.6), (0.62, -0.3, 0.55), (-0.15, -0.7, 0.65), (0.12, 0.08, 0.1, 0.12, 0.16), 0.75)
WIDE = replace(OPEN, wrist=(1.24, 1.1, 0.58), fingers=(0.74, -0.4, 0.45), spread=0.95)
FIST = Hand((1.0, 0.84, 0.6), (0.04, -1.0, 0.12), (-0.1, 0.05, 1.0), (0.85, 0.95, 0.96, 0.97, 0.97), 0.3)
POINT = Hand((0.92, 1.0, 0.66), (0.12, -0.9, 0.38), (-0.75, -0.1, 0.6), (0.55, 0.02, 0.9, 0.93, 0.95), 0.2)
ASIDE = replace(POINT, wrist=(1.15, 1.02, 0.58), fingers=(0.95, -0.35, 0.2), palm=(-0.15, 0.25, 0.95))
RAISED = Hand((1.12, 0.36, 0.45), (0.1, -1.0, 0.08), (-0.05, 0.05, 1.0), (0.1, 0.05, 0.06, 0.08, 0.12), 0.7)


def counted(n: int) -> Hand:
    """The first `n` of index, middle, ring, little finger and thumb stretched."""
    curl = [0.85, 0.95, 0.96, 0.97, 0.97]
    for finger in (1, 2, 3, 4, 0)[:n]:
        curl[finger] = 0.04
    return replace(FIST, curl=tuple(curl), spread=0.3 + 0.1 * n, wrist=(1.0, 0.84 - 0.02 * (n % 2), 0.6))


def waved(side: float) -> Hand:
    """A raised hand leaning out (1) or in (-1); the wrist follows the forearm."""
    return replace(
        RAISED, wrist=(1.12 + 0.1 * side, 0.36 + 0.02 * abs(side), 0.45), fingers=(0.1 + 0.42 * side, -0.9, 0.08)
    )


Round = list[tuple[float, Hand]]  # seconds, pose
# name: seconds, keys of the right hand, keys of the left hand.
GESTURES: dict[str, tuple[float, Round, Round]] = {
    "rest": (4.0, [(0, REST), (1.9, EASED)], [(0.3, REST), (2.3, EASED)]),
    "open_palms": (
        4.4,
        [(0, REST), (0.2, REST), (1.2, OPEN), (1.75, WIDE), (2.15, OPEN), (2.65, WIDE), (3.0, OPEN), (4.1, REST)],
        [(0, REST), (0.25, REST), (1.25, OPEN), (1.8, WIDE), (2.2, OPEN), (2.7, WIDE), (3.05, OPEN), (4.15, REST)],
    ),
    "counting": (
        6.0,
        [
            (0, REST),
            (0.1, REST),
            (1.1, counted(1)),
            (1.35, counted(1)),
            (1.75, counted(2)),
            (2.05, counted(2)),
            (2.45, counted(3)),
            (2.75, counted(3)),
            (3.15, counted(4)),
            (3.45, counted(4)),
            (3.85, counted(5)),
            (4.6, counted(5)),
            (5.8, REST),
        ],
        [(0, REST), (3.0, EASED)],
    ),
    "pointing": (
        4.4,
        [
            (0, REST),
            (0.1, REST),
            (1.1, POINT),
            (1.4, replace(POINT, wrist=(0.92, 1.08, 0.68))),
            (1.7, POINT),
            (2.4, ASIDE),
            (3.0, ASIDE),
            (4.2, REST),
        ],
        [(0, REST), (2.0, EASED)],
    ),
    "wave": (
        4.8,
        [
            (0, REST),
            (0.1, REST),
            (1.2, waved(0)),
            (1.45, waved(1)),
            (1.8, waved(-1)),
            (2.15, waved(1)),
            (2.5, waved(-1)),
            (2.85, waved(1)),
            (3.15, waved(0)),
            (4.5, REST),
        ],
        [(0, REST), (2.4, EASED)],
    ),
}


def between(keys: Round, seconds: float, times: np.ndarray, field: int) -> np.ndarray:
    """Field number `field` of the hands at `times`, going round: float64 (T, width)."""
    at = np.array([t for t, _ in keys])
    values = np.array([np.atleast_1d(astuple(hand)[field]) for _, hand in keys], float)
    at, values = np.append(at, at[0] + seconds), np.concatenate([values, values[:1]])
    t = (times - at[0]) % seconds + at[0]
    i = np.clip(np.searchsorted(at, t, side="right") - 1, 0, len(keys) - 1)
    u = (t - at[i]) / (at[i + 1] - at[i])
    eased = (u * u * u * (10 + u * (6 * u - 15)))[:, None]
    return values[i] * (1 - eased) + values[i + 1] * eased


def arms(keys: Round, seconds: float, side: int) -> list[tuple[np.ndarray, Arm]]:
    """(shoulder, arm) of every frame; side -1 for the person's right arm."""
    times = np.arange(round(seconds * FPS)) / FPS
    wrist, fingers, palm, curl, spread = (
        between(keys, seconds, times - late, i) for i, late in enumerate(LATER.values())
    )
    phase = 2 * np.pi * times[:, None] / seconds
    wrist = wrist + 0.012 * np.sin(phase * [2, 1, 1] + [0.4 + side, 1.0, 2.0])  # nobody holds quite still
    curl = np.clip(curl + 0.015 * np.sin(phase * [1, 2, 1, 2, 1] + [0, 1, 2, 3, 4] + side), 0, 1)
    mirror = np.array([side, 1.0, 1.0])
    out = []
    for t in range(len(times)):
        breath = 0.008 * np.sin(phase[t, 0] * round(seconds / 4 + 0.5))
        shoulder = np.array([side * SHOULDER, breath, 0.0])
        elbow, hand = reach(shoulder, wrist[t] * mirror, np.array(POLE) * mirror)
        f = fingers[t] * mirror / np.linalg.norm(fingers[t])
        p = palm[t] * mirror
        p = p - f * float(p @ f)
        out.append((shoulder, Arm(elbow, hand, f, p / np.linalg.norm(p), curl[t], float(spread[t, 0]), "")))
    return out


def gesture(name: str) -> PoseSequence:
    """The template of that name: body and hands, no face."""
    seconds, right, left = GESTURES[name]
    frames = []
    place = lambda p: np.asarray(p, float)[..., :2] * SCALE + MIDDLE  # noqa: E731
    for (r_shoulder, right_arm), (l_shoulder, left_arm) in zip(
        arms(right, seconds, -1), arms(left, seconds, 1), strict=True
    ):
        k = Keypoints.empty()
        for joint, point in TRUNK.items():
            k.body[joint] = place(point)
        k.body[2:5], k.body[5:8] = (
            place([r_shoulder, right_arm.elbow, right_arm.wrist]),
            place([l_shoulder, left_arm.elbow, left_arm.wrist]),
        )
        k.body[NECK] = (k.body[2] + k.body[5]) / 2
        k.body_score[[NECK, *range(2, 8), *TRUNK]] = 1
        k.hands[:] = place([hand_points(left_arm, 1, 0.5), hand_points(right_arm, -1, 0.5)])
        k.hands_score[:] = 1
        frames.append(k)
    return PoseSequence.of(frames, FPS, SIZE).map(lambda p: np.round(p, 4))  # a twentieth of a pixel, and half the file


def main() -> None:
    for name in GESTURES:
        made = gesture(name)
        path = FOLDER / f"{name}.npz"
        if "--check" in sys.argv:
            kept = PoseSequence.load(path)
            if len(kept) != len(made) or np.abs(kept.points() - made.points()).max() > 2e-4:
                sys.exit(f"{path} is out of date: run scripts/make_templates.py")
        else:
            FOLDER.mkdir(exist_ok=True)
            made.save(path, overwrite=True)
            print(f"{Path(path).name}: {len(made)} frames, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
