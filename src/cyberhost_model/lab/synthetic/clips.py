"""Synthetic training clips: a person from `People`, speech from a `SpeechLibrary`, a performance on a photo puppet.

Seeded, with exact labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from cyberhost_model.conditions.hand_clarity import hand_clarity
from cyberhost_model.conditions.movement import movement_box
from cyberhost_model.config import EMBEDDED, FPS
from cyberhost_model.lab.filmed.clip import correlation
from cyberhost_model.lab.filmed.labels import mouth_from_keypoints, pack_labels, write_labels
from cyberhost_model.lab.filmed.manifest import ACCEPTED, Row, split_of
from cyberhost_model.lab.synthetic.framing import SIZES, random_colour, random_framing, random_head
from cyberhost_model.lab.synthetic.performance import perform, random_pose, reach_out
from cyberhost_model.lab.synthetic.puppet import Puppet, Rendered
from cyberhost_model.lab.synthetic.sources import People
from cyberhost_model.lab.synthetic.speech_augment import augment_speech
from cyberhost_model.lab.synthetic.speech_motion import LipListener, SpeechMotion, spoken_motion
from cyberhost_model.lab.synthetic.stills import Still
from cyberhost_model.media.audio import SPEECH_RATE, Sound
from cyberhost_model.media.files import written_whole
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.perception.keypoints import NECK, Keypoints
from cyberhost_model.perception.people import face_descriptor, has_face, has_hand, mean_descriptor, visible_hands
from cyberhost_model.speech.wav2vec2 import Wav2Vec2Encoder

SOURCE, DETECTOR = "synth", "exact"


def export_clip(clip: Clip, folder: Path, number: int, held_out: bool = False) -> Row:
    """Export a clip in the format of clips prepared from videos; returns its row of the manifest.

    held_out: it is of the held-out split, whoever it shows; else its identity decides.

    See docs/reference/file-formats.md. Files NUMBER.mp4 with its sound, NUMBER.png (the reference) and NUMBER.npz
    (labels). Beside the labels of every clip there are flow (T, H, W, 2) float16 in pixels and seen (T, H, W) uint8
    0..255, against the reference.
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
    begin = round(clip.first / FPS * SPEECH_RATE)
    samples = clip.samples[begin : begin + round(frames / FPS * SPEECH_RATE)]
    with written_whole(folder / f"{name}.png") as part:
        Image.fromarray(clip.reference.picture_u8).save(part)
    write_labels(folder / f"{name}.npz", labels)
    write_video(
        (f.picture_u8 for f in clip.frames),
        folder / f"{name}.mp4",
        FPS,
        Sound.from_samples(samples, SPEECH_RATE),
        overwrite=True,
    )
    thorax = np.array([k.body[NECK] for k in points])
    described = [face_descriptor(f.picture_u8, f.keypoints) for f in clip.frames[::5]]
    with_hand = [c for c, k in zip(clip.clarity, points, strict=True) if has_hand(k)]
    left, right = np.mean([visible_hands(k) for k in points], 0).tolist()
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
        left_hand_share=left,
        right_hand_share=right,
        clarity=float(np.mean(with_hand)) if with_hand else None,
        movement=float(np.ptp(thorax, 0).max()),
        thorax_range=list(movement_box(thorax, 0.0, 0.0)),
        loudness=float(20 * np.log10(max(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))), 1e-6))),
        speech_share=float(clip.motion.speech[motion].mean()),
        lip_correlation=correlation(mouth_from_keypoints(points, size[0] / size[1])[0], opening),
        identity=clip.reference.identity,
        split="held_out" if held_out else split_of(clip.reference.identity),
        descriptor=mean_descriptor([d for d in described if d is not None]),
        detector=DETECTOR,
        video=f"{name}.mp4",
        labels=f"{name}.npz",
        reference=f"{name}.png",
    )


