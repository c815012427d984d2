"""The pose of a drawn person in one picture: face, head, arms and hands, and the position of the camera."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

UPPER, FORE = 1.22, 1.08  # arm lengths in head heights


@dataclass
class Face:
    """The expression and turn of a head.

    open: lip gap in head heights (0..0.1); smile -0.3..1; lids 0 (shut)..1; gaze, brow -1..1; angles in radians.
    """

    open: float = 0.0
    smile: float = 0.0
    pucker: float = 0.0
    lids: float = 1.0
    gaze: tuple[float, float] = (0.0, 0.0)
    brow: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0


@dataclass
class Arm:
    """One arm with its hand.

    elbow, wrist: (3,) in head heights about the neck point (x right, y down, z to the viewer). fingers, palm: unit
    directions in the same axes. curl: (5,), 0 straight .. 1 fist. spread: 0..1.
    """

    elbow: np.ndarray
    wrist: np.ndarray
    fingers: np.ndarray
    palm: np.ndarray
    curl: np.ndarray
    spread: float
    kind: str


@dataclass
class Pose:
    """The pose of a person and the framing of the picture.

    arms: the person's right (image left) first. scale: head height as a share of the picture's height. centre: the neck
    point in 0..1 of the picture.
    """

    face: Face
    arms: list[Arm]
    scale: float
    centre: tuple[float, float]
    lean: float = 0.0
    head_shift: tuple[float, float] = (0.0, 0.0)
    shoulder_drop: tuple[float, float] = field(default=(0.0, 0.0))


def _unit(v) -> np.ndarray:
    v = np.asarray(v, np.float32)
    return v / max(float(np.linalg.norm(v)), 1e-6)


def reach(
    shoulder: np.ndarray, target: np.ndarray, pole: np.ndarray, upper: float = UPPER, fore: float = FORE
) -> tuple[np.ndarray, np.ndarray]:
    """Solve two-bone inverse kinematics: (elbow, wrist), the elbow towards `pole`; far targets are brought nearer."""
    d = target - shoulder
    length = float(np.clip(np.linalg.norm(d), 0.35, (upper + fore) * 0.995))
    axis = _unit(d)
    along = (upper**2 - fore**2 + length**2) / (2 * length)
    out = _unit(pole - axis * float(pole @ axis))
    elbow = shoulder + axis * along + out * np.sqrt(max(upper**2 - along**2, 0.0))
    return elbow.astype(np.float32), (shoulder + axis * length).astype(np.float32)


# kind: weight, wrist (x outwards, y down, z), fingers, palm (x outwards), curl, spread
_KINDS: dict[str, tuple] = {
    "hang": (1.2, (0.98, 2.12, 0.1), (0.05, 1, 0.15), (-0.9, 0, -0.3), 0.3, 0.2),
    "bent": (2.2, (0.45, 1.45, 0.75), (-0.75, -0.05, 0.4), (-0.2, 0.5, -0.75), 0.3, 0.3),
    "offer": (2.2, (0.85, 1.3, 0.8), (0.55, -0.25, 0.5), (-0.3, -0.75, 0.5), 0.15, 0.7),
    "front": (2.2, (0.72, 1.22, 0.8), (-0.2, -0.65, 0.45), (-0.75, -0.1, 0.55), 0.2, 0.6),
    "open": (1.5, (0.9, 0.95, 0.7), (0.3, -0.9, 0.2), (-0.1, -0.1, 1.0), 0.1, 0.8),
    "raised": (1.1, (1.02, 0.42, 0.55), (0.1, -1, 0.1), (0.1, 0.0, 1.0), 0.08, 0.8),
    "point": (0.5, (0.85, 0.8, 0.7), (-0.1, -0.95, 0.2), (-0.5, 0, 0.8), 0.9, 0.2),
    "chest": (0.7, (0.2, 0.72, 0.55), (-0.85, -0.3, 0.05), (-0.1, 0.1, -1.0), 0.12, 0.35),
    "back": (0.8, (0.7, 1.35, 0.75), (-0.35, -0.7, 0.3), (0.1, 0.2, -1.0), 0.25, 0.5),
    "clasp": (0.0, (0.26, 1.5, 0.7), (-0.9, 0.12, 0.2), (-0.1, 0.05, -1.0), 0.3, 0.12),
    "steeple": (0.0, (0.27, 1.2, 0.8), (-0.45, -0.85, 0.2), (-0.75, 0.3, -0.5), 0.12, 0.6),
}
# Kinds of people who sign or gesture widely: hands before chin and chest, at the head, the shoulder and the hips.
_WIDE: dict[str, tuple] = {
    "pray": (0.0, (0.14, 0.45, 0.8), (-0.15, -1, 0.1), (-1, 0, -0.1), 0.1, 0.1),
    "cross": (0.0, (-0.35, 0.85, 0.65), (-0.9, -0.3, 0.1), (0, 0.1, -1.0), 0.3, 0.2),
    "stack": (0.0, (0.12, 1.05, 0.75), (-0.95, 0, 0.2), (0.0, 0.8, -0.5), 0.15, 0.2),
    "fist": (1.2, (0.95, 0.25, 0.65), (0.05, -1, 0.1), (-0.2, 0.0, 1.0), 0.85, 0.1),
    "chin": (0.9, (0.2, 0.12, 0.75), (-0.55, -0.75, 0.1), (-0.1, 0.1, -1.0), 0.35, 0.2),
    "temple": (0.7, (0.62, -0.6, 0.5), (-0.6, -0.7, 0.0), (-0.2, 0.5, -0.8), 0.3, 0.3),
    "heart": (1.0, (-0.02, 0.65, 0.6), (-0.95, -0.2, 0.05), (0, 0.1, -1.0), 0.12, 0.2),
    "middle": (1.2, (0.4, 0.85, 0.75), (-0.5, -0.6, 0.4), (-0.3, 0.0, 0.9), 0.4, 0.4),
    "hips": (0.7, (0.92, 1.75, 0.1), (-0.6, 0.7, 0.1), (-0.9, 0, -0.3), 0.3, 0.2),
}
_TOGETHER = ("pray", "cross", "stack")
_EVERY = _KINDS | _WIDE


def _arm(
    rng: np.random.Generator, kind: str, side: int, shoulder: np.ndarray, jitter: float = 1.0, floor: float = 9.0
) -> Arm:
    """Draw a random arm of one kind; the wrist stays above `floor`, which keeps the hand in the picture."""
    _, wrist, fingers, palm, curl, spread = _EVERY[kind]
    mirror = np.array([side, 1, 1], np.float32)
    target = np.array(wrist) + rng.normal(0, 1, 3) * np.array([0.09, 0.12, 0.08]) * jitter
    if kind != "hang":
        target[1] = min(target[1], floor + 0.1 * target[1])
    target[2] *= 0.72
    inward = wrist[0] < 0.5  # elbows stand out when the hands meet in front
    pole = np.array([rng.uniform(0.2, 0.6) + 0.25 * inward, 0.7, -0.45])
    elbow, hand = reach(shoulder, target * mirror, pole * mirror)
    f = _unit(_unit(np.array(fingers) + rng.normal(0, 0.16, 3) * jitter) * mirror + 0.12 * _unit(hand - elbow))
    p = (np.array(palm) + rng.normal(0, 0.2, 3) * jitter) * mirror
    p = _unit(p - f * float(p @ f))
    curls = np.clip(
        curl + rng.normal(0, 0.06) + rng.normal(0, 0.05, 5) + np.array([0, -0.03, 0, 0.05, 0.08]) * rng.uniform(0, 2),
        0,
        1,
    )
    if kind == "point":
        curls = np.array([0.5, 0.03, 0.9, 0.92, 0.93]) + rng.normal(0, 0.03, 5)
    return Arm(
        elbow,
        hand,
        f,
        p,
        np.clip(curls, 0, 1).astype(np.float32),
        float(np.clip(spread + rng.normal(0, 0.15), 0, 1)),
        kind,
    )


def shoulders(width: float, lean: float, drop: tuple[float, float]) -> np.ndarray:
    """Place both shoulder joints (2, 3) about the neck point, right (image left) first."""
    c, s = np.cos(lean), np.sin(lean)
    return np.array([[-width * c, -width * s + drop[0], 0], [width * c, width * s + drop[1], 0]], np.float32)


def _wide_kinds(rng: np.random.Generator) -> list[str]:
    """Choose kinds of both arms of somebody who gestures widely."""
    if rng.random() < 0.3:
        together = str(rng.choice(_TOGETHER))
        return [together, together]
    weights = {"hang": 1.6} | {kind: values[0] for kind, values in _WIDE.items()}
    p = np.array(list(weights.values()))
    return [str(kind) for kind in rng.choice(list(weights), 2, p=p / p.sum())]


def sample_pose(rng: np.random.Generator, shoulder_width: float, size: tuple[int, int], wide: bool = False) -> Pose:
    """Draw a speaker's pose and framing: mostly half-body with hands, sometimes closer, sometimes a portrait.

    wide: arms of somebody who signs or gestures widely, half-body.
    """
    n, u = rng.normal, rng.uniform
    width, height = size
    frame = rng.choice(3, p=[0.66, 0.16, 0.18])  # half-body, closer, portrait
    if wide:
        frame = 0
    scale = (u(0.17 if wide else 0.24, 0.34), u(0.33, 0.43), u(0.43, 0.6))[frame]
    scale = min(scale, (0.31, 0.42, 0.62)[frame] * width / height * (1.0 if width < height else 1.15))
    top = u(0.05, 0.16) + 0.12 * scale  # above the crown; hair needs room
    cx = 0.5 + float(np.clip(n(0, 0.05), -0.12, 0.12))
    centre = (cx, min(top, 0.3) + scale * 1.42)
    yaw = float(np.clip(n(0, 0.13), -0.34, 0.34))
    mouth = rng.random()
    face = Face(
        open=0.0 if mouth < 0.5 else u(0.008, 0.03) if mouth < 0.75 else u(0.02, 0.05),
        smile=float(np.clip(n(0.15, 0.25), -0.25, 0.8)),
        lids=float(np.clip(n(0.95, 0.1), 0.55, 1.15)),
        gaze=(float(np.clip(n(0, 0.15) - yaw * 0.8, -0.6, 0.6)), float(n(0, 0.08))),
        brow=n(0, 0.3),
        yaw=yaw,
        pitch=float(np.clip(n(0, 0.07), -0.18, 0.18)),
        roll=float(n(0, 0.05)),
    )
    if mouth > 0.85:
        face.smile, face.open = u(0.5, 1.0), u(0.015, 0.04)
    lean, drop = float(n(0, 0.025)), (float(n(0, 0.02)), float(n(0, 0.02)))
    joints = shoulders(shoulder_width, lean, drop)
    r = rng.random()
    if frame == 2 and r < 0.7:
        kinds = ["hang", "hang"]
    elif r < 0.14:
        kinds = ["clasp", "clasp"]
    elif r < 0.22:
        kinds = ["steeple", "steeple"]
    else:
        names = list(_KINDS)
        p = np.array([_KINDS[k][0] for k in names])
        first = str(rng.choice(names, p=p / p.sum()))
        kinds = [
            first,
            first if rng.random() < 0.45 and first not in ("chest", "point") else str(rng.choice(names, p=p / p.sum())),
        ]
        rng.shuffle(kinds)
    if wide:
        kinds = _wide_kinds(rng)
    floor = max((1 - centre[1]) / scale - 0.32, 0.35) if rng.random() < 0.9 else 9.0
    arms = [
        _arm(rng, k, s, joints[i], 0.5 if k in ("clasp", "steeple", "pray") else 1.0 + 0.4 * wide, floor)
        for i, (k, s) in enumerate(zip(kinds, (-1, 1), strict=True))
    ]
    return Pose(face, arms, scale, centre, lean, (float(n(0, 0.03)), float(n(0, 0.015))), drop)
