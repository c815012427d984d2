"""The invisible watermark: a pattern in the brightness of every frame, its detector, and the number of a run in it.

The pattern is a sum of waves with 10 to 40 periods over a side of the frame (of a square of its area), of equal
amplitudes, whose phases are the key. It scales with the frame, so that a smaller copy carries the same pattern. The
detector compares the phases that it finds with those of the key, for every position and, after a crop, every scale.
These waves are the same in every video and say one thing, that this program made the frames. Finer waves, of 40 to 56
periods, carry the number of the run (`marks.run_code`), for whom the first ones show where and how large the frame is.
Spread-spectrum marks: Cox et al. 1997; comparing phases only: Kuglin and Hines 1975. Figures: docs/user/marks.md, by
scripts/watermark_measure.py.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from cyberhost_model.marks import run_code

KEY = "cyberhost-1"
"""Name of the key that frames are marked with. Another pattern needs another name, or old videos are not found."""
LOWEST, HIGHEST = 10, 40  # periods over a side: finer waves do not survive half size, coarser ones drown in the picture
FINEST = 56  # of the waves that carry the number of the run
STRENGTH, RUN_STRENGTH = 1.75, 0.85
"""Mean amplitudes (root mean square) of both kinds of waves in grey levels of 255, before `_gain`."""
FALSE_ALARM = 1e-4
"""Chance that a video without the mark is called marked, at most (`Detection.false_alarm`)."""
EVEN, TEXTURED, ACTIVITY = 0.65, 1.4, 15.0
"""Gain on even areas and on textures, and the activity in grey levels over which it grows by one."""
MAX_FRAMES = 48  # frames that the detector averages
_FIRST = (1, 4)  # averages of so many of the first frames are looked at too
_SIDE = 192  # side in pixels of the residual's square that phases are read from: more than 4 pixels a wave
_GRID = 128  # positions along a side that are compared at first
_FINE = np.arange(-2, 3) / 4  # steps of that grid to both sides of the best position, and
_FINE_SCALES = (0.9977, 1.0, 1.0023)  # scales around the best one: the fine waves want the place to a part of a step
_NEAR = (0.995, 1.0, 1.005)  # scales of a frame that was not cropped; halving an odd side changes the scale a little
_SCALES = tuple(np.round(np.exp(np.arange(np.log(0.7), np.log(1.2), 0.007)), 4).tolist())
_SMALLEST = 64  # pixels of a frame's shorter side


class Waves(NamedTuple):
    """Waves of the key, each an array (K,): periods over the height, over the width, phases in radians."""

    ky: np.ndarray
    kx: np.ndarray
    phases: np.ndarray
    finest: int
    """Largest number of periods along a side."""


def _key_waves(lowest: float, highest: int, key: str) -> Waves:
    """List the waves with `lowest` to `highest` periods over a side, and their phases by the key of this name."""
    ky, kx = np.mgrid[-highest : highest + 1, 0 : highest + 1]
    radius = np.hypot(ky, kx)
    chosen = (radius >= lowest) & (radius <= highest) & ((kx > 0) | (ky > 0))  # of each pair of opposites one
    ky, kx = ky[chosen], kx[chosen]
    # From a digest: the same numbers with every version of every library.
    digits = np.frombuffer(hashlib.shake_256(key.encode()).digest(4 * len(kx)), "<u4")
    return Waves(ky, kx, digits * (2 * np.pi / 2**32), highest)


@functools.lru_cache(maxsize=1)
def _waves() -> Waves:
    """List the waves that every marked frame has."""
    return _key_waves(LOWEST, HIGHEST, KEY)


@functools.lru_cache(maxsize=1)
def _run_waves() -> Waves:
    """List the waves that carry the number of a run."""
    return _key_waves(HIGHEST + 0.001, FINEST, f"{KEY} run")


@functools.lru_cache(maxsize=256)
def _exponentials(length: int, sign: int, lowest: int, highest: int, unit: float) -> np.ndarray:
    """Compute exp(sign * 2 pi i k x / unit) for k from `lowest` to `highest` and the pixels x -> (k, length)."""
    k, x = np.arange(lowest, highest + 1), np.arange(length) + 0.5
    return np.exp(sign * 2j * np.pi / unit * np.outer(k, x)).astype(np.complex64)


@functools.lru_cache(maxsize=2)
def pattern(width: int, height: int, run: int | None = None) -> np.ndarray:
    """Compute the pattern for frames of a size -> float32 (H, W) in grey levels.

    run: the number that it carries, of 32 bits; None: it carries none.
    """
    grid = np.zeros((2 * FINEST + 1, FINEST + 1), np.complex64)

    def put(waves: Waves, strength: float, signs: np.ndarray | float) -> None:
        grid[waves.ky + FINEST, waves.kx] = signs * np.exp(1j * waves.phases) * strength / np.sqrt(len(waves.kx) / 2)

    put(_waves(), STRENGTH, 1.0)
    if run is not None:
        put(_run_waves(), RUN_STRENGTH, run_code.signs(run, len(_run_waves().kx)))
    unit = float(np.sqrt(width * height))
    rows, columns = _exponentials(height, 1, -FINEST, FINEST, unit), _exponentials(width, 1, 0, FINEST, unit)
    return (rows.T @ grid @ columns).real.astype(np.float32)


def mark(frame: np.ndarray, run: int | None = None) -> np.ndarray:
    """Add the watermark to a frame, uint8 (H, W, 3) RGB -> a new one. Frames under 64 pixels a side stay as they are.

    Every colour gets the same number, so that brightness alone changes. run: the number it carries, of 32 bits.
    """
    import cv2

    height, width = frame.shape[:2]
    if min(height, width) < _SMALLEST:
        return frame
    delta = cv2.multiply(pattern(width, height, run), _gain(frame))
    return cv2.add(frame, cv2.merge([delta, delta, delta]), dtype=cv2.CV_8U)


def marked(frames: Iterable[np.ndarray], run: int | None = None) -> Iterator[np.ndarray]:
    """Mark frames while they go by."""
    return (mark(frame, run) for frame in frames)


def _gain(frame: np.ndarray) -> np.ndarray:
    """Compute how strong the pattern may be at each pixel, less on even areas than on textures, float32 (H, W)."""
    import cv2

    height, width = frame.shape[:2]
    grey = cv2.cvtColor(cv2.resize(frame, (width // 2, height // 2)), cv2.COLOR_RGB2GRAY).astype(np.float32)
    side = max(3, round(np.sqrt(width * height) / 48)) | 1
    activity = cv2.blur(np.abs(grey - cv2.blur(grey, (side, side))), (side, side))
    return cv2.resize(np.clip(EVEN + activity / ACTIVITY, EVEN, TEXTURED), (width, height))


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
    run: int | None = None
    """The number of the run that the frames carry, of 32 bits; None: they carry none that can be read."""


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
    places = [max(_agreement(field, scale, near=True) for scale in _NEAR) for field in fields]
    best = _detection(max(places), 2 * 9 * len(fields) * len(_NEAR), count)
    if best.found:
        return replace(best, run=_read_run(fields, places))
    for mirrored in (False, True):
        seen = [np.ascontiguousarray(field[:, ::-1]) for field in fields] if mirrored else fields
        places = [_refined(field, max(_agreement(field, scale) for scale in _SCALES)) for field in seen]
        positions = (_GRID * 4) ** 2  # every place and scale that `_refined` could have looked at
        comparisons = 2 * 2 * len(fields) * len(_SCALES) * len(_FINE_SCALES) * positions
        anywhere = replace(_detection(max(places), comparisons, count), mirrored=mirrored)
        if anywhere.found:
            return replace(anywhere, run=_read_run(seen, places))
        best = min(best, anywhere, key=lambda found: found.false_alarm)
    return best


class _Place(NamedTuple):
    """Where the whole frame lies in what is seen, and how well the phases agree there."""

    score: float
    scale: float
    """Side of what is seen over the whole one's."""
    y: float
    """Shift in steps of the grid, of which `_GRID` are the whole frame's side."""
    x: float


