"""Finding a model's folder by name, and loading its parts.

A model is a folder with config.json and network.safetensors (`model.checkpoint`), codec/, speech/ and detector/, and
image/ where the preset has `image_token`. A folder may name two parts instead of holding them, DWPose and ArcFace:
networks of others under licences of their own. They are fetched when the model is loaded. Where that fails (no network,
HF_HUB_OFFLINE, the extra `face` not installed), the model works with what is inside the package, and warns.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from cyberhost_model.codecs.base import Codec, load_codec
from cyberhost_model.config import EMBEDDED, DenoisingConfig, Preset
from cyberhost_model.device import slow_precision
from cyberhost_model.errors import ModelError, NetworkError, ResourceError, need
from cyberhost_model.hub.cache import cached_snapshot, repository_folder
from cyberhost_model.hub.capabilities import MODELS, Capabilities, capabilities_of, check_request, check_trained
from cyberhost_model.hub.inventory import MissingWeights, missing_weights, require_weights
from cyberhost_model.hub.locate import locate
from cyberhost_model.hub.registry import ADAPTERS, load_adapter
from cyberhost_model.hub.repository import fetch, missing_size, split_hub_id
from cyberhost_model.model.checkpoint import load_network, load_preset, read_untrained, recorded_untrained, save_network
from cyberhost_model.model.condition_encoders import ImageToken
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.model.norms import use_channels_last
from cyberhost_model.perception.arcface import PACKAGES, ArcFace
from cyberhost_model.perception.detector import Detector
from cyberhost_model.perception.dwpose import DWPose
from cyberhost_model.perception.onnx_network import EXTRA, gpu_hint
from cyberhost_model.perception.registry import load_detector, named_weights
from cyberhost_model.reading import exists, is_file
from cyberhost_model.speech.encoder import SpeechEncoder
from cyberhost_model.speech.registry import load_speech

MODEL_FILES = ("*.json", "*.safetensors", "*.onnx", "*.md")
"""Files that are fetched of a model on the Hub; nothing in them is ever executed or unpickled."""


def face_weights(preset: Preset) -> str | None:
    """Name the weights of the registry that describe the face, where the preset takes ArcFace's descriptor.

    Hallo's (`portrait`) was trained with another ArcFace than the rest.
    """
    if not preset.takes_arcface:
        return None
    return "arcface" if preset.portrait is None else "antelope"


def arcface_or_none(
    download: bool = True, weights: str = "arcface", unit: bool = True
) -> tuple[ArcFace | None, list[str]]:
    """Load ArcFace as `load_arcface`, or return None and a line that says why. Raises ModelError and OutputError."""
    try:
        return load_arcface(download, "cpu", weights, unit), []
    except (NetworkError, ResourceError) as error:
        return None, [f"the network gets no descriptor of the face, because ArcFace is not available: {error}"]


def load_arcface(
    download: bool = True, device: str | torch.device = "cpu", weights: str = "arcface", unit: bool = True
) -> ArcFace:
    """Load ArcFace with weights of the registry (non-commercial research), which are fetched where they may be.

    weights: one of `perception.arcface.PACKAGES`. unit: descriptors have length 1; otherwise the network's own, which
    presets with `portrait` read. Raises ModelError, NetworkError, OutputError, and ResourceError without insightface.
    """
    need("insightface", EXTRA)  # before anything is fetched for it
    require_weights(weights, download)
    detector, recogniser = (locate(name) for name in PACKAGES[weights])
    return ArcFace(detector, recogniser, device, unit)


@dataclass
class Model:
    """The parts of a model, ready for inference."""

    network: CyberHostNetwork
    codec: Codec
    speech: SpeechEncoder
    detector: Detector
    image: ImageToken | None = None
    """For presets with `image_token`."""
    face: ArcFace | None = None
    """ArcFace, for networks that take its descriptor, where it is available."""
    warnings: list[str] = field(default_factory=list)
    """Lines for the user: parts that are not available, and their substitutes."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Model:
        """Move all parts to `device`: network and codec in `dtype`, speech encoder, detector and ArcFace in float32.

        In half precision on CUDA the codec is channels last, so that Stable Diffusion's VAE decodes in two thirds of
        the time; on a CPU it would take twice as long (docs/reference/performance.md), so there the codec says whether.
        """
        use_channels_last(self.network, device, dtype)
        self.network.eval().requires_grad_(False)
        if device.type == "cuda" and dtype != torch.float32:
            use_channels_last(self.codec, device, dtype)
        if device.type == "cpu" and self.codec.channels_last:
            self.codec.to(memory_format=torch.channels_last)
        self.codec.to(device, dtype).eval().requires_grad_(False)
        self.speech.to(device).eval().requires_grad_(False)
        if isinstance(self.detector, nn.Module):
            self.detector.to(device).eval().requires_grad_(False)
        elif hasattr(self.detector, "to"):
            self.detector.to(device)
        if self.face is not None:
            self.face.to(device)
        hints = slow_precision(device, dtype)
        if self.face is not None or isinstance(self.detector, DWPose):
            hints += gpu_hint(device)
        self.warnings += [line for line in hints if line not in self.warnings]
        if self.image is not None:
            self.image.to(device).eval().requires_grad_(False)
        return self


