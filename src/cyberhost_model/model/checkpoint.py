"""Saving and loading a network: config.json (the preset) and network.safetensors, strict both ways.

config.json also says which parts were never trained (`untrained_parts`), so that noise is not made of them.
Weights that cyberhost 0.1 wrote under other names load too (`RENAMED`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cyberhost_model.config import Preset
from cyberhost_model.errors import ModelError
from cyberhost_model.hub.tensors import compare_shapes, file_shapes, load_weights, module_shapes
from cyberhost_model.model.network import CyberHostNetwork

CONFIG_FILE = "config.json"
NETWORK_FILE = "network.safetensors"
FORMAT = 1  # of config.json; raised when an old reader could misread a new file
RENAMED = {"pose_follower.": "pose_to_latent.", "denoising_unet.expected_in.": "denoising_unet.prior_in."}
"""Beginnings of the names of weights in cyberhost 0.1 -> today's; files and runs of both load."""

OUTLETS = {
    "temporal": r"denoising_unet\.unet\..+\.motion_modules\.\d+\.proj_out\.weight",
    "audio": r"audio_projection\.out\.3\.weight|denoising_unet\.masked_audio\..+\.zero_conv_(full|face|lip)\.weight",
    "poses": r"pose_encoder\.layers\.conv_out\.weight|pose_to_latent\.outlet\.weight",
}
"""Part (`hub.capabilities.PARTS`) -> its last layers, which are zero until it is trained."""


def untrained_parts(names: Iterable[str], value: Callable[[str], Tensor]) -> list[str]:
    """Find the parts of a network that were never trained: all of their last layers are zero.

    names: of all weights; value: the weight of a name. What a network does not have is not among them, nor is a part
    without a layer that begins as zero.
    """
    names = list(names)
    outlets = {part: [n for n in names if re.fullmatch(pattern, n)] for part, pattern in OUTLETS.items()}
    return [part for part, found in outlets.items() if found and not any(value(name).any() for name in found)]


def recorded_untrained(directory: str | Path) -> list[str] | None:
    """Read the entry of config.json that says so; None in a folder that an older version wrote."""
    recorded = _read_config(Path(directory)).get("untrained")
    return [str(part) for part in recorded] if isinstance(recorded, list) else None


def read_untrained(directory: str | Path) -> list[str]:
    """Read which parts of a saved network were never trained; of an older folder, the weights themselves tell.

    Raises ModelError as `load_preset` and `load_network` do.
    """
    if (recorded := recorded_untrained(directory)) is not None:
        return recorded
    path = Path(directory) / NETWORK_FILE
    try:
        with safe_open(path, framework="pt") as file:
            old = {current_name(name): name for name in file.keys()}
            return untrained_parts(old, lambda name: file.get_tensor(old[name]))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is missing or damaged ({error}); get the model again") from error


def current_name(name: str) -> str:
    """Translate the name of a network's weight in a file of cyberhost 0.1; other names stay as they are."""
    for old, new in RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def with_current_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Translate all names of a network's weights, as `current_name` does."""
    return {current_name(name): value for name, value in weights.items()}


def save_network(network: CyberHostNetwork, directory: str | Path, dtype: torch.dtype = torch.float16) -> None:
    """Write config.json and network.safetensors into `directory`, weights as `dtype`."""
    directory, own = Path(directory), network.state_dict()
    directory.mkdir(parents=True, exist_ok=True)
    save_preset(network.preset, directory, untrained_parts(own, own.__getitem__))
    weights = {
        key: value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        for key, value in own.items()
    }
    save_file(weights, directory / NETWORK_FILE)


class NoWeights(TorchFunctionMode):
    """Context in which layers have shapes and no weights.

    As `torch.device("meta")`, but tables that are computed are computed: on the meta device that would load torch's
    compiler, which takes longer than all the rest.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def load_network(
    directory: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> CyberHostNetwork:
    """Load a network that `save_network` wrote, in evaluation mode.

    Its weights go from the mapped file straight to `device`; none is initialised before.

    Raises ModelError for a missing or damaged file and for keys or shapes that do not match the configuration.
    """
    directory = Path(directory)
    preset = load_preset(directory)
    with NoWeights():
        network = CyberHostNetwork(preset)
    load_weights(network, directory / NETWORK_FILE, device, dtype, current_name)
    return network.to(device, dtype).eval()


def save_preset(preset: Preset, directory: str | Path, untrained: list[str] | None) -> None:
    """Write config.json; untrained: see `untrained_parts`; None leaves it to the weights to tell."""
    told = {} if untrained is None else {"untrained": untrained}
    text = json.dumps({"format": FORMAT, "preset": preset.to_dict(), **told}, indent=2)
    (Path(directory) / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def load_preset(directory: str | Path) -> Preset:
    """Read config.json. Raises ModelError if it is missing, damaged or of a newer format."""
    return Preset.from_dict(_read_config(Path(directory)).get("preset"))


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing: {directory} is not a cyberhost model directory") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} cannot be read ({error}); get the model again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ModelError(f"{path} is not of format {FORMAT}; it was made by another version of cyberhost")
    return config


def check_network(directory: str | Path) -> Preset:
    """Check that network.safetensors holds exactly what config.json describes, and return the preset.

    Only the header of the weights is read. Raises ModelError as `load_network` does.
    """
    path = Path(directory) / NETWORK_FILE
    preset = load_preset(directory)
    with NoWeights():
        own = module_shapes(CyberHostNetwork(preset))
    try:
        with safe_open(path, framework="pt") as file:
            found = file_shapes(file, current_name)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is missing or damaged ({error}); get the model again") from error
    compare_shapes(path, own, found)
    return preset
