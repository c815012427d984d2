"""The drawn head without hair: skin in relief, eyes, brows, lips with teeth, ears, beard and glasses, painted in the face's own plane."""

from __future__ import annotations

import numpy as np

from .drawn_face_shape import FACE, ears, eye_curves, landmarks, lip_curves, outline
from .drawn_look import Look
from .drawn_paint import Light, bell, blur, fill, ink, mix, normals, sample, smoothstep, spline, stroke
from .drawn_pose import Face


class Plane:
    """A window (u0, v0, u1, v1) of the face's plane as a grid of `ppu` pixels a head height: U (1, w), V (h, 1), points to pixels."""

    def __init__(self, ppu: float, box: tuple[float, float, float, float] = FACE):
        self.ppu, self.box = ppu, box
        self.shape = (int(round((box[3] - box[1]) * ppu)), int(round((box[2] - box[0]) * ppu)))
        self.U = (np.arange(self.shape[1], dtype=np.float32) / ppu + box[0])[None, :]
        self.V = (np.arange(self.shape[0], dtype=np.float32) / ppu + box[1])[:, None]

    def px(self, points: np.ndarray) -> np.ndarray:
        """Plane points (N, 2) -> pixels."""
        return (np.asarray(points, np.float32) - np.array(self.box[:2], np.float32)) * self.ppu

    def window(self, u0: float, v0: float, u1: float, v1: float) -> tuple[slice, slice]:
        """Rows and columns of a part of the plane."""
        a, b = self.px(np.array([(u0, v0), (u1, v1)])).astype(int)
        return slice(max(a[1], 0), b[1]), slice(max(a[0], 0), b[0])


