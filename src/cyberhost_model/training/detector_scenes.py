"""Pictures for the key point detector to learn from: people cut out, turned, scaled, put before other backgrounds, and pictures of nobody."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..conditions.keypoints import Keypoints
from ..data.framing import mirrored
from ..data.stills import Still

_BASE = 512  # the finest level kept, pixels of the longer side
_PLATE = 192  # backgrounds are kept at this size


@dataclass
class Source:
    """A still as a pyramid of halvings (finest first) of RGBA uint8 (alpha is the person), its key points, its size (W, H) at the finest level."""

    levels: list[np.ndarray]
    keypoints: Keypoints
    size: np.ndarray

    @property
    def face(self) -> np.ndarray:
        """68 points in pixels of the finest level."""
        return self.keypoints.face * self.size


def sources(stills: list[Still]) -> list[Source]:
    """The stills and their mirror pictures."""
    out = []
    for still in stills:
        for one in (still, mirrored(still)):
            w, h = one.size
            ratio = min(1.0, _BASE / max(w, h))
            rgba = np.dstack([one.picture_u8, (one.mask * 255).astype(np.uint8)])
            if ratio < 1:
                rgba = cv2.resize(rgba, (round(w * ratio), round(h * ratio)), interpolation=cv2.INTER_AREA)
            levels = [rgba]
            while min(levels[-1].shape[:2]) > 48:
                levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
            out.append(Source(levels, one.keypoints, np.array([rgba.shape[1], rgba.shape[0]], np.float32)))
    return out


def plate(source: Source) -> np.ndarray:
    """The picture without its person, uint8 (h, w, 3): what is behind is filled in from around."""
    rgba = source.levels[0]
    ratio = _PLATE / max(rgba.shape[:2])
    small = cv2.resize(rgba, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    hole = cv2.dilate((small[..., 3] > 25).astype(np.uint8), np.ones((9, 9)))
    return cv2.inpaint(np.ascontiguousarray(small[..., :3]), hole, 3, cv2.INPAINT_TELEA)


def similarity(centre: np.ndarray, to: np.ndarray, scale: float, angle: float) -> np.ndarray:
    """(2, 3): turns by `angle` and scales about `centre`, which lands on `to`."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    m = np.array([[c, -s], [s, c]])
    return np.column_stack([m, np.asarray(to) - m @ np.asarray(centre)])


def placed(source: Source, matrix: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, Keypoints]:
    """`source` warped onto a canvas: RGB float32 and alpha float32 (0 outside the still), and its key points in 0..1 of the canvas.

    `matrix` (2, 3) maps pixels of the finest level. Points outside the still lose their score: nothing shows them.
    """
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    level = int(np.clip(np.floor(np.log2(1 / max(scale, 1e-6)) + 0.35), 0, len(source.levels) - 1))
    image = source.levels[level]
    to_level = source.size / [image.shape[1], image.shape[0]]
    m = matrix[:, :2] * to_level
    warp = np.column_stack([m, matrix[:, 2] + m @ [0.5, 0.5] - 0.5])
    rgb = cv2.warpAffine(np.ascontiguousarray(image[..., :3]), warp, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(np.ascontiguousarray(image[..., 3]), warp, (side, side), flags=cv2.INTER_LINEAR)
    size = source.size
    keypoints = source.keypoints.map(lambda p: ((p * size) @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32) / side)
    for points, score in ((source.keypoints.body, keypoints.body_score), (source.keypoints.hands, keypoints.hands_score)):
        score[((points < 0) | (points > 1)).any(-1)] = 0
    return rgb.astype(np.float32), alpha.astype(np.float32)[..., None] / 255, keypoints


def texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """A picture of nothing, float32 (side, side, 3): noise of several scales, slopes, stripes, shapes, or lines of text."""
    out = np.zeros((side, side, 3), np.float32) + rng.uniform(0, 255, 3)
    for octave in (2, 5, 12, 40, side):
        if rng.random() < 0.6:
            noise = rng.normal(0, rng.uniform(3, 40), (octave, octave, 3 if rng.random() < 0.5 else 1)).astype(np.float32)
            out = out + cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC).reshape(side, side, -1)
    kind = rng.random()
    if kind < 0.5:
        for _ in range(int(rng.integers(1, 14))):
            colour, at = rng.uniform(0, 255, 3).tolist(), rng.integers(-20, side + 20, 2).tolist()
            r = int(rng.uniform(2, side * 0.35))
            thick = -1 if rng.random() < 0.6 else int(rng.integers(1, 6))
            shape = rng.integers(3)
            if shape == 0:
                cv2.ellipse(out, at, (r, int(r * rng.uniform(0.4, 1))), float(rng.uniform(0, 180)), 0, 360, colour, thick, cv2.LINE_AA)
            elif shape == 1:
                cv2.fillConvexPoly(out, (rng.normal(0, r, (4, 2)) + at).astype(np.int32), colour, cv2.LINE_AA)
            else:
                cv2.line(out, at, rng.integers(0, side, 2).tolist(), colour, int(rng.integers(1, 12)), cv2.LINE_AA)
    elif kind < 0.65:
        ink = np.zeros((side, side), np.uint8)
        for y in range(int(rng.integers(4, 20)), side, int(rng.integers(8, 26))):
            word = "".join(chr(c) for c in rng.integers(33, 122, 24))
            at = (int(rng.integers(-20, 20)), y)
            cv2.putText(ink, word, at, int(rng.integers(0, 8)), float(rng.uniform(0.25, 0.8)), 255, 1, cv2.LINE_AA)
        alpha = ink[..., None].astype(np.float32) / 255
        out = out * (1 - alpha) + rng.uniform(0, 255, 3) * alpha
    elif kind < 0.8:
        angle, period = rng.uniform(0, np.pi), rng.uniform(3, 40)
        columns, rows = np.meshgrid(np.arange(side), np.arange(side))
        wave = np.sin((columns * np.cos(angle) + rows * np.sin(angle)) * 2 * np.pi / period)
        out = out + np.sign(wave)[..., None] * rng.uniform(5, 60, 3)
    return out.astype(np.float32)


