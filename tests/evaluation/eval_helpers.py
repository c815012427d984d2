"""Small moving pictures, ways to make them worse, and networks of random numbers that tell pictures apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from cyberhost_model.lab.evaluation.features.extractor import Extractor, VideoInfo
from cyberhost_model.lab.evaluation.metric import Sample
from cyberhost_model.media.audio import Sound
from cyberhost_model.media.video_writer import write_video

SIZE = (96, 64)


def moving(seed: int, frames: int = 20, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Blots that drift, uint8 (frames, H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (size[0] * 2, size[1]), interpolation=cv2.INTER_CUBIC)
    return np.stack([np.roll(picture, -2 * i, 1)[:, : size[0]] for i in range(frames)])


def noisy(frames: np.ndarray, amount: float, seed: int = 0) -> np.ndarray:
    """With Gaussian noise of this deviation."""
    return (
        np.clip(frames + np.random.default_rng(seed).normal(0, amount, frames.shape), 0, 255).astype(np.uint8)
        if amount
        else frames
    )


def blurred(frames: np.ndarray, sigma: float) -> np.ndarray:
    """With a Gaussian blur of this radius."""
    return np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in frames]) if sigma else frames


def write(path: Path, frames: np.ndarray, fps: float = 25.0, sound: Sound | None = None) -> Path:
    """An MP4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(list(frames), path, fps, sound, crf=4)


def features_of(extractor: Extractor, frames: np.ndarray, batch: int = 16) -> dict[str, np.ndarray]:
    """What an extractor makes of these frames, handed on in batches."""
    extractor.begin(VideoInfo(Path("x.mp4"), 25.0, (frames.shape[2], frames.shape[1]), len(frames)))
    for start in range(0, len(frames), batch):
        extractor.push(frames[start : start + batch])
    return extractor.finish()


def sample(name: str, identity: str = "", **features) -> Sample:
    """A sample of a metric of sets."""
    return Sample(name, identity or name, 16, 25.0, features, None)


@torch.inference_mode()
def alive(net: nn.Module, size: tuple[int, ...], seed: int = 0) -> nn.Module:
    """Random numbers, and normalisations that fit them: without, a deep network gives the same for every picture."""
    torch.manual_seed(seed)
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if hasattr(module, "momentum"):
            module.momentum = 1.0
    net.train()
    net(torch.randn(size))
    return net.eval()
