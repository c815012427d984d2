"""Where a stage's weights begin: a model by its name, a model's folder, a run or a safetensors file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cyberhost_model.config import Ablations, Preset
from cyberhost_model.errors import ModelError, TrainingError
from cyberhost_model.model.checkpoint import NETWORK_FILE, load_preset, with_current_names
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.runtime.loading import find_model

LATER = ("pose_to_latent.", "denoising_unet.prior_in.")
READS_TOKENS = (".attn2.to_k.weight", ".attn2.to_v.weight")
"""What is as wide as the tokens of cross attention, which another model may have of another kind."""


@dataclass
class Beginning:
    """Weights by name, and the preset of their network where it is known."""

    weights: dict[str, Tensor]
    preset: Preset | None = None


def beginning(source: str) -> Beginning:
    """`source`: a run (its average), a safetensors file, or a model: "tiny" (embedded), "sd15" and other published
    ones, which are fetched and converted once (`hub.convert`), a folder, or a Hub id.

    Raises TrainingError when there are none, and what `find_model` raises where a model cannot be fetched.
    """
    path = Path(source)
    if path.is_file():
        file, preset = path, None
    elif (path / "last").is_dir():
        file, preset = path / "last" / "ema.safetensors", run_preset(path)
    else:
        folder = _model(source)
        file, preset = folder / NETWORK_FILE, load_preset(folder)
    try:
        return Beginning(with_current_names(load_file(file)), preset)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{source}: cannot start from it ({str(error).splitlines()[0]}); give a run or a model"
        ) from error


def run_preset(run: str | Path) -> Preset | None:
    """The preset of the network a run trains; None where it is no network, or of a version that did not note it.

    Raises ModelError.
    """
    found = run_config(run).get("preset")
    return None if found is None else Preset.from_dict(found)


def run_config(run: str | Path) -> dict[str, Any]:
    """What a run noted of itself; nothing where that cannot be read."""
    try:
        noted = json.loads((Path(run) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def taught_preset(source: str) -> Preset | None:
    """The preset of the network whose weights `source` names; None where nobody noted it.

    Raises TrainingError, ModelError.
    """
    path = Path(source)
    if path.is_file():
        return None
    return run_preset(path) if (path / "last").is_dir() else load_preset(_model(source))


def as_taught(preset: Preset, source: str) -> Preset:
    """`preset` with what goes with the weights of `source`: what the network predicts and of which noise, and how
    motion modules normalise. A distilled network that trains on is no longer one: it samples as `preset` does. How
    alike the noise of frames is stays `preset`'s where it says so, and so does the slow part of noise: a model's
    config has what it is sampled with.
    """
    theirs = taught_preset(source)
    if theirs is None:
        return preset
    correlation = preset.diffusion.noise_correlation or theirs.diffusion.noise_correlation
    diffusion = dataclasses.replace(theirs.diffusion, noise_correlation=correlation)
    own, sampling = preset.sampling, theirs.sampling
    if sampling.sampler == "lcm":
        sampling = own
    sampling = dataclasses.replace(
        sampling,
        noise_correlation=own.noise_correlation or sampling.noise_correlation,
        slow_noise=own.slow_noise,
        slow_noise_correlation=own.slow_noise_correlation,
    )
    unet = dataclasses.replace(preset.unet, motion_norm_per_frame=theirs.unet.motion_norm_per_frame)
    return dataclasses.replace(preset, diffusion=diffusion, sampling=sampling, unet=unet)


@dataclass(frozen=True)
class Started:
    """Names of weights: `fresh` ones the other network had not, which stay as they are made, and `left` ones that have
    no place in this one.
    """

    fresh: list[str]
    left: list[str]


def start_from(module: nn.Module, source: str) -> Started:
    """Fill `module` with the weights of `source`, in its own precision.

    Between networks of two presets weights travel by name: parts that one of them lacks by its preset (ablations, what
    the paper adds to others' networks, readers of the pose shift) are dropped or begin afresh, and so does attention to
    tokens of another width. Of a file without a preset only the reader of the pose shift and ablated parts may differ.
    Raises TrainingError unless every other name and shape fits.
    """
    begun = beginning(source)
    weights, own = begun.weights, module.state_dict()
    fresh: list[str] = []
    left: list[str] = []
    if isinstance(module, CyberHostNetwork):
        theirs = named_shapes(begun.preset or dataclasses.replace(module.preset, ablations=Ablations()))
        left = [name for name in theirs if name not in own and weights.pop(name, None) is not None]
        fresh = [name for name, value in own.items() if _begins(name, value, weights, theirs, begun.preset is not None)]
    try:
        module.load_state_dict({**weights, **{name: own[name] for name in fresh}})
    except RuntimeError as error:
        first = next((line.strip() for line in str(error).splitlines()[1:]), str(error))[:200]
        raise TrainingError(
            f"cannot start from {source}, it is not of the same preset ({first}); give a run of the same preset"
        ) from error
    return Started(fresh, left)


def _begins(name: str, value: Tensor, weights: dict[str, Tensor], theirs: dict[str, torch.Size], known: bool) -> bool:
    """Whether a weight is one that the other network has not, or reads tokens of another width."""
    if name not in weights:
        return name.startswith(LATER) or (known and name not in theirs)
    return known and name.endswith(READS_TOKENS) and theirs.get(name) != value.shape


def named_shapes(preset: Preset) -> dict[str, torch.Size]:
    """The weights of a preset's network, which is not made."""
    with torch.device("meta"):
        return {name: value.shape for name, value in CyberHostNetwork(preset).state_dict().items()}


def _model(source: str) -> Path:
    """A model's folder.

    Raises TrainingError where `source` is none, and what `find_model` raises where one cannot be fetched.
    """
    if Path(source).is_dir() and not (Path(source) / NETWORK_FILE).is_file():
        raise TrainingError(f"cannot start from it: {source} is no run and no model's folder")
    try:
        return find_model(source)
    except ModelError as error:
        raise TrainingError(f"cannot start from it: {source} is no run, model or safetensors file ({error})") from error
