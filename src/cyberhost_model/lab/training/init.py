"""The weights a stage starts from (a model, a run or a safetensors file), and which of them train."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cyberhost_model.config import Ablations, Preset
from cyberhost_model.errors import ModelError, TrainingError
from cyberhost_model.hub.tensors import read_safetensors
from cyberhost_model.model.checkpoint import NETWORK_FILE, load_preset, with_current_names
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.reading import Unreadable, is_file, is_folder, one_line, read_object
from cyberhost_model.runtime.loading import find_model

# Networks trained before these parts were added lack their weights.
OPTIONAL_PARTS = ("pose_to_latent.", "denoising_unet.prior_in.")
TOKEN_PROJECTIONS = (".attn2.to_k.weight", ".attn2.to_v.weight")
"""Weights as wide as the tokens of cross attention; another model's tokens may have another width."""


@dataclass
class InitialWeights:
    """Weights by name, and the preset of their network where it is known."""

    weights: dict[str, Tensor]
    preset: Preset | None = None


def read_weights(source: str) -> InitialWeights:
    """Read the weights that `source` names.

    source: a run (its averaged weights), a safetensors file, or a model: "tiny" (embedded), "sd15" and other published
    models, which are fetched and converted once, a folder, or a Hub id. Raises TrainingError when there are no weights,
    and what `find_model` raises where a model cannot be fetched.
    """
    place = find_weights(source)
    if is_file(place):
        file, preset = place, None
    elif is_folder(place / "last"):
        file, preset = averaged_weights(place), run_preset(place)
    else:
        file, preset = place / NETWORK_FILE, load_preset(place)
    try:
        return InitialWeights(with_current_names(read_safetensors(file)), preset)
    except (OSError, Unreadable) as error:
        raise TrainingError(f"{source}: cannot start from it ({one_line(error)}); give a run or a model") from error


def find_weights(source: str) -> Path:
    """Find the file, the run's folder or the model's folder that `source` names, as `read_weights` does."""
    path = Path(source)
    return path if is_file(path) or is_folder(path / "last") else _model(source)


def averaged_weights(run: Path) -> Path:
    """Name the file of a run's averaged weights."""
    return run / "last" / "ema.safetensors"


def run_preset(run: str | Path) -> Preset | None:
    """Read the preset of the network a run trains; None where it trains no network, or is older than this entry.

    Raises TrainingError.
    """
    found = run_config(run).get("preset")
    try:
        return None if found is None else Preset.from_dict(found)
    except ModelError as error:
        raise TrainingError(f"{run}: {error}") from None


def run_config(run: str | Path) -> dict[str, Any]:
    """Read the config.json of a run; an empty dictionary where it cannot be read."""
    try:
        return read_object(Path(run) / "config.json")
    except (OSError, Unreadable):
        return {}


def preset_of_weights(source: str) -> Preset | None:
    """Read the preset of the network whose weights `source` names; None where it is unknown.

    Raises TrainingError, ModelError.
    """
    path = Path(source)
    if is_file(path):
        return None
    return run_preset(path) if is_folder(path / "last") else load_preset(_model(source))


def preset_for_weights(preset: Preset, source: str) -> Preset:
    """Replace the settings of `preset` that belong to the weights of `source`.

    These are what the network predicts, of which noise, and how motion modules normalise. A distilled network that
    trains on is an ordinary one again: it samples as `preset` says. The temporal correlation of the noise, where
    `preset` has one, and the slow noise stay those of `preset`, for a model's configuration has those it is sampled
    with.
    """
    theirs = preset_of_weights(source)
    if theirs is None:
        return preset
    correlation = preset.diffusion.noise_correlation or theirs.diffusion.noise_correlation
    slow = preset.diffusion.slow_noise or (theirs.diffusion.slow_noise if preset.flow_channels else 0.0)
    diffusion = dataclasses.replace(theirs.diffusion, noise_correlation=correlation, slow_noise=slow)
    own, sampling = preset.sampling, theirs.sampling
    if sampling.distilled:
        sampling = own
    sampling = dataclasses.replace(
        sampling,
        noise_correlation=own.noise_correlation or sampling.noise_correlation,
        slow_noise=own.slow_noise,
        slow_noise_correlation=own.slow_noise_correlation,
        overlap=own.overlap,  # windows are for networks without motion frames
        window_shift=own.window_shift,
        noise_limit=own.noise_limit,
        unguided_pose=own.unguided_pose,
    )
    unet = dataclasses.replace(preset.unet, motion_norm_per_frame=theirs.unet.motion_norm_per_frame)
    return dataclasses.replace(preset, diffusion=diffusion, sampling=sampling, unet=unet)


