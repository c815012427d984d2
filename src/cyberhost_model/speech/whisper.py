"""WhisperEncoder: the output of every block of a Whisper encoder, as EchoMimicV2 uses it.

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
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank
from transformers.models.whisper.configuration_whisper import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder as Encoder

from cyberhost_model.errors import ModelError
from cyberhost_model.hub.tensors import (
    LARGEST_CONFIG,
    build_with_weights,
    check_entries,
    read_shapes,
)
from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.reading import convert, one_line, read_object
from cyberhost_model.speech.encoder import FeatureStream
from cyberhost_model.speech.level import SpeechLevel

KIND = "whisper_encoder"
WINDOW, HOP, SEGMENT = 400, 160, 30 * SPEECH_RATE  # samples
_FRAMES = SEGMENT // HOP


class WhisperEncoder(FeatureStream, nn.Module):
    """The encoder of a Whisper model; its last norm is left out, since all blocks are used as they are."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Build the encoder. `config`: arguments of transformers' WhisperConfig."""
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
        """Encode log-mel frames (B, bins, 3000) to (B, 1500, layers, dim)."""
        return torch.stack(self.model(mel, output_hidden_states=True).hidden_states, 2)

    def log_mel(self, samples: Tensor, loudest: float | None = None) -> Tensor:
        """Compute the log-mel frames of samples (n + 400,), of which 200 lie on either side: (bins, n / 160).

        They are 80 dB deep below `loudest`, by default their own largest value; about -1..1.
        """
        mel = self._spectrum(samples)
        return (torch.clamp(mel, min=(float(mel.max()) if loudest is None else loudest) - 8.0) + 4.0) / 4.0

    @torch.no_grad()
    def level(self, blocks: Iterable[np.ndarray]) -> SpeechLevel:
        """Measure the loudest point of a recording's spectrogram, as deep as which all its pieces are then seen."""
        loudest = -10.0  # of digital silence
        for samples, _ in _segments(blocks):
            loudest = max(loudest, float(self._spectrum(torch.from_numpy(samples).to(self.filters)).max()))
        return SpeechLevel(0.0, 0.0, loudest)  # the sound is heard as it is, as in Whisper's own code

    @torch.no_grad()
    def stream(self, blocks: Iterable[np.ndarray], level: SpeechLevel) -> Iterator[Tensor]:
        """Encode `blocks` as `FeatureStream.stream` says, in pieces of 30 s; of `level` only `loudest` is used."""
        for samples, steps in _segments(blocks):
            mel = self.log_mel(torch.from_numpy(samples).to(self.filters), level.loudest)
            mel = F.pad(mel, (0, _FRAMES - mel.shape[1]))
            yield self.eval()(mel[None])[0, :steps].float().cpu()

    def _spectrum(self, samples: Tensor) -> Tensor:
        """Compute the power of `log_mel`'s bins and frames, as powers of ten."""
        spectrum = torch.stft(
            samples,
            WINDOW,
            HOP,
            window=torch.hann_window(WINDOW, device=samples.device),
            center=False,
            return_complex=True,
        )
        powers = self.filters @ spectrum[:, : (len(samples) - WINDOW) // HOP].abs().square()
        return powers.clamp(min=1e-10).log10()

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: torch.dtype = torch.float16) -> None:
        """Write config.json and model.safetensors to `folder`, which is made if it does not exist."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"kind": KIND, "whisper": self.config}, indent=2) + "\n")
        save_file(
            {k: v.detach().to("cpu", dtype).contiguous() for k, v in self.state_dict().items()},
            folder / "model.safetensors",
        )

    @staticmethod
    def from_pretrained(folder: str | os.PathLike[str]) -> WhisperEncoder:
        """Load a folder of `save_pretrained`. Raises ModelError."""
        folder = Path(folder)
        weights_file = folder / "model.safetensors"
        try:
            config = convert(
                dict[str, Any], read_object(folder / "config.json", LARGEST_CONFIG).get("whisper"), "whisper"
            )
            check_entries(config, len(read_shapes(weights_file)))
            encoder = build_with_weights(lambda: WhisperEncoder(config), weights_file)
        except (OSError, ValueError, TypeError, RuntimeError, ModelError) as error:
            raise ModelError(f"{folder}: no usable speech encoder ({one_line(error)}); get it again") from error
        return encoder.eval()


def _segments(blocks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
    """Cut a recording into pieces of 30 s with 200 samples on either side, and the steps of each.

    At its two ends the sound is mirrored, as in the spectrograms of Whisper's own code.
    """
    buffer = np.zeros(0, np.float32)
    edge = WINDOW // 2
    started = False
    for block in blocks:
        buffer = np.concatenate([buffer, np.asarray(block, np.float32)])
        if not started and len(buffer) > edge:
            buffer, started = np.concatenate([buffer[edge:0:-1], buffer]), True
        while started and len(buffer) >= SEGMENT + 2 * edge:
            yield buffer[: SEGMENT + 2 * edge], _FRAMES // 2
            buffer = buffer[SEGMENT:]
    if not started and len(buffer):
        buffer = np.pad(buffer, (edge, edge + 1 - len(buffer)))  # too short to be mirrored: silence around it
    if len(buffer) > edge:
        buffer = np.pad(buffer, (0, max(0, edge + HOP - len(buffer))))
        steps = max(1, (len(buffer) - edge) // HOP // 2)
        yield np.concatenate([buffer, buffer[-2 : -edge - 2 : -1]]), steps
