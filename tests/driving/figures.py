"""People of known proportions who move in a known way: sequences for the tests of retargeting and templates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cyberhost_model.driving.sequence import PoseSequence
from cyberhost_model.lab.synthetic.drawn_appearance import sample_appearance
from cyberhost_model.lab.synthetic.drawn_face_shape import HeadView, landmarks
from cyberhost_model.lab.synthetic.drawn_pose import Face
from cyberhost_model.perception.keypoints import NECK, Keypoints

FPS = 25.0


@dataclass
class Person:
    """Lengths in picture heights; the face is that of the drawn person number `look`."""

    head: float = 0.22
    shoulders: float = 0.3
    upper: float = 0.22
    fore: float = 0.2
    hand: float = 0.1
    look: int = 0
    neck: tuple[float, float] = (0.4, 0.4)  # in picture heights
    size: tuple[int, int] = (480, 640)


def perform(
    person: Person, frames: int = 40, angle: float = 0.0, mouth: float = 0.04, roll: float = 0.15
) -> PoseSequence:
    """Both arms swing, the torso sways, the head rolls and the mouth (in head heights) opens and shuts; bones keep
    their lengths.

    `angle`: how far the arms are turned outwards from where they usually are, radians.
    """
    look = sample_appearance(np.random.default_rng(person.look))
    aspect = person.size[0] / person.size[1]
    out = []
    for i in range(frames):
        t = 2 * np.pi * i / 25
        k = Keypoints.empty()
        neck = np.array(person.neck) + [0.02 * np.sin(0.5 * t), 0.005 * np.sin(t)]
        k.body[NECK] = neck
        for side, (shoulder, elbow, wrist), hip in ((-1, (2, 3, 4), 8), (1, (5, 6, 7), 11)):
            a = 1.2 - angle + 0.35 * np.sin(t + side)
            b = a - 1.3 + 0.5 * np.sin(1.3 * t)
            k.body[shoulder] = neck + [side * person.shoulders / 2, 0]
            k.body[elbow] = k.body[shoulder] + person.upper * np.array([side * np.cos(a), np.sin(a)])
            k.body[wrist] = k.body[elbow] + person.fore * np.array([side * np.cos(b), np.sin(b)])
            k.body[hip] = neck + [side * person.shoulders / 3, 2.2 * person.shoulders]
            fan = np.linspace(-0.5, 0.5, 5) + b + 0.2 * np.sin(2 * t)
            hand = k.hands[(1 - side) // 2]
            hand[0] = k.body[wrist]
            for f in range(5):
                for j in range(4):
                    hand[1 + 4 * f + j] = k.body[wrist] + person.hand * (0.4 + 0.2 * j) * np.array(
                        [side * np.cos(fan[f]), np.sin(fan[f])]
                    )
        face = Face(open=mouth * (1 - np.cos(t)) / 2, lids=0.6 + 0.4 * np.cos(0.7 * t), roll=roll * np.sin(0.8 * t))
        view = HeadView(look, face, person.head, float(neck[0]), float(neck[1] - 0.94 * person.head))
        k.face = view.forward(landmarks(look, face)).astype(np.float32)
        k.body[0], k.body[14], k.body[15] = k.face[30], k.face[36:42].mean(0), k.face[42:48].mean(0)
        k.body[16], k.body[17] = k.face[0], k.face[16]
        k.body_score[:], k.hands_score[:], k.face_score[:] = 1, 1, 1
        k.body_score[[9, 10, 12, 13]] = 0
        out.append(k.map(lambda p: (p / [aspect, 1]).astype(np.float32)))
    return PoseSequence.of(out, FPS, person.size)


def upright(sequence: PoseSequence) -> np.ndarray:
    """All points (T, 128, 2) in picture heights."""
    return sequence.points() * [sequence.aspect, 1]


def mirrored(sequence: PoseSequence) -> PoseSequence:
    """The sequence in a mirror: as a detector would see it, left and right changed."""
    body = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16]
    face = [
        *range(16, -1, -1),
        *range(26, 16, -1),
        27,
        28,
        29,
        30,
        *range(35, 30, -1),
        45,
        44,
        43,
        42,
        47,
        46,
        39,
        38,
        37,
        36,
        41,
        40,
        *range(54, 47, -1),
        *range(59, 54, -1),
        *range(64, 59, -1),
        *range(67, 64, -1),
    ]
    order = np.array([*body, *range(39, 60), *range(18, 39), *(60 + f for f in face)])
    points = sequence.points()[:, order]
    points[..., 0] = 1 - points[..., 0]
    return sequence.with_points(points, sequence.scores()[:, order])
