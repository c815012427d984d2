"""The clothes of a drawn person: colours, patterns, necklines, collars, lapels, buttons and folds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cyberhost_model.lab.synthetic.drawn_appearance import Appearance
from cyberhost_model.lab.synthetic.drawn_paint import blur, fill, ink, mix, sample, smoothstep, spline, stroke

Array = np.ndarray
ToPixels = Callable[[np.ndarray], np.ndarray]
"""Maps points (N, 2) in head heights to pixels."""


def cloth_colour(person: Appearance, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute the colour of the cloth at cloth coordinates (head heights), (H, W, 3)."""
    x, y = np.broadcast_arrays(np.asarray(x, np.float32), np.asarray(y, np.float32))
    out = np.empty((*x.shape, 3), np.float32)
    out[:] = person.cloth
    t = person.texture
    fine = sample("grain", x * 190 + t[0], y * 190 + t[1])
    kind = person.pattern
    if kind in ("plain", "logo"):
        out *= (1 + 0.025 * fine)[..., None]
    elif kind == "heather":
        out *= (1 + 0.06 * sample("grain", x * 150 + t[0], y * 260 + t[1]))[..., None]
    elif kind in ("stripes", "pinstripes"):
        upright = kind == "pinstripes" or t[2] < 120
        k = 6 + t[3] / 60 if kind == "stripes" else 22
        wave = np.sin(2 * np.pi * k * (x if upright else y) / 1.2)
        on = smoothstep(wave, 0.2, 0.5) if kind == "stripes" else smoothstep(wave, 0.8, 0.95) * 0.5
        mix(out, person.cloth2, on)
    elif kind == "check":
        k = 12 + t[3] / 40
        a, b = smoothstep(np.sin(k * x * 2), 0, 0.4), smoothstep(np.sin(k * y * 2), 0, 0.4)
        mix(out, person.cloth2, (a + b) * 0.4)
    elif kind == "dots":
        k = 9 + t[3] / 50
        gx, gy = np.mod(x * k, 1) - 0.5, np.mod(y * k + 0.5 * np.floor(x * k), 1) - 0.5
        mix(out, person.cloth2, smoothstep(np.hypot(gx, gy), 0.26, 0.18))
    else:  # floral
        flower = sample("curl", x * 90 + t[4], y * 90 + t[5])
        mix(out, person.cloth2, smoothstep(flower, 0.9, 1.2))
        mix(out, 1 - person.cloth2 * 0.7, smoothstep(flower, 1.9, 2.2))
        mix(
            out,
            np.array([0.25, 0.4, 0.2], np.float32),
            smoothstep(sample("curl", x * 80 + t[6], y * 80 + t[7]), 1.3, 1.6) * 0.8,
        )
    return out


def neckline(person: Appearance) -> np.ndarray:
    """Outline the edge of the cloth below the neck, (N, 2).

    From image left to right, in head heights about the neck point.
    """
    nw = person.neck_width
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
    }[person.clothes]
    shoulder = -0.3 + 0.17 * max(0.0, w - nw - 0.05) / 0.2
    sharp = person.clothes in ("vneck", "shirt", "polo", "jacket")
    mid = (
        [(-w * 0.55, depth * 0.45 - 0.06), (0, depth), (w * 0.55, depth * 0.45 - 0.06)]
        if sharp
        else [(-w * 0.72, depth * 0.72 - 0.06), (0, depth), (w * 0.72, depth * 0.72 - 0.06)]
    )
    pts = np.array([(-w, shoulder), *mid, (w, shoulder)])
    return np.concatenate([spline(pts[:3], 6), spline(pts[2:], 6)]) if sharp else spline(pts, 6)


def dress_torso(person: Appearance, to_px: ToPixels, scale: float, rgb: Array, z: Array, cloth: Array) -> None:
    """Add collar, placket, lapels, pockets and logo to the cloth's colours and relief.

    to_px: maps head heights to pixels. rgb, z (pixels) and the matte `cloth` are changed in place.
    """
    torso = _Torso(person, to_px, scale, rgb, z, cloth)
    kind = person.clothes
    if kind in ("tshirt", "vneck", "sweater", "dress", "tank", "hoodie"):
        torso.add_neck_band()
    if kind == "hoodie":
        torso.add_cords_and_pouch()
    if kind in ("shirt", "polo"):
        torso.add_placket()
    if kind == "jacket":
        torso.add_shirt_below()
        torso.add_lapels()
    if kind in ("shirt", "polo"):
        torso.add_collar()
    if person.pattern == "logo" and kind in ("tshirt", "hoodie", "sweater", "polo"):
        torso.add_logo()