def _relief(look: Look, face: Face, g: Plane, mask: np.ndarray, p68: np.ndarray) -> np.ndarray:
    """The height of the skin in head heights."""
    U, V = g.U, g.V
    half = np.maximum(mask.sum(1, keepdims=True) / 2 / g.ppu, 1e-3)
    round_ = np.sqrt(np.maximum(0, 1 - np.minimum(np.abs(U) / (half + 0.004), 1) ** 2.5))
    profile = np.interp(V[:, 0], [-0.52, -0.46, -0.36, -0.22, -0.05, 0.1, 0.3, 0.46, 0.54], [0.02, 0.3, 0.62, 0.86, 0.93, 0.97, 0.95, 0.85, 0.6])
    profile = blur(profile.astype(np.float32)[:, None], 0.03 * g.ppu)
    z = 0.3 * round_ * np.minimum(1, half / 0.22) ** 0.6 * profile
    drop, m, age = face.open, look.masculine, look.age
    both = lambda c, s: bell(U, -c, s) + bell(U, c, s)  # noqa: E731
    e = look.eye_x
    z += (0.008 + 0.012 * m) * both(e * 0.85, 0.09) * bell(V, -0.088, 0.035)
    z -= 0.03 * both(e, 0.07) * bell(V, -0.005, 0.042)
    z += 0.017 * both(e, 0.045) * bell(V, 0.0, 0.03)
    z -= (0.003 + 0.008 * age) * both(e * 0.95, 0.05) * bell(V, 0.052, 0.012)  # bags under the eyes
    z += (0.016 + 0.012 * max(face.smile, 0)) * both(0.17, 0.065) * bell(V, 0.125 - 0.015 * face.smile, 0.06)
    z -= 0.012 * (1 - look.build) * both(0.2, 0.05) * bell(V, 0.27, 0.07)
    z += 0.014 * bell(U, 0, 0.11) * bell(V, look.mouth_y, 0.06)
    z += (0.012 + 0.012 * m) * bell(U, 0, 0.065) * bell(V, 0.452 + drop * 0.5, 0.032)
    z -= 0.008 * bell(U, 0, 0.07) * bell(V, look.mouth_y + look.lip_lower + 0.028 + drop * 0.7, 0.014)
    z -= 0.004 * bell(U, 0, 0.009) * bell(V, look.mouth_y - look.lip_upper - 0.03, 0.025)  # philtrum
    rows, cols = g.window(-0.16, -0.14, 0.16, 0.32)
    u, v, nl, nw, nh = U[:, cols], V[rows], look.nose_length, look.nose_width, look.nose_height
    ridge = np.interp(v[:, 0], [-0.12, -0.07, -0.02, nl * 0.5, nl - 0.05, nl - 0.015, nl + 0.025], [0.0, 0.13, 0.22, 0.55, 1.0, 0.75, 0.0])
    wide = np.interp(v[:, 0], [-0.1, 0, nl * 0.55, nl - 0.04, nl], [0.05, 0.026, 0.034, 0.045, 0.05]).astype(np.float32)[:, None]
    z[rows, cols] += nh * 0.55 * blur(ridge.astype(np.float32)[:, None], 0.012 * g.ppu) * np.exp(-((np.abs(u) / wide) ** 2.2))
    z[rows, cols] += 0.018 * bell(u, 0, 0.034) * bell(v, nl - 0.04, 0.03)
    z[rows, cols] += 0.022 * (bell(u, -nw * 0.68, 0.024) + bell(u, nw * 0.68, 0.024)) * bell(v, nl - 0.025, 0.025)
    lips = p68[48:]
    fold = np.zeros_like(z)
    for s, corner in ((-1, lips[0]), (1, lips[6])):  # from the nose's wing around the mouth's corner
        path = spline([(s * nw * 0.95, nl - 0.04), (s * (nw + 0.04), nl + 0.03), (corner[0] + s * 0.025, corner[1] - 0.005),
                       (corner[0] + s * 0.022, corner[1] + 0.04)], 6)  # fmt: skip
        fold = np.maximum(fold, stroke(g.px(path), g.shape, 0.008 * g.ppu))
    depth = 0.003 + 0.012 * age + 0.008 * max(face.smile, 0)
    if age > 0.35:
        for k in range(4):
            y = -0.2 - 0.035 * k
            pts = spline([(-0.15, y + 0.01), (-0.05, y + 0.004 * np.sin(look.texture[k])), (0.06, y - 0.003), (0.15, y + 0.012)], 5)
            fold = np.maximum(fold, stroke(g.px(pts), g.shape, 0.005 * g.ppu) * (age - 0.3))
        for s in (-1, 1):
            for k in range(3):
                x = e + look.eye_width * 0.6
                pts = spline([(s * x, 0.005 + 0.008 * k), (s * (x + 0.025), 0.012 * (k - 0.8)), (s * (x + 0.05), 0.03 * (k - 0.8))], 5)
                fold = np.maximum(fold, stroke(g.px(pts), g.shape, 0.004 * g.ppu) * (age - 0.3))
    return z - depth * blur(fold, 0.007 * g.ppu)


def _skin(look: Look, g: Plane, p68: np.ndarray) -> np.ndarray:
    """Skin colour before light, with redness, blotches, freckles, shaved or full beards."""
    U, V = g.U, g.V
    t = look.texture
    out = np.empty((*g.shape, 3), np.float32)
    out[:] = look.skin
    blotch = sample("cloud", (U + 1) * 260 + t[0], (V + 1) * 260 + t[1]) * 0.018 + sample("grain", U * 300 + t[2], V * 300 + t[1]) * 0.012
    red = look.blush * (0.09 * (bell(U, -0.18, 0.08) + bell(U, 0.18, 0.08)) * bell(V, 0.13, 0.07) + 0.08 * bell(U, 0, 0.06) * bell(V, 0.18, 0.05))
    under = (bell(U, -look.eye_x, 0.06) + bell(U, look.eye_x, 0.06)) * bell(V, 0.03, 0.04) * (0.06 + 0.06 * look.age)
    out *= (1 + blotch - under)[..., None]
    out[..., 0] += red * 0.45
    out[..., 1] -= red * 0.55
    out[..., 2] -= red * 0.4
    if look.freckles:
        dots = smoothstep(sample("curl", U * 700 + t[3], V * 700 + t[4]), 1.2, 1.9) * bell(V, 0.1, 0.1) * bell(U, 0, 0.25)
        mix(out, look.skin * np.array([0.72, 0.58, 0.5], np.float32), dots * 0.5 * look.freckles)
    return out


