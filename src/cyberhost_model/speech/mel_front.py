"""MelFront: sound -> mel bands -> the input of a speech encoder's transformer, 50 steps a second."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from cyberhost_model.media.audio import SPEECH_RATE

HOP, WINDOW, FFT = 160, 400, 512  # samples
_FLOOR = 1e-9  # power; speech at the encoder's level has about 1e-5 in a band
_MIDDLE, _SCALE = -6.0, 1.5  # of log10 power, so that most bands lie in -2..2
_LAYERS = 2  # convolutions of 5 steps at 50 Hz


class MelFront(nn.Module):
    """Log-mel bands of 10 ms, then convolutions that leave a step for each 20 ms.

    A step depends on 120 ms of sound to either side of its own.
    """

    def __init__(self, mels: int, dim: int) -> None:
        super().__init__()
        bank = mel_filter_bank(FFT // 2 + 1, mels, 60.0, 7600.0, SPEECH_RATE, norm=None, mel_scale="slaney")
        self.register_buffer("filters", torch.from_numpy(bank).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.bands = nn.Conv1d(mels, dim, 5, padding=2)
        self.halved = nn.Conv1d(dim, dim, 4, stride=2, padding=1)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(_LAYERS))
        self.layers = nn.ModuleList(nn.Conv1d(dim, dim, 5, padding=2) for _ in range(_LAYERS))

    def log_mel(self, samples: Tensor) -> Tensor:
        """Compute the log-mel bands of samples (B, 320 n + 80), 40 of which lie on either side: (B, 2 n, mels).

        Float32 whatever the precision of the rest; most values lie in -2..2.
        """
        with torch.autocast(samples.device.type, enabled=False):
            return self._log_mel(samples)

    def _log_mel(self, samples: Tensor) -> Tensor:
        padded = F.pad(samples.float(), (WINDOW // 2 - HOP // 2 - 40,) * 2)
        frames = padded.unfold(1, WINDOW, HOP) * self.window.float()
        spectrum = torch.fft.rfft(frames, FFT)
        power = (spectrum.real.square() + spectrum.imag.square()) * (2 / (FFT * self.window.float().square().sum()))
        return ((power @ self.filters.float() + _FLOOR).log10() - _MIDDLE) / _SCALE

    def forward(self, samples: Tensor) -> Tensor:
        """Encode samples (B, 320 n + 80), 40 of which lie on either side, to (B, dim, n).

        That is the layout of wav2vec 2.0's convolutions.
        """
        x = self.log_mel(samples).to(self.bands.weight.dtype).transpose(1, 2)
        x = self.halved(F.gelu(self.bands(x)))
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + F.gelu(layer(norm(x.transpose(1, 2)).transpose(1, 2)))
        return x
