"""Videos made worse in steps, each in one way that one metric of people must notice (docs/reference/evaluation.md
shows the table).

Frames are uint8 (T, H, W, 3); the result is a copy.
"""

from __future__ import annotations

import cv2
import numpy as np

from cyberhost_model.perception.keypoints import Keypoints


def swapped_identity(frames: np.ndarray, others: np.ndarray, share: float) -> np.ndarray:
    """The last `share` of the frames shows someone else (CSIM falls).

    others: frames of the other person, of the same shape.
    """
    out = frames.copy()
    start = len(frames) - round(share * len(frames))
    out[start:] = others[start:]
    return out


def frozen_hands(frames: np.ndarray, people: list[Keypoints], share: float) -> np.ndarray:
    """In the last `share` of the frames all below the chin stands still, as in the frame whose hands are nearest to
    their mean place (HKV falls).

    people: the person in each frame.
    """
    out = frames.copy()
    start = len(frames) - round(share * len(frames))
    hands = np.stack([k.hands.reshape(-1) for k in people])
    middle = int(np.linalg.norm(hands - hands.mean(0), axis=1).argmin())
    chin = max(float(k.face[:, 1].max()) for k in people) * frames.shape[1]
    top = min(frames.shape[1] - 1, int(chin) + 2)
    out[start:, top:] = frames[middle, top:]
    return out


def jittered(frames: np.ndarray, pixels: float, seed: int = 0) -> np.ndarray:
    """Every frame moved by its own random step of up to `pixels` on either axis (HKV rises)."""
    steps = np.random.default_rng(seed).uniform(-1, 1, (len(frames), 2)) * pixels
    return np.stack([_moved(frame, *step) for frame, step in zip(frames, steps, strict=True)])


def shifted(frames: np.ndarray, pixels: float) -> np.ndarray:
    """All frames moved to the right by `pixels` (AKD rises)."""
    return np.stack([_moved(frame, pixels, 0.0) for frame in frames])


def late_sound(samples: np.ndarray, frames: int, fps: float = 25.0, rate: int = 16_000) -> np.ndarray:
    """The sound (n,) comes `frames` later, earlier where that is negative, at the same length (the offset of SyncC
    moves by as much, SyncC falls).
    """
    step = round(frames / fps * rate)
    silence = np.zeros(min(abs(step), len(samples)), samples.dtype)
    return (
        np.concatenate([silence, samples[: len(samples) - step]])
        if step >= 0
        else np.concatenate([samples[-step:], silence])
    )


def _moved(frame: np.ndarray, x: float, y: float) -> np.ndarray:
    """The edge is repeated where nothing comes from."""
    size = frame.shape[1], frame.shape[0]
    return cv2.warpAffine(
        frame, np.array([[1, 0, x], [0, 1, y]], float), size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
