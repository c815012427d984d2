"""Saving and loading the network: config.json (the preset) and safetensors, strict both ways."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cyberhost_model.config import Preset
from cyberhost_model.errors import ModelError
from cyberhost_model.hub.tensors import _compare, _shapes, _shapes_in, load_weights
from cyberhost_model.model.network import CyberHostNetwork

CONFIG_FILE = "config.json"
NETWORK_FILE = "network.safetensors"
FORMAT = 1  # of config.json; raised when an old reader could misread a new file


def save_network(network: CyberHostNetwork, directory: str | Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes config.json and network.safetensors into `directory`, weights as `dtype`."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    save_preset(network.preset, directory)
    weights = {
        key: value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        for key, value in network.state_dict().items()
    }
    save_file(weights, directory / NETWORK_FILE)


def load_network(
    directory: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> CyberHostNetwork:
    """The network of `save_network`, in evaluation mode.

    Its weights go from the mapped file straight to where they are wanted; none is made before.

    Raises ModelError for a missing or damaged file and for keys or shapes that do not match the configuration.
    """
    directory = Path(directory)
    preset = load_preset(directory)
    with torch.device("meta"):
        network = CyberHostNetwork(preset)
    load_weights(network, directory / NETWORK_FILE, device, dtype)
    return network.to(device, dtype).eval()


def save_preset(preset: Preset, directory: str | Path) -> None:
    """Writes config.json."""
    text = json.dumps({"format": FORMAT, "preset": preset.to_dict()}, indent=2)
    (Path(directory) / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def load_preset(directory: str | Path) -> Preset:
    """Reads config.json. Raises ModelError if it is missing, damaged or of a newer format."""
    path = Path(directory) / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing: {directory} is not a cyberhost model directory") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} cannot be read ({error}); get the model again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ModelError(f"{path} is not of format {FORMAT}; it was made by another version of cyberhost")
    return Preset.from_dict(config.get("preset"))


def check_network(directory: str | Path) -> Preset:
    """The preset of a model whose network.safetensors holds exactly what config.json describes; only its header is
    read. Raises ModelError as `load_network` does.
    """
    path = Path(directory) / NETWORK_FILE
    preset = load_preset(directory)
    with torch.device("meta"):
        own = _shapes(CyberHostNetwork(preset))
    try:
        with safe_open(path, framework="pt") as file:
            found = _shapes_in(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is missing or damaged ({error}); get the model again") from error
    _compare(path, own, found)
    return preset
