"""Clips as files anyone can look at and train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..conditions.crops import face_box, hand_boxes
from ..conditions.keypoints import NECK
from ..inputs.audio import Sound
from ..video.writer import write_video
from .synth import FPS, Clip

_RATE = 16000


def export_clip(clip: Clip, folder: Path, number: int) -> Path:
    """Write `clip` as NUMBER.mp4 with its sound, NUMBER.png (the reference) and NUMBER.npz (labels); returns the video's path.

    Labels: body (T, 18, 2), hands (T, 2, 21, 2), face (T, 68, 2) and their scores, in 0..1; flow (T, H, W, 2) float16 in pixels and seen (T, H, W)
    uint8 0..255 against the reference; face_box (T, 4) and hand_boxes (T, 2, 4) in pixels, NaN where absent; thorax (T, 2); clarity (T,);
    opening, width (T,); identity.
    """
    size, points = clip.reference.size, clip.keypoints()
    none = (np.nan,) * 4
    motion = slice(clip.first, clip.first + len(clip.frames))
    labels = {
        **{n: np.stack([getattr(k, n) for k in points]) for n in ("body", "body_score", "hands", "hands_score", "face", "face_score")},
        "flow": np.stack([f.flow for f in clip.frames]).astype(np.float16),
        "seen": (np.stack([f.seen for f in clip.frames]).clip(0, 1) * 255).astype(np.uint8),
        "face_box": np.array([face_box(k, size) or none for k in points], np.float32),
        "hand_boxes": np.array([[b or none for b in hand_boxes(k, size)] for k in points], np.float32),
        "thorax": np.stack([k.body[NECK] for k in points]),
        "clarity": clip.clarity,
        "opening": clip.motion.opening[motion],
        "width": clip.motion.width[motion],
        "identity": np.array(clip.reference.identity),
    }
    name = folder / f"{number:06d}"
    Image.fromarray(clip.reference.picture_u8).save(name.with_suffix(".png"))
    np.savez_compressed(name.with_suffix(".npz"), **labels)  # type: ignore[arg-type]  # numpy declares its one flag, not the arrays
    begin = round(clip.first / FPS * _RATE)
    samples = clip.samples[begin : begin + round(len(clip.frames) / FPS * _RATE)]
    return write_video((f.picture_u8 for f in clip.frames), name.with_suffix(".mp4"), FPS, Sound.from_samples(samples, _RATE), overwrite=True)
