"""The drawn head without hair: skin in relief, ears, beard and the features, in the face's own plane."""

from __future__ import annotations

import numpy as np

from cyberhost_model.lab.synthetic.drawn_appearance import Appearance
from cyberhost_model.lab.synthetic.drawn_face_shape import Plane, ears, landmarks, outline
from cyberhost_model.lab.synthetic.drawn_features import paint_brows, paint_eye, paint_glasses, paint_lids, paint_lips
from cyberhost_model.lab.synthetic.drawn_paint import (
    Light,
    bell,
    blur,
    fill,
    ink,
    mix,
    normals,
    sample,
    smoothstep,
    spline,
    stroke,
)
from cyberhost_model.lab.synthetic.drawn_pose import Face


def _relief(person: Appearance, face: Face, g: Plane, mask: np.ndarray, p68: np.ndarray) -> np.ndarray:
    """Compute the height of the skin in head heights."""
    U, V = g.U, g.V
    half = np.maximum(mask.sum(1, keepdims=True) / 2 / g.ppu, 1e-3)
    round_ = np.sqrt(np.maximum(0, 1 - np.minimum(np.abs(U) / (half + 0.004), 1) ** 2.5))
    profile = np.interp(
        V[:, 0],
        [-0.52, -0.46, -0.36, -0.22, -0.05, 0.1, 0.3, 0.46, 0.54],
        [0.02, 0.3, 0.62, 0.86, 0.93, 0.97, 0.95, 0.85, 0.6],
    )
    profile = blur(profile.astype(np.float32)[:, None], 0.03 * g.ppu)
    z = 0.3 * round_ * np.minimum(1, half / 0.22) ** 0.6 * profile
    drop, m, age = face.open, person.masculine, person.age
    both = lambda c, s: bell(U, -c, s) + bell(U, c, s)  # noqa: E731
    e = person.eye_x
    z += (0.008 + 0.012 * m) * both(e * 0.85, 0.09) * bell(V, -0.088, 0.035)
    z -= 0.03 * both(e, 0.07) * bell(V, -0.005, 0.042)
    z += 0.017 * both(e, 0.045) * bell(V, 0.0, 0.03)
    z -= (0.003 + 0.008 * age) * both(e * 0.95, 0.05) * bell(V, 0.052, 0.012)  # bags under the eyes
    z += (0.016 + 0.012 * max(face.smile, 0)) * both(0.17, 0.065) * bell(V, 0.125 - 0.015 * face.smile, 0.06)
    z -= 0.012 * (1 - person.build) * both(0.2, 0.05) * bell(V, 0.27, 0.07)
    z += 0.014 * bell(U, 0, 0.11) * bell(V, person.mouth_y, 0.06)
    z += (0.012 + 0.012 * m) * bell(U, 0, 0.065) * bell(V, 0.452 + drop * 0.5, 0.032)
    z -= 0.008 * bell(U, 0, 0.07) * bell(V, person.mouth_y + person.lip_lower + 0.028 + drop * 0.7, 0.014)
    z -= 0.004 * bell(U, 0, 0.009) * bell(V, person.mouth_y - person.lip_upper - 0.03, 0.025)  # philtrum
    rows, cols = g.window(-0.16, -0.14, 0.16, 0.32)
    u, v, nl, nw, nh = U[:, cols], V[rows], person.nose_length, person.nose_width, person.nose_height
    ridge = np.interp(
        v[:, 0],
        [-0.12, -0.07, -0.02, nl * 0.5, nl - 0.05, nl - 0.015, nl + 0.025],
        [0.0, 0.13, 0.22, 0.55, 1.0, 0.75, 0.0],
    )
    wide = np.interp(v[:, 0], [-0.1, 0, nl * 0.55, nl - 0.04, nl], [0.05, 0.026, 0.034, 0.045, 0.05]).astype(
        np.float32
    )[:, None]
    z[rows, cols] += (
        nh * 0.55 * blur(ridge.astype(np.float32)[:, None], 0.012 * g.ppu) * np.exp(-((np.abs(u) / wide) ** 2.2))
    )
    z[rows, cols] += 0.018 * bell(u, 0, 0.034) * bell(v, nl - 0.04, 0.03)
    z[rows, cols] += 0.022 * (bell(u, -nw * 0.68, 0.024) + bell(u, nw * 0.68, 0.024)) * bell(v, nl - 0.025, 0.025)
    return z - _wrinkles(person, face, g, p68)


