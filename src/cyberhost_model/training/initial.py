"""Where a stage's weights begin: a model by its name, a model's folder, a run or a safetensors file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import ModelError, TrainingError
from ..model.checkpoint import CONFIG_FILE, NETWORK_FILE
from ..model.cyberhost import CyberHostNetwork
from ..model_folder import find_model
from ..presets import Ablations, Preset

LATER = ("pose_follower.", "denoising_unet.expected_in.")


def initial_weights(source: str) -> dict[str, Tensor]:
    """Weights by name. `source`: a run (its average), a safetensors file, or a model: "tiny" (embedded), "sd15" and other published ones, which
    are fetched and converted once (`hub.convert`), a folder, or a Hub id.

    Raises TrainingError when there are none, and what `find_model` raises where a model cannot be fetched.
    """
    path = Path(source)
    if path.is_file():
        file = path
    elif (path / "last").is_dir():
        file = path / "last" / "ema.safetensors"
    else:
        file = _model(source) / NETWORK_FILE
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{source}: cannot start from it ({str(error).splitlines()[0]}); give a run or a model") from error


def _model(source: str) -> Path:
    """The folder of a model. Raises TrainingError when it is none."""
    path = Path(source)
    if path.is_dir() and not (path / NETWORK_FILE).is_file():
        raise TrainingError(f"cannot start from it: {source} is no run and no model's folder")
    try:
        return find_model(source)
    except ModelError as error:
        raise TrainingError(f"cannot start from it: {source} is no run, model or safetensors file ({error})") from error


def initial_preset(source: str) -> Preset | None:
    """The preset of the network whose weights are `source`; None where nobody wrote it down (a safetensors file, a run of an earlier version).

    Raises TrainingError for one that cannot be read, and what `find_model` raises.
    """
    path = Path(source)
    if path.is_file():
        return None
    folder = path if (path / "last").is_dir() else _model(source)
    try:
        told = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")).get("preset")
        return None if told is None else Preset.from_dict(told)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, ModelError) as error:
        raise TrainingError(f"{folder / CONFIG_FILE}: does not tell the network's preset ({error})") from error


def start_from(module: nn.Module, source: str) -> None:
    """Fill `module` with `initial_weights`, in its own precision. Raises TrainingError unless every name and shape fits.

    Only what reads the pose shift may be missing: its output is zero at the start, so a network that never had it is the same with it. A network with
    ablations takes what it has of a whole one.
    """
    weights = initial_weights(source)
    for name in left_out(module):
        weights.pop(name, None)
    for name, value in module.state_dict().items():
        if name.startswith(LATER) and name not in weights:
            weights[name] = value
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = next((line.strip() for line in str(error).splitlines()[1:]), str(error))[:200]
        raise TrainingError(f"cannot start from {source}, it is not of the same preset ({first}); give a run of the same preset") from error


def left_out(module: nn.Module) -> set[str]:
    """The names a network lacks for its ablations."""
    if not isinstance(module, CyberHostNetwork) or module.preset.ablations == Ablations():
        return set()
    with torch.device("meta"):
        whole = CyberHostNetwork(dataclasses.replace(module.preset, ablations=Ablations()))
    return set(whole.state_dict()) - set(module.state_dict())