@dataclass
class Clip:
    """T frames of one person speaking."""

    reference: Still
    """The still the puppet was cut from."""
    frames: list[Rendered]
    """Pictures with key points, and flow and visibility against the reference."""
    samples: np.ndarray
    """float32 (n,) at 16 kHz, longer than the clip."""
    first: int
    """The video frame of `samples` at which the clip begins."""
    motion: SpeechMotion
    """The mouth motion of all of `samples`."""
    clarity: np.ndarray
    """Hand clarity score of each frame, float32 (T,)."""
    head: bool = False
    """Whether the clip is a crop about the head, without hands."""

    @property
    def heard(self) -> np.ndarray:
        """What the speech tells of each frame: opening, width, closure and energy, float32 (T, 4)."""
        part, motion = slice(self.first, self.first + len(self.frames)), self.motion
        return np.stack([motion.opening, motion.width, motion.closure, motion.energy], 1)[part]

    def keypoints(self) -> list[Keypoints]:
        """List the key points of each frame."""
        return [f.keypoints for f in self.frames]


class Voices(Protocol):
    """A source of speech: `SpeechLibrary`, or one like it."""

    def window(self, rng: np.random.Generator, seconds: float) -> np.ndarray:
        """Cut a window of speech, float32 (seconds * 16000,)."""
        ...


class ClipGenerator:
    """A seeded source of any number of clips.

    gestures: recorded arm motion, see `performance.load_gestures`. clean: leaves out changes of colour and sound.
    heads: share of crops about the head. reaching: share of performances in which hands reach out
    (`performance.reach_out`). listener: the speech encoder that says how lips move, by default the embedded
    one.
    """

    def __init__(
        self,
        people: People,
        speech: Voices,
        seed: int = 0,
        frames: int = 32,
        gestures: list[np.ndarray] | None = None,
        sizes: tuple[tuple[int, int], ...] = SIZES,
        clean: bool = False,
        heads: float = 0.0,
        reaching: float = 0.0,
        listener: LipListener | None = None,
    ):
        self.people, self.speech, self.seed, self.frames = people, speech, seed, frames
        self.listener = listener or embedded_listener()
        self.gestures, self.sizes, self.clean, self.heads = gestures, sizes, clean, heads
        self.reaching = reaching

    def clip(self, i: int) -> Clip:
        """Make clip number i; it depends on (seed, i) alone.

        One in four references is itself posed, so that a reference may have an open mouth or raised hands.
        """
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, i])
        size = self.sizes[0] if rng.random() < 0.4 else self.sizes[int(rng.integers(len(self.sizes)))]
        head = self.heads > 0 and rng.random() < self.heads
        still = (random_head if head else random_framing)(self.people.still(rng, size), rng, size)
        if not self.clean:
            still.picture_u8 = random_colour(still.picture_u8, rng)
        gape = float(rng.uniform(0.095, 0.115))
        if rng.random() < 0.25:
            first = Puppet(still, gape)
            posed = first.render(random_pose(rng, first, calm=0.4))
            if posed.seen.mean() > 0.97:  # a mask is only known where the still was moved little
                still = Still(posed.picture_u8, moved_mask(still.mask, posed.flow), posed.keypoints, still.identity)
        puppet = Puppet(still, gape)
        seconds = max(self.frames / FPS + 1, 8.0)
        clean = self.speech.window(rng, seconds)
        samples = clean
        if not self.clean:
            recorded = augment_speech(clean, rng)
            samples, clean = recorded.heard, recorded.clean
        motion = spoken_motion(clean, self.listener, FPS)
        poses = perform(motion, rng, puppet.clasped, self.gestures, FPS)
        if self.reaching and rng.random() < self.reaching:
            poses = reach_out(poses, rng, puppet, FPS)
        start = int(rng.integers(len(motion) - self.frames + 1))
        frames = [puppet.render(p) for p in poses[start : start + self.frames]]
        clarity = np.array([hand_clarity(f.picture_u8, f.keypoints) for f in frames], np.float32)
        return Clip(still, frames, samples, start, motion, clarity, head)


def embedded_listener() -> LipListener:
    """Load the speech encoder of the embedded model."""
    return Wav2Vec2Encoder.from_pretrained(EMBEDDED / "tiny" / "speech")


def moved_mask(mask: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Warp the person's matte (H, W) by a frame's optical flow."""
    h, w = mask.shape
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    return cv2.remap(mask, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
