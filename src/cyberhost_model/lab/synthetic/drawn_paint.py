"""Painting tools of the drawn people: tiling noise, antialiased shapes, splines, light on relief, and the canvas.

Positions are pixels of the supersampled canvas, pixel centres at whole numbers; colours are RGB in 0..1; heights
share the unit of x and y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np

NOISE = 512  # side of the tiling noise pictures, texels


@cache
def noise(kind: str) -> np.ndarray:
    """Make a tiling noise (512, 512) float32 of mean 0 and deviation 1.

    kind: "grain", "cloud", "strand" (long along y) or "curl".
    """
    seed = {"grain": 1, "cloud": 2, "strand": 3, "curl": 4}[kind]
    white = np.random.default_rng(seed).standard_normal((NOISE, NOISE)).astype(np.float32)
    fy, fx = np.meshgrid(np.fft.fftfreq(NOISE), np.fft.rfftfreq(NOISE), indexing="ij")
    r = np.hypot(fx, fy)
    if kind == "grain":
        gain = np.exp(-((r / 0.28) ** 2))
    elif kind == "cloud":
        gain = 1 / (r + 4 / NOISE) ** 1.7
    elif kind == "strand":  # long along y, fine along x, with some wider locks
        gain = np.exp(-((fy / 0.006) ** 2)) * (np.exp(-((fx / 0.12) ** 2)) + 3 * np.exp(-((fx / 0.02) ** 2)))
    else:  # "curl": a band of sizes, like tight curls
        gain = np.exp(-(((r - 0.06) / 0.03) ** 2))
    gain[0, 0] = 0
    out = np.fft.irfft2(np.fft.rfft2(white) * gain, s=(NOISE, NOISE))
    return (out / out.std()).astype(np.float32)


def sample(kind: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sample a noise at texel positions x, y; it tiles."""
    shape = np.broadcast_shapes(np.shape(x), np.shape(y))
    x, y = (np.ascontiguousarray(np.broadcast_to(np.asarray(q, np.float32), shape)) for q in (x, y))
    return cv2.remap(noise(kind), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def fill(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Fill a polygon (N, 2) in pixels with antialiasing, float32 (H, W) in 0..1."""
    out = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(out, [np.round(np.asarray(points) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return out.astype(np.float32) * np.float32(1 / 255)


def stroke(points: np.ndarray, shape: tuple[int, ...], width: float, closed: bool = False) -> np.ndarray:
    """Draw an antialiased polyline of `width` pixels, float32 (H, W) in 0..1; below a pixel it becomes fainter."""
    out = np.zeros(shape[:2], np.uint8)
    pts = np.round(np.asarray(points) * 16).astype(np.int32)
    cv2.polylines(out, [pts], closed, int(255 * min(1.0, max(width, 0.2))), max(1, int(round(width))), cv2.LINE_AA, 4)
    return out.astype(np.float32) * np.float32(1 / 255)


def spline(points, n: int = 8, closed: bool = False) -> np.ndarray:
    """Interpolate the points (K, 2) by a Catmull-Rom curve, n samples a span.

    Each control point is included.
    """
    p = np.asarray(points, np.float32)
    ext = (
        np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    )
    t = (np.arange(n, dtype=np.float32) / n)[None, :, None]
    a, b, c, d = (ext[i : len(ext) - 3 + i, None] for i in range(4))
    out = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    out = out.reshape(-1, p.shape[1])
    return out if closed else np.concatenate([out, p[-1:]])


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Rise smoothly from 0 below `low` to 1 above `high`; low > high falls instead."""
    t = np.minimum(np.maximum((x - low) * (1 / (high - low)), 0), 1)
    return t * t * (3 - 2 * t)


def bell(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    """Compute a Gaussian bump of height 1; products of two make a bump in the plane."""
    return np.exp(-(((x - centre) / width) ** 2))


def blur(x: np.ndarray, sigma: float) -> np.ndarray:
    """Blur by a Gaussian; a very small sigma returns the picture itself."""
    if sigma < 0.25:
        return x
    if sigma > 6:  # the same at a quarter of the size, many times faster
        h, w = x.shape[:2]
        small = cv2.resize(x, (max(1, w // 4), max(1, h // 4)), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), sigma / 4, borderType=cv2.BORDER_REPLICATE)
        return cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR)
    return cv2.GaussianBlur(x, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def mix(a: np.ndarray, b, alpha: np.ndarray) -> np.ndarray:
    """Blend in place: a + (b - a) * alpha, for pictures (H, W, 3) and a mask (H, W); `b` may be one colour."""
    rows = np.flatnonzero(alpha.any(1))
    if len(rows) == 0:
        return a
    cols = np.flatnonzero(alpha[rows[0] : rows[-1] + 1].any(0))
    s = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    part, m = a[s], np.ascontiguousarray(alpha[s], np.float32)
    b = np.asarray(b, np.float32)
    if b.ndim == 3:
        part[:] = cv2.blendLinear(part, np.ascontiguousarray(np.broadcast_to(b, a.shape)[s]), 1 - m, m)
    else:
        part += cv2.multiply(b - part, cv2.merge([m, m, m]))
    return a


def around(points: np.ndarray, shape: tuple[int, ...], margin: float) -> tuple[slice, slice]:
    """Find the rows and columns within `margin` pixels of the points, clipped to the shape; empty when outside."""
    p = np.asarray(points)
    (left, top), (right, bottom) = p.min(0).tolist(), p.max(0).tolist()
    x0, y0 = min(max(math.floor(left - margin), 0), shape[1]), min(max(math.floor(top - margin), 0), shape[0])
    x1, y1 = min(math.ceil(right + margin) + 1, shape[1]), min(math.ceil(bottom + margin) + 1, shape[0])
    return slice(y0, max(y0, y1)), slice(x0, max(x0, x1))


def ink(
    rgb: np.ndarray,
    points: np.ndarray,
    width: float,
    colour,
    strength: float = 1.0,
    soft: float = 0.0,
    mask: np.ndarray | None = None,
) -> None:
    """Draw a polyline (pixels) in one colour, blurred by `soft` pixels, weighed by `mask`."""
    rows, cols = around(points, rgb.shape, width + 3 * soft + 2)
    sub = rgb[rows, cols]
    if sub.size == 0:
        return
    line = blur(stroke(np.asarray(points) - np.array([cols.start, rows.start]), sub.shape, width), soft)
    line *= strength
    if mask is not None:
        line *= mask[rows, cols]
    mix(sub, colour, np.minimum(line, 1))


def normals(height: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute unit normals (x right, y down, z towards the viewer) of a height field in pixels."""
    gx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    gy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    inv = 1 / np.sqrt(gx * gx + gy * gy + 1)
    return -gx * inv, -gy * inv, inv


@dataclass
class Light:
    """One soft key light and a sky above: direction (x right, y down, z towards the viewer), colours, sky's share."""

    direction: np.ndarray = field(default_factory=lambda: np.array([-0.4, -0.5, 0.77], np.float32))
    key: np.ndarray = field(default_factory=lambda: np.ones(3, np.float32))
    sky: np.ndarray = field(default_factory=lambda: np.ones(3, np.float32))
    ambient: float = 0.45

    def turned(self, yaw: float, pitch: float) -> Light:
        """Turn the light into the frame of a head turned by yaw and pitch (radians)."""
        x, y, z = self.direction
        x, z = x * np.cos(yaw) - z * np.sin(yaw), x * np.sin(yaw) + z * np.cos(yaw)
        y, z = y * np.cos(pitch) - z * np.sin(pitch), y * np.sin(pitch) + z * np.cos(pitch)
        return Light(np.array([x, y, z], np.float32), self.key, self.sky, self.ambient)

    def shade(
        self, albedo: np.ndarray, nx, ny, nz, skin: bool = False, gloss: float = 0.0, power: float = 24
    ) -> np.ndarray:
        """Shade an albedo (H, W, 3). Skin lets red light wrap around the shadow's edge, as blood under it does."""
        lx, ly, lz = self.direction.tolist()
        ndl = nx * lx + ny * ly + nz * lz
        sky = self.ambient * (0.85 - 0.3 * ny)
        planes = []
        for c, wrap in enumerate((0.5, 0.3, 0.24) if skin else (0.25, 0.25, 0.25)):
            d = np.maximum(ndl + wrap, 0)
            d *= float(self.key[c]) * (1.02 - 0.5 * self.ambient) / (1 + wrap)
            d += sky * float(self.sky[c])
            planes.append(cv2.sqrt(d))
        out = cv2.multiply(np.ascontiguousarray(albedo, np.float32), cv2.merge(planes))
        if gloss:
            hz = np.sqrt((1 + lz) / 2)  # half vector between light and viewer
            s = (
                np.float32(gloss)
                * np.maximum(nx * float(lx / (2 * hz)) + ny * float(ly / (2 * hz)) + nz * float(hz), 0) ** power
            )
            out += cv2.merge([s * float(k) for k in self.key])
        return out


class Canvas:
    """The supersampled picture: rgb (H, W, 3) float32 and the person's matte (H, W)."""

    def __init__(self, background: np.ndarray):
        self.rgb = background
        self.alpha = np.zeros(background.shape[:2], np.float32)

    def clip(self, x0: int, y0: int, w: int, h: int) -> tuple[slice, slice, slice, slice] | None:
        """Clip a patch to the canvas: slices (canvas rows, canvas columns, patch rows, patch columns), or None."""
        height, width = self.rgb.shape[:2]
        a, b, c, d = max(0, y0), min(height, y0 + h), max(0, x0), min(width, x0 + w)
        if a >= b or c >= d:
            return None
        return slice(a, b), slice(c, d), slice(a - y0, b - y0), slice(c - x0, d - x0)

    def paint(self, rgb: np.ndarray, alpha: np.ndarray, x0: int, y0: int) -> None:
        """Paint a patch with its matte over the picture at x0, y0."""
        s = self.clip(x0, y0, alpha.shape[1], alpha.shape[0])
        if s is None:
            return
        a = alpha[s[2], s[3]]
        mix(self.rgb[s[0], s[1]], rgb[s[2], s[3]], a)
        self.alpha[s[0], s[1]] += (1 - self.alpha[s[0], s[1]]) * a

    def darken(self, mask: np.ndarray, x0: int, y0: int, strength: float, on_person: bool = True) -> None:
        """Paint a soft, slightly red shadow (mask in 0..1), by default only on the person painted so far."""
        s = self.clip(x0, y0, mask.shape[1], mask.shape[0])
        if s is None:
            return
        m = mask[s[2], s[3]] * strength
        if on_person:
            m = m * self.alpha[s[0], s[1]]
        self.rgb[s[0], s[1]] *= cv2.merge([1 - m * k for k in (0.92, 1.0, 1.02)])
