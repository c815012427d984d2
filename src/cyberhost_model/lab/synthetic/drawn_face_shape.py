"""The drawn face as geometry: outline, the 68 points, and the mapping from the face's own plane to the picture.

The face's plane is (u, v) in head heights: origin between the eyes, u to the image's right, v down;
the crown is at -0.5, the chin at 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cyberhost_model.lab.synthetic.drawn_appearance import Appearance
from cyberhost_model.lab.synthetic.drawn_paint import spline
from cyberhost_model.lab.synthetic.drawn_pose import Face

FACE = (-0.42, -0.54, 0.42, 0.6)  # the part of the plane the head without hair is drawn in


def outline(person: Appearance, face: Face) -> np.ndarray:
    """Outline skull and jaw, (N, 2), closed.

    It starts at the crown and goes down the image-right side first.
    """
    w, j, drop = person.face_width, person.jaw, face.open * 0.55
    right = np.array(
        [
            (0.0, -0.5),
            (0.1, -0.482),
            (0.19, -0.43),
            (0.262, -0.335),
            (w + 0.02, -0.22),
            (w + 0.024, -0.1),
            (w + 0.006, 0.03),
            (w * 0.975, 0.15),
            (w * (0.87 + 0.06 * j) + 0.008 * person.build, 0.27),
            (w * (0.64 + 0.13 * j) + 0.012 * person.build, 0.375 + drop * 0.6),
            (person.chin + 0.05, 0.452 + drop),
            (person.chin * 0.6, 0.493 + drop),
        ]
    )
    bottom = np.array([(0.0, 0.5 + drop)])
    left = right[:0:-1] * np.array([-1, 1])
    return spline(np.concatenate([right, bottom, left]), 6, closed=True)


def _jaw(person: Appearance, face: Face) -> np.ndarray:
    """Place the jaw points 0-16 in equal steps along the outline from ear height, image left first."""
    o = outline(person, face)
    half = o[: len(o) // 2 + 1]
    half = half[half[:, 1] > -0.03]
    s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(half, axis=0), axis=1))])
    at = np.linspace(0, s[-1], 9)
    right = np.stack([np.interp(at, s, half[:, 0]), np.interp(at, s, half[:, 1])], 1)
    return np.concatenate([right * np.array([-1, 1]), right[-2::-1]])


def _mouth(person: Appearance, face: Face) -> np.ndarray:
    """Place points 48-67. Closed lips share one line: the upper and lower inner points are then the same."""
    m = person.mouth_width * (1 + 0.17 * face.smile - 0.3 * face.pucker - 1.2 * face.open)
    rise, drop = 0.2 * face.open, 0.8 * face.open
    up, lo = person.lip_upper * (1 - 0.2 * max(face.smile, 0)), person.lip_lower * (1 - 0.12 * max(face.smile, 0))
    outer_x = np.array([-1, -0.58, -0.2, 0, 0.2, 0.58, 1, 0.6, 0.27, 0, -0.27, -0.6])
    outer_y = np.array(
        [
            0,
            -0.66 * up - 0.6 * rise,
            -up - rise,
            -0.84 * up - rise,
            -up - rise,
            -0.66 * up - 0.6 * rise,
            0,
            0.66 * lo + 0.72 * drop,
            0.97 * lo + drop,
            1.03 * lo + drop,
            0.97 * lo + drop,
            0.66 * lo + 0.72 * drop,
        ]
    )
    inner_x = np.array([-0.9, -0.42, 0, 0.42, 0.9, 0.42, 0, -0.42])
    inner_y = np.array([0, -0.8 * rise, -rise, -0.8 * rise, 0, 0.8 * drop, drop, 0.8 * drop])
    inner_y += 0.0035 * np.cos(inner_x * np.pi * 1.1) * (1 - np.minimum(face.open / 0.02, 1))
    x, y = np.concatenate([outer_x, inner_x]), np.concatenate([outer_y, inner_y])
    y = person.mouth_y + y - 0.026 * face.smile * (np.abs(x) ** 1.8 - 0.12)
    return np.stack([x * m, y], 1)


def _eye(person: Appearance, face: Face, side: int) -> np.ndarray:
    """Place the six points of an eye.

    Outer corner, upper near outer, upper near inner, inner corner, lower near inner, lower near outer.
    """
    a = person.eye_width / 2
    lids = face.lids * (1 - 0.12 * max(face.smile, 0))
    up, low = person.eye_height * 0.62, person.eye_height * 0.36 * (1 - 0.25 * max(face.smile, 0))
    upper = up * lids - (1 - min(lids, 1)) * low * 0.8
    x = np.array([1, 0.38, -0.36, -1, -0.38, 0.36]) * a
    y = np.array([0, -upper * 0.93, -upper, 0, low * 0.9, low])
    y = y - np.array([1, 0.4, -0.3, -1, -0.4, 0.4]) * person.eye_tilt * a
    return np.stack([side * (person.eye_x + x), y], 1)


def _brow(person: Appearance, face: Face, side: int) -> np.ndarray:
    """Place the five points of a brow from the outer to the inner end."""
    a = person.eye_width / 2
    t = np.linspace(0, 1, 5)
    x = person.eye_x + a * 1.45 - t * (a * 2.45)
    y = (
        -person.brow_height
        - 0.012 * face.brow
        + np.array([0.018, -0.008, -0.012, -0.004, 0.006]) * (person.brow_arch / 0.02)
    )
    return np.stack([side * x, y], 1)


def landmarks(person: Appearance, face: Face) -> np.ndarray:
    """Place the 68 iBUG points (68, 2) in the face's plane."""
    nw, nl = person.nose_width, person.nose_length
    bridge = np.stack([np.zeros(4), np.linspace(-0.005, nl - 0.045, 4)], 1)
    base = np.array(
        [
            (-0.72 * nw, nl - 0.006),
            (-0.38 * nw, nl + 0.006),
            (0, nl + 0.012),
            (0.38 * nw, nl + 0.006),
            (0.72 * nw, nl - 0.006),
        ]
    )
    right, left = _eye(person, face, -1), _eye(person, face, 1)[[3, 2, 1, 0, 5, 4]]
    return np.concatenate(
        [
            _jaw(person, face),
            _brow(person, face, -1),
            _brow(person, face, 1)[::-1],
            bridge,
            base,
            right,
            left,
            _mouth(person, face),
        ]
    ).astype(np.float32)