def find_model(name: str) -> Path:
    """Find the folder of a model, and fetch it where it is not on this machine.

    name: "tiny" (embedded), a folder, a Hub id "user/name" or "user/name@revision", or a published model of `ADAPTERS`
    ("animate-anyone"), which is fetched and converted once. Raises ModelError for any other name, NetworkError when the
    Hub cannot be reached, OutputError when the disk is full.
    """
    if (local := _local_model(name)) is not None:
        return local
    if name in ADAPTERS:
        return load_adapter(name).folder()
    return _from_hub(name, MODEL_FILES)


def _from_hub(name: str, wanted: tuple[str, ...]) -> Path:
    """Fetch the files `wanted` of a model on the Hub, config.json among them. Raises as `find_model`."""
    repo, revision = _hub_id(name)
    folder = fetch(repo, wanted, revision=revision, what=name)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name}: the repository holds no config.json; it is no model of cyberhost")
    return folder


def model_capabilities(name: str, ask: bool = True) -> Capabilities | None:
    """Tell what a model can do, before its weights are fetched.

    name: see `find_model`. Of a model on the Hub its config.json is fetched, unless `ask` is False: then None is
    returned for one that is not on this machine. Raises as `find_model`.
    """
    local = _local_model(name)
    if name in MODELS and (local is None or local.parent == EMBEDDED):
        return MODELS[name]
    if local is None and name in ADAPTERS:
        return capabilities_of(load_adapter(name).full_size())
    if local is None:
        repo, revision = _hub_id(name)
        local = cached_snapshot(repository_folder(repo), MODEL_FILES, revision)
    if local is None and ask:
        folder = _from_hub(name, ("*.json",))
        return capabilities_of(load_preset(folder), recorded_untrained(folder) or ())
    return None if local is None else capabilities_of(load_preset(local), read_untrained(local))


def check_model(
    name: str,
    command: str,
    config: DenoisingConfig,
    allow_untrained: bool = False,
    ask: bool = True,
    **own: float | bool | None,
) -> None:
    """Check that a model can make the video that was asked for, before its weights are fetched.

    command: "animate", "reenact", "multimodal" or "dub"; ask: see `model_capabilities`; own: see
    `check_request`. Raises InputError for what the model cannot do, ModelError for parts that were never trained unless
    `allow_untrained`, and as `find_model`.
    """
    if (can := model_capabilities(name, ask)) is not None:
        check_request(name, can, command, config, **own)
        if not allow_untrained:
            check_trained(name, can.untrained, command)


