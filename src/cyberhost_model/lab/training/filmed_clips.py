"""Filmed clips in the form of synthetic ones: frames with their optical flow to a reference frame of the same clip.

Synthetic clips have exact flow; here OpenCV's dense inverse search estimates it (Kroeger et al., arXiv 1603.03590).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from cyberhost_model.config import FPS
from cyberhost_model.errors import InputError
from cyberhost_model.lab.filmed.labels import read_labels, unpack_points
from cyberhost_model.lab.filmed.manifest import Row
from cyberhost_model.lab.filmed.source import UnusableVideo, open_video, sound_blocks, to_rgb
from cyberhost_model.lab.synthetic.clips import Clip
from cyberhost_model.lab.synthetic.puppet import Rendered
from cyberhost_model.lab.synthetic.speech_motion import SpeechMotion, speech_motion
from cyberhost_model.lab.synthetic.stills import Still
from cyberhost_model.media.audio import SPEECH_RATE

# A flow is sure below both of these.
_MAX_MISMATCH = 1.5  # of flow there and back, pixels
_MAX_COLOUR = 36.0  # mean difference of colour, of 255
_SPECK = 5  # pixels: what is sure in smaller places is chance
_SAME_COLOUR = 16.0  # where no flow is sure, as on a bare wall, the reference shows what looks like this or better
_NO_FLOW = np.zeros((0, 0, 2), np.float32), np.zeros((0, 0), np.float32)
_TOUCHING = 0.04  # opening of lips that touch, as a face mesh sees them


@dataclass
class FilmedClip:
    """One clip of a dataset in memory."""

    row: Row
    pictures: np.ndarray
    """uint8 (T, H, W, 3)."""
    samples: np.ndarray
    """float32 (n,) at 16 kHz."""
    labels: dict[str, np.ndarray]
    """Of `filmed.labels`."""


def read_filmed(dataset: Path, row: Row) -> FilmedClip:
    """Read a clip of a dataset.

    Raises InputError when the video or its labels cannot be read, or their lengths differ: a lost frame would shift all
    labels.
    """
    path = dataset / str(row.video)
    try:
        with open_video(path) as video:
            pictures = [to_rgb(stamped.frame) for stamped in video.frames()]
        samples = list(sound_blocks(path))
    except UnusableVideo as error:
        raise InputError(f"{path}: cannot be read ({error.detail}); prepare the dataset again") from None
    if not pictures or not samples:
        raise InputError(f"{path}: lacks pictures or sound; prepare the dataset again")
    labels = read_labels(dataset / str(row.labels))
    if len(pictures) != len(labels["clarity"]):
        raise InputError(
            f"{path}: has {len(pictures)} of the {len(labels['clarity'])} frames its labels are for; prepare the "
            "dataset again"
        )
    sound = np.concatenate(samples)
    silence = np.zeros(max(0, math.ceil(len(pictures) / FPS * SPEECH_RATE) - len(sound)), np.float32)
    return FilmedClip(row, np.stack(pictures), np.concatenate([sound, silence]), labels)


def stretches(total: int, frames: int | None) -> range:
    """List the first frames of the stretches of `frames` frames in a clip of `total`; None: the whole clip is one."""
    frames = frames or max(total, 1)
    return range(0, total - frames + 1, frames)


def cut_clips(
    filmed: FilmedClip, frames: int | None, rng: np.random.Generator, references: int = 1, flow: bool = True
) -> Iterator[tuple[Clip, ...]]:
    """Cut a filmed clip into its `stretches`, each with reference frames drawn from the whole clip.

    Yields a stretch as one `Clip` for each of its references: "two arbitrary frames" of the paper's stage 1 (section
    4.1). flow: whether the optical flow to the reference is estimated; without it flow and visibility are empty.
    """
    cv2.setNumThreads(1)
    total, motion = len(filmed.pictures), seen_motion(filmed)
    for start in stretches(total, frames):
        inside = range(start, start + (frames or total))
        clarity = filmed.labels["clarity"][start : inside.stop]

        def against(at: int, inside: range = inside, clarity: np.ndarray = clarity) -> Clip:
            picture, points = filmed.pictures[at], unpack_points(filmed.labels, at)
            still = Still(picture, np.ones(picture.shape[:2], np.float32), points, str(filmed.row.identity))
            rendered = []
            for i in inside:
                moved, seen = estimate_flow(filmed.pictures[i], picture) if flow else _NO_FLOW
                rendered.append(Rendered(filmed.pictures[i], moved, seen, unpack_points(filmed.labels, i)))
            head = filmed.row.hands_share == 0
            return Clip(still, rendered, filmed.samples, inside.start, motion, clarity, head=head)

        yield tuple(against(int(rng.integers(total))) for _ in range(references))


def seen_motion(filmed: FilmedClip) -> SpeechMotion:
    """Make the motion of a filmed clip: the mouth that was seen, the energy that was heard."""
    loud = speech_motion(filmed.samples, FPS)
    seen = {n: np.resize(np.nan_to_num(filmed.labels[n]).astype(np.float32), len(loud)) for n in ("opening", "width")}
    closure = ((seen["opening"] < _TOUCHING) & loud.speech).astype(np.float32)
    return replace(loud, **seen, closure=closure)


def estimate_flow(frame_u8: np.ndarray, reference_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the optical flow from a frame to the reference, and which pixels of the frame the reference shows.

    Pictures (H, W, 3). Returns flow float32 (H, W, 2) in pixels (position in the reference minus position in the frame)
    and visibility float32 (H, W) in 0..1. A flow is sure where those there and back cancel out and the colours agree;
    elsewhere it is that of what is sure around, so that few components describe it, and a pixel is visible where the
    colours agree well.
    """
    frame, reference = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (frame_u8, reference_u8))
    search = cv2.DISOpticalFlow.create(cv2.DISOpticalFlow_PRESET_MEDIUM)
    flow = search.calc(frame, reference, None)  # type: ignore[call-overload]  # None: no flow to start from
    back = search.calc(reference, frame, None)  # type: ignore[call-overload]
    h, w = frame.shape
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))

    def warp(field: np.ndarray, flow: np.ndarray) -> np.ndarray:
        return cv2.remap(field, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def colour_difference(flow: np.ndarray) -> np.ndarray:
        difference = np.abs(frame_u8.astype(np.float32) - warp(reference_u8, flow)).mean(-1)
        return cv2.GaussianBlur(difference, (0, 0), 1.5)

    mismatch = np.linalg.norm(flow + warp(back, flow), axis=-1)
    sure = ((mismatch < _MAX_MISMATCH) & (colour_difference(flow) < _MAX_COLOUR)).astype(np.uint8)
    sure = cv2.morphologyEx(sure, cv2.MORPH_OPEN, np.ones((_SPECK, _SPECK), np.uint8)).astype(bool)
    flow = fill_hidden(flow, sure)
    visible = sure | (colour_difference(flow) < _SAME_COLOUR)
    return flow, cv2.GaussianBlur(visible.astype(np.float32), (0, 0), 0.8)


def fill_hidden(flow: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Replace the flow (H, W, 2) where it is not `sure` (H, W) by a smooth continuation of the flow around.

    Means of what is sure in ever larger neighbourhoods, the smallest that has some; zero where nothing is.
    """
    weight = sure.astype(np.float32)
    levels = [(flow.astype(np.float32) * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 2:
        levels.append((cv2.pyrDown(levels[-1][0]), cv2.pyrDown(levels[-1][1])))
    filled = levels[-1][0] / np.maximum(levels[-1][1], 1e-3)[..., None]
    for total, share in reversed(levels[:-1]):
        coarse = cv2.pyrUp(filled, dstsize=share.shape[::-1])
        known = np.minimum(share, 1)[..., None]
        filled = coarse * (1 - known) + total / np.maximum(share, 1e-3)[..., None] * known
    return filled
