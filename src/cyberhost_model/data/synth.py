"""Training clips made by the project: a person from `People`, speech from a `SpeechLibrary`, a performance on a puppet. Seeded; every label exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from ..conditions.clarity import hand_clarity
from ..conditions.keypoints import Keypoints
from .framing import SIZES, random_framing, random_head, random_look
from .people import People
from .performance import perform
from .poses import random_pose
from .puppet import Puppet, Rendered
from .speech_augment import augment_speech
from .speech_motion import SpeechMotion, speech_motion
from .stills import Still

FPS = 25.0


@dataclass
class Clip:
    """T frames of one person speaking. reference is the still the puppet was cut from.

    samples float32 (n,) at 16 kHz, longer than the clip; `first` is the video frame of `samples` at which the clip begins;
    motion covers all of `samples`; head: a crop about the head, hands left out. frames are `Rendered` (picture, flow against the reference, what it shows, key points).
    """

    reference: Still
    frames: list[Rendered]
    samples: np.ndarray
    first: int
    motion: SpeechMotion
    clarity: np.ndarray
    head: bool = False

    @property
    def opening(self) -> np.ndarray:
        """The true mouth opening of each frame, float32 (T,)."""
        return self.motion.opening[self.first : self.first + len(self.frames)]

    def keypoints(self) -> list[Keypoints]:
        return [f.keypoints for f in self.frames]


class Voices(Protocol):
    """Where speech comes from: `SpeechLibrary`, or the like."""

    def window(self, rng: np.random.Generator, seconds: float) -> np.ndarray:
        """A stretch of speech, float32 (seconds * 16000,)."""
        ...


class Synth:
    """An endless, seeded source of clips: `synth.clip(i)` depends on (seed, i) alone. `heads`: share of crops about the head."""

    def __init__(self, people: People, speech: Voices, seed: int = 0, frames: int = 32, gestures: list[np.ndarray] | None = None,
                 sizes: tuple[tuple[int, int], ...] = SIZES, clean: bool = False, heads: float = 0.0):  # fmt: skip
        self.heads = heads
        self.people, self.speech, self.seed, self.frames, self.gestures, self.sizes, self.clean = people, speech, seed, frames, gestures, sizes, clean

    def clip(self, i: int) -> Clip:
        """Clip number i. One in four references is itself posed, so that a reference may have an open mouth or raised hands."""
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, i])
        size = self.sizes[0] if rng.random() < 0.4 else self.sizes[int(rng.integers(len(self.sizes)))]
        head = self.heads > 0 and rng.random() < self.heads
        still = (random_head if head else random_framing)(self.people.still(rng, size), rng, size)
        if not self.clean:
            still.picture_u8 = random_look(still.picture_u8, rng)
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
        motion = speech_motion(clean, FPS)
        poses = perform(motion, rng, puppet.clasped, self.gestures, FPS)
        start = int(rng.integers(len(motion) - self.frames + 1))
        frames = [puppet.render(p) for p in poses[start : start + self.frames]]
        clarity = np.array([hand_clarity(f.picture_u8, f.keypoints) for f in frames], np.float32)
        return Clip(still, frames, samples, start, motion, clarity, head)


def moved_mask(mask: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The person's matte after a frame's motion."""
    h, w = mask.shape
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    return cv2.remap(mask, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
