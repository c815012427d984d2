"""Reading checkpoints of others: tensors, never code."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import ModelError


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a pickle of torch's (.pth, .pt, .bin, .ckpt), by name, on the CPU.

    A pickle can hold code that runs when it is opened: it is read with `weights_only`, which refuses all but tensors. Raises ModelError for a
    file that is missing, damaged, or holds anything else.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=_can_map(path))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; fetch it again") from None
    except pickle.UnpicklingError:
        raise ModelError(f"{path} holds more than tensors; it was not opened, since a pickle can run code. Get it as safetensors") from None
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({' '.join(str(error).split())[:120]}); fetch it again") from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ModelError(f"{path} is no dictionary of tensors; it is of another model")
    return found


def read_config(path: str | Path) -> dict[str, Any]:
    """A config.json. Raises ModelError."""
    try:
        return dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} cannot be read ({error}); fetch it again") from None


def _can_map(path: Path) -> bool:
    """Whether it is a zip archive, which torch has written since 1.6 and which need not be read whole."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
