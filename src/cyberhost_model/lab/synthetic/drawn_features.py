"""Eyes, lips with teeth, brows and glasses of a drawn face, painted along the 68 points in the face's own plane."""

from __future__ import annotations

import numpy as np

from cyberhost_model.lab.synthetic.drawn_appearance import Appearance
from cyberhost_model.lab.synthetic.drawn_face_shape import Plane, eye_curves, lip_curves
from cyberhost_model.lab.synthetic.drawn_paint import bell, blur, fill, ink, mix, sample, smoothstep, spline, stroke
from cyberhost_model.lab.synthetic.drawn_pose import Face


def paint_eye(person: Appearance, face: Face, g: Plane, rgb: np.ndarray, p: np.ndarray, side: int) -> tuple:
    """Paint eyeball, iris, pupil and lids of one eye; returns what `paint_lids` needs after the light."""
    upper, lower = eye_curves(p)
    ring = g.px(np.concatenate([upper, lower[::-1]]))
    inside = fill(ring, g.shape)
    a = person.eye_width / 2
    centre = (p[0] + p[3]) / 2 + np.array(
        [face.gaze[0] * a * 0.55, person.eye_height * (-0.1 + face.gaze[1] * 0.3)], np.float32
    )
    rows, cols = g.window(p[:, 0].min() - 0.05, p[:, 1].min() - 0.08, p[:, 0].max() + 0.05, p[:, 1].max() + 0.06)
    sub, U, V = rgb[rows, cols], g.U[:, cols], g.V[rows]
    white = np.array([0.9, 0.875, 0.86], np.float32) * (0.9 + 0.1 * person.skin.mean())
    ball = np.empty_like(sub)
    edge = 1 - 0.3 * smoothstep(np.abs(U - (p[0, 0] + p[3, 0]) / 2), a * 0.5, a)
    ball[:] = white * edge[..., None]
    r = np.hypot(U - centre[0], V - centre[1]) / (person.eye_height * 0.52 + 0.006)
    angle = np.arctan2(V - centre[1], U - centre[0])
    spokes = 0.14 * np.sin(angle * 17 + person.texture[6]) * np.sin(angle * 9 + person.texture[7])
    colour = (
        person.iris
        * (0.85 + 0.35 * smoothstep(r, 0.3, 0.75) + spokes + 0.35 * np.maximum(V - centre[1], 0) / person.eye_height)[
            ..., None
        ]
    )
    px = 1 / (g.ppu * (person.eye_height * 0.52 + 0.006))
    colour *= (1 - 0.6 * smoothstep(r, 0.78, 1.0))[..., None]
    mix(ball, colour, smoothstep(r, 1 + px, 1 - px))
    mix(ball, 0.015, smoothstep(r, 0.4 + px, 0.4 - px))
    lid_shadow = blur(1 - inside[rows, cols], 0.012 * g.ppu)
    lid_shadow = np.maximum(lid_shadow - 0.08, 0) * smoothstep(V, p[:, 1].max(), p[:, 1].min())
    ball *= (1 - 0.75 * np.clip(lid_shadow, 0, 1))[..., None]
    if person.makeup > 0.45:
        shadow = bell(U, side * person.eye_x, 0.07) * bell(V, p[0, 1] - person.eye_height * 0.75, 0.035)
        mix(sub, person.skin * 0.5 + 0.2 * person.cloth, np.clip(shadow * (person.makeup - 0.3), 0, 0.6))
    mix(sub, ball, inside[rows, cols])
    crease = (
        upper
        + np.array([0, -0.012 - 0.35 * person.eye_height * (1 - person.age * 0.4)])
        + np.array([0, 0.012]) * np.linspace(-1, 1, len(upper))[:, None] ** 2
    )
    ink(rgb, g.px(crease), 0.006 * g.ppu, person.skin * 0.5, 0.55, 0.004 * g.ppu)
    ink(rgb, g.px(lower + np.array([0, 0.001])), 0.006 * g.ppu, person.skin * np.array([0.75, 0.5, 0.48]), 0.55)
    inner = p[3] if side < 0 else p[0]
    mix(
        sub,
        np.array([0.75, 0.45, 0.42], np.float32),
        (np.hypot(U - inner[0] - side * 0.004, V - inner[1]) < 0.007) * inside[rows, cols] * 0.8,
    )
    return upper, lower, centre, inside


