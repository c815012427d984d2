"""WhisperEncoder: sound -> what every block of a Whisper encoder gives, as EchoMimicV2 hears it.

Log-mel frames of 10 ms in segments of 30 s, each encoded by itself; the encoder has 50 steps a second, as wav2vec 2.0
has.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import WhisperConfig
from transformers.audio_utils import mel_filter_bank
from transformers.models.whisper.modeling_whisper import WhisperEncoder as Encoder

from cyberhost_model.errors import ModelError
from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.speech.encoder import FeatureStream
from cyberhost_model.speech.level import SpeechLevel

KIND = "whisper_encoder"
WINDOW, HOP, SEGMENT = 400, 160, 30 * SPEECH_RATE  # samples
_FRAMES = SEGMENT // HOP


class WhisperEncoder(FeatureStream, nn.Module):
    """The encoder of a Whisper model; its last norm is left out, since all blocks are used as they are."""

    def __init__(self, config: dict[str, Any]) -> None:
        """`config`: arguments of transformers' WhisperConfig."""
        super().__init__()
        self.config = config
        whisper = WhisperConfig(**config)
        self.model = Encoder(whisper)
        self.model.layer_norm = nn.Identity()
        self.dim: int = whisper.d_model
        self.layers: int = whisper.encoder_layers + 1
        bank = mel_filter_bank(
            WINDOW // 2 + 1, whisper.num_mel_bins, 0.0, SPEECH_RATE / 2, SPEECH_RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", torch.from_numpy(bank.T).float(), persistent=False)

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel frames (B, bins, 3000) -> (B, 1500, layers, dim)."""
        return torch.stack(self.model(mel, output_hidden_states=True).hidden_states, 2)

    def log_mel(self, samples: Tensor) -> Tensor:
        """Samples (n + 400,) of which 200 lie on either side -> (bins, n / 160), 80 dB deep, about -1..1."""
        spectrum = torch.stft(
            samples,
            WINDOW,
            HOP,
            window=torch.hann_window(WINDOW, device=samples.device),
            center=False,
            return_complex=True,
        )
        mel = (self.filters @ spectrum[:, : (len(samples) - WINDOW) // HOP].abs().square()).clamp(min=1e-10).log10()
        return (torch.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0

    @torch.no_grad()
    def stream(self, blocks: Iterable[np.ndarray], level: SpeechLevel) -> Iterator[Tensor]:
        """See `FeatureStream.stream`: pieces of 30 s. Whisper hears the sound as it is: `level` is not used."""
        held = np.zeros(0, np.float32)
        edge = WINDOW // 2
        started = False
        for block in blocks:
            held = np.concatenate([held, np.asarray(block, np.float32)])
            if not started and len(held) > edge:
                held, started = (
                    np.concatenate([held[edge:0:-1], held]),
                    True,
                )  # mirrored, as the peers' spectrograms are
            while started and len(held) >= SEGMENT + 2 * edge:
                yield self._segment(held[: SEGMENT + 2 * edge])
                held = held[SEGMENT:]
        if not started and len(held):
            held = np.pad(held, (edge, edge + 1 - len(held)))  # too short to be mirrored: silence around it
        if len(held) > edge:
            held = np.pad(held, (0, max(0, edge + HOP - len(held))))
            steps = max(1, (len(held) - edge) // HOP // 2)
            yield self._segment(np.concatenate([held, held[-2 : -edge - 2 : -1]]), steps)

    def _segment(self, samples: np.ndarray, steps: int = _FRAMES // 2) -> Tensor:
        mel = self.log_mel(torch.from_numpy(samples).to(self.filters))
        mel = F.pad(mel, (0, _FRAMES - mel.shape[1]))
        return self.eval()(mel[None])[0, :steps].float().cpu()

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: torch.dtype = torch.float16) -> None:
        """config.json and model.safetensors in `folder` (made if missing)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"kind": KIND, "whisper": self.config}, indent=2) + "\n")
        save_file(
            {k: v.detach().to("cpu", dtype).contiguous() for k, v in self.state_dict().items()},
            folder / "model.safetensors",
        )

    @staticmethod
    def from_pretrained(folder: str | os.PathLike[str]) -> WhisperEncoder:
        """A folder of `save_pretrained`. Raises ModelError."""
        folder = Path(folder)
        try:
            encoder = WhisperEncoder(json.loads((folder / "config.json").read_text())["whisper"])
            encoder.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                f"{folder}: no usable speech encoder ({str(error).splitlines()[0]}); get it again"
            ) from error
        return encoder.eval()