@dataclass(frozen=True)
class LoadedWeights:
    """Names of weights that did not travel between two networks."""

    missing: list[str]
    """Not in the source: they stay as initialised."""
    unused: list[str]
    """In the source, without a place in this network."""


def load_weights(module: nn.Module, source: str) -> LoadedWeights:
    """Load the weights of `source` into `module`, in its own precision.

    Weights go by name. Between networks of two presets, parts that one of them lacks by its preset (ablations, what the
    paper adds to other networks, the pose follower) are dropped or stay as initialised, and so does attention to tokens
    of another width. Against a file without a preset, only the pose follower and ablated parts may differ. Raises
    TrainingError unless every other name and shape fits.
    """
    initial = read_weights(source)
    weights, own = initial.weights, module.state_dict()
    missing: list[str] = []
    unused: list[str] = []
    if isinstance(module, CyberHostNetwork):
        known = initial.preset is not None
        preset = initial.preset or dataclasses.replace(module.preset, ablations=Ablations())
        same = preset == module.preset
        theirs = {name: value.shape for name, value in own.items()} if same else parameter_shapes(preset)
        unused = [name for name in theirs if name not in own and weights.pop(name, None) is not None]
        missing = [name for name, value in own.items() if _is_missing(name, value, weights, theirs, known)]
    try:
        module.load_state_dict({**weights, **{name: own[name] for name in missing}})
    except (RuntimeError, TypeError) as error:
        first = next((line.strip() for line in str(error).splitlines()[1:]), str(error))[:200]
        raise TrainingError(
            f"cannot start from {source}, it is not of the same preset ({first}); give a run of the same preset"
        ) from error
    return LoadedWeights(missing, unused)


def _is_missing(
    name: str, value: Tensor, weights: dict[str, Tensor], theirs: dict[str, torch.Size], known: bool
) -> bool:
    """Tell whether the other network lacks a weight, or has it for tokens of another width.

    known: whether the other network's preset is known.
    """
    if name not in weights:
        return name.startswith(OPTIONAL_PARTS) or (known and name not in theirs)
    return known and name.endswith(TOKEN_PROJECTIONS) and theirs.get(name) != value.shape


def parameter_shapes(preset: Preset) -> dict[str, torch.Size]:
    """List the weights of a preset's network and their shapes, without allocating them."""
    with torch.device("meta"):
        return {name: value.shape for name, value in CyberHostNetwork(preset).state_dict().items()}


def build_network(preset: Preset, seed: int = 0) -> CyberHostNetwork:
    """Build a freshly initialised network; the same for the same seed."""
    torch.manual_seed(seed)
    return CyberHostNetwork(preset)


def freeze(module: nn.Module, patterns: list[str]) -> None:
    """Freeze the parameters whose names fit one of the shell patterns.

    Raises TrainingError for a pattern that fits no parameter of this network, nor of the same network without
    ablations.
    """
    names = dict(module.named_parameters())
    complete: list[str] = []
    if isinstance(module, CyberHostNetwork) and module.preset.ablations != Ablations():
        complete = list(parameter_shapes(dataclasses.replace(module.preset, ablations=Ablations())))
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found and not fnmatch.filter(complete, pattern):
            raise TrainingError(f"frozen = {pattern!r} fits no parameter of this stage")
        for name in found:
            names[name].requires_grad_(False)


def _model(source: str) -> Path:
    """Find a model's folder.

    Raises TrainingError where `source` is none, and what `find_model` raises where one cannot be fetched.
    """
    if is_folder(source) and not is_file(Path(source) / NETWORK_FILE):
        raise TrainingError(f"cannot start from it: {source} is no run and no model's folder")
    try:
        return find_model(source)
    except ModelError as error:
        raise TrainingError(f"cannot start from it: {source} is no run, model or safetensors file ({error})") from error


def fill(module: nn.Module, weights: Mapping[str, Tensor], run: str | Path) -> None:
    """Load `weights` strictly. Raises TrainingError when they are another part's."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise TrainingError(f"{run}: is not a run of this part ({str(error).splitlines()[-1].strip()})") from error
