"""What a drawn person wears: colours, patterns, necklines, collars, lapels, buttons and folds."""

from __future__ import annotations

import numpy as np

from cyberhost_model.lab.synthetic.drawn_look import Appearance
from cyberhost_model.lab.synthetic.drawn_paint import blur, fill, ink, mix, sample, smoothstep, spline, stroke


def cloth_colour(look: Appearance, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The cloth's colour at cloth coordinates (head heights), shape (H, W, 3)."""
    x, y = np.broadcast_arrays(np.asarray(x, np.float32), np.asarray(y, np.float32))
    out = np.empty((*x.shape, 3), np.float32)
    out[:] = look.cloth
    t = look.texture
    fine = sample("grain", x * 190 + t[0], y * 190 + t[1])
    kind = look.pattern
    if kind in ("plain", "logo"):
        out *= (1 + 0.025 * fine)[..., None]
    elif kind == "heather":
        out *= (1 + 0.06 * sample("grain", x * 150 + t[0], y * 260 + t[1]))[..., None]
    elif kind in ("stripes", "pinstripes"):
        upright = kind == "pinstripes" or t[2] < 120
        k = 6 + t[3] / 60 if kind == "stripes" else 22
        wave = np.sin(2 * np.pi * k * (x if upright else y) / 1.2)
        on = smoothstep(wave, 0.2, 0.5) if kind == "stripes" else smoothstep(wave, 0.8, 0.95) * 0.5
        mix(out, look.cloth2, on)
    elif kind == "check":
        k = 12 + t[3] / 40
        a, b = smoothstep(np.sin(k * x * 2), 0, 0.4), smoothstep(np.sin(k * y * 2), 0, 0.4)
        mix(out, look.cloth2, (a + b) * 0.4)
    elif kind == "dots":
        k = 9 + t[3] / 50
        gx, gy = np.mod(x * k, 1) - 0.5, np.mod(y * k + 0.5 * np.floor(x * k), 1) - 0.5
        mix(out, look.cloth2, smoothstep(np.hypot(gx, gy), 0.26, 0.18))
    else:  # floral
        flower = sample("curl", x * 90 + t[4], y * 90 + t[5])
        mix(out, look.cloth2, smoothstep(flower, 0.9, 1.2))
        mix(out, 1 - look.cloth2 * 0.7, smoothstep(flower, 1.9, 2.2))
        mix(
            out,
            np.array([0.25, 0.4, 0.2], np.float32),
            smoothstep(sample("curl", x * 80 + t[6], y * 80 + t[7]), 1.3, 1.6) * 0.8,
        )
    return out


def neckline(look: Appearance) -> np.ndarray:
    """The edge of the cloth below the neck (N, 2), image left to right, head heights about the neck point."""
    nw = look.neck_width
    w, depth = {
        "tshirt": (nw + 0.05, 0.07),
        "sweater": (nw + 0.02, 0.0),
        "hoodie": (nw + 0.06, 0.06),
        "vneck": (nw + 0.05, 0.36),
        "shirt": (nw + 0.03, 0.24),
        "polo": (nw + 0.03, 0.2),
        "jacket": (nw + 0.05, 0.62),
        "dress": (nw + 0.2, 0.3),
        "tank": (nw + 0.15, 0.3),
    }[look.clothes]
    shoulder = -0.3 + 0.17 * max(0.0, w - nw - 0.05) / 0.2
    sharp = look.clothes in ("vneck", "shirt", "polo", "jacket")
    mid = (
        [(-w * 0.55, depth * 0.45 - 0.06), (0, depth), (w * 0.55, depth * 0.45 - 0.06)]
        if sharp
        else [(-w * 0.72, depth * 0.72 - 0.06), (0, depth), (w * 0.72, depth * 0.72 - 0.06)]
    )
    pts = np.array([(-w, shoulder), *mid, (w, shoulder)])
    return np.concatenate([spline(pts[:3], 6), spline(pts[2:], 6)]) if sharp else spline(pts, 6)


def dress_torso(look: Appearance, to_px, scale: float, rgb: np.ndarray, z: np.ndarray, cloth: np.ndarray) -> None:
    """Adds collar, placket, lapels, pockets and logo to the cloth's colours and relief.

    `to_px` maps head heights to pixels; `rgb`, `z` (pixels) and the matte `cloth` are changed in place.
    """
    line = neckline(look)
    shape = z.shape
    kind = look.clothes
    edge = to_px(line)
    darker, lighter = look.cloth * 0.72, np.clip(look.cloth * 1.08 + 0.02, 0, 1)
    if kind in ("tshirt", "vneck", "sweater", "dress", "tank", "hoodie"):
        band = stroke(edge, shape, (0.09 if kind in ("sweater", "hoodie") else 0.035) * scale)
        z += blur(band, 0.01 * scale) * 0.02 * scale * cloth
        if kind != "dress":
            mix(
                rgb,
                darker if kind != "hoodie" else lighter,
                blur(stroke(to_px(line + np.array([0, 0.035])), shape, 0.01 * scale), 0.4) * cloth * 0.6,
            )
    if kind == "hoodie":
        for s in (-1, 1):
            ink(
                rgb,
                to_px(spline([(s * 0.1, 0.1), (s * 0.12, 0.35), (s * 0.11, 0.55)], 5)),
                0.022 * scale,
                np.full(3, 0.9),
                0.9,
            )
        pocket = np.array([(-0.28, 1.5), (0.28, 1.5), (0.4, 1.95), (-0.4, 1.95)])
        ink(rgb, to_px(np.concatenate([pocket, pocket[:1]])), 0.015 * scale, darker, 0.8)
    if kind in ("shirt", "polo"):
        end = 0.75 if kind == "polo" else 3.3
        start = float(line[:, 1].max()) - 0.02
        ink(rgb, to_px(np.array([(0.05, start), (0.05, end)])), 0.012 * scale, darker, 0.7, 0.3)
        z += (
            blur(stroke(to_px(np.array([(0.0, start), (0.0, end)])), shape, 0.09 * scale), 0.01 * scale) * 0.008 * scale
        )
        for y in np.arange(start + 0.08, end, 0.22 if kind == "shirt" else 0.17):
            c = to_px(np.array([(0.0, y)]))[0]
            if -9 < c[0] < shape[1] + 9 and -9 < c[1] < shape[0] + 9:
                a = np.linspace(0, 2 * np.pi, 10)[:, None]
                mix(
                    rgb,
                    lighter if look.cloth.mean() < 0.5 else darker,
                    fill(c + 0.022 * scale * np.concatenate([np.cos(a), np.sin(a)], 1), shape) * 0.9,
                )
    if kind == "jacket":
        nw = look.neck_width
        vee = np.array([(-nw - 0.08, -0.34), (0.0, 0.69), (nw + 0.08, -0.34)])
        under = fill(to_px(vee), shape) * (
            1 - fill(to_px(np.array([(-nw * 1.6, -0.6), (0, 0.03), (nw * 1.6, -0.6)])), shape)
        )
        cloth[:] = np.maximum(cloth, under)
        shirt = np.full(3, 0.88) if look.cloth2.mean() < 0.6 else look.cloth2
        mix(rgb, shirt, under)
        for s in (-1, 1):  # the shirt's collar
            flap = np.array([(s * nw * 0.95, -0.4), (s * (nw + 0.05), -0.26), (s * 0.12, 0.12), (s * 0.005, 0.05)])
            m = fill(to_px(flap), shape)
            cloth[:] = np.maximum(cloth, m)
            mix(rgb, shirt, m)
            z += blur(m, 0.012 * scale) * 0.03 * scale
            ink(rgb, to_px(flap[1:]), 0.01 * scale, shirt * 0.6, 0.5, 0.3)
        if look.masculine > 0.5 and look.texture[5] > 250:
            mix(
                rgb,
                look.cloth2 * 0.7,
                fill(
                    to_px(
                        np.array(
                            [
                                (-0.05, 0.02),
                                (0.05, 0.02),
                                (0.035, 0.12),
                                (0.075, 0.6),
                                (0, 0.68),
                                (-0.075, 0.6),
                                (-0.035, 0.12),
                            ]
                        )
                    ),
                    shape,
                ),
            )
        for s in (-1, 1):
            lapel = np.array(
                [
                    (s * (nw + 0.03), -0.33),
                    (s * (nw + 0.16), -0.2),
                    (s * 0.36, 0.12),
                    (s * 0.26, 0.18),
                    (s * 0.34, 0.25),
                    (0.0, 0.72),
                    (s * 0.03, 0.6),
                ]
            )
            m = fill(to_px(lapel), shape)
            z += blur(m, 0.012 * scale) * 0.03 * scale
            mix(rgb, lighter, m * 0.5)
            ink(rgb, to_px(np.concatenate([lapel, lapel[:1]])), 0.012 * scale, darker * 0.6, 0.7, 0.3)
        ink(rgb, to_px(np.array([(0.0, 0.7), (0.03, 3.0)])), 0.014 * scale, darker * 0.5, 0.9)
        for y in (0.85, 1.2):
            c = to_px(np.array([(0.06, y)]))[0]
            a = np.linspace(0, 2 * np.pi, 10)[:, None]
            mix(rgb, darker * 0.5, fill(c + 0.028 * scale * np.concatenate([np.cos(a), np.sin(a)], 1), shape))
    if kind in ("shirt", "polo"):
        nw, v = look.neck_width, float(line[:, 1].max())
        for s in (-1, 1):
            collar = spline(
                [
                    (s * (nw + 0.0), -0.38),
                    (s * (nw + 0.1), -0.27),
                    (s * 0.24, 0.06),
                    (s * 0.13, 0.12),
                    (s * 0.03, v * 0.45),
                    (s * nw * 0.75, -0.2),
                ],
                4,
                True,
            )
            m = fill(to_px(collar), shape)
            z += blur(m, 0.012 * scale) * 0.035 * scale
            cloth[:] = np.maximum(cloth, m)
            tone = (
                cloth_colour(look, np.full((1, 1), 0.3), np.full((1, 1), 0.3)).reshape(3)
                if look.pattern != "plain"
                else look.cloth
            )
            mix(rgb, tone * 1.03, m)
            ink(rgb, to_px(np.concatenate([collar, collar[:1]])), 0.01 * scale, darker * 0.8, 0.6, 0.3)
        if look.texture[6] > 200:
            pocket = np.array([(0.24, 0.55), (0.52, 0.53), (0.52, 0.85), (0.38, 0.92), (0.25, 0.86), (0.24, 0.55)])
            ink(rgb, to_px(pocket), 0.01 * scale, darker, 0.7, 0.3)
    if look.pattern == "logo" and kind in ("tshirt", "hoodie", "sweater", "polo"):
        t = look.texture
        small = kind == "polo" or t[7] > 300
        c, r = (np.array([0.32, 0.45]), 0.07) if small else (np.array([0.0, 0.62]), 0.22)
        a = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        shape_ = 1 + 0.45 * np.sign(np.sin(a * (2 + int(t[8]) % 4))) * (t[9] > 250)
        m = fill(to_px(c + r * (shape_ * np.stack([np.cos(a), np.sin(a)]) / 1.4).T), shape)
        mix(rgb, look.cloth2, m * cloth * 0.9)
        if not small:
            for k in range(3):
                ink(
                    rgb,
                    to_px(np.array([(-0.25 + 0.04 * k, 0.95 + 0.09 * k), (0.25 - 0.05 * k, 0.95 + 0.09 * k)])),
                    0.04 * scale,
                    look.cloth2,
                    0.8,
                )


def folds(look: Appearance, to_px, scale: float, shape: tuple[int, ...]) -> np.ndarray:
    """Soft folds of the torso's cloth as relief in pixels: from the armpits, across the waist, and a wrinkled noise."""
    rng = np.random.default_rng(int(look.texture[10] * 1000))
    m = np.zeros(shape, np.float32)
    sw = look.shoulders
    for s in (-1, 1):
        for _ in range(3):
            a = np.array([s * (sw - 0.12), rng.uniform(0.2, 0.5)])
            b = a + np.array([-s * rng.uniform(0.25, 0.5), rng.uniform(-0.12, 0.3)])
            path = to_px(spline([a, (a + b) / 2 + rng.normal(0, 0.04, 2), b], 6))
            m = np.maximum(m, stroke(path, shape, rng.uniform(0.025, 0.05) * scale) * rng.uniform(0.4, 1))
    for _ in range(5):
        y, x = rng.uniform(0.9, 2.1), rng.uniform(-0.5, 0.3)
        path = to_px(
            spline(
                [(x, y), (x + 0.18, y + rng.normal(0, 0.06)), (x + rng.uniform(0.3, 0.5), y + rng.normal(0.05, 0.1))], 6
            )
        )
        m = np.maximum(m, stroke(path, shape, rng.uniform(0.02, 0.05) * scale) * rng.uniform(0.3, 1))
    return -blur(m, 0.025 * scale) * 0.05 * scale


def wrinkles(look: Appearance, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A relief noise in head heights for cloth coordinates."""
    amount = {"jacket": 0.5, "sweater": 0.7}.get(look.clothes, 1.0)
    return (
        amount * 0.006 * sample("cloud", x * 60 + y * 25 + look.texture[2], y * 42 - x * 18 + look.texture[3])
    ).astype(np.float32)