def backdrop(rng: np.random.Generator, plates: list[np.ndarray], side: int) -> np.ndarray:
    """A picture of nobody, float32 (side, side, 3): part of a still's background, or a texture."""
    if rng.random() < 0.4:
        return texture(rng, side)
    image = plates[int(rng.integers(len(plates)))]
    h, w = image.shape[:2]
    matrix = similarity(rng.uniform(0.2, 0.8, 2) * [w, h], np.array([side / 2, side / 2]), side / min(w, h) * rng.uniform(0.8, 2.5), rng.normal(0, 0.15))
    out = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101).astype(np.float32)
    return out[::-1].copy() if rng.random() < 0.1 else out


def scrambled(rng: np.random.Generator, picture: np.ndarray, centre: np.ndarray, size: float) -> np.ndarray:
    """`picture` with the parts of a face of `size` pixels about `centre` in a wrong order: like a face to a hasty eye."""
    x, y = np.round(centre - size / 2).astype(int)
    n = int(rng.integers(2, 5))
    cell = max(2, int(size / n))
    out = picture.copy()
    squares = [(y + i * cell, x + j * cell) for i in range(n) for j in range(n)]
    inside = [s for s in squares if min(s) >= 0 and max(s) + cell <= len(picture)]
    for a, b in zip(inside, rng.permutation(len(inside)), strict=True):
        part = picture[inside[b][0] : inside[b][0] + cell, inside[b][1] : inside[b][1] + cell]
        out[a[0] : a[0] + cell, a[1] : a[1] + cell] = part[::-1] if rng.random() < 0.5 else part
    return out


def look(rng: np.random.Generator, picture: np.ndarray, holes: bool = True) -> np.ndarray:
    """float32 0..255 -> uint8 as another camera would have taken it: exposure, tint, grey, blur, noise, JPEG, covered patches."""
    x = np.clip(picture, 0, 255) / 255
    side = len(x)
    if holes and rng.random() < 0.3:
        for _ in range(int(rng.integers(1, 4))):
            (a, b), (u, v) = rng.integers(0, side, 2), rng.integers(side // 16, side // 3, 2)
            patch = x[a : a + u, b : b + v]
            patch[:] = rng.uniform(0, 1, 3) if rng.random() < 0.6 else rng.uniform(0, 1, patch.shape)
    x = x ** float(np.exp(rng.normal(0, 0.35)))
    grey = x.mean(-1, keepdims=True)
    saturation = 0.0 if rng.random() < 0.12 else float(np.exp(rng.normal(0, 0.3)))
    x = grey + (x - grey) * saturation
    x = (x - 0.5) * float(np.exp(rng.normal(-0.1, 0.25))) + 0.5 + rng.normal(0, 0.07)
    x = x * (1 + rng.normal(0, 0.07, 3))
    if rng.random() < 0.3:  # light from a side
        slope = np.add.outer(np.linspace(-1, 1, side) * rng.normal(0, 0.3), np.linspace(-1, 1, side) * rng.normal(0, 0.3))
        x = x * (1 + slope[..., None])
    x = x.astype(np.float32)
    if rng.random() < 0.3:
        x = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.3, side / 90)))
    if rng.random() < 0.35:
        x = x + rng.normal(0, rng.uniform(0.005, 0.06), x.shape)
    out = np.clip(x * 255, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        out = cv2.imdecode(cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])[1], cv2.IMREAD_COLOR)
    return out
