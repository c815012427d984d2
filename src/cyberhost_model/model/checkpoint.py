"""Saving and loading the network: config.json (the preset) and safetensors, strict both ways."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

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
    """The network of `save_network`, in evaluation mode. Its weights go from the mapped file straight to where they are wanted; none is made before.

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


def load_weights(module: torch.nn.Module, path: Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> None:
    """Gives `module` the weights of a safetensors file, strictly; it may be on the "meta" device. Raises ModelError naming missing, unexpected or
    misshapen keys."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            _compare(path, _shapes(module), _shapes_in(file))
            # One by one, so that the device never holds the whole file in its own precision.
            weights = {key: _as(file.get_tensor(key), dtype) for key in file.keys()}
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; get the model again") from error
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged ({error}); get the model again") from error
    module.load_state_dict(weights, assign=True)


def check_network(directory: str | Path) -> Preset:
    """The preset of a model whose network.safetensors holds exactly what config.json describes; only its header is read.
    Raises ModelError as `load_network` does."""
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


def _shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def _shapes_in(file: safe_open) -> dict[str, tuple[int, ...]]:
    """Of an open file; only its header is read."""
    return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}


def _as(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def _compare(path: Path, own: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
    problems = [
        *_some("missing", [key for key in own if key not in found]),
        *_some("unexpected", [key for key in found if key not in own]),
        *_some("of another shape", [key for key in own if key in found and own[key] != found[key]]),
    ]
    if problems:
        raise ModelError(f"{path} does not fit its config.json: {'; '.join(problems)}")


def _some(what: str, keys: list[str], limit: int = 3) -> list[str]:
    if not keys:
        return []
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return [f"{len(keys)} {what} ({', '.join(sorted(keys)[:limit])}{more})"]
