"""What each command would fetch, and optional libraries."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass

from cyberhost_model.doctor.network import Hub
from cyberhost_model.errors import NetworkError
from cyberhost_model.hub.inventory import MissingWeights, missing_weights
from cyberhost_model.hub.registry import ADAPTERS
from cyberhost_model.porting.convert import is_converted, need_room, part_weights

FULL_SIZE = "sd15"
"""The published model that training starts from."""
# Extra -> (modules, what they are for). The names are those of pyproject.toml.
_EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "articulation": (("hama",), "`cyberhost eval`: how lips move at each speech sound (Closure, Opening, LipLoudness)"),
    "c2pa": (("c2pa", "cryptography"), "Content Credentials in the videos that are made, and reading them back"),
    "data": (("av", "pyarrow"), "`cyberhost data`: reads videos with time stamps, writes manifests"),
    "face": (
        ("onnxruntime", "insightface"),
        "DWPose's key points and ArcFace's description of a face: models of full size, `cyberhost eval` with public "
        "networks of people, `data encode --preset sd15`, `data prepare --detector dwpose`",
    ),
    "heif": (("pillow_heif",), "HEIC pictures, as iPhones write them"),
    "live": (("sounddevice",), "`cyberhost live --mic`"),
    "onnx": (("onnx", "onnxruntime"), "`--onnx`"),
    "ray": (("ray",), "`--engine ray` of `cyberhost data` and `batch`"),
    "serve": (("fastapi", "uvicorn", "websockets"), "`cyberhost serve` and `cyberhost ui`"),
    "theval": (
        ("mediapipe", "silero_vad", "onnxruntime"),
        "`cyberhost eval --metrics theval` by its own networks",
    ),
    "train": (("accelerate", "tensorboard"), "`cyberhost train` on many devices, and its curves in TensorBoard"),
    "wandb": (("wandb",), "`cyberhost train --report wandb`"),
}


@dataclass(frozen=True)
class Extra:
    """A set of optional libraries, as `pip install 'cyberhost[NAME]'` brings them.

    modules: each with its version, None where it is not installed.
    """

    name: str
    what: str
    modules: dict[str, str | None]

    @property
    def here(self) -> bool:
        """Whether all of it is installed."""
        return all(version is not None for version in self.modules.values())


def extras() -> list[Extra]:
    """List every optional extra; nothing is imported for it."""
    return [
        Extra(name, what, {module: _version(module) for module in modules}) for name, (modules, what) in _EXTRAS.items()
    ]


def _version(module: str) -> str | None:
    if importlib.util.find_spec(module) is None:
        return None
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True)
class Downloads:
    """What a command would fetch when it is run next; note: when, where not always."""

    command: str
    missing: list[MissingWeights]
    note: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(entry.size for entry in self.missing)


def downloads(model: list[MissingWeights]) -> list[Downloads]:
    """List what each command would fetch; `model`: what `missing_model` says of the one they would use."""
    start = [] if is_converted(FULL_SIZE) else missing_weights(part_weights(FULL_SIZE))
    others = " or ".join(name for name in ADAPTERS if name != FULL_SIZE)
    return [
        *(Downloads(command, model) for command in ("animate", "reenact", "multimodal")),
        Downloads("eval", missing_weights(["eval"]), "for all metrics; one whose network cannot be had is skipped"),
        Downloads("train", start, f"with --init {FULL_SIZE}; another with --init {others}; nothing otherwise"),
        Downloads(
            "data prepare",
            missing_weights(["dwpose", "syncnet"]),
            "DWPose with --detector dwpose, SyncNet with --min-sync; nothing otherwise",
        ),
        Downloads("data encode", start + missing_weights(["arcface"]), f"with --preset {FULL_SIZE}; nothing otherwise"),
    ]


def check_fetch(model: str, missing: list[MissingWeights], hub: Hub) -> None:
    """Check that what is missing of `model`, and it cannot do without, can be fetched.

    Raises NetworkError or OutputError.
    """
    size = sum(entry.size for entry in missing if not entry.spare)
    need_room(model, size)
    if size and not hub.reachable:
        raise NetworkError(f"{model} is not on this machine and cannot be fetched: {hub.why}")
