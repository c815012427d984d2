"""SyncNet v2: embeds five frames of a mouth and the sound of that time; the embeddings are close when both are in sync.

Chung and Zisserman 2016, "Out of time: automated lip sync in the wild". The layers carry the names of the public file
`syncnet_v2.model`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from cyberhost_model.lab.evaluation.networks.frozen import load_weights

FRAMES = 5  # pictures of a window, 25 a second
SIDE = 224  # pixels of a picture
MFCC_PER_FRAME = 4  # MFCC columns of a picture's time
MFCC_COLUMNS = FRAMES * MFCC_PER_FRAME
DIM = 1024


def _block(convolution: nn.Module, pool: nn.Module | None = None) -> list[nn.Module]:
    norm = nn.BatchNorm3d if isinstance(convolution, nn.Conv3d) else nn.BatchNorm2d
    layers: list[nn.Module] = [convolution, norm(convolution.out_channels), nn.ReLU(inplace=True)]
    return layers if pool is None else [*layers, pool]


def _flat(kernel: int, padding: int, stride: int = 1) -> dict[str, tuple[int, int, int]]:
    """Return the arguments of a 3-d layer whose kernel covers a single frame."""
    return {"kernel_size": (1, kernel, kernel), "stride": (1, stride, stride), "padding": (0, padding, padding)}


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, DIM))


class SyncNet(nn.Module):
    """Embed pictures and sound with two towers, 13,631,616 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_block(nn.Conv2d(1, 64, 3, padding=1), nn.MaxPool2d(1)),
            *_block(nn.Conv2d(64, 192, 3, padding=1), nn.MaxPool2d(3, stride=(1, 2))),
            *_block(nn.Conv2d(192, 384, 3, padding=1)),
            *_block(nn.Conv2d(384, 256, 3, padding=1)),
            *_block(nn.Conv2d(256, 256, 3, padding=1), nn.MaxPool2d(3, stride=2)),
            *_block(nn.Conv2d(256, 512, (5, 4))),
        )
        self.netfcaud, self.netfclip = _head(), _head()
        self.netcnnlip = nn.Sequential(
            *_block(nn.Conv3d(3, 96, (FRAMES, 7, 7), stride=(1, 2, 2)), nn.MaxPool3d(**_flat(3, 0, 2))),
            *_block(nn.Conv3d(96, 256, **_flat(5, 1, 2)), nn.MaxPool3d(**_flat(3, 1, 2))),
            *_block(nn.Conv3d(256, 256, **_flat(3, 1))),
            *_block(nn.Conv3d(256, 256, **_flat(3, 1))),
            *_block(nn.Conv3d(256, 256, **_flat(3, 1)), nn.MaxPool3d(**_flat(3, 0, 2))),
            *_block(nn.Conv3d(256, 512, **_flat(6, 0))),
        )

    def pictures(self, frames: Tensor) -> Tensor:
        """Embed each window of five frames: (B, 3, T + 4, 224, 224), BGR in 0..255, not normalised -> (B, T, 1024).

        Only the kernel of the first layer covers more than one frame, so all windows of a run of frames share the
        rest of the computation.
        """
        x = self.netcnnlip(frames).flatten(2).transpose(1, 2)  # (B, T, 512)
        return self.netfclip(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def sound(self, mfcc: Tensor) -> Tensor:
        """Embed MFCC of 0.2 s: (B, 1, 13, 20) -> (B, 1024)."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))


def load_syncnet(path: Path, device: str | torch.device = "cpu") -> SyncNet:
    """Load the network with the weights of `syncnet_v2.model`, for inference.

    Raises ModelError where they do not fit exactly.
    """
    net = load_weights(SyncNet(), path).to(device)
    net.netcnnlip.to(memory_format=torch.channels_last_3d)  # a third faster on a CPU
    return net
