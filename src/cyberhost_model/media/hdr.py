"""Tone-map HDR pictures (PQ, HLG) to what a usual screen shows, where frames come without ffmpeg's filters.

Curves: SMPTE ST 2084 and ITU-R BT.2100; diffuse white at 203 candela per square metre (BT.2408), as in
`media.video_reader`. What is brighter is bent down to white by the curve that ffmpeg calls mobius.
"""

from __future__ import annotations

import functools

import numpy as np

PQ, HLG = 16, 18
"""Numbers of the transfers in a stream (ITU-T H.273)."""
WHITE, PEAK = 203.0, 1000.0
"""Candela per square metre of diffuse white, and of the brightest light that is told from it."""
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # from the primaries of BT.2020
_BEND = 0.3  # of white: light below it stays as it is


def tone_map(picture: np.ndarray, transfer: int) -> np.ndarray:
    """Turn a picture of PQ or HLG with BT.2020's primaries, uint16 (H, W, 3) RGB, into uint8 (H, W, 3) of BT.709."""
    light = _light(transfer)[picture]
    if transfer == HLG:  # the screen's own curve, of a screen with this peak
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light = light * (PEAK / WHITE) * np.maximum(luminance, 1e-6)[..., None] ** 0.2
    light = np.maximum(light @ _TO_BT709.T, 0)
    brightest = light.max(-1, keepdims=True)
    light *= _bent(brightest) / np.maximum(brightest, 1e-6)
    return np.rint(255 * np.clip(light, 0, 1) ** (1 / 2.4)).astype(np.uint8)


@functools.cache
def _light(transfer: int) -> np.ndarray:
    """Compute the light of every value, float32 (65536,): PQ's in parts of diffuse white, HLG's of the scene, 0..1."""
    signal = np.linspace(0, 1, 1 << 16)
    if transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)
    root = signal ** (1 / 78.84375)
    light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    return (10_000 / WHITE * light).astype(np.float32)


def _bent(light: np.ndarray) -> np.ndarray:
    """Bend light above `_BEND` so that `PEAK` becomes 1, smooth where it begins."""
    peak, j = PEAK / WHITE, _BEND
    a = -(j**2) * (peak - 1) / (j**2 - 2 * j + peak)
    b = (j**2 - 2 * j * peak + peak) / (peak - 1)
    bent = (b**2 + 2 * b * j + j**2) / (b - a) * (light + a) / (light + b)
    return np.where(light <= j, light, bent)
