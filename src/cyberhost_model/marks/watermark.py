"""The invisible watermark: one fixed pattern in the brightness of every frame, and its detector.

The pattern is a sum of waves with 10 to 40 periods over a side of the frame (of a square of its area), of equal
amplitudes, whose phases are the key. It scales with the frame, so that a smaller copy carries the same pattern. The
detector compares the phases that it finds with those of the key, for every position and, after a crop, every scale.
It carries one fact, that this program made the frames, and no number of the run. Spread-spectrum marks: Cox et al.
1997; comparing phases only: Kuglin and Hines 1975. Figures: docs/user/marks.md, by scripts/watermark_measure.py.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

KEY = "cyberhost-1"
"""Name of the key that frames are marked with. Another pattern needs another name, or old videos are not found."""
LOWEST, HIGHEST = 10, 40  # periods over a side: finer waves do not survive half size, coarser ones drown in the picture
STRENGTH = 1.75
"""Mean amplitude (root mean square) in grey levels of 255, before `_gain`; a PSNR of about 42 dB."""
FALSE_ALARM = 1e-4
"""Chance that a video without the mark is called marked, at most (`Detection.false_alarm`)."""
MAX_FRAMES = 48  # frames that the detector averages
_FIRST = (1, 4)  # averages of so many of the first frames are looked at too
_SIDE = 192  # side in pixels of the residual's square that phases are read from: more than 4 pixels a wave
_GRID = 128  # positions along a side that are compared
_NEAR = (0.995, 1.0, 1.005)  # scales of a frame that was not cropped; halving an odd side changes the scale a little
_SCALES = tuple(np.round(np.exp(np.arange(np.log(0.7), np.log(1.2), 0.007)), 4).tolist())
_SMALLEST = 64  # pixels of a frame's shorter side


@functools.lru_cache(maxsize=1)
def _waves() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List the waves of the key -> (vertical periods, horizontal periods, phases in radians), each (K,)."""
    ky, kx = np.mgrid[-HIGHEST : HIGHEST + 1, 0 : HIGHEST + 1]
    radius = np.hypot(ky, kx)
    chosen = (radius >= LOWEST) & (radius <= HIGHEST) & ((kx > 0) | (ky > 0))  # of each pair of opposites one
    ky, kx = ky[chosen], kx[chosen]
    # From a digest: the same numbers with every version of every library.
    digits = np.frombuffer(hashlib.shake_256(KEY.encode()).digest(4 * len(kx)), "<u4")
    return ky, kx, digits * (2 * np.pi / 2**32)


@functools.lru_cache(maxsize=256)
def _exponentials(length: int, sign: int, lowest: int, unit: float) -> np.ndarray:
    """Compute exp(sign * 2 pi i k x / unit) for k from `lowest` to HIGHEST and the pixels x -> (k, length)."""
    k, x = np.arange(lowest, HIGHEST + 1), np.arange(length) + 0.5
    return np.exp(sign * 2j * np.pi / unit * np.outer(k, x)).astype(np.complex64)


@functools.lru_cache(maxsize=2)
def pattern(width: int, height: int) -> np.ndarray:
    """Compute the pattern for frames of a size -> float32 (H, W) in grey levels."""
    ky, kx, phases = _waves()
    grid = np.zeros((2 * HIGHEST + 1, HIGHEST + 1), np.complex64)
    grid[ky + HIGHEST, kx] = np.exp(1j * phases) * STRENGTH / np.sqrt(len(kx) / 2)
    unit = float(np.sqrt(width * height))
    rows, columns = _exponentials(height, 1, -HIGHEST, unit), _exponentials(width, 1, 0, unit)
    return (rows.T @ grid @ columns).real.astype(np.float32)


def mark(frame: np.ndarray) -> np.ndarray:
    """Add the watermark to a frame, uint8 (H, W, 3) RGB -> a new one. Frames under 64 pixels a side stay as they are.

    Every colour gets the same number, so that brightness alone changes.
    """
    import cv2

    height, width = frame.shape[:2]
    if min(height, width) < _SMALLEST:
        return frame
    delta = cv2.multiply(pattern(width, height), _gain(frame))
    return cv2.add(frame, cv2.merge([delta, delta, delta]), dtype=cv2.CV_8U)


def marked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Mark frames while they go by."""
    return map(mark, frames)


def _gain(frame: np.ndarray) -> np.ndarray:
    """Compute how strong the pattern may be at each pixel: 0.9 on even areas, to 1.2 on textures, float32 (H, W)."""
    import cv2

    height, width = frame.shape[:2]
    grey = cv2.cvtColor(cv2.resize(frame, (width // 2, height // 2)), cv2.COLOR_RGB2GRAY).astype(np.float32)
    side = max(3, round(np.sqrt(width * height) / 48)) | 1
    activity = cv2.blur(np.abs(grey - cv2.blur(grey, (side, side))), (side, side))
    return cv2.resize(np.clip(0.9 + activity / 25, 0.9, 1.2), (width, height))


@dataclass(frozen=True)
class Detection:
    """What the detector found in frames."""

    found: bool
    score: float
    """Agreement of the phases in standard deviations of frames without the mark."""
    false_alarm: float
    """At most this share of frames without the mark would agree as well, by any position and scale; 0..1."""
    scale: float
    """Side of the seen frame over the whole one's (square roots of areas): below 1 after a crop."""
    mirrored: bool
    frames: int
    """How many frames were averaged."""