def eye_curves(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit upper and lower lid curves, image left to right, through the six points of one eye."""
    a, b, c, d, e, f = p
    return spline([a, b, c, d], 8), spline([a, f, e, d], 8)


def lip_curves(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fit the outer upper, outer lower, inner upper and inner lower curves of the lips through points 48-67.

    From image left to right.
    """
    return (
        spline(p[:7], 6),
        spline(p[[0, 11, 10, 9, 8, 7, 6]], 6),
        spline(p[12:17], 6),
        spline(p[[12, 19, 18, 17, 16]], 6),
    )


def ears(person: Appearance) -> np.ndarray:
    """Place the ear centres (2, 2), image left first."""
    return np.array([(-person.face_width - 0.026, 0.055), (person.face_width + 0.026, 0.055)], np.float32)


class Plane:
    """A window (u0, v0, u1, v1) of the face's plane as a grid of `ppu` pixels a head height: U (1, w), V (h, 1)."""

    def __init__(self, ppu: float, box: tuple[float, float, float, float] = FACE):
        self.ppu, self.box = ppu, box
        self.shape = (int(round((box[3] - box[1]) * ppu)), int(round((box[2] - box[0]) * ppu)))
        self.U = (np.arange(self.shape[1], dtype=np.float32) / ppu + box[0])[None, :]
        self.V = (np.arange(self.shape[0], dtype=np.float32) / ppu + box[1])[:, None]

    def px(self, points: np.ndarray) -> np.ndarray:
        """Convert points (N, 2) of the plane to pixels."""
        return (np.asarray(points, np.float32) - np.array(self.box[:2], np.float32)) * self.ppu

    def window(self, u0: float, v0: float, u1: float, v1: float) -> tuple[slice, slice]:
        """Find the rows and columns of a part of the plane."""
        a, b = self.px(np.array([(u0, v0), (u1, v1)])).astype(int)
        return slice(max(a[1], 0), b[1]), slice(max(a[0], 0), b[0])


@dataclass
class HeadView:
    """Where the head stands in the picture: pixels a head height, the pixel of (0, 0) unturned, and the turn."""

    person: Appearance
    face: Face
    scale: float
    x: float
    y: float

    def depth(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Compute the smooth depth (head heights towards the viewer) by which turning the head moves points."""
        dome = 0.3 * np.maximum(0, 1 - (u / 0.4) ** 2) * np.maximum(0, 1 - ((v - 0.08) / 0.72) ** 2)
        nose = (
            self.person.nose_height
            * 0.8
            * np.exp(-((u / 0.06) ** 2) - ((v - self.person.nose_length + 0.055) / 0.09) ** 2)
        )
        return (dome + nose).astype(np.float32)

    def forward(self, points: np.ndarray) -> np.ndarray:
        """Convert points (N, 2) of the face's plane to pixels."""
        u, v = points[:, 0], points[:, 1]
        z = self.depth(u, v)
        f = self.face
        x, y = u * np.cos(f.yaw) + z * np.sin(f.yaw), v * np.cos(f.pitch) + z * np.sin(f.pitch)
        c, s = np.cos(f.roll), np.sin(f.roll)
        return np.stack([self.x + self.scale * (c * x - s * y), self.y + self.scale * (s * x + c * y)], 1).astype(
            np.float32
        )

    def inverse(self, x0: int, y0: int, w: int, h: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute (u, v) of every pixel of a window, by fixed-point iteration at a quarter of its size."""
        hw, hh = w // 4 + 2, h // 4 + 2
        px, py = np.meshgrid(x0 + 4 * np.arange(hw, dtype=np.float32), y0 + 4 * np.arange(hh, dtype=np.float32))
        cr, sr, cy, sy, cp, sp = (
            float(f(a)) for a in (self.face.roll, self.face.yaw, self.face.pitch) for f in (np.cos, np.sin)
        )
        dx, dy = (px - np.float32(self.x)) / np.float32(self.scale), (py - np.float32(self.y)) / np.float32(self.scale)
        x, y = cr * dx + sr * dy, -sr * dx + cr * dy
        u, v = x / cy, y / cp
        for _ in range(8):
            z = self.depth(u, v)
            u, v = (x - z * sy) / cy, (y - z * sp) / cp
        gx, gy = np.meshgrid(np.arange(w, dtype=np.float32) / 4, np.arange(h, dtype=np.float32) / 4)
        return cv2.remap(u, gx, gy, cv2.INTER_LINEAR), cv2.remap(v, gx, gy, cv2.INTER_LINEAR)