def _local_model(name: str) -> Path | None:
    """Find the folder of a model without the network. Raises ModelError for a path that holds none."""
    path = Path(os.path.expanduser(name))  # unlike Path.expanduser it leaves ~nobody as it is
    if is_file(path / "config.json"):
        return path
    if is_file(EMBEDDED / name / "config.json"):
        return EMBEDDED / name
    if exists(path):
        raise ModelError(f"{name}: holds no config.json; give a model's folder, 'tiny' or a Hub id such as user/name")
    return None


def _hub_id(name: str) -> tuple[str, str | None]:
    """Split a Hub id into repository and revision. Raises ModelError for a name that cannot be one."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(
            f"there is no model {name[:200]!r}; give 'tiny', a model's folder or a Hub id such as user/name"
        )
    return split_hub_id(name)


def missing_model(name: str, timeout: float | None = None) -> list[MissingWeights]:
    """What `find_model` would fetch; nothing is written.

    An entry of size 0 is on this machine and would be converted. timeout: seconds for the Hub's answer. Raises as
    `find_model`.
    """
    if (folder := _local_model(name)) is not None:
        return _missing_named(folder)
    if name in ADAPTERS:
        adapter = load_adapter(name)
        missing = adapter.missing()
        return missing + missing_parts(adapter.named()) if missing else _missing_named(adapter.folder())
    repo, revision = _hub_id(name)
    size = missing_size(repo, MODEL_FILES, revision=revision, timeout=timeout)
    return [MissingWeights(name, size)] if size else []


def _missing_named(folder: Path) -> list[MissingWeights]:
    """What would be fetched of the parts that the model in `folder` names."""
    arcface = face_weights(load_preset(folder))
    return missing_parts([*named_weights(folder / "detector"), *([arcface] if arcface else [])])


def missing_parts(named: list[str]) -> list[MissingWeights]:
    """Of named parts, what would be fetched; without the library that computes them, nothing is."""
    able = [name for name in named if find_spec("insightface" if name in PACKAGES else "onnxruntime")]
    return [replace(entry, spare=True) for entry in missing_weights(able)]


def load_model(
    name: str, download_named: bool = True, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Model:
    """Load every part of a model: the network, by far the largest, on `device` in `dtype`, the others on the CPU.

    name: see `find_model`. download_named: fetch named parts that are not on this machine; otherwise their substitutes
    are loaded. Raises ModelError and NetworkError.
    """
    folder = find_model(name)
    network = load_network(folder, device, dtype)
    codec = load_codec(network.preset.codec, folder / "codec")
    speech = load_speech(folder / "speech")
    check_parts(folder, network.preset, codec, speech)
    image = ImageToken.load(folder / "image") if network.preset.image_token else None
    detector, warnings = load_detector(folder / "detector", download_named)
    face, more = None, list[str]()
    if (weights := face_weights(network.preset)) is not None:
        face, more = arcface_or_none(download_named, weights, unit=network.preset.portrait is None)
    return Model(network, codec, speech, detector, image, face, [*warnings, *more])


def check_parts(folder: Path, preset: Preset, codec: Codec, speech: SpeechEncoder) -> None:
    """Check that a model's codec and speech encoder make what its network reads. Raises ModelError."""
    if codec.latent_channels not in (None, preset.latent_channels):
        raise ModelError(
            f"{folder / 'codec'}: its latents have {codec.latent_channels} channels, and the network reads "
            f"{preset.latent_channels}; get the model again"
        )
    heard, read = (speech.layers, speech.dim), (preset.audio.layers, preset.audio.dim)
    if preset.uses_audio and heard != read:
        raise ModelError(
            f"{folder / 'speech'}: gives {heard[0]} layers of {heard[1]} numbers, and the network reads {read[0]} of "
            f"{read[1]}; get the model again"
        )


def save_model(model: Model, folder: str | Path) -> None:
    """Write a model as a folder of fp16 safetensors; its detector must be one that can be saved."""
    folder = Path(folder)
    save_network(model.network, folder)
    model.codec.save(folder / "codec")
    model.speech.save_pretrained(folder / "speech")
    model.detector.save_pretrained(folder / "detector")