def _beard(look: Look, g: Plane, rgb: np.ndarray, mask: np.ndarray, p68: np.ndarray) -> np.ndarray | None:
    """Stubble darkens the skin; beards return a matte of hair to raise and colour."""
    if look.beard == "none":
        return None
    U, V, y = g.U, g.V, float(p68[51, 1])
    low = smoothstep(V - 0.1 * np.cos(U * 5) , 0.13, 0.24) * np.ones_like(U)
    cheek = smoothstep(V + 0.9 * np.maximum(np.abs(U) - 0.13, 0) ** 0.9 - 0.0, 0.245, 0.31)
    sides = smoothstep(np.abs(U) + 0.1 * np.maximum(V, 0), 0.205, 0.285) * smoothstep(V, 0.0, 0.09)
    area = np.maximum(np.maximum(low, 0) * cheek, sides)
    tache = smoothstep(V, y - 0.055, y - 0.03) * smoothstep(np.abs(U), look.mouth_width + 0.035, look.mouth_width - 0.01) * smoothstep(V, y + 0.05, y + 0.02)
    chin = smoothstep(np.abs(U), 0.12, 0.08) * smoothstep(V, y + 0.06, y + 0.1)
    shape = {"stubble": np.maximum(area * (V > look.nose_length), sides), "full": np.maximum(area, sides), "goatee": np.maximum(tache, chin),
             "moustache": tache}[look.beard]  # fmt: skip
    shape = np.clip(shape, 0, 1) * mask
    if look.beard == "stubble":
        speck = 0.5 + 0.25 * sample("grain", U * 900 + look.texture[5], V * 900)
        mix(rgb, look.skin * 0.45 + look.hair * 0.35, blur(shape, 0.02 * g.ppu) * np.clip(speck, 0, 1) * 0.42)
        return None
    hair = 0.5 * sample("strand", U * 600 + 60 * U * np.abs(U) + look.texture[5], V * 400) + 0.6 * sample("curl", U * 700, V * 600)
    return np.clip(blur(shape, 0.022 * g.ppu) * 1.35 + 0.14 * hair * (shape > 0.02) - 0.22, 0, 0.92)


def _eye(look: Look, face: Face, g: Plane, rgb: np.ndarray, p: np.ndarray, side: int) -> tuple:
    """Paints eyeball, iris, pupil and lids of one eye into the colours; returns what the light needs later."""
    upper, lower = eye_curves(p)
    ring = g.px(np.concatenate([upper, lower[::-1]]))
    inside = fill(ring, g.shape)
    a = look.eye_width / 2
    centre = (p[0] + p[3]) / 2 + np.array([face.gaze[0] * a * 0.55, look.eye_height * (-0.1 + face.gaze[1] * 0.3)], np.float32)
    rows, cols = g.window(p[:, 0].min() - 0.05, p[:, 1].min() - 0.08, p[:, 0].max() + 0.05, p[:, 1].max() + 0.06)
    sub, U, V = rgb[rows, cols], g.U[:, cols], g.V[rows]
    white = np.array([0.9, 0.875, 0.86], np.float32) * (0.9 + 0.1 * look.skin.mean())
    ball = np.empty_like(sub)
    edge = 1 - 0.3 * smoothstep(np.abs(U - (p[0, 0] + p[3, 0]) / 2), a * 0.5, a)
    ball[:] = white * edge[..., None]
    r = np.hypot(U - centre[0], V - centre[1]) / (look.eye_height * 0.52 + 0.006)
    angle = np.arctan2(V - centre[1], U - centre[0])
    spokes = 0.14 * np.sin(angle * 17 + look.texture[6]) * np.sin(angle * 9 + look.texture[7])
    colour = look.iris * (0.85 + 0.35 * smoothstep(r, 0.3, 0.75) + spokes + 0.35 * np.maximum(V - centre[1], 0) / look.eye_height)[..., None]
    px = 1 / (g.ppu * (look.eye_height * 0.52 + 0.006))
    colour *= (1 - 0.6 * smoothstep(r, 0.78, 1.0))[..., None]
    mix(ball, colour, smoothstep(r, 1 + px, 1 - px))
    mix(ball, 0.015, smoothstep(r, 0.4 + px, 0.4 - px))
    lid_shadow = blur(1 - inside[rows, cols], 0.012 * g.ppu)
    lid_shadow = np.maximum(lid_shadow - 0.08, 0) * smoothstep(V, p[:, 1].max(), p[:, 1].min())
    ball *= (1 - 0.75 * np.clip(lid_shadow, 0, 1))[..., None]
    if look.makeup > 0.45:
        shadow = bell(U, side * look.eye_x, 0.07) * bell(V, p[0, 1] - look.eye_height * 0.75, 0.035)
        mix(sub, look.skin * 0.5 + 0.2 * look.cloth, np.clip(shadow * (look.makeup - 0.3), 0, 0.6))
    mix(sub, ball, inside[rows, cols])
    crease = upper + np.array([0, -0.012 - 0.35 * look.eye_height * (1 - look.age * 0.4)]) + np.array([0, 0.012]) * np.linspace(-1, 1, len(upper))[:, None] ** 2
    ink(rgb, g.px(crease), 0.006 * g.ppu, look.skin * 0.5, 0.55, 0.004 * g.ppu)
    ink(rgb, g.px(lower + np.array([0, 0.001])), 0.006 * g.ppu, look.skin * np.array([0.75, 0.5, 0.48]), 0.55)
    inner = p[3] if side < 0 else p[0]
    mix(sub, np.array([0.75, 0.45, 0.42], np.float32), (np.hypot(U - inner[0] - side * 0.004, V - inner[1]) < 0.007) * inside[rows, cols] * 0.8)
    return upper, lower, centre, inside