class _Torso:
    """The cloth of a torso while details are added; see `dress_torso`."""

    def __init__(self, person: Appearance, to_px: ToPixels, scale: float, rgb: Array, z: Array, cloth: Array):
        self.person, self.to_px, self.scale, self.rgb, self.z, self.cloth = person, to_px, scale, rgb, z, cloth
        self.line, self.shape = neckline(person), z.shape
        self.darker, self.lighter = person.cloth * 0.72, np.clip(person.cloth * 1.08 + 0.02, 0, 1)

    def fill(self, points: Array) -> Array:
        """Fill a polygon in head heights."""
        return fill(self.to_px(points), self.shape)

    def button(self, x: float, y: float, radius: float) -> Array:
        """Fill a small circle in head heights."""
        centre = self.to_px(np.array([(x, y)]))[0]
        a = np.linspace(0, 2 * np.pi, 10)[:, None]
        return fill(centre + radius * self.scale * np.concatenate([np.cos(a), np.sin(a)], 1), self.shape)

    def add_neck_band(self) -> None:
        """Raise the band along the neckline, with a seam below it."""
        scale, kind = self.scale, self.person.clothes
        wide = 0.09 if kind in ("sweater", "hoodie") else 0.035
        band = stroke(self.to_px(self.line), self.shape, wide * scale)
        self.z += blur(band, 0.01 * scale) * 0.02 * scale * self.cloth
        if kind != "dress":
            seam = stroke(self.to_px(self.line + np.array([0, 0.035])), self.shape, 0.01 * scale)
            mix(self.rgb, self.darker if kind != "hoodie" else self.lighter, blur(seam, 0.4) * self.cloth * 0.6)

    def add_cords_and_pouch(self) -> None:
        """Draw a hoodie's cords and its front pocket."""
        for s in (-1, 1):
            cord = self.to_px(spline([(s * 0.1, 0.1), (s * 0.12, 0.35), (s * 0.11, 0.55)], 5))
            ink(self.rgb, cord, 0.022 * self.scale, np.full(3, 0.9), 0.9)
        pocket = np.array([(-0.28, 1.5), (0.28, 1.5), (0.4, 1.95), (-0.4, 1.95)])
        ink(self.rgb, self.to_px(np.concatenate([pocket, pocket[:1]])), 0.015 * self.scale, self.darker, 0.8)

    def add_placket(self) -> None:
        """Draw the buttoned edge of a shirt or polo."""
        scale, shirt = self.scale, self.person.clothes == "shirt"
        start, end = float(self.line[:, 1].max()) - 0.02, 3.3 if shirt else 0.75
        ink(self.rgb, self.to_px(np.array([(0.05, start), (0.05, end)])), 0.012 * scale, self.darker, 0.7, 0.3)
        placket = stroke(self.to_px(np.array([(0.0, start), (0.0, end)])), self.shape, 0.09 * scale)
        self.z += blur(placket, 0.01 * scale) * 0.008 * scale
        tone = self.lighter if self.person.cloth.mean() < 0.5 else self.darker
        for y in np.arange(start + 0.08, end, 0.22 if shirt else 0.17):
            x, down = self.to_px(np.array([(0.0, y)]))[0]
            if -9 < x < self.shape[1] + 9 and -9 < down < self.shape[0] + 9:
                mix(self.rgb, tone, self.button(0.0, y, 0.022) * 0.9)

    def add_shirt_below(self) -> None:
        """Draw the shirt in the opening of a jacket, its collar and, for some men, a tie."""
        person, scale, nw = self.person, self.scale, self.person.neck_width
        vee = np.array([(-nw - 0.08, -0.34), (0.0, 0.69), (nw + 0.08, -0.34)])
        skin = np.array([(-nw * 1.6, -0.6), (0, 0.03), (nw * 1.6, -0.6)])
        under = self.fill(vee) * (1 - self.fill(skin))
        self.cloth[:] = np.maximum(self.cloth, under)
        shirt = np.full(3, 0.88) if person.cloth2.mean() < 0.6 else person.cloth2
        mix(self.rgb, shirt, under)
        for s in (-1, 1):
            flap = np.array([(s * nw * 0.95, -0.4), (s * (nw + 0.05), -0.26), (s * 0.12, 0.12), (s * 0.005, 0.05)])
            m = self.fill(flap)
            self.cloth[:] = np.maximum(self.cloth, m)
            mix(self.rgb, shirt, m)
            self.z += blur(m, 0.012 * scale) * 0.03 * scale
            ink(self.rgb, self.to_px(flap[1:]), 0.01 * scale, shirt * 0.6, 0.5, 0.3)
        if person.masculine > 0.5 and person.texture[5] > 250:
            knot = [(-0.05, 0.02), (0.05, 0.02), (0.035, 0.12)]
            tie = np.array([*knot, (0.075, 0.6), (0, 0.68), (-0.075, 0.6), (-0.035, 0.12)])
            mix(self.rgb, person.cloth2 * 0.7, self.fill(tie))

    def add_lapels(self) -> None:
        """Draw a jacket's lapels, its edge and two buttons."""
        scale, nw = self.scale, self.person.neck_width
        for s in (-1, 1):
            outer = [(s * (nw + 0.03), -0.33), (s * (nw + 0.16), -0.2), (s * 0.36, 0.12), (s * 0.26, 0.18)]
            lapel = np.array([*outer, (s * 0.34, 0.25), (0.0, 0.72), (s * 0.03, 0.6)])
            m = self.fill(lapel)
            self.z += blur(m, 0.012 * scale) * 0.03 * scale
            mix(self.rgb, self.lighter, m * 0.5)
            edge = self.to_px(np.concatenate([lapel, lapel[:1]]))
            ink(self.rgb, edge, 0.012 * scale, self.darker * 0.6, 0.7, 0.3)
        ink(self.rgb, self.to_px(np.array([(0.0, 0.7), (0.03, 3.0)])), 0.014 * scale, self.darker * 0.5, 0.9)
        for y in (0.85, 1.2):
            mix(self.rgb, self.darker * 0.5, self.button(0.06, y, 0.028))

    def add_collar(self) -> None:
        """Draw the collar of a shirt or polo and, on some, a chest pocket."""
        person, scale = self.person, self.scale
        nw, v = person.neck_width, float(self.line[:, 1].max())
        tone = person.cloth
        if person.pattern != "plain":
            tone = cloth_colour(person, np.full((1, 1), 0.3), np.full((1, 1), 0.3)).reshape(3)
        for s in (-1, 1):
            outer = [(s * (nw + 0.0), -0.38), (s * (nw + 0.1), -0.27), (s * 0.24, 0.06), (s * 0.13, 0.12)]
            collar = spline([*outer, (s * 0.03, v * 0.45), (s * nw * 0.75, -0.2)], 4, True)
            m = self.fill(collar)
            self.z += blur(m, 0.012 * scale) * 0.035 * scale
            self.cloth[:] = np.maximum(self.cloth, m)
            mix(self.rgb, tone * 1.03, m)
            edge = self.to_px(np.concatenate([collar, collar[:1]]))
            ink(self.rgb, edge, 0.01 * scale, self.darker * 0.8, 0.6, 0.3)
        if person.texture[6] > 200:
            pocket = np.array([(0.24, 0.55), (0.52, 0.53), (0.52, 0.85), (0.38, 0.92), (0.25, 0.86), (0.24, 0.55)])
            ink(self.rgb, self.to_px(pocket), 0.01 * scale, self.darker, 0.7, 0.3)

    def add_logo(self) -> None:
        """Print a small logo on the chest, or a large one with lines below it."""
        person, t = self.person, self.person.texture
        small = person.clothes == "polo" or t[7] > 300
        c, r = (np.array([0.32, 0.45]), 0.07) if small else (np.array([0.0, 0.62]), 0.22)
        a = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radius = 1 + 0.45 * np.sign(np.sin(a * (2 + int(t[8]) % 4))) * (t[9] > 250)
        m = self.fill(c + r * (radius * np.stack([np.cos(a), np.sin(a)]) / 1.4).T)
        mix(self.rgb, person.cloth2, m * self.cloth * 0.9)
        for k in range(0 if small else 3):
            line = np.array([(-0.25 + 0.04 * k, 0.95 + 0.09 * k), (0.25 - 0.05 * k, 0.95 + 0.09 * k)])
            ink(self.rgb, self.to_px(line), 0.04 * self.scale, person.cloth2, 0.8)


def folds(person: Appearance, to_px: ToPixels, scale: float, shape: tuple[int, ...]) -> np.ndarray:
    """Compute soft folds of the torso's cloth as relief in pixels.

    From the armpits and across the waist, with a wrinkled noise.
    """
    rng = np.random.default_rng(int(person.texture[10] * 1000))
    m = np.zeros(shape, np.float32)
    sw = person.shoulders
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


def wrinkles(person: Appearance, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute a relief noise in head heights at cloth coordinates."""
    amount = {"jacket": 0.5, "sweater": 0.7}.get(person.clothes, 1.0)
    return (
        amount * 0.006 * sample("cloud", x * 60 + y * 25 + person.texture[2], y * 42 - x * 18 + person.texture[3])
    ).astype(np.float32)
