"""Neck, torso and arms of a drawn person: one relief for neck, trunk and upper arms, and forearms laid over it."""

from __future__ import annotations

import cv2
import numpy as np

from cyberhost_model.lab.synthetic.drawn_appearance import Appearance
from cyberhost_model.lab.synthetic.drawn_cloth import cloth_colour, dress_torso, folds, neckline, wrinkles
from cyberhost_model.lab.synthetic.drawn_hands import Flesh
from cyberhost_model.lab.synthetic.drawn_paint import (
    Canvas,
    Light,
    around,
    bell,
    blur,
    fill,
    ink,
    mix,
    normals,
    sample,
    smoothstep,
    spline,
)
from cyberhost_model.lab.synthetic.drawn_pose import Arm, Pose, shoulders

_SLEEVE_END = {"long": 1.93, "half": 0.98, "short": 0.62, "none": -1.0}  # 0 shoulder, 1 elbow, 2 wrist


class BodyView:
    """Head heights about the neck point -> canvas pixels, leaning with the torso (arms do not lean)."""

    def __init__(self, person: Appearance, pose: Pose, scale: float, origin: np.ndarray):
        self.person, self.pose, self.scale, self.origin = person, pose, scale, origin.astype(np.float32)
        c, s = np.cos(pose.lean), np.sin(pose.lean)
        self.turn = np.array([[c, -s], [s, c]], np.float32)
        self.joints = shoulders(person.shoulders, pose.lean, pose.shoulder_drop)

    def px(self, points: np.ndarray) -> np.ndarray:
        """Convert torso points (N, 2) to pixels."""
        return np.asarray(points, np.float32) @ self.turn.T * self.scale + self.origin

    def px3(self, points: np.ndarray) -> np.ndarray:
        """Convert posed points (N, 3) to pixels, z included."""
        out = np.asarray(points, np.float32) * self.scale
        out[..., :2] += self.origin
        return out


def torso_outline(person: Appearance, drop: tuple[float, float], head: float = 0.0) -> np.ndarray:
    """Outline the trunk without arms, (N, 2).

    Shoulders, chest, waist and hips; the top of the neck follows the head sideways.
    """
    b, m, sw = person.build, person.masculine, person.shoulders
    nw = person.neck_width
    chest, waist, hip = sw - 0.1 + 0.05 * b, sw - 0.2 + 0.16 * b - 0.05 * (1 - m), sw - 0.14 + 0.1 * b + 0.06 * (1 - m)
    right = [
        (nw - 0.05, -0.74),
        (nw - 0.005, -0.58),
        (nw + 0.005, -0.42),
        (nw + 0.1, -0.31),
        (sw * 0.72, -0.22),
        (sw - 0.03, -0.165),
        (sw + 0.07, -0.07),
        (chest + 0.04, 0.4),
        (chest, 0.75),
        (waist, 1.35),
        (hip, 2.1),
        (hip + 0.03, 3.6),
    ]
    r = np.array(right)
    left = r[::-1] * np.array([-1, 1])
    left, r = left.copy(), r.copy()
    left[-9:-3, 1] += drop[0]
    r[3:9, 1] += drop[1]
    r[:2, 0] += head * np.array([1.0, 0.6])
    left[-2:, 0] += head * np.array([0.6, 1.0])
    return np.concatenate([spline(r, 5), spline(left, 5)])