def _detection(best: _Place, comparisons: int, frames: int) -> Detection:
    chance = min(1.0, comparisons * float(np.exp(-(max(best.score, 0.0) ** 2) / 2)))
    return Detection(chance <= FALSE_ALARM, round(best.score, 2), chance, round(best.scale, 4), False, frames)


def _residual(frame: np.ndarray) -> np.ndarray:
    """Take the coarse picture out of a frame and bring what is left to one strength everywhere, float32 (H, W)."""
    import cv2

    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    unit = np.sqrt(grey.size)
    coarse, near = max(3, round(unit / 50)) | 1, max(3, round(unit / 24)) | 1
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


def _found_waves(field: np.ndarray, scale: float, waves: Waves) -> tuple[np.ndarray, np.ndarray]:
    """Find waves in a residual at one scale -> their phases less the key's, as weighted numbers, and weights, (K,)."""
    height, width = field.shape
    unit = float(np.sqrt(field.size)) / scale
    finest = waves.finest
    rows, columns = _exponentials(height, -1, -finest, finest, unit), _exponentials(width, -1, 0, finest, unit)
    found = (rows @ field @ columns.T)[waves.ky + finest, waves.kx]
    # The square root of the amplitude: what is strong is surer, and no single wave decides.
    weights = np.sqrt(np.abs(found)) + 1e-9
    return found / (np.abs(found) + 1e-9) * weights * np.exp(-1j * waves.phases), weights


