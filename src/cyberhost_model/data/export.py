"""Made clips as files anyone can look at and train on: the same format as clips prepared from videos (docs/data.md), with exact labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..conditions.keypoints import NECK
from ..conditions.movement import movement_box
from ..dataset.clip import correlation
from ..dataset.identity import face_descriptor, mean_descriptor, split_of
from ..dataset.labels import pack_labels, seen_mouth, write_labels
from ..dataset.manifest import written_whole
from ..dataset.people import has_face, has_hand
from ..dataset.rows import ACCEPTED, Row
from ..inputs.audio import Sound
from ..video.writer import write_video
from .synth import FPS, Clip

_RATE = 16000
SOURCE, DETECTOR = "synth", "exact"


def export_clip(clip: Clip, folder: Path, number: int) -> Row:
    """Write `clip` as NUMBER.mp4 with its sound, NUMBER.png (the reference) and NUMBER.npz (labels); returns its row of the manifest.

    To the labels of every clip come flow (T, H, W, 2) float16 in pixels and seen (T, H, W) uint8 0..255 against the reference.
    """
    size, points = clip.reference.size, clip.keypoints()
    frames = len(points)
    motion = slice(clip.first, clip.first + frames)
    opening, width = clip.motion.opening[motion], clip.motion.width[motion]
    labels = {
        **pack_labels(points, size, clip.clarity, opening, width, clip.reference.identity),
        "flow": np.stack([f.flow for f in clip.frames]).astype(np.float16),
        "seen": (np.stack([f.seen for f in clip.frames]).clip(0, 1) * 255).astype(np.uint8),
    }
    name = f"{number:06d}"
    begin = round(clip.first / FPS * _RATE)
    samples = clip.samples[begin : begin + round(frames / FPS * _RATE)]
    with written_whole(folder / f"{name}.png") as part:
        Image.fromarray(clip.reference.picture_u8).save(part)
    write_labels(folder / f"{name}.npz", labels)
    write_video((f.picture_u8 for f in clip.frames), folder / f"{name}.mp4", FPS, Sound.from_samples(samples, _RATE), overwrite=True)
    thorax = np.array([k.body[NECK] for k in points])
    described = [face_descriptor(f.picture_u8, f.keypoints) for f in clip.frames[::5]]
    with_hand = [c for c, k in zip(clip.clarity, points, strict=True) if has_hand(k)]
    return Row(
        name,
        ACCEPTED,
        SOURCE,
        start=0.0,
        end=frames / FPS,
        source_fps=FPS,
        frames=frames,
        fps=FPS,
        width=size[0],
        height=size[1],
        box=[0.0, 0.0, float(size[0]), float(size[1])],
        face_share=sum(map(has_face, points)) / frames,
        hands_share=len(with_hand) / frames,
        clarity=float(np.mean(with_hand)) if with_hand else None,
        movement=float(np.ptp(thorax, 0).max()),
        thorax_range=list(movement_box(thorax, 0.0, 0.0)),
        loudness=float(20 * np.log10(max(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))), 1e-6))),
        speech_share=float(clip.motion.speech[motion].mean()),
        lip_correlation=correlation(seen_mouth(points, size[0] / size[1])[0], opening),
        identity=clip.reference.identity,
        split=split_of(clip.reference.identity),
        descriptor=mean_descriptor([d for d in described if d is not None]),
        detector=DETECTOR,
        video=f"{name}.mp4",
        labels=f"{name}.npz",
        reference=f"{name}.png",
    )
