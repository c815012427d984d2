"""Five-finger hands: a jointed skeleton of 21 points in the field's order, and flesh around it with a depth buffer."""

from __future__ import annotations

import math

import cv2
import numpy as np

from cyberhost_model.lab.synthetic.drawn_appearance import Appearance
from cyberhost_model.lab.synthetic.drawn_paint import Light, around, blur, fill, ink, mix, sample, smoothstep
from cyberhost_model.lab.synthetic.drawn_pose import Arm

PALM = 0.37  # wrist to middle knuckle, head heights
# Knuckles in palm lengths (along the fingers, towards the thumb), bone lengths and radii of index .. little.
_KNUCKLES = np.array([(0.97, 0.27), (1.0, 0.05), (0.95, -0.15), (0.85, -0.33)])
_BONES = np.array([(0.47, 0.28, 0.22), (0.52, 0.32, 0.23), (0.49, 0.30, 0.23), (0.38, 0.22, 0.20)])
_RADII = np.array(
    [(0.115, 0.098, 0.09, 0.074), (0.117, 0.1, 0.091, 0.075), (0.11, 0.095, 0.087, 0.072), (0.1, 0.084, 0.076, 0.064)]
)
CHAINS = ((0, 1, 2, 3, 4), (0, 5, 6, 7, 8), (0, 9, 10, 11, 12), (0, 13, 14, 15, 16), (0, 17, 18, 19, 20))


def hand_points(arm: Arm, side: int, masculine: float) -> np.ndarray:
    """Place the 21 points (21, 3) of a hand, in head heights about the neck point.

    side: -1 for the person's right hand (image left). Axes of the hand: f along the fingers, n out of the palm, t
    towards the thumb.
    """
    f, n = arm.fingers, arm.palm
    t = np.cross(n, f) * -side  # a right hand, palm to the viewer and fingers up, has its thumb towards the body
    t = t / max(float(np.linalg.norm(t)), 1e-6)
    size = PALM * (0.92 + 0.14 * masculine)
    out = np.zeros((21, 3))
    fan = (np.array([0.2, 0.03, -0.13, -0.33]) * (0.25 + 0.95 * arm.spread)) * (1 - 0.75 * arm.curl[1:])
    for i in range(4):
        a, b = _KNUCKLES[i]
        p = a * f + b * t + (0.03 - 0.35 * (b - 0.05) ** 2) * -n
        out[5 + 4 * i] = p
        bend = 0.0
        side_way = np.cos(fan[i]) * f + np.sin(fan[i]) * t
        for j, (length, full) in enumerate(zip(_BONES[i], (1.45, 1.75, 1.15), strict=True)):
            bend += arm.curl[i + 1] * full
            p = p + length * (np.cos(bend) * side_way + np.sin(bend) * n)
            out[6 + 4 * i + j] = p
    open_ = 0.35 + 0.6 * arm.spread
    p = 0.2 * f + 0.22 * t + 0.1 * n
    out[1] = p
    d = np.cos(open_) * f + np.sin(open_) * t + (0.3 + 0.5 * arm.curl[0]) * n
    bend = arm.curl[0]
    for j, (length, turn) in enumerate(((0.42, 0.0), (0.33, 0.55), (0.27, 0.75))):
        # curling swings the thumb over the palm
        d = d / np.linalg.norm(d)
        d = d + turn * bend * (-0.9 * t + 0.5 * n + 0.2 * f) - (0.12 * t if j else 0)
        d = d / np.linalg.norm(d)
        p = p + length * d
        out[2 + j] = p
    return (out * size + arm.wrist).astype(np.float32)