def _agreement(field: np.ndarray, scale: float, near: bool = False) -> _Place:
    """Compare the phases of a residual with the key's at one scale, and take the best position.

    near: only positions within two 256ths of the frame's side of where the whole frame has them.
    """
    waves = _waves()
    turned, weights = _found_waves(field, scale, waves)
    grid = np.zeros((_GRID, _GRID), np.complex64)
    grid[waves.ky % _GRID, waves.kx] = turned
    agreement = np.fft.ifft2(grid).real * _GRID**2 / np.sqrt((weights**2).sum() / 2)
    if near:
        agreement = agreement[np.ix_((-1, 0, 1), (-1, 0, 1))]
        y, x = np.unravel_index(agreement.argmax(), agreement.shape)
        return _Place(float(agreement[y, x]), scale, float(y) - 1, float(x) - 1)
    y, x = np.unravel_index(agreement.argmax(), agreement.shape)
    return _Place(float(agreement[y, x]), scale, float(y), float(x))


def _refined(field: np.ndarray, place: _Place) -> _Place:
    """Look for a better place within half a step of the grid and a third of a step of the scales."""
    waves, best = _waves(), place
    for scale in place.scale * np.array(_FINE_SCALES):
        turned, weights = _found_waves(field, float(scale), waves)
        down = np.exp(2j * np.pi / _GRID * np.outer(waves.ky, place.y + _FINE))
        across = np.exp(2j * np.pi / _GRID * np.outer(waves.kx, place.x + _FINE))
        agreement = ((turned[:, None] * down).T @ across).real / np.sqrt((weights**2).sum() / 2)
        y, x = np.unravel_index(agreement.argmax(), agreement.shape)
        down_by, across_by = place.y + float(_FINE[y]), place.x + float(_FINE[x])
        best = max(best, _Place(float(agreement[y, x]), float(scale), down_by, across_by))
    return best


def _read_run(fields: list[np.ndarray], places: list[_Place]) -> int | None:
    """Read the number of the run from each average, at the place where that shows the mark; the surest one counts."""
    waves, read = _run_waves(), []
    for field, place in zip(fields, places, strict=True):
        turned, weights = _found_waves(field, place.scale, waves)
        shift = np.exp(2j * np.pi / _GRID * (waves.ky * place.y + waves.kx * place.x))
        read.append(run_code.read((turned * shift).real / np.sqrt((weights**2).sum() / 2)))
    return max(read, key=lambda reading: (reading.run is not None, reading.score)).run