def _wrinkles(person: Appearance, face: Face, g: Plane, p68: np.ndarray) -> np.ndarray:
    """Compute the depth of folds beside the mouth and of the wrinkles of age, in head heights."""
    lips = p68[48:]
    nl, nw, age, e = person.nose_length, person.nose_width, person.age, person.eye_x
    fold = np.zeros(g.shape, np.float32)
    for s, corner in ((-1, lips[0]), (1, lips[6])):  # from the nose's wing around the mouth's corner
        path = spline(
            [
                (s * nw * 0.95, nl - 0.04),
                (s * (nw + 0.04), nl + 0.03),
                (corner[0] + s * 0.025, corner[1] - 0.005),
                (corner[0] + s * 0.022, corner[1] + 0.04),
            ],
            6,
        )
        fold = np.maximum(fold, stroke(g.px(path), g.shape, 0.008 * g.ppu))
    depth = 0.003 + 0.012 * age + 0.008 * max(face.smile, 0)
    if age > 0.35:
        for k in range(4):
            y = -0.2 - 0.035 * k
            pts = spline(
                [
                    (-0.15, y + 0.01),
                    (-0.05, y + 0.004 * np.sin(person.texture[k])),
                    (0.06, y - 0.003),
                    (0.15, y + 0.012),
                ],
                5,
            )
            fold = np.maximum(fold, stroke(g.px(pts), g.shape, 0.005 * g.ppu) * (age - 0.3))
        for s in (-1, 1):
            for k in range(3):
                x = e + person.eye_width * 0.6
                pts = spline(
                    [
                        (s * x, 0.005 + 0.008 * k),
                        (s * (x + 0.025), 0.012 * (k - 0.8)),
                        (s * (x + 0.05), 0.03 * (k - 0.8)),
                    ],
                    5,
                )
                fold = np.maximum(fold, stroke(g.px(pts), g.shape, 0.004 * g.ppu) * (age - 0.3))
    return depth * blur(fold, 0.007 * g.ppu)


def _skin(person: Appearance, g: Plane, p68: np.ndarray) -> np.ndarray:
    """Compute the colour of the skin before light, with redness, blotches, freckles and shaved or full beards."""
    U, V = g.U, g.V
    t = person.texture
    out = np.empty((*g.shape, 3), np.float32)
    out[:] = person.skin
    blotch = (
        sample("cloud", (U + 1) * 260 + t[0], (V + 1) * 260 + t[1]) * 0.018
        + sample("grain", U * 300 + t[2], V * 300 + t[1]) * 0.012
    )
    red = person.blush * (
        0.09 * (bell(U, -0.18, 0.08) + bell(U, 0.18, 0.08)) * bell(V, 0.13, 0.07)
        + 0.08 * bell(U, 0, 0.06) * bell(V, 0.18, 0.05)
    )
    under = (
        (bell(U, -person.eye_x, 0.06) + bell(U, person.eye_x, 0.06)) * bell(V, 0.03, 0.04) * (0.06 + 0.06 * person.age)
    )
    out *= (1 + blotch - under)[..., None]
    out[..., 0] += red * 0.45
    out[..., 1] -= red * 0.55
    out[..., 2] -= red * 0.4
    if person.freckles:
        dots = (
            smoothstep(sample("curl", U * 700 + t[3], V * 700 + t[4]), 1.2, 1.9) * bell(V, 0.1, 0.1) * bell(U, 0, 0.25)
        )
        mix(out, person.skin * np.array([0.72, 0.58, 0.5], np.float32), dots * 0.5 * person.freckles)
    return out


def _beard(person: Appearance, g: Plane, rgb: np.ndarray, mask: np.ndarray, p68: np.ndarray) -> np.ndarray | None:
    """Darken the skin by stubble; for a beard, return the matte of hair to raise and colour."""
    if person.beard == "none":
        return None
    U, V, y = g.U, g.V, float(p68[51, 1])
    low = smoothstep(V - 0.1 * np.cos(U * 5), 0.13, 0.24) * np.ones_like(U)
    cheek = smoothstep(V + 0.9 * np.maximum(np.abs(U) - 0.13, 0) ** 0.9 - 0.0, 0.245, 0.31)
    sides = smoothstep(np.abs(U) + 0.1 * np.maximum(V, 0), 0.205, 0.285) * smoothstep(V, 0.0, 0.09)
    area = np.maximum(np.maximum(low, 0) * cheek, sides)
    tache = (
        smoothstep(V, y - 0.055, y - 0.03)
        * smoothstep(np.abs(U), person.mouth_width + 0.035, person.mouth_width - 0.01)
        * smoothstep(V, y + 0.05, y + 0.02)
    )
    chin = smoothstep(np.abs(U), 0.12, 0.08) * smoothstep(V, y + 0.06, y + 0.1)
    shape = {
        "stubble": np.maximum(area * (V > person.nose_length), sides),
        "full": np.maximum(area, sides),
        "goatee": np.maximum(tache, chin),
        "moustache": tache,
    }[person.beard]
    shape = np.clip(shape, 0, 1) * mask
    if person.beard == "stubble":
        speck = 0.5 + 0.25 * sample("grain", U * 900 + person.texture[5], V * 900)
        mix(rgb, person.skin * 0.45 + person.hair * 0.35, blur(shape, 0.02 * g.ppu) * np.clip(speck, 0, 1) * 0.42)
        return None
    hair = 0.5 * sample("strand", U * 600 + 60 * U * np.abs(U) + person.texture[5], V * 400) + 0.6 * sample(
        "curl", U * 700, V * 600
    )
    return np.clip(blur(shape, 0.022 * g.ppu) * 1.35 + 0.14 * hair * (shape > 0.02) - 0.22, 0, 0.92)


