"""Filmed clips as the reference codec takes them: where each pixel comes from in a frame of the same clip, and what
that frame shows.

The clips the project makes have exact flow; here OpenCV's dense inverse search estimates it (Kroeger et al., "Fast
Optical Flow using Dense Inverse Search", 2016). A pixel counts as seen where flow there and back meet and the colour
agrees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.lab.filmed.labels import read_labels, unpack_points
from cyberhost_model.lab.filmed.manifest import Row
from cyberhost_model.lab.filmed.source import Unusable, open_video, rgb, sound_blocks
from cyberhost_model.lab.synthetic.clips import FPS, Clip
from cyberhost_model.lab.synthetic.puppet import Rendered
from cyberhost_model.lab.synthetic.speech_motion import speech_motion
from cyberhost_model.lab.synthetic.stills import Still
from cyberhost_model.media.audio import SPEECH_RATE

_APART = 1.5  # pixels by which the ways there and back may miss each other
_UNLIKE = 36.0  # largest mean difference of colour, of 255


@dataclass
class Filmed:
    """One clip of a dataset in memory: pictures uint8 (T, H, W, 3), samples float32 at 16 kHz, and its labels
    (`dataset.labels`).
    """

    row: Row
    pictures: np.ndarray
    samples: np.ndarray
    labels: dict[str, np.ndarray]


def read_filmed(dataset: Path, row: Row) -> Filmed:
    """Raises InputError when the video or its labels cannot be read, or one is longer than the other: frames that are
    lost would move all labels.
    """
    path = dataset / str(row.video)
    try:
        with open_video(path) as video:
            pictures = [rgb(stamped.frame) for stamped in video.frames()]
        samples = list(sound_blocks(path))
    except Unusable as error:
        raise InputError(f"{path}: cannot be read ({error.detail}); prepare the dataset again") from None
    if not pictures or not samples:
        raise InputError(f"{path}: lacks pictures or sound; prepare the dataset again")
    labels = read_labels(dataset / str(row.labels))
    if len(pictures) != len(labels["clarity"]):
        raise InputError(
            f"{path}: has {len(pictures)} of the {len(labels['clarity'])} frames its labels are for; prepare the "
            "dataset again"
        )
    heard = np.concatenate(samples)
    silence = np.zeros(max(0, math.ceil(len(pictures) / FPS * SPEECH_RATE) - len(heard)), np.float32)
    return Filmed(row, np.stack(pictures), np.concatenate([heard, silence]), labels)


def observed_clips(filmed: Filmed, frames: int, rng: np.random.Generator) -> Iterator[Clip]:
    """Every stretch of `frames` frames, each against a reference frame drawn from the whole clip (stage 1: "two
    arbitrary frames").
    """
    cv2.setNumThreads(1)
    total = len(filmed.pictures)
    motion = speech_motion(filmed.samples, FPS)
    for start in range(0, total - frames + 1, frames):
        at = int(rng.integers(total))
        picture, points = filmed.pictures[at], unpack_points(filmed.labels, at)
        still = Still(picture, np.ones(picture.shape[:2], np.float32), points, str(filmed.row.identity))
        part = [estimate_flow(filmed.pictures[i], picture) for i in range(start, start + frames)]
        shown = [
            Rendered(filmed.pictures[i], *part[i - start], unpack_points(filmed.labels, i))
            for i in range(start, start + frames)
        ]
        yield Clip(
            still,
            shown,
            filmed.samples,
            start,
            motion,
            filmed.labels["clarity"][start : start + frames],
            head=filmed.row.hands_share == 0,
        )


def estimate_flow(frame_u8: np.ndarray, reference_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """flow float32 (H, W, 2), pixels: where each pixel of the frame comes from in the reference, minus its own place;
    seen float32 (H, W) in 0..1.
    """
    a, b = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (frame_u8, reference_u8))
    search = cv2.DISOpticalFlow.create(cv2.DISOpticalFlow_PRESET_MEDIUM)
    there = search.calc(a, b, None)  # type: ignore[call-overload]  # None: no flow to start from
    back = search.calc(b, a, None)  # type: ignore[call-overload]
    h, w = a.shape
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))

    def way(field):
        return cv2.remap(field, x + there[..., 0], y + there[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    apart = np.linalg.norm(there + way(back), axis=-1)
    unlike = np.abs(frame_u8.astype(np.float32) - way(reference_u8)).mean(-1)
    seen = ((apart < _APART) & (cv2.GaussianBlur(unlike, (0, 0), 1.5) < _UNLIKE)).astype(np.float32)
    return there, cv2.GaussianBlur(seen, (0, 0), 0.8)
