"""Reading checkpoints: tensors, never code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from cyberhost_model.errors import ModelError


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file or of a pickle of torch's (.pth, .pt, .bin, .ckpt), by name, to the CPU.

    A pickle can hold code that runs when it is opened: it is read with `weights_only`, which refuses all but tensors.
    Raises ModelError for a file that is missing, damaged, or holds anything else.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=_can_map(path))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; fetch it again") from None
    except pickle.UnpicklingError:
        raise ModelError(
            f"{path} holds more than tensors; it was not opened, since a pickle can run code. Get it as safetensors"
        ) from None
    except (
        OSError,
        SafetensorError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
    ) as error:
        raise ModelError(f"{path} is damaged ({' '.join(str(error).split())[:120]}); fetch it again") from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ModelError(f"{path} is no dictionary of tensors; it is of another model")
    return found


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a config.json. Raises ModelError."""
    try:
        return dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} cannot be read ({error}); fetch it again") from None


def config_entry(folder: Path, *names: str) -> object:
    """Look up the first of `names` that a folder's config.json has; None where it cannot be read.

    Whoever loads the folder says what is wrong with it.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return next((config[name] for name in names if name in config), None)
    except (OSError, ValueError, TypeError):
        return None


def _can_map(path: Path) -> bool:
    """Whether it is a zip archive, which torch has written since 1.6 and which need not be read whole."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def load_weights(
    module: torch.nn.Module,
    path: Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    rename: Callable[[str], str] = str,
) -> None:
    """Load the weights of a safetensors file into `module`, strictly; it may be on the "meta" device.

    rename: the name in `module` of a name in the file, for files with names of earlier versions. Raises
    ModelError naming missing, unexpected or misshapen keys.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            compare_shapes(path, module_shapes(module), file_shapes(file, rename))
            # One by one, so that the device never holds the whole file in its own precision.
            weights = {rename(key): _as(file.get_tensor(key), dtype) for key in file.keys()}
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; get the model again") from error
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged ({error}); get the model again") from error
    module.load_state_dict(weights, assign=True)


def module_shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Read the shapes of a module's weights, by name."""
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def file_shapes(file: safe_open, rename: Callable[[str], str] = str) -> dict[str, tuple[int, ...]]:
    """Read the shapes of an open file's weights, by name; only its header is read. rename: see `load_weights`."""
    return {rename(key): tuple(file.get_slice(key).get_shape()) for key in file.keys()}


def _as(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def compare_shapes(path: Path, own: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
    """Raise ModelError naming weights that `path` lacks, has too many or has in another shape than the module."""
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