def _ears(person: Appearance, g: Plane, rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Compute the matte of both ears, and draw their inner lines outside the skull's matte `mask`."""
    ear = np.zeros_like(mask)
    for s, c in zip((-1, 1), ears(person), strict=True):
        shape = spline(
            [
                c + np.array(q) * np.array([s, 1])
                for q in ((-0.03, -0.06), (0.012, -0.085), (0.036, -0.045), (0.024, 0.02), (0.004, 0.08), (-0.03, 0.07))
            ],
            6,
            True,
        )
        ear = np.maximum(ear, fill(g.px(shape), g.shape))
        inner = spline(
            [
                c + np.array(q) * np.array([s, 1])
                for q in ((-0.01, -0.055), (0.016, -0.05), (0.012, 0.005), (-0.004, 0.035))
            ],
            6,
        )
        ink(rgb, g.px(inner), 0.014 * g.ppu, person.skin * 0.62, 1.0, 0.006 * g.ppu, 1 - mask)
    return ear


def _with_earrings(person: Appearance, g: Plane, lit: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Paint an earring below each ear; returns the matte with them."""
    metal = np.array([0.85, 0.72, 0.4] if person.texture[5] > 256 else [0.82, 0.82, 0.85], np.float32)
    size = 0.012 + 0.018 * person.texture[6] / 512
    a = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    for c in ears(person):
        ring = g.px(c + np.array([0.0, 0.085 + size]) + size * np.stack([np.cos(a) * 0.8, np.sin(a)], 1))
        drop = fill(ring, g.shape) if size < 0.02 else stroke(ring, g.shape, 0.01 * g.ppu, True)
        mix(lit, metal, drop)
        mix(lit, np.ones(3), drop * bell(g.U, c[0] - 0.008, 0.006) * bell(g.V, c[1] + 0.08 + 0.6 * size, 0.008))
        alpha = np.maximum(alpha, drop)
    return alpha


def draw_face(person: Appearance, face: Face, g: Plane, light: Light) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the head without hair in the plane `g`.

    Returns rgb (h, w, 3), the matte (h, w) and the skull's matte.
    """
    p68 = landmarks(person, face)
    mask = fill(g.px(outline(person, face)), g.shape)
    z = _relief(person, face, g, mask, p68)
    rgb = _skin(person, g, p68)
    ear = _ears(person, g, rgb, mask)
    outside = ear * (1 - mask)
    mix(rgb, person.skin * np.array([1.02, 0.84, 0.8], np.float32), outside * 0.6)
    z = z + outside * blur(ear, 0.018 * g.ppu) * 0.05
    lips, hole = paint_lips(person, face, g, rgb, p68)
    z += blur(lips, 0.012 * g.ppu) * (0.016 if person.lip_lower > 0.03 else 0.011) * (1 - hole)
    eyes = [paint_eye(person, face, g, rgb, p68[i : i + 6], s) for i, s in ((36, -1), (42, 1))]
    paint_brows(person, g, rgb, p68)
    hair = _beard(person, g, rgb, mask, p68)
    if hair is not None:
        mix(rgb, person.hair, hair * (1 - np.maximum(lips * 0.9, hole)) * 0.92)
        z += (
            hair
            * (0.02 + 0.004 * sample("strand", g.U * 420 + person.texture[5], g.V * 260))
            * (1 - np.maximum(lips, hole))
        )
    nl, nw = person.nose_length, person.nose_width
    for s in (-1, 1):  # nostrils
        hole_ = np.clip(bell(g.U, s * nw * 0.42, 0.019) * bell(g.V, nl + 0.001, 0.0085) * 1.3, 0, 1)
        mix(rgb, person.skin * 0.22, hole_ * 0.85)
    z = blur(z, 0.003 * g.ppu) * g.ppu
    nx, ny, nz = normals(z)
    gloss = 0.1 + 0.08 * (1 - person.age)
    lit = light.shade(rgb, nx, ny, nz, skin=True, gloss=gloss, power=20)
    ao = np.clip((blur(z, 0.045 * g.ppu) - z) / (0.03 * g.ppu), 0, 1)  # hollows see less sky
    lit *= (1 - 0.38 * ao * mask)[..., None]
    wet = (
        bell(g.V, person.mouth_y + person.lip_lower * 0.5 + face.open * 0.8, 0.007)
        * bell(g.U, -0.015, 0.04)
        * lips
        * (1 - hole)
    )
    lit += (0.1 + 0.15 * min(person.makeup, 1)) * wet[..., None]
    for s, eye in zip((-1, 1), eyes, strict=True):
        paint_lids(person, g, lit, eye, s)
    alpha = np.maximum(mask, ear)
    if person.earrings:
        alpha = _with_earrings(person, g, lit, alpha)
    paint_glasses(person, g, lit, alpha)
    return lit, alpha, mask
