"""The surroundings of a drawn person: rooms, streets, gardens, lights out of focus, studios; light and camera."""

from __future__ import annotations

import cv2
import numpy as np

from cyberhost_model.lab.synthetic.drawn_paint import Light, bell, blur, fill, mix, sample, smoothstep


def sample_light(rng: np.random.Generator) -> Light:
    """Draw a key light from the front and above, more or less to one side, warm or cool, hard or soft."""
    x = float(rng.normal(0, 0.38))
    d = np.array([np.clip(x, -0.75, 0.75), -rng.uniform(0.2, 0.65), rng.uniform(0.65, 1.0)], np.float32)
    warm = rng.normal(0, 0.05)
    key = np.array([1 + warm, 1.0, 1 - warm * 1.3], np.float32) * rng.uniform(0.84, 1.06)
    sky = np.array([1 - warm * 0.6, 1.0, 1 + warm * 0.8], np.float32)
    return Light((d / np.linalg.norm(d)).astype(np.float32), key, sky, float(rng.uniform(0.35, 0.75)))


def _tone(rng: np.random.Generator, low: float = 0.15, high: float = 0.9, colour: float = 0.12) -> np.ndarray:
    """Draw a colour near a random grey."""
    return np.clip(rng.uniform(low, high) + rng.normal(0, colour, 3), 0.02, 0.98).astype(np.float32)


