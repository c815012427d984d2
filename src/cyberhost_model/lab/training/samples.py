"""Sample videos of the averaged weights during training, made with the other parts of a finished model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn

from cyberhost_model.config import Preset
from cyberhost_model.errors import TrainingError
from cyberhost_model.media.audio import load_audio
from cyberhost_model.media.image import load_picture
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.runtime.loading import Model, load_model
from cyberhost_model.runtime.pipeline import CyberHost


class SampleVideos:
    """A sampler for `loop.train`: called with a step and weights, it writes `RUN/samples/<step>.mp4`."""

    def __init__(self, run: Path, network: nn.Module, picture: Path, audio: Path, model: str, device: str) -> None:
        """Load what a video is made of.

        network: the one that trains. model: the model whose codec, speech encoder and detector are used. Raises
        TrainingError when they do not fit together, InputError for a bad picture or sound, ModelError for a bad model.
        """
        if not isinstance(network, CyberHostNetwork):
            raise TrainingError("sample videos can be made in stages 1, 2 and distill alone: leave out --sample")
        load_picture(picture)
        load_audio(audio)
        self.folder, self.picture, self.audio, self.device = run / "samples", picture, audio, torch.device(device)
        self.preset, self.parts = network.preset, fitting_parts(model, network.preset)

    def __call__(self, step: int, weights: dict[str, Tensor]) -> Path:
        """Make a video in float32 with the preset's steps and guidance and seed 0. Raises OutputError."""
        self.folder.mkdir(exist_ok=True)
        devices = [torch.cuda.current_device()] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            host = host_with(self.parts, self.preset, weights, self.device)
            return host.animate(self.picture, self.audio).save(self.folder / f"{step:08d}.mp4", overwrite=True)


def fitting_parts(model: str, preset: Preset) -> Model:
    """Load the model whose codec, speech encoder and detector are used with a network of `preset`.

    Raises TrainingError when they do not fit, ModelError.
    """
    parts = load_model(model)
    other = parts.network.preset
    names = ("codec", "latent_channels", "latent_factor", "audio")
    if wrong := [name for name in names if getattr(other, name) != getattr(preset, name)]:
        what = f"sample_model = {model!r} does not fit preset {preset.name} ({', '.join(wrong)} differ)"
        raise TrainingError(
            f"{what}: name a model folder with its codec, speech encoder and detector in the recipe, or leave out "
            "--sample"
        )
    return parts


def host_with(parts: Model, preset: Preset, weights: dict[str, Tensor], device: torch.device) -> CyberHost:
    """Build the pipeline of `parts` with another network, in float32.

    CUDA graphs are off, because training needs the memory.
    """
    network = CyberHostNetwork(preset)
    network.load_state_dict(weights)
    return CyberHost(dataclasses.replace(parts, network=network), device, torch.float32, cuda_graphs=False)