class Flesh:
    """A depth buffer over a window of the canvas, filled with round bones; keeps what won each pixel and its normal."""

    def __init__(self, rows: slice, cols: slice):
        self.x0, self.y0 = cols.start, rows.start
        self.shape = (rows.stop - rows.start, cols.stop - cols.start)
        self.z = np.full(self.shape, -1e6, np.float32)
        self.nx, self.ny = np.zeros(self.shape, np.float32), np.zeros(self.shape, np.float32)
        self.part = np.full(self.shape, -1, np.int16)
        self.along = np.zeros(self.shape, np.float32)

    def bone(self, a: np.ndarray, b: np.ndarray, ra: float, rb: float, part: int) -> None:
        """Add a round cone from a to b (3,) in canvas pixels, z towards the viewer, with radii ra and rb."""
        margin = max(ra, rb) + 1
        x0, y0 = max(int(min(a[0], b[0]) - margin) - self.x0, 0), max(int(min(a[1], b[1]) - margin) - self.y0, 0)
        x1, y1 = int(max(a[0], b[0]) + margin) + 2 - self.x0, int(max(a[1], b[1]) + margin) + 2 - self.y0
        rows, cols = slice(y0, min(y1, self.shape[0])), slice(x0, min(x1, self.shape[1]))
        if rows.stop <= rows.start or cols.stop <= cols.start:
            return
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + np.float32(self.y0 - a[1])
        x = np.arange(cols.start, cols.stop, dtype=np.float32)[None, :] + np.float32(self.x0 - a[0])
        dx, dy, dz = (b - a).tolist()
        flat = dx * dx + dy * dy
        length = max(flat + dz * dz, 1e-6)
        flat = max(flat, 1e-3 * length)
        # where along the bone its surface is nearest to the viewer: the flat answer, moved by the tilt
        d2 = (x * dy - y * dx) ** 2 * (1 / flat)
        lift = np.sqrt(np.maximum((0.5 * (ra + rb)) ** 2 - d2, 0))
        t = (x * dx + y * dy) * (1 / flat) + lift * (dz / math.sqrt(length * flat))
        np.maximum(t, 0, out=t)
        np.minimum(t, 1, out=t)
        r = ra + (rb - ra) * t
        ex, ey = x - t * dx, y - t * dy
        h2 = r * r - ex * ex - ey * ey
        z = float(a[2]) + t * dz + np.sqrt(np.maximum(h2, 0))
        old = self.z[rows, cols]
        win = (h2 > 0) & (z > old)
        np.copyto(old, z, where=win)
        np.copyto(self.nx[rows, cols], ex / r, where=win)
        np.copyto(self.ny[rows, cols], ey / r, where=win)
        np.copyto(self.part[rows, cols], part, where=win)
        np.copyto(self.along[rows, cols], t, where=win)

    def matte(self) -> np.ndarray:
        """Compute the matte of the flesh, softened by a pixel."""
        return cv2.GaussianBlur((self.part >= 0).astype(np.float32), (0, 0), 0.6)

    def smooth_normals(self, sigma: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Blur the normals within the flesh."""
        m = (self.part >= 0).astype(np.float32)
        w = blur(m, sigma) + 1e-3
        nx, ny = blur(self.nx * m, sigma) / w, blur(self.ny * m, sigma) / w
        return nx, ny, np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0.02))


def draw_hand(
    person: Appearance, arm: Arm, points: np.ndarray, scale: float, light: Light, shape: tuple[int, ...]
) -> tuple | None:
    """Draw a hand whose 21 points (21, 3) are in canvas pixels; `scale` pixels a head height.

    Returns (rgb, matte, x0, y0), or None when it is off the canvas.
    """
    size = PALM * scale * (0.92 + 0.14 * person.masculine)
    rows, cols = around(points[:, :2], shape, 0.35 * size)
    if rows.stop - rows.start < 2 or cols.stop - cols.start < 2:
        return None
    f = _flesh(person, arm, points, size, rows, cols)
    facing = float(np.clip(arm.palm[2] * 1.5 + 0.5, 0, 1))  # 1: the palm is turned to the viewer
    rgb = _skin(person, points, scale, facing, f)
    local = points[:, :2] - np.array([f.x0, f.y0], np.float32)
    wide = _width(person, size)
    _ink_creases(person, local, size, wide, facing, f, rgb)
    # Edges where one part passes in front of another.
    solid = np.where(f.part >= 0, f.z, f.z.max() - 10 * size)
    step = cv2.dilate(solid, np.ones((3, 3), np.uint8)) - solid
    front = np.clip((step - 0.07 * size) / (0.12 * size), 0, 1) * (f.part >= 0) * (step < 3 * size)
    edge = blur(front, 0.5 + 0.008 * size)
    around_it = blur(np.where(f.part >= 0, f.z, points[:, 2].mean() - 0.2 * size), 0.12 * size)
    deep = np.clip((around_it - f.z) / (0.16 * size), 0, 1)
    nx, ny, nz = f.smooth_normals(0.4 + 0.012 * size)
    lit = light.shade(rgb, nx, ny, nz, skin=True, gloss=0.06, power=14)
    lit *= (1 - 0.5 * edge - 0.35 * deep)[..., None]
    _nails(person, arm, points, local, f, lit, wide)
    return lit, f.matte(), f.x0, f.y0


def _width(person: Appearance, size: float) -> float:
    """Compute the unit of a hand's thickness in pixels."""
    return size * (0.9 + 0.1 * person.masculine + 0.08 * person.build)


def _flesh(person: Appearance, arm: Arm, points: np.ndarray, size: float, rows: slice, cols: slice) -> Flesh:
    """Build the flesh of a hand: part 0 is the palm, 10-12 the thumb, 20 and on the fingers."""
    f = Flesh(rows, cols)
    wide = _width(person, size)
    n_px = arm.palm * size
    for i in range(4):  # the palm: bones from the wrist to the knuckles, overlapping
        a = points[0] + (points[5 + 4 * i] - points[0]) * 0.08 + (points[5 + 4 * i] - points[9]) * 0.5
        f.bone(a, points[5 + 4 * i], 0.15 * wide, _RADII[i, 0] * wide * 1.08, 0)
    outer = points[0] + 0.3 * (points[17] - points[9]) + 0.03 * n_px
    f.bone(outer, points[17] * 0.7 + points[0] * 0.3 + 0.03 * n_px, 0.15 * wide, 0.13 * wide, 0)
    f.bone(points[1], points[2], 0.19 * wide, 0.14 * wide, 0)  # ball of the thumb
    f.bone(points[0], points[1], 0.17 * wide, 0.19 * wide, 0)
    f.bone(points[2] * 0.75 + points[1] * 0.25, points[5] * 0.7 + points[0] * 0.3, 0.1 * wide, 0.11 * wide, 0)  # web
    palm = f.part == 0
    soft = (blur(f.z * palm, 0.07 * size) / (blur(palm.astype(np.float32), 0.07 * size) + 1e-3)).astype(np.float32)
    f.z = np.where(palm, 0.75 * soft + 0.25 * f.z, f.z)
    gx, gy = cv2.Sobel(f.z, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(f.z, cv2.CV_32F, 0, 1, scale=0.125)
    inner = cv2.erode(palm.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    inv = 1 / np.sqrt(1 + gx * gx + gy * gy)
    f.nx[inner], f.ny[inner] = (-gx * inv)[inner], (-gy * inv)[inner]
    for j, (ra, rb) in enumerate(((0.135, 0.112), (0.112, 0.1), (0.1, 0.078))):
        f.bone(points[1 + j], points[2 + j], (0.16 if j == 0 else ra) * wide, rb * wide, 10 + j)
    for i in range(4):
        for j in range(3):
            a, b = points[5 + 4 * i + j], points[6 + 4 * i + j]
            f.bone(a, b, _RADII[i, j] * wide, _RADII[i, j + 1] * wide, 20 + 10 * i + j)
    return f


def _skin(person: Appearance, points: np.ndarray, scale: float, facing: float, f: Flesh) -> np.ndarray:
    """Colour the skin before light: palm and back of the hand, redder fingertips."""
    rgb = np.empty((*f.shape, 3), np.float32)
    palm_skin = (
        np.clip(person.skin * np.array([1.03, 0.96, 0.95]) * 0.8 + 0.2 * np.array([0.86, 0.66, 0.56]), 0, 1)
        if person.skin.mean() < 0.5
        else person.skin * np.array([1.02, 0.95, 0.94])
    )
    rgb[:] = person.skin * (1 - facing) + palm_skin * facing
    tips = (f.part >= 10) & (f.part % 10 == 2)
    red = tips * 0.05 * f.along + 0.02 * (f.part == 0)
    rgb[..., 1] -= red
    rgb[..., 2] -= red
    yy, xx = np.mgrid[0 : f.shape[0], 0 : f.shape[1]].astype(np.float32)
    u = (xx - points[0, 0] + f.x0) * 240 / scale + person.texture[1]
    rgb *= (1 + 0.02 * sample("cloud", u, (yy - points[0, 1] + f.y0) * 240 / scale))[..., None]
    return rgb


def _ink_creases(
    person: Appearance, local: np.ndarray, size: float, wide: float, facing: float, f: Flesh, rgb: np.ndarray
) -> None:
    """Draw the creases across the joints and, on a palm turned to the viewer, its lines."""
    dark = person.skin * np.array([0.62, 0.5, 0.46], np.float32)
    for i in range(4):
        for j, strength in ((0, 0.25 * facing), (1, 0.4), (2, 0.3)):
            p, q = local[5 + 4 * i + j], local[6 + 4 * i + j] - local[5 + 4 * i + j]
            across = np.array([-q[1], q[0]]) / max(float(np.hypot(*q)), 1.0) * _RADII[i, j] * wide * 0.6
            own = ((f.part == 20 + 10 * i + j) | (f.part == 20 + 10 * i + j - 1)).astype(np.float32)
            ink(rgb, np.stack([p - across, p + across]), 0.02 * size, dark, strength, 0.015 * size, own)
    if facing > 0.6:
        own = (f.part == 0).astype(np.float32) * 0.4 * facing
        w, i5, m9, l17, t2 = local[0], local[5], local[9], local[17], local[2]
        for a, b, c in (
            (i5 * 0.8 + t2 * 0.2, m9 * 0.55 + w * 0.45, l17 * 0.55 + w * 0.45),
            (l17 * 0.85 + w * 0.15, m9 * 0.78 + w * 0.22, i5 * 0.95 + m9 * 0.05),
            (i5 * 0.75 + t2 * 0.25, m9 * 0.4 + w * 0.45 + t2 * 0.15, w * 0.85 + m9 * 0.15),
        ):
            curve = np.stack([(1 - s) ** 2 * a + 2 * s * (1 - s) * b + s * s * c for s in np.linspace(0, 1, 8)])
            ink(rgb, curve, 0.018 * size, dark, 1.0, 0.012 * size, own)


def _nails(
    person: Appearance, arm: Arm, points: np.ndarray, local: np.ndarray, f: Flesh, rgb: np.ndarray, wide: float
) -> None:
    """Paint a nail on every fingertip whose back is turned to the viewer."""
    for k, (joint, tip, part, r) in enumerate(
        ((3, 4, 12, 0.085), (7, 8, 22, 0.08), (11, 12, 32, 0.08), (15, 16, 42, 0.078), (19, 20, 52, 0.068))
    ):
        d = points[tip] - points[joint]
        d = d / max(float(np.linalg.norm(d)), 1e-6)
        across = np.cross(d, arm.palm) if k else np.cross(d, np.cross(d, arm.palm))
        across = across / max(float(np.linalg.norm(across)), 1e-6)
        back = np.cross(across, d)
        back = back if back @ (arm.palm if k else points[5] - points[17]) < 0 else -back
        if back[2] < 0.25:
            continue
        c = local[tip] * 0.86 + local[joint] * 0.14 + back[:2] * r * wide * 0.75
        a = np.linspace(0, 2 * np.pi, 14, endpoint=False)[:, None]
        ring = c + np.cos(a) * d[:2] * r * wide * 0.95 + np.sin(a) * across[:2] * r * wide * 0.62
        rows, cols = around(ring, f.shape, 2)
        if rows.stop <= rows.start or cols.stop <= cols.start:
            continue
        sub = rgb[rows, cols]
        shape = fill(ring - np.array([cols.start, rows.start]), sub.shape) * (f.part[rows, cols] == part)
        tone = np.clip(person.nails.astype(np.float32), 0, 1) * 0.9 + 0.06
        mix(sub, tone * smoothstep(np.float32(sub.mean()), -0.2, 0.5), shape * 0.6)