def _rect(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Make the corners of a rectangle."""
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float32)


def _room(rng: np.random.Generator, w: int, h: int) -> np.ndarray:
    """Draw a wall with furniture-like shapes: windows, boards, pictures, shelves of books, plants, a table's edge."""
    X, Y = np.arange(w, dtype=np.float32)[None], np.arange(h, dtype=np.float32)[:, None]
    out = np.empty((h, w, 3), np.float32)
    out[:] = _tone(rng, 0.3, 0.9, 0.06)
    if rng.random() < 0.3:  # the corner of two walls
        mix(out, _tone(rng, 0.3, 0.8, 0.08), (X > w * rng.uniform(0.1, 0.9)) * np.ones_like(Y))
    shape = (h, w)
    for _ in range(rng.integers(2, 7)):
        kind = rng.integers(6)
        x, y, s = rng.uniform(-0.1, 1) * w, rng.uniform(-0.1, 0.6) * h, rng.uniform(0.15, 0.5) * h
        ratio = rng.uniform(0.6, 1.6)
        if kind == 0:  # window
            mix(out, _tone(rng, 0.3, 0.6), fill(_rect(x - 3, y - 3, x + s * ratio + 3, y + s + 3), shape))
            mix(out, np.clip(_tone(rng, 0.85, 1.0, 0.05), 0, 1), fill(_rect(x, y, x + s * ratio, y + s), shape))
            mix(
                out,
                _tone(rng, 0.3, 0.6),
                fill(_rect(x + s * ratio / 2 - 1.5, y, x + s * ratio / 2 + 1.5, y + s), shape),
            )
        elif kind == 1:  # board or picture
            mix(out, _tone(rng, 0.1, 0.9), fill(_rect(x - 2, y - 2, x + s * ratio + 2, y + s + 2), shape))
            mix(out, _tone(rng, 0.15, 0.7, 0.15), fill(_rect(x, y, x + s * ratio, y + s), shape))
            for _note in range(3):
                mix(
                    out,
                    _tone(rng, 0.2, 0.95, 0.2),
                    fill(
                        _rect(
                            *(
                                np.array([x + rng.uniform(0, 0.7) * s * ratio, y + rng.uniform(0, 0.7) * s] * 2)
                                + np.array([0, 0, s * rng.uniform(0.05, 0.25), s * rng.uniform(0.02, 0.25)])
                            )
                        ),
                        shape,
                    ),
                )
        elif kind == 2:  # shelf of books
            x1, board = x + s * ratio * 1.3, _tone(rng, 0.2, 0.7)
            for row in range(int(rng.integers(1, 4))):
                base, at = y + s * 0.45 * (row + 1), x
                while at < x1:
                    bw, bh = rng.uniform(0.02, 0.06) * h, rng.uniform(0.22, 0.4) * s
                    mix(out, _tone(rng, 0.1, 0.8, 0.2), fill(_rect(at, base - bh, at + bw * 0.9, base), shape))
                    at += bw
                mix(out, board, fill(_rect(x, base, x1, base + 0.02 * h), shape))
        elif kind == 3:  # plant
            leaf = _tone(rng, 0.1, 0.3, 0.03) * np.array([0.7, 1.4, 0.6], np.float32)
            blob = (
                bell(X, x, s * 0.3)
                * bell(Y, y + s * 0.7, s * 0.4)
                * (1 + 0.35 * sample("curl", X * 2 + rng.uniform(0, 512), Y * 2))
            )
            mix(out, leaf * (1 + 0.3 * sample("cloud", X * 6, Y * 6))[..., None], smoothstep(blob, 0.35, 0.5))
        elif kind == 4:  # lamp
            glow = bell(X, x, s * 0.4) * bell(Y, y, s * 0.4)
            out += (glow * 0.5)[..., None] * np.array([1, 0.85, 0.6], np.float32)
        else:  # cupboard, door, curtain
            mix(out, _tone(rng, 0.2, 0.8, 0.08), fill(_rect(x, y, x + s * 0.8, h), shape))
            mix(out, _tone(rng, 0.2, 0.8, 0.05), fill(_rect(x + s * 0.05, y + s * 0.05, x + s * 0.75, h), shape) * 0.5)
    if rng.random() < 0.4:
        table = rng.uniform(0.7, 0.95) * h
        mix(out, _tone(rng, 0.2, 0.6, 0.1) * np.array([1.1, 0.95, 0.8], np.float32), fill(_rect(0, table, w, h), shape))
    return blur(out, rng.choice([0.6, 1.5, 3.0, 5.0, 8.0]) * h / 256)


def _outdoors(rng: np.random.Generator, w: int, h: int) -> np.ndarray:
    """Draw sky, ground and house fronts or trees."""
    X, Y = np.arange(w, dtype=np.float32)[None] / h, np.arange(h, dtype=np.float32)[:, None] / h
    horizon = rng.uniform(0.35, 0.75)
    ox, oy = rng.uniform(0, 512, 2)
    out = np.empty((h, w, 3), np.float32)
    sky = np.array([0.55, 0.72, 0.92], np.float32) * rng.uniform(0.7, 1.05) + rng.normal(0, 0.04, 3)
    out[:] = sky
    mix(out, np.float32(0.95), (0.25 + 0.5 * Y / horizon) * np.ones_like(X))
    mix(out, np.float32(0.97), smoothstep(sample("cloud", X * 130 + ox, Y * 260 + oy), 0.2, 1.5) * 0.8)
    if rng.random() < 0.4:  # a street of house fronts
        at = -0.1
        while at < w / h:
            width, top = rng.uniform(0.12, 0.4), rng.uniform(-0.2, horizon - 0.1)
            wall = _tone(rng, 0.3, 0.8, 0.08)
            mix(out, wall, fill(_rect(at * h, top * h, (at + width) * h, horizon * h + 20), (h, w)))
            for wy in np.arange(top + 0.05, horizon, 0.12):
                for wx in np.arange(at + 0.03, at + width - 0.05, 0.09):
                    mix(out, wall * 0.45, fill(_rect(wx * h, wy * h, (wx + 0.045) * h, (wy + 0.07) * h), (h, w)))
            at += width
    else:  # trees and hedges
        for k in range(2):
            n = sample("cloud", X * (150 + 120 * k) + oy, Y * (150 + 120 * k) + ox)
            green = np.array([0.22, 0.33, 0.14], np.float32) * rng.uniform(0.6, 1.4) + rng.normal(0, 0.03, 3).astype(
                np.float32
            )
            leaf = np.clip(green * (1 + 0.35 * sample("curl", X * 420 + ox, Y * 420))[..., None], 0, 1)
            mix(out, leaf, smoothstep(Y + 0.12 * n, horizon - 0.25 + 0.2 * k, horizon - 0.2 + 0.2 * k))
    ground = (
        np.array([(0.35, 0.42, 0.2), (0.55, 0.45, 0.34), (0.5, 0.5, 0.5), (0.75, 0.68, 0.52)], np.float32)[
            rng.integers(4)
        ]
        * rng.uniform(0.7, 1.2)
    ).astype(np.float32)
    mix(
        out,
        np.clip(ground * (1 + 0.1 * sample("grain", X * 90, Y * 300))[..., None], 0, 1),
        smoothstep(Y, horizon + 0.05, horizon + 0.08) * np.ones_like(X),
    )
    return blur(out, rng.choice([0.8, 2.0, 4.0, 7.0]) * h / 256)


def _bokeh(rng: np.random.Generator, w: int, h: int) -> np.ndarray:
    """Draw lights out of focus in the dark."""
    out = np.empty((h, w, 3), np.float32)
    out[:] = _tone(rng, 0.05, 0.4, 0.08)
    Y = np.arange(h, dtype=np.float32)[:, None] / h
    mix(out, _tone(rng, 0.05, 0.5, 0.1), Y * np.ones((1, w), np.float32))
    a = np.linspace(0, 2 * np.pi, 24)[:, None]
    base = rng.uniform(0.3, 1, 3)
    for _ in range(rng.integers(10, 40)):
        c, r = rng.uniform(0, 1, 2) * (w, h), rng.uniform(0.015, 0.06) * h
        m = fill(c + r * np.concatenate([np.cos(a), np.sin(a)], 1), (h, w))
        out += (m * rng.uniform(0.05, 0.35))[..., None] * np.clip(base + rng.normal(0, 0.25, 3), 0, 1).astype(
            np.float32
        )
    return blur(out, rng.uniform(0.5, 2.5) * h / 256)


def _studio(rng: np.random.Generator, w: int, h: int) -> np.ndarray:
    """Draw a plain, graded, spotlit or cloudy backdrop."""
    X, Y = np.arange(w, dtype=np.float32)[None] / w, np.arange(h, dtype=np.float32)[:, None] / h
    out = np.empty((h, w, 3), np.float32)
    out[:] = _tone(rng, 0.1, 0.97, 0.1)
    kind = rng.integers(4)
    if kind == 1:
        mix(out, _tone(rng, 0.1, 0.95, 0.1), (X * rng.uniform(-1, 1) + Y * rng.uniform(0.2, 1)).clip(0, 1))
    elif kind == 2:
        out *= (0.65 + 0.45 * bell(X, rng.uniform(0.3, 0.7), 0.5) * bell(Y, rng.uniform(0.2, 0.6), 0.6))[..., None]
    elif kind == 3:
        n = sample("cloud", X * w * 0.7 + rng.uniform(0, 512), Y * h * 0.7 + rng.uniform(0, 512))
        mix(out, _tone(rng, 0.1, 0.9, 0.12), np.clip(0.5 + 0.3 * n, 0, 1))
    return out


def draw_background(rng: np.random.Generator, w: int, h: int) -> np.ndarray:
    """Draw a background (h, w, 3) float32 in 0..1."""
    kind = rng.choice(4, p=[0.42, 0.2, 0.08, 0.3])
    out = (_room, _outdoors, _bokeh, _studio)[kind](rng, w, h)
    X, Y = np.arange(w, dtype=np.float32)[None] / w, np.arange(h, dtype=np.float32)[:, None] / h
    gx, gy = rng.normal(0, 0.12, 2)
    out *= (1 + gx * (X - 0.5) + gy * (Y - 0.5))[..., None] * np.float32(rng.uniform(0.75, 1.1))
    if rng.random() < 0.5:
        out *= (1 + 0.02 * sample("grain", X * w + 7, Y * h))[..., None]
    return np.clip(out, 0, 1).astype(np.float32)


def film(rng: np.random.Generator, rgb: np.ndarray) -> np.ndarray:
    """Record a picture (h, w, 3) in 0..1 as a camera does, uint8: exposure, cast, softness, grain, sometimes JPEG."""
    h, w = rgb.shape[:2]
    gain = (1 + rng.normal(0, 0.05)) * (1 + rng.normal(0, 0.025, 3))
    out = np.clip(rgb * gain.astype(np.float32), 0, None)
    out = out / np.maximum(1, 0.94 + 0.06 * out) if rng.random() < 0.5 else out
    contrast = rng.uniform(0.92, 1.1)
    out = (out - 0.5) * contrast + 0.5 + rng.normal(0, 0.015)
    out = blur(out.astype(np.float32), max(0.0, rng.normal(0.25, 0.25)))
    grain = rng.standard_normal((h, w, 1), np.float32) * 0.7 + rng.standard_normal((h, w, 3), np.float32) * 0.3
    out += grain * np.float32(abs(rng.normal(0, 0.012)))
    u8 = np.clip(out * 255 + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        _, jpeg = cv2.imencode(".jpg", u8[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 96))])
        u8 = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))[..., ::-1]
    return np.ascontiguousarray(u8)
