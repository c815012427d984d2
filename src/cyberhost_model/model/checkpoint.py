"""Saving and loading the network: config.json (the preset) and safetensors, strict both ways."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cyberhost_model.errors import ModelError
from cyberhost_model.model.cyberhost import CyberHostNetwork
from cyberhost_model.presets import Preset

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
    """The network of `save_network`, in evaluation mode. Raises ModelError for a missing or damaged file and for keys or shapes that do
    not match the configuration."""
    directory = Path(directory)
    network = CyberHostNetwork(load_preset(directory))
    load_weights(network, directory / NETWORK_FILE)
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


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Fills `module` from a safetensors file, strictly. Raises ModelError naming missing, unexpected or misshapen keys."""
    try:
        weights = load_file(path)
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; get the model again") from error
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged ({error}); get the model again") from error
    own = module.state_dict()
    problems = [
        *_some("missing", [key for key in own if key not in weights]),
        *_some("unexpected", [key for key in weights if key not in own]),
        *_some("of another shape", [key for key in own if key in weights and own[key].shape != weights[key].shape]),
    ]
    if problems:
        raise ModelError(f"{path} does not fit its config.json: {'; '.join(problems)}")
    module.load_state_dict(weights)


def _some(what: str, keys: list[str], limit: int = 3) -> list[str]:
    if not keys:
        return []
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return [f"{len(keys)} {what} ({', '.join(sorted(keys)[:limit])}{more})"]
