"""A model is a folder; this finds it by name and loads its parts.

FOLDER/config.json + network.safetensors (`model.checkpoint`), codec/, speech/, detector/; image/ where the preset has
`image_token`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cyberhost_model.codecs.base import Codec, load_codec
from cyberhost_model.config import EMBEDDED
from cyberhost_model.errors import ModelError, NetworkError, ResourceError, need
from cyberhost_model.hub.inventory import Missing, missing_weights, require_weights
from cyberhost_model.hub.registry import ADAPTERS, load_adapter
from cyberhost_model.hub.repository import fetch, missing_size, split
from cyberhost_model.model.checkpoint import load_network, load_preset, save_network
from cyberhost_model.model.condition_encoders import ImageToken
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.model.norms import use_channels_last
from cyberhost_model.perception.detector import Detector
from cyberhost_model.perception.registry import load_detector, named_weights
from cyberhost_model.speech.encoder import SpeechEncoder
from cyberhost_model.speech.registry import load_speech

# Parts that a model names and does not hold: DWPose and ArcFace, networks of others under licences of their own.
#
# They are fetched when a model that names them is loaded. Where they cannot be had (no network, HF_HUB_OFFLINE, no
# onnxruntime) the model works with what is inside the package, and says so.


Describe = Callable[[np.ndarray], np.ndarray]
"""uint8 (H, W, 3) RGB -> (512,), of length 1; zeros where no face is found."""


def arcface_or_none(download: bool = True) -> tuple[Describe | None, list[str]]:
    """ArcFace with the weights of the registry (non-commercial research), or else None and a line that says so.

    Raises ModelError and OutputError.
    """
    from cyberhost_model.hub.locate import locate
    from cyberhost_model.perception.arcface import FILES, ArcFace

    try:
        need("onnxruntime", "eval")  # before anything is fetched for it
        require_weights("arcface", download)
        detector, recogniser = (locate(name) for name in FILES)
        faces = ArcFace.from_files(detector, recogniser)
    except (NetworkError, ResourceError) as error:
        return None, [f"the model is not told whose face it is, for want of ArcFace: {error}"]
    return lambda picture_u8: np.nan_to_num(faces(picture_u8[None])[0]), []


MODEL_FILES = ("*.json", "*.safetensors", "*.onnx", "*.md")
"""What is fetched of a model on the Hub; nothing in it is ever executed or unpickled."""


@dataclass
class Model:
    """The parts of a model, ready for inference."""

    network: CyberHostNetwork
    codec: Codec
    speech: SpeechEncoder
    detector: Detector
    image: ImageToken | None = None
    """Where the preset has `image_token`."""
    face: Describe | None = None
    """Where the network takes ArcFace's descriptor, and ArcFace can be had."""
    warnings: list[str] = field(default_factory=list)
    """Lines for the user: parts that could not be had, and what stands in for them."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Model:
        """All parts on `device`; the networks that run every step in `dtype`, speech and detector in float32.

        The codec lies channels last in half precision on CUDA, where Stable Diffusion's VAE then decodes in two thirds
        of the time; on a CPU it would take twice as long (docs/reference/performance.md).
        """
        use_channels_last(self.network, device, dtype)
        self.network.eval().requires_grad_(False)
        if device.type == "cuda" and dtype != torch.float32:
            use_channels_last(self.codec, device, dtype)
        self.codec.to(device, dtype).eval().requires_grad_(False)
        self.speech.to(device).eval().requires_grad_(False)
        if isinstance(self.detector, nn.Module):
            self.detector.to(device).eval().requires_grad_(False)
        if self.image is not None:
            self.image.to(device).eval().requires_grad_(False)
        return self


def find_model(name: str) -> Path:
    """The folder of a model: "tiny" (embedded), a folder, a Hub id "user/name" or "user/name@revision", which is
    fetched, or a published model that `hub.convert` knows ("animate-anyone"), which is fetched and converted once.

    Raises ModelError for a name that is nothing of these, NetworkError when the Hub cannot be reached, OutputError when
    the disk is full.
    """
    if (local := _local_model(name)) is not None:
        return local
    if name in ADAPTERS:
        return load_adapter(name).folder()
    repo, revision = _hub_id(name)
    folder = fetch(repo, MODEL_FILES, revision=revision, what=name)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name}: the repository holds no config.json; it is no model of cyberhost")
    return folder


def _local_model(name: str) -> Path | None:
    """The folder of a model that needs no network. Raises ModelError for a path that holds none."""
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return path
    if (EMBEDDED / name / "config.json").is_file():
        return EMBEDDED / name
    if path.exists():
        raise ModelError(f"{name}: holds no config.json; give a model's folder, 'tiny' or a Hub id such as user/name")
    return None


def _hub_id(name: str) -> tuple[str, str | None]:
    """Repository and revision. Raises ModelError for a name that can be no Hub id."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(f"there is no model {name!r}; give 'tiny', a model's folder or a Hub id such as user/name")
    return split(name)


def missing_model(name: str, timeout: float | None = None) -> list[Missing]:
    """What `find_model` would fetch; nothing is written.

    An entry of size 0 is here and would be converted. `timeout`: seconds for the Hub's answer. Raises as `find_model`.
    """
    if (folder := _local_model(name)) is not None:
        return _missing_named(folder)
    if name in ADAPTERS:
        adapter = load_adapter(name)
        return (
            missing + missing_parts(adapter.named())
            if (missing := adapter.missing())
            else _missing_named(adapter.folder())
        )
    repo, revision = _hub_id(name)
    size = missing_size(repo, MODEL_FILES, revision=revision, timeout=timeout)
    return [Missing(name, size)] if size else []


def _missing_named(folder: Path) -> list[Missing]:
    """What would be fetched of the parts that the model in `folder` names."""
    arcface = ["arcface"] if load_preset(folder).takes_arcface else []
    return missing_parts([*named_weights(folder / "detector"), *arcface])


def missing_parts(named: list[str]) -> list[Missing]:
    """Of named parts, what would be fetched; without onnxruntime, which computes them, nothing is."""
    return [replace(entry, spare=True) for entry in missing_weights(named)] if find_spec("onnxruntime") else []


def load_model(
    name: str, download_named: bool = True, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Model:
    """Every part of the model called `name`: the network, by far the largest, on `device` in `dtype`, the rest on the
    CPU.

    `download_named`: whether parts that it names and that are not here may be fetched; else something stands in for
    them. Raises ModelError and NetworkError.
    """
    folder = find_model(name)
    network = load_network(folder, device, dtype)
    codec = load_codec(network.preset.codec, folder / "codec")
    image = ImageToken.load(folder / "image") if network.preset.image_token else None
    detector, warnings = load_detector(folder / "detector", download_named)
    face, more = arcface_or_none(download_named) if network.preset.takes_arcface else (None, [])
    return Model(network, codec, load_speech(folder / "speech"), detector, image, face, [*warnings, *more])


def save_model(model: Model, folder: str | Path) -> None:
    """Write a model of the reference codec as a folder of fp16 safetensors."""
    folder = Path(folder)
    save_network(model.network, folder)
    model.codec.save(folder / "codec")
    model.speech.save_pretrained(folder / "speech")
    model.detector.save_pretrained(folder / "detector")