def paint_lids(person: Appearance, g: Plane, rgb: np.ndarray, eye: tuple, side: int) -> None:
    """Paint lash lines, lashes and catchlights, after the light."""
    upper, lower, centre, inside = eye
    dark = np.minimum(person.hair * 0.35, 0.12) * 0.8
    soft = 0.35 + 0.3 * (1 - person.masculine) + 0.3 * min(person.makeup, 1)
    ink(rgb, g.px(upper), (0.006 + 0.005 * min(1, soft)) * g.ppu, dark, min(1.0, 0.55 + soft * 0.5), 0.002 * g.ppu)
    ink(rgb, g.px(lower), 0.003 * g.ppu, dark, 0.35 * soft)
    outer = upper if side > 0 else upper[::-1]
    if person.masculine < 0.5:  # lashes fan out towards the outer corner
        for k in range(len(outer) // 3, len(outer), 2):
            root = outer[k]
            t = k / len(outer)
            tip = root + np.array([side * 0.02 * t, -0.018 - 0.008 * t]) * (0.6 + 0.4 * min(person.makeup, 1))
            ink(rgb, g.px(np.stack([root, tip])), 0.003 * g.ppu, dark, 0.5)
    spot = g.px((centre + np.array([-0.011, -0.01]))[None])[0]
    yy, xx = slice(max(int(spot[1]) - 12, 0), int(spot[1]) + 13), slice(max(int(spot[0]) - 12, 0), int(spot[0]) + 13)
    y, x = np.mgrid[yy, xx]
    mix(
        rgb[yy, xx],
        np.ones(3, np.float32),
        smoothstep(np.hypot(x - spot[0], y - spot[1]), 0.0085 * g.ppu, 0.004 * g.ppu) * 0.9 * inside[yy, xx],
    )


def paint_lips(
    person: Appearance, face: Face, g: Plane, rgb: np.ndarray, p68: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Paint lips, teeth and the dark between them; returns the mattes of the lips and of the opening."""
    p = p68[48:]
    up, low, in_up, in_low = lip_curves(p)
    lips = fill(g.px(np.concatenate([up, low[::-1]])), g.shape)
    hole = fill(g.px(np.concatenate([in_up, in_low[::-1]])), g.shape) if face.open > 0.002 else np.zeros_like(lips)
    soft = blur(lips, 0.0045 * g.ppu)
    lines = 1 + 0.06 * sample("strand", g.U * 900 + person.texture[8], g.V * 120)
    shade = np.where(g.V < person.mouth_y + 0.004, 0.88, 1.04)
    mix(rgb, person.lip * (lines * shade)[..., None], soft * (0.85 if person.masculine < 0.5 else 0.7))
    ink(rgb, g.px(in_up), 0.006 * g.ppu, person.lip * 0.3, 1.2, 0.003 * g.ppu)
    if face.open > 0.002:
        inside = np.empty_like(rgb)
        inside[:] = np.array([0.2, 0.07, 0.07]) * (0.5 + 0.5 * person.skin[1])
        tongue = bell(g.U, 0, 0.06) * smoothstep(
            g.V, person.mouth_y + face.open * 0.35, person.mouth_y + face.open * 0.95
        )
        mix(inside, np.array([0.6, 0.3, 0.29], np.float32), tongue * 0.75)
        reach = min(face.open * 0.95, 0.024 + 0.008 * max(face.smile, 0))
        top = np.interp(g.U[0], in_up[:, 0], in_up[:, 1]).astype(np.float32)[None]
        width = 0.03 + 0.004 * np.cos(g.U * 30)
        gaps = 0.12 * np.exp(-((np.mod(g.U + width / 2, width) - width / 2) ** 2) / 3e-6) + 0.5 * smoothstep(
            np.abs(g.U), 0.06, 0.13
        )
        teeth = smoothstep(g.V, top + reach + 0.003, top + reach - 0.003)
        mix(
            inside,
            (np.array([0.9, 0.87, 0.82], np.float32) * (1 - gaps)[..., None]),
            teeth * (0.95 if face.smile > 0.2 or face.open > 0.02 else 0.6),
        )
        inside *= (1 - 0.55 * np.clip(blur(1 - hole, 0.008 * g.ppu), 0, 1))[..., None]
        mix(rgb, inside, hole)
    for a, b in ((0, 12), (6, 16)):
        ink(rgb, g.px(np.stack([p[a], p[b]])), 0.006 * g.ppu, person.lip * 0.4, 0.7, 0.004 * g.ppu)
    return soft, hole


def paint_brows(person: Appearance, g: Plane, rgb: np.ndarray, p68: np.ndarray) -> None:
    """Paint the brows as soft bands of hairs along points 17-26, thinner outwards."""
    colour = np.clip(person.hair * 0.8 if person.hair.mean() < 0.6 else person.hair * 0.65, 0.05, 0.7)
    for pts, inner in ((p68[17:22], -1), (p68[22:27], 0)):
        mid = spline(pts, 8)
        t = np.linspace(0, 1, len(mid)) if inner == -1 else np.linspace(1, 0, len(mid))
        wide = (person.brow_thickness * (0.25 + 0.75 * t**0.6))[:, None] * np.array([0, 1])
        band = fill(g.px(np.concatenate([mid - wide * 0.8, (mid + wide * 0.8)[::-1]])), g.shape)
        rows, cols = g.window(
            mid[:, 0].min() - 0.04, mid[:, 1].min() - 0.05, mid[:, 0].max() + 0.04, mid[:, 1].max() + 0.05
        )
        side = -1 if inner == -1 else 1
        hairs = sample("strand", (g.U[:, cols] * side + 0.55 * g.V[rows]) * 1100 + person.texture[9], g.V[rows] * 250)
        soft = blur(band[rows, cols], 0.006 * g.ppu)
        mix(rgb[rows, cols], colour.astype(np.float32), np.clip(soft * (0.85 + 0.35 * hairs), 0, 0.95))


def paint_glasses(person: Appearance, g: Plane, rgb: np.ndarray, alpha: np.ndarray) -> None:
    """Paint frames around both eyes, a bridge, temples and a faint reflection."""
    if person.glasses == "none":
        return
    power = 2.0 if person.glasses == "round" else 3.5
    a = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    sup = lambda c: np.sign(c) * np.abs(c) ** (2 / power)  # noqa: E731
    thick = 0.006 if person.glasses == "rimless" else 0.014
    frame = np.zeros(g.shape, np.float32)
    for s in (-1, 1):
        ring = np.stack(
            [
                s * (person.eye_x + 0.004) + 0.105 * sup(np.cos(a)),
                0.015 + (0.095 if power == 2 else 0.075) * sup(np.sin(a)),
            ],
            1,
        )
        frame = np.maximum(frame, stroke(g.px(ring), g.shape, thick * g.ppu, True))
        frame = np.maximum(
            frame,
            stroke(
                g.px(np.array([(s * (person.eye_x + 0.105), -0.01), (s * (person.face_width + 0.03), 0.0)])),
                g.shape,
                0.016 * g.ppu,
            ),
        )
        lens = fill(g.px(ring), g.shape)
        glare = smoothstep(np.abs(g.U - g.V * 0.6 - s * person.eye_x + 0.02), 0.03, 0.01) * 0.09
        mix(rgb, np.ones(3, np.float32), lens * glare)
    bridge = spline([(-person.eye_x + 0.1, -0.005), (0, -0.018), (person.eye_x - 0.1, -0.005)], 6)
    frame = np.maximum(frame, stroke(g.px(bridge), g.shape, 0.013 * g.ppu))
    shadow = np.roll(blur(frame, 0.008 * g.ppu), int(0.014 * g.ppu), 0)
    rgb *= (1 - 0.25 * shadow)[..., None]
    mix(rgb, person.glasses_colour, frame)
    alpha[:] = np.maximum(alpha, frame)