def _lookup(y: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Look up y in a table of values over -0.7 .. 3.7."""
    at = np.clip((y + 0.7) * np.float32((len(table) - 1) / 4.4), 0, len(table) - 1)
    return np.take(table.astype(np.float32), at.astype(np.int32))


def _blend(a: np.ndarray, b: np.ndarray, k: float) -> np.ndarray:
    """Compute a smooth maximum: the two surfaces melt into each other over about k."""
    h = np.clip(0.5 + 0.5 * (a - b) / k, 0, 1)
    return b + (a - b) * h + k * h * (1 - h)


def arm_radii(person: Appearance) -> tuple[float, float, float]:
    """Compute the bare radii at shoulder, elbow and wrist, in head heights."""
    m, b = person.masculine, person.build
    return 0.155 + 0.03 * m + 0.03 * b, 0.108 + 0.015 * m + 0.012 * b, 0.07 + 0.01 * m


_SOFT = 0.8  # the torso has no fine detail: it is worked out at this share of the canvas's resolution


def _trunk_relief(person: Appearance, bx: np.ndarray, by: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the height of trunk and neck at torso coordinates, in head heights, and that of the collarbones."""
    o = torso_outline(person, (0, 0))
    right = o[: len(o) // 2]
    table = np.linspace(-0.7, 3.7, 1024)
    half = _lookup(by, np.interp(table, right[:, 1], right[:, 0]))
    depth = _lookup(by, np.interp(table, [-0.5, -0.3, -0.1, 0.3, 1.2, 2.2], [0.1, 0.12, 0.2, 0.34, 0.3, 0.3]))
    ratio = np.minimum(np.abs(bx) / np.maximum(half, 1e-3), 1)
    z = depth * np.sqrt(np.maximum(1 - ratio * ratio * np.sqrt(ratio), 0)) - 0.1
    bust = 0.09 * (1 - person.masculine) * (0.7 + 0.5 * person.build)
    if bust > 0.02:
        z += bust * (bell(bx, -0.28, 0.17) + bell(bx, 0.28, 0.17)) * bell(by, 0.62, 0.2)
    else:
        z += 0.02 * (bell(bx, -0.27, 0.22) + bell(bx, 0.27, 0.22)) * bell(by, 0.45, 0.2)
    z += 0.05 * max(person.build - 0.3, 0) * bell(bx, 0, 0.4) * bell(by, 1.5, 0.4)
    nw = person.neck_width
    neck = np.sqrt(np.maximum(nw * nw - bx * bx, 0)) + 0.02 - 0.25 * np.maximum(by + 0.25, 0)
    z = np.where(by < 0.2, _blend(z, neck, 0.09), z)
    bone = (
        0.018
        * bell(by + 0.1 * np.abs(bx), -0.1, 0.03)
        * smoothstep(np.abs(bx), 0.05, 0.12)
        * smoothstep(np.abs(bx), 0.5, 0.3)
    )  # collarbones
    return z, bone


def _with_upper_arms(
    view: BodyView, rows: slice, cols: slice, trunk: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add the upper arms to the height z; returns it, the matte of the arms, and where their sleeves are."""
    person, pose, scale = view.person, view.pose, view.scale
    r0, r1, _ = arm_radii(person)
    sleeve, armed = np.zeros(trunk.shape, np.float32), np.zeros(trunk.shape, np.float32)
    loose = 0.0 if person.sleeve == "none" else 0.03
    end = _SLEEVE_END[person.sleeve]
    for i, arm in enumerate(pose.arms):
        f = Flesh(rows, cols)
        a, b = view.px3(np.stack([view.joints[i] + np.array([(0.05, -0.05)[i], 0.06, -0.04]), arm.elbow]))
        f.bone(a, b, (r0 + loose) * scale, (r1 + (loose if end > 0.9 else 0)) * scale, 0)
        on = f.part >= 0
        zi = np.where(on, f.z / scale, -1)
        z = np.where(on & (trunk > 0.5), _blend(z, zi, 0.1), np.where(on, zi, z))
        armed = np.maximum(armed, f.matte())
        sleeve = np.maximum(sleeve, on * smoothstep(f.along, end + 0.005, end - 0.005))
    return z, armed, sleeve


def _lit(
    person: Appearance,
    light: Light,
    rgb: np.ndarray,
    relief: np.ndarray,
    cloth: np.ndarray,
    matte: np.ndarray,
    scale: float,
) -> np.ndarray:
    """Shade cloth and skin, with shadows in the folds and a little of the cloth on the skin."""
    nx, ny, nz = normals(relief)
    lit = light.shade(rgb, nx, ny, nz, gloss=0.0)
    bare = (1 - cloth) * matte
    r = np.flatnonzero(bare.max(1) > 0.01)
    if len(r):
        c = np.flatnonzero(bare.max(0) > 0.01)
        part = np.s_[r[0] : r[-1] + 1, c[0] : c[-1] + 1]
        skin = light.shade(rgb[part], nx[part], ny[part], nz[part], skin=True, gloss=0.05, power=16)
        mix(lit[part], skin, bare[part])
    ao = np.clip((blur(relief, 0.12 * scale) - relief) / (0.1 * scale), 0, 1) * 0.35
    edge = (
        np.clip(blur(cloth, 0.02 * scale) - 0.02, 0, 1) * (1 - cloth) * 0.35
    )  # cloth throws a little shade on the skin
    lit *= (1 - ao - edge)[..., None]
    return lit


def draw_torso(canvas: Canvas, view: BodyView, light: Light) -> None:
    """Paint neck, trunk and upper arms."""
    person, pose = view.person, view.pose
    height, width = canvas.rgb.shape[:2]
    view = BodyView(person, pose, view.scale * _SOFT, (view.origin + 0.5) * _SOFT - 0.5)
    scale = view.scale
    outline = view.px(
        torso_outline(person, pose.shoulder_drop, pose.head_shift[0] + 0.4 * float(np.sin(pose.face.roll)))
    )
    reach = [outline] + [view.px3(np.stack([view.joints[i], arm.elbow]))[:, :2] for i, arm in enumerate(pose.arms)]
    rows, cols = around(np.concatenate(reach), (int(height * _SOFT) + 2, int(width * _SOFT) + 2), 0.28 * scale)
    shape = (rows.stop - rows.start, cols.stop - cols.start)
    off = np.array([cols.start, rows.start], np.float32)
    to_px = lambda p: view.px(p) - off  # noqa: E731
    trunk = fill(outline - off, shape)
    yy = np.arange(shape[0], dtype=np.float32)[:, None]
    xx = np.arange(shape[1], dtype=np.float32)[None, :]
    inv = view.turn.T / scale
    bx = (inv[0, 0] * (xx + off[0] - view.origin[0]) + inv[0, 1] * (yy + off[1] - view.origin[1])).astype(np.float32)
    by = (inv[1, 0] * (xx + off[0] - view.origin[0]) + inv[1, 1] * (yy + off[1] - view.origin[1])).astype(np.float32)
    z, bone = _trunk_relief(person, bx, by)
    z, armed, sleeve = _with_upper_arms(view, rows, cols, trunk, z)
    matte = np.maximum(trunk, armed)
    line = to_px(neckline(person))
    top = np.concatenate(
        [
            line,
            to_px(np.array([(1.6, -0.9)])),
            to_px(np.array([(1.6, 4.0), (-1.6, 4.0)])),
            to_px(np.array([(-1.6, -0.9)])),
        ]
    )
    cloth = fill(top, shape)
    if person.clothes in ("tank", "dress") and person.sleeve == "none":
        cloth *= 1 - smoothstep(
            np.abs(bx) + 0.35 * np.maximum(0.25 - by, 0), person.shoulders - 0.02, person.shoulders + 0.02
        ) * (by < 0.5)
    only_arm = armed * (1 - trunk)
    cloth = np.maximum(cloth * (1 - only_arm * (1 - sleeve)), sleeve * armed)
    rgb = np.empty((*shape, 3), np.float32)
    rgb[:] = person.skin
    rgb *= (1 + 0.02 * sample("cloud", bx * 240 + person.texture[0], by * 240 + person.texture[1]))[..., None]
    z += bone * (1 - cloth)
    fabric = cloth_colour(person, bx, by)
    relief = (z * scale).astype(np.float32)
    pants = (
        fill(to_px(np.array([(-1.2, 2.05), (1.2, 2.05), (1.2, 4), (-1.2, 4)])), shape)
        if person.clothes != "dress"
        else np.zeros(shape, np.float32)
    )
    mix(fabric, person.trousers, pants * trunk)
    dress_torso(person, to_px, scale, fabric, relief, cloth)
    mix(rgb, fabric, cloth)
    relief += cloth * (folds(person, to_px, scale, shape) + wrinkles(person, bx, by) * scale + 0.012 * scale)
    relief = blur(relief, 0.008 * scale)
    lit = _lit(person, light, rgb, relief, cloth, matte, scale)
    x0, y0 = max(int(cols.start / _SOFT), 0), max(int(rows.start / _SOFT), 0)
    w, h = min(int(shape[1] / _SOFT) + 2, width - x0), min(int(shape[0] / _SOFT) + 2, height - y0)
    back = np.array(
        [[_SOFT, 0, (x0 + 0.5) * _SOFT - 0.5 - cols.start], [0, _SOFT, (y0 + 0.5) * _SOFT - 0.5 - rows.start]]
    )
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    up = lambda a: cv2.warpAffine(a, back, (w, h), flags=how, borderMode=cv2.BORDER_REPLICATE)  # noqa: E731
    canvas.paint(up(lit), np.clip(up(matte), 0, 1), x0, y0)


def draw_forearm(canvas: Canvas, view: BodyView, arm: Arm, light: Light) -> None:
    """Paint one forearm (elbow to wrist) with its sleeve, over a soft shadow on what lies behind."""
    person, scale = view.person, view.scale
    a, b = view.px3(np.stack([arm.elbow, arm.wrist]))
    rows, cols = around(np.stack([a[:2], b[:2]]), canvas.rgb.shape, 0.3 * scale)
    if rows.stop - rows.start < 2 or cols.stop - cols.start < 2:
        return
    _, r1, r2 = arm_radii(person)
    end = _SLEEVE_END[person.sleeve] - 1
    f = Flesh(rows, cols)
    loose = 0.03 if end > 0 else 0.0
    mid = a * 0.62 + b * 0.38  # the forearm's belly
    if end > 0:
        f.bone(a, b, (r1 + loose) * scale, (r2 + 0.035) * scale, 0)
    else:
        f.bone(a, mid, r1 * scale, r1 * 1.04 * scale, 0)
        f.bone(mid, b, r1 * 1.04 * scale, r2 * scale, 1)
    matte = f.matte()
    d = (b - a)[:2]
    length = max(float(np.hypot(*d)), 1.0)
    d = d / length
    yy, xx = np.mgrid[rows, cols].astype(np.float32)
    s = ((xx - a[0]) * d[0] + (yy - a[1]) * d[1]) / scale
    c = (-(xx - a[0]) * d[1] + (yy - a[1]) * d[0]) / scale
    rgb = np.empty((*f.shape, 3), np.float32)
    rgb[:] = person.skin
    rgb *= (1 + 0.02 * sample("cloud", s * 240 + person.texture[1], c * 240 + person.texture[0]))[..., None]
    nx, ny, nz = f.smooth_normals(0.01 * scale)
    lit = light.shade(rgb, nx, ny, nz, skin=True, gloss=0.05, power=14)
    if end > 0:
        cut = end * length / scale
        on = _paint_sleeve(person, light, lit, (nx, ny), s, c, cut, scale)
        seam = [a[:2] + d * (cut - 0.05) * scale + np.array([-d[1], d[0]]) * k * 0.2 * scale for k in (-1, 1)]
        ink(lit, np.stack([p - (cols.start, rows.start) for p in seam]), 0.012 * scale, person.cloth * 0.6, 0.6, 0.4)
        matte = matte * np.maximum(on, smoothstep(np.abs(c), r2 + 0.02, r2 + 0.005))
    if person.watch and arm.wrist[0] > 0 and end < 0.5:
        w = length / scale * 0.9
        band = smoothstep(np.abs(s - w), 0.045, 0.035)
        mix(lit, person.glasses_colour, band)
        mix(lit, np.array([0.75, 0.75, 0.78], np.float32), smoothstep(np.hypot(s - w, c), 0.065, 0.055))
    if arm.wrist[2] > 0.2:
        lx, ly = light.direction[:2]
        canvas.darken(
            blur(matte * smoothstep(f.along + f.part, 0.1, 0.5), 0.08 * scale),
            cols.start - int(0.1 * lx * scale),
            rows.start + int(0.09 * scale - 0.05 * ly * scale),
            0.4,
        )
    # The elbow belongs to the upper arm.
    joint = np.where(f.part == 0, smoothstep(f.along * (0.62 if end <= 0 else 1.0), 0.0, 0.1), 1)
    canvas.paint(lit, matte * joint.astype(np.float32), cols.start, rows.start)


def _paint_sleeve(
    person: Appearance,
    light: Light,
    lit: np.ndarray,
    normal: tuple[np.ndarray, np.ndarray],
    s: np.ndarray,
    c: np.ndarray,
    cut: float,
    scale: float,
) -> np.ndarray:
    """Paint the sleeve over a forearm up to `cut`; returns its matte.

    s, c: coordinates along and across the arm in head heights. normal: x and y of the arm's normals.
    """
    fabric = cloth_colour(person, c * 1.2 + 0.3, s + 0.2)
    bump = np.cos(s * 26 + 2.2 * np.sin(c * 11 + person.texture[4])) * 0.01 * bell(s, 0.08, 0.2)
    gx, gy, _ = normals(((bump + 2.0 * wrinkles(person, s, c)) * scale).astype(np.float32))
    sx, sy = np.clip(normal[0] + gx, -1, 1), np.clip(normal[1] + gy, -1, 1)
    cloth_lit = light.shade(fabric, sx, sy, np.sqrt(np.maximum(1 - sx * sx - sy * sy, 0.05)))
    on = smoothstep(s, cut + 0.006, cut - 0.006)
    lit *= (1 - 0.4 * bell(s, cut, 0.05) * (s > cut))[..., None]
    mix(lit, cloth_lit, on)
    return on