def detect(frames: Iterable[np.ndarray]) -> Detection:
    """Look for the watermark in frames of a video or in a single picture, each uint8 (H, W, 3) RGB of one size.

    Up to 48 frames are read; their average is looked at, and those of the first and the first four alone: a codec
    codes the first frame whole and moves what it shows along with the person afterwards, the watermark too. The whole
    frame is compared at first, then crops, reductions within the frame and mirror images.

    The score is sum(w cos(found - key)) over the waves, divided by sqrt(sum(w^2) / 2). For frames that know nothing of
    the key its phases are independent and even over the circle; then by Hoeffding's lemma, as E exp(a cos) = I0(a) <=
    exp(a^2 / 4), P(score > t) <= exp(-t^2 / 2) whatever the frames show. `false_alarm` multiplies that by the number of
    comparisons; each of the two searches may use half of `FALSE_ALARM`. Raises ValueError without a frame.
    """
    total: np.ndarray | None = None
    averages: dict[int, np.ndarray] = {}
    count = 0
    for frame in frames:
        residual = _residual(frame)
        total = residual if total is None else total + residual
        count += 1
        if count in _FIRST:
            averages[count] = total / count
        if count == MAX_FRAMES:
            break
    if total is None:
        raise ValueError("no frame to look at")
    if min(total.shape) < _SMALLEST:
        return Detection(False, 0.0, 1.0, 1.0, False, count)
    averages[count] = total / count
    fields = [_field(average) for _, average in sorted(averages.items(), reverse=True)]
    near = [(_agreement(field, scale, near=True), scale, False) for field in fields for scale in _NEAR]
    best = _detection(max(near), 2 * 9 * len(near), count)
    for field in fields:
        if best.found:
            break
        for mirrored in (False, True):
            seen = np.ascontiguousarray(field[:, ::-1]) if mirrored else field
            anywhere = max((_agreement(seen, scale), scale, mirrored) for scale in _SCALES)
            comparisons = 2 * 2 * len(fields) * len(_SCALES) * _GRID**2
            best = min(best, _detection(anywhere, comparisons, count), key=lambda found: found.false_alarm)
    return best


def _detection(best: tuple[float, float, bool], comparisons: int, frames: int) -> Detection:
    score, scale, mirrored = best
    chance = min(1.0, comparisons * float(np.exp(-(max(score, 0.0) ** 2) / 2)))
    return Detection(chance <= FALSE_ALARM, round(score, 2), chance, round(scale, 4), mirrored, frames)


def _residual(frame: np.ndarray) -> np.ndarray:
    """Take the coarse picture out of a frame and bring what is left to one strength everywhere, float32 (H, W)."""
    import cv2

    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    unit = np.sqrt(grey.size)
    coarse, near = max(3, round(unit / 20)) | 1, max(3, round(unit / 24)) | 1
    fine = grey - cv2.blur(cv2.blur(grey, (coarse, coarse)), (coarse, coarse))
    deviation = np.sqrt(np.maximum(cv2.blur(fine * fine, (near, near)), 0)) + 0.5
    return np.clip(fine / deviation, -2.5, 2.5)


def _field(residual: np.ndarray) -> np.ndarray:
    """Fade a residual out at its edges and bring it to an area of 192x192 where it is larger, float32 (h, w)."""
    import cv2

    height, width = residual.shape
    shrink = min(1.0, _SIDE / np.sqrt(residual.size))
    size = (round(width * shrink), round(height * shrink))
    small = cv2.resize(residual, size, interpolation=cv2.INTER_AREA) if shrink < 1 else residual
    return small * np.outer(_fade(small.shape[0]), _fade(small.shape[1])).astype(np.float32)


def _fade(length: int) -> np.ndarray:
    place = np.arange(length) + 0.5
    return np.minimum(1.0, np.minimum(place, length - place) / (0.06 * length))


def _agreement(field: np.ndarray, scale: float, near: bool = False) -> float:
    """Compare the phases of a residual with the key's at one scale, and take the best position.

    near: only positions within two 256ths of the frame's side of where the whole frame has them.
    """
    ky, kx, phases = _waves()
    height, width = field.shape
    unit = float(np.sqrt(field.size)) / scale
    rows, columns = _exponentials(height, -1, -HIGHEST, unit), _exponentials(width, -1, 0, unit)
    found = (rows @ field @ columns.T)[ky + HIGHEST, kx]
    # The square root of the amplitude: what is strong is surer, and no single wave decides.
    weights = np.sqrt(np.abs(found)) + 1e-9
    grid = np.zeros((_GRID, _GRID), np.complex64)
    grid[ky % _GRID, kx] = found / (np.abs(found) + 1e-9) * weights * np.exp(-1j * phases)
    agreement = np.fft.ifft2(grid).real * _GRID**2 / np.sqrt((weights**2).sum() / 2)
    if near:
        agreement = agreement[np.ix_((-1, 0, 1), (-1, 0, 1))]
    return float(agreement.max())
