"""Libraries that only some commands need, as `pip install 'cyberhost[NAME]'` brings them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass

# Name -> (modules, what they are for). The names are those of pyproject.toml.
_EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "data": (("av", "pyarrow"), "`cyberhost data`: reads videos with time stamps, writes manifests"),
    "eval": (("onnxruntime",), "models that take ArcFace's numbers or DWPose's key points (sd15), `cyberhost eval` with the public networks of people, `data prepare --detector dwpose`"),
    "ray": (("ray",), "`cyberhost data prepare --engine ray`"),
    "train": (("accelerate", "tensorboard"), "`cyberhost train` on many devices, and its curves in TensorBoard"),
    "wandb": (("wandb",), "`cyberhost train --report wandb`"),
}


@dataclass(frozen=True)
class Extra:
    """modules: each with its version, None where it is not installed."""

    name: str
    what: str
    modules: dict[str, str | None]

    @property
    def here(self) -> bool:
        """Whether all of it is installed."""
        return all(version is not None for version in self.modules.values())


def extras() -> list[Extra]:
    """Every optional extra; nothing is imported for it."""
    return [Extra(name, what, {module: _version(module) for module in modules}) for name, (modules, what) in _EXTRAS.items()]


def _version(module: str) -> str | None:
    if importlib.util.find_spec(module) is None:
        return None
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