def _lids(look: Look, g: Plane, rgb: np.ndarray, eye: tuple, side: int) -> None:
    """Lash lines, lashes and catchlights, painted after the light."""
    upper, lower, centre, inside = eye
    dark = np.minimum(look.hair * 0.35, 0.12) * 0.8
    soft = 0.35 + 0.3 * (1 - look.masculine) + 0.3 * min(look.makeup, 1)
    ink(rgb, g.px(upper), (0.006 + 0.005 * min(1, soft)) * g.ppu, dark, min(1.0, 0.55 + soft * 0.5), 0.002 * g.ppu)
    ink(rgb, g.px(lower), 0.003 * g.ppu, dark, 0.35 * soft)
    outer = upper if side > 0 else upper[::-1]
    if look.masculine < 0.5:  # lashes fan out towards the outer corner
        for k in range(len(outer) // 3, len(outer), 2):
            root = outer[k]
            t = k / len(outer)
            tip = root + np.array([side * 0.02 * t, -0.018 - 0.008 * t]) * (0.6 + 0.4 * min(look.makeup, 1))
            ink(rgb, g.px(np.stack([root, tip])), 0.003 * g.ppu, dark, 0.5)
    spot = g.px((centre + np.array([-0.011, -0.01]))[None])[0]
    yy, xx = slice(max(int(spot[1]) - 12, 0), int(spot[1]) + 13), slice(max(int(spot[0]) - 12, 0), int(spot[0]) + 13)
    y, x = np.mgrid[yy, xx]
    mix(rgb[yy, xx], np.ones(3, np.float32), smoothstep(np.hypot(x - spot[0], y - spot[1]), 0.0085 * g.ppu, 0.004 * g.ppu) * 0.9 * inside[yy, xx])


def _lips(look: Look, face: Face, g: Plane, rgb: np.ndarray, p68: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Paints lips, teeth and the dark between them into the colours; returns the mattes of the lips and of the opening."""
    p = p68[48:]
    up, low, in_up, in_low = lip_curves(p)
    lips = fill(g.px(np.concatenate([up, low[::-1]])), g.shape)
    hole = fill(g.px(np.concatenate([in_up, in_low[::-1]])), g.shape) if face.open > 0.002 else np.zeros_like(lips)
    soft = blur(lips, 0.0045 * g.ppu)
    lines = 1 + 0.06 * sample("strand", g.U * 900 + look.texture[8], g.V * 120)
    shade = np.where(g.V < look.mouth_y + 0.004, 0.88, 1.04)
    mix(rgb, look.lip * (lines * shade)[..., None], soft * (0.85 if look.masculine < 0.5 else 0.7))
    ink(rgb, g.px(in_up), 0.006 * g.ppu, look.lip * 0.3, 1.2, 0.003 * g.ppu)
    if face.open > 0.002:
        inside = np.empty_like(rgb)
        inside[:] = np.array([0.2, 0.07, 0.07]) * (0.5 + 0.5 * look.skin[1])
        tongue = bell(g.U, 0, 0.06) * smoothstep(g.V, look.mouth_y + face.open * 0.35, look.mouth_y + face.open * 0.95)
        mix(inside, np.array([0.6, 0.3, 0.29], np.float32), tongue * 0.75)
        reach = min(face.open * 0.95, 0.024 + 0.008 * max(face.smile, 0))
        top = np.interp(g.U[0], in_up[:, 0], in_up[:, 1]).astype(np.float32)[None]
        width = 0.03 + 0.004 * np.cos(g.U * 30)
        gaps = 0.12 * np.exp(-((np.mod(g.U + width / 2, width) - width / 2) ** 2) / 3e-6) + 0.5 * smoothstep(np.abs(g.U), 0.06, 0.13)
        teeth = smoothstep(g.V, top + reach + 0.003, top + reach - 0.003)
        mix(inside, (np.array([0.9, 0.87, 0.82], np.float32) * (1 - gaps)[..., None]), teeth * (0.95 if face.smile > 0.2 or face.open > 0.02 else 0.6))
        inside *= (1 - 0.55 * np.clip(blur(1 - hole, 0.008 * g.ppu), 0, 1))[..., None]
        mix(rgb, inside, hole)
    for a, b in ((0, 12), (6, 16)):
        ink(rgb, g.px(np.stack([p[a], p[b]])), 0.006 * g.ppu, look.lip * 0.4, 0.7, 0.004 * g.ppu)
    return soft, hole


def _brows(look: Look, g: Plane, rgb: np.ndarray, p68: np.ndarray) -> None:
    """Brows as a soft band of hairs along points 17-26, thinner outwards."""
    colour = np.clip(look.hair * 0.8 if look.hair.mean() < 0.6 else look.hair * 0.65, 0.05, 0.7)
    for pts, inner in ((p68[17:22], -1), (p68[22:27], 0)):
        mid = spline(pts, 8)
        t = np.linspace(0, 1, len(mid)) if inner == -1 else np.linspace(1, 0, len(mid))
        wide = (look.brow_thickness * (0.25 + 0.75 * t**0.6))[:, None] * np.array([0, 1])
        band = fill(g.px(np.concatenate([mid - wide * 0.8, (mid + wide * 0.8)[::-1]])), g.shape)
        rows, cols = g.window(mid[:, 0].min() - 0.04, mid[:, 1].min() - 0.05, mid[:, 0].max() + 0.04, mid[:, 1].max() + 0.05)
        side = -1 if inner == -1 else 1
        hairs = sample("strand", (g.U[:, cols] * side + 0.55 * g.V[rows]) * 1100 + look.texture[9], g.V[rows] * 250)
        soft = blur(band[rows, cols], 0.006 * g.ppu)
        mix(rgb[rows, cols], colour.astype(np.float32), np.clip(soft * (0.85 + 0.35 * hairs), 0, 0.95))


def _glasses(look: Look, g: Plane, rgb: np.ndarray, alpha: np.ndarray) -> None:
    """Frames around both eyes, a bridge, temples, and a faint reflection."""
    if look.glasses == "none":
        return
    power = 2.0 if look.glasses == "round" else 3.5
    a = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    sup = lambda c: np.sign(c) * np.abs(c) ** (2 / power)  # noqa: E731
    thick = 0.006 if look.glasses == "rimless" else 0.014
    frame = np.zeros(g.shape, np.float32)
    for s in (-1, 1):
        ring = np.stack([s * (look.eye_x + 0.004) + 0.105 * sup(np.cos(a)), 0.015 + (0.095 if power == 2 else 0.075) * sup(np.sin(a))], 1)
        frame = np.maximum(frame, stroke(g.px(ring), g.shape, thick * g.ppu, True))
        frame = np.maximum(frame, stroke(g.px(np.array([(s * (look.eye_x + 0.105), -0.01), (s * (look.face_width + 0.03), 0.0)])), g.shape, 0.016 * g.ppu))
        lens = fill(g.px(ring), g.shape)
        glare = smoothstep(np.abs(g.U - g.V * 0.6 - s * look.eye_x + 0.02), 0.03, 0.01) * 0.09
        mix(rgb, np.ones(3, np.float32), lens * glare)
    bridge = spline([(-look.eye_x + 0.1, -0.005), (0, -0.018), (look.eye_x - 0.1, -0.005)], 6)
    frame = np.maximum(frame, stroke(g.px(bridge), g.shape, 0.013 * g.ppu))
    shadow = np.roll(blur(frame, 0.008 * g.ppu), int(0.014 * g.ppu), 0)
    rgb *= (1 - 0.25 * shadow)[..., None]
    mix(rgb, look.glasses_colour, frame)
    alpha[:] = np.maximum(alpha, frame)


def draw_face(look: Look, face: Face, g: Plane, light: Light) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The head without hair: rgb (h, w, 3), matte (h, w) and the skull's matte, in the plane `g`."""
    p68 = landmarks(look, face)
    mask = fill(g.px(outline(look, face)), g.shape)
    z = _relief(look, face, g, mask, p68)
    rgb = _skin(look, g, p68)
    ear = np.zeros_like(mask)
    for s, c in zip((-1, 1), ears(look), strict=True):
        shape = spline([c + np.array(q) * np.array([s, 1]) for q in ((-0.03, -0.06), (0.012, -0.085), (0.036, -0.045), (0.024, 0.02), (0.004, 0.08), (-0.03, 0.07))], 6, True)
        ear = np.maximum(ear, fill(g.px(shape), g.shape))
        inner = spline([c + np.array(q) * np.array([s, 1]) for q in ((-0.01, -0.055), (0.016, -0.05), (0.012, 0.005), (-0.004, 0.035))], 6)
        ink(rgb, g.px(inner), 0.014 * g.ppu, look.skin * 0.62, 1.0, 0.006 * g.ppu, 1 - mask)
    outside = ear * (1 - mask)
    mix(rgb, look.skin * np.array([1.02, 0.84, 0.8], np.float32), outside * 0.6)
    z = z + outside * blur(ear, 0.018 * g.ppu) * 0.05
    lips, hole = _lips(look, face, g, rgb, p68)
    z += blur(lips, 0.012 * g.ppu) * (0.016 if look.lip_lower > 0.03 else 0.011) * (1 - hole)
    eyes = [_eye(look, face, g, rgb, p68[i : i + 6], s) for i, s in ((36, -1), (42, 1))]
    _brows(look, g, rgb, p68)
    hair = _beard(look, g, rgb, mask, p68)
    if hair is not None:
        mix(rgb, look.hair, hair * (1 - np.maximum(lips * 0.9, hole)) * 0.92)
        z += hair * (0.02 + 0.004 * sample("strand", g.U * 420 + look.texture[5], g.V * 260)) * (1 - np.maximum(lips, hole))
    nl, nw = look.nose_length, look.nose_width
    for s in (-1, 1):  # nostrils
        hole_ = np.clip(bell(g.U, s * nw * 0.42, 0.019) * bell(g.V, nl + 0.001, 0.0085) * 1.3, 0, 1)
        mix(rgb, look.skin * 0.22, hole_ * 0.85)
    z = blur(z, 0.003 * g.ppu) * g.ppu
    nx, ny, nz = normals(z)
    gloss = 0.1 + 0.08 * (1 - look.age)
    lit = light.shade(rgb, nx, ny, nz, skin=True, gloss=gloss, power=20)
    ao = np.clip((blur(z, 0.045 * g.ppu) - z) / (0.03 * g.ppu), 0, 1)  # hollows see less sky
    lit *= (1 - 0.38 * ao * mask)[..., None]
    wet = bell(g.V, look.mouth_y + look.lip_lower * 0.5 + face.open * 0.8, 0.007) * bell(g.U, -0.015, 0.04) * lips * (1 - hole)
    lit += (0.1 + 0.15 * min(look.makeup, 1)) * wet[..., None]
    for s, eye in zip((-1, 1), eyes, strict=True):
        _lids(look, g, lit, eye, s)
    alpha = np.maximum(mask, ear)
    _glasses(look, g, lit, alpha)
    return lit, alpha, mask
