"""Published weights -> a model folder of ours: network, codec, speech encoder, detector, with an account of every weight and the licences."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError, OutputError
from ..model.checkpoint import save_network
from ..presets import AudioConfig, Preset, preset
from .adapters import animate_anyone, echomimic_v2, hallo2, sd15
from .adapters.keymap import Converted
from .cache import hub_cache
from .checkpoints import read_config, read_tensors
from .download import device_of, need_space
from .locate import downloads, locate
from .missing import missing_weights
from .parts import copy_embedded, save_detector, save_image_encoder, save_speech, save_vae
from .publish import SOURCES
from .registry import REGISTRY

NAMED = {"detector": ("dwpose", "embedded"), "face": ("arcface",)}
"""Parts that a model names and does not hold, to be fetched when it is used, and what they can be."""
KEYS = "keys.json"
"""What became of every weight: source, old name, new names, and why where it was left out or changed."""


@dataclass(frozen=True)
class Adapter:
    """How one published model is taken over."""

    what: str
    parts: dict[str, str]
    """Part -> its weights in the registry; a folder or file of one's own may stand in for each."""
    network: Callable[[Mapping[str, Path], Preset | None], Converted]
    """Paths of the parts and, instead of the preset of the full size, one of another -> the network."""
    full_size: Callable[[], Preset]
    """Its preset at the published size."""
    room: int
    """Bytes that its folder takes then, about."""
    dtype: torch.dtype = torch.float16
    """How weights are stored where `find_model` converts them."""


@dataclass(frozen=True)
class Summary:
    """What `convert` did."""

    folder: Path
    taken: int
    left_out: dict[str, int]
    """Reason -> weights."""
    initial: int
    licences: dict[str, str]


def convert(
    name: str, out: str | Path, parts: Mapping[str, str] | None = None, *, dtype: torch.dtype = torch.float32, template: Preset | None = None
) -> Summary:
    """Make the model folder `out` of the published model `name` (one of ADAPTERS).

    parts: what is to be used instead of the adapter's own weights: names of the registry, folders or files. dtype: how the weights are stored.
    Missing weights are fetched. Raises ModelError where a weight cannot be mapped, OutputError where `out` exists or cannot be written, and
    what `locate` raises.
    """
    if name not in ADAPTERS:
        raise ModelError(f"there is no adapter {name!r}; choose one of {', '.join(ADAPTERS)}")
    adapter, out = ADAPTERS[name], Path(out)
    if unknown := sorted(set(parts or {}) - set(adapter.parts)):
        raise ModelError(f"{name} has no part {unknown[0]!r}; its parts are {', '.join(adapter.parts)}")
    used = {**adapter.parts, **(parts or {})}
    for part, choices in NAMED.items():
        if part in used and used[part] not in choices:
            raise ModelError(f"{name} has no {part} {used[part]!r}; choose {' or '.join(choices)}")
    with written_folder(out) as folder:
        paths = {part: _path(source) for part, source in used.items() if part not in NAMED}
        network = adapter.network(paths, template)
        size = sum(p.numel() for p in network.network.state_dict().values()) * torch.empty((), dtype=dtype).element_size()
        need_space(out.absolute().parent, size)
        save_network(network.network, folder, dtype)
        save_vae(paths["vae"], folder / "codec", dtype)
        if "speech" in paths:
            save_speech(paths["speech"], folder / "speech", dtype)
        else:
            copy_embedded("speech", folder / "speech")
        if "image" in paths:
            save_image_encoder(paths["image"], folder / "image", dtype)
        save_detector(used["detector"], folder / "detector")
        sources = [_source(part, source) for part, source in used.items() if part != "face" or network.network.preset.takes_arcface]
        (folder / SOURCES).write_text(json.dumps(sources, indent=1) + "\n", encoding="utf-8")
        account = {"taken": [asdict(entry) for entry in network.entries], "initial": network.initial, "zero": network.zero}
        (folder / KEYS).write_text(json.dumps(account, indent=1) + "\n", encoding="utf-8")
    counts = network.counts()
    return Summary(out, counts.taken, counts.left_out, counts.initial, {s["part"]: s["licence"] for s in sources})


def converted(name: str) -> Path:
    """The folder of a published model that was converted on this machine, or is now: fp16 in HF_HOME. Raises as `convert` does."""
    from huggingface_hub.utils import WeakFileLock

    folder = _converted_folder(name)
    if is_converted(name):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(folder.parent / f".{name}.lock"):
        if not is_converted(name):
            need_room(name, sum(entry.size for entry in missing_weights(held_weights(name))))  # before gigabytes are fetched
            convert(name, folder, dtype=ADAPTERS[name].dtype)
    return folder


def room_to_convert(name: str) -> int:
    """Bytes, about, that `converted` writes besides what it fetches; 0 where nothing is to be converted."""
    return ADAPTERS[name].room if name in ADAPTERS and not is_converted(name) else 0


def need_room(name: str, fetched: int) -> None:
    """Raises OutputError where the disks have no room for `fetched` bytes that come from the Hub and for what `converted` writes: HF_HUB_CACHE and HF_HOME
    may lie on two."""
    cache, folder, room = hub_cache(), _converted_folder(name).parent, room_to_convert(name)
    if device_of(cache) == device_of(folder):
        need_space(cache, fetched + room)
    else:
        need_space(cache, fetched)
        need_space(folder, room)


def held_weights(name: str) -> list[str]:
    """Names in the registry of what a converted folder is made of."""
    return [weights for part, weights in ADAPTERS[name].parts.items() if part not in NAMED and weights in REGISTRY]


def is_converted(name: str) -> bool:
    """Whether `converted` would find it on this machine."""
    return (_converted_folder(name) / "config.json").is_file()


def _converted_folder(name: str) -> Path:
    return downloads().parent / "models" / name


@contextmanager
def written_folder(out: Path) -> Iterator[Path]:
    """A folder that takes the name `out` when the block ends well, and is gone otherwise. Raises OutputError where `out` holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists; give a new folder")
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", suffix=".part", dir=out.absolute().parent) as part:
            whole = Path(part) / "whole"
            whole.mkdir()
            yield whole
            if out.exists():
                out.rmdir()
            whole.rename(out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror or error}); check space and rights") from error


def _path(source: str) -> Path:
    return Path(source) if Path(source).exists() else locate(source)


def _source(part: str, source: str) -> dict[str, Any]:
    if part in NAMED and source == "embedded":
        return {"part": part, "from": "cyberhost", "revision": None, "licence": "Apache-2.0", "commercial": True}
    known = REGISTRY.get(source)
    if known is None:
        return {"part": part, "from": source, "revision": None, "licence": "unknown: your own file", "commercial": True}
    return {
        "part": part,
        "from": known.url or known.repo,
        "revision": known.revision,
        "licence": known.licence,
        "commercial": known.commercial,
    }


def _speech_config(speech: Path) -> AudioConfig:
    config = read_config(speech / "config.json")
    return AudioConfig(dim=config["hidden_size"], layers=config["num_hidden_layers"] + 1, tokens=10)


def _tensors(folder: Path) -> dict[str, Tensor]:
    return read_tensors(folder / "diffusion_pytorch_model.safetensors")


def _sd15(paths: Mapping[str, Path], template: Preset | None) -> Converted:
    unet, motion = paths["unet"], paths["motion"]
    like = sd15.preset_like(
        read_config(unet / "config.json"), read_config(motion / "config.json"), _speech_config(paths["speech"]), template
    )
    return sd15.collect(_tensors(unet), _tensors(motion)).into(like)


def _animate_anyone(paths: Mapping[str, Path], template: Preset | None) -> Converted:
    return animate_anyone.collect(_files(paths["network"], animate_anyone.FILES)).into(template or animate_anyone.full_size())


def _echomimic_v2(paths: Mapping[str, Path], template: Preset | None) -> Converted:
    return echomimic_v2.collect(_files(paths["network"], echomimic_v2.FILES)).into(template or echomimic_v2.full_size())


def _hallo2(paths: Mapping[str, Path], template: Preset | None) -> Converted:
    return hallo2.collect(_files(paths["network"], (hallo2.FILE,))[hallo2.FILE]).into(template or hallo2.full_size())


def _files(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """The tensors of each file, or of its twin in safetensors."""
    twins = {name: (folder / name).with_suffix(".safetensors") for name in names}
    return {name: read_tensors(twin if twin.is_file() else folder / name) for name, twin in twins.items()}


ADAPTERS: dict[str, Adapter] = {
    "sd15": Adapter(
        "the paper's network as its training begins",
        {"unet": "sd15-unet", "motion": "animatediff-v2", "vae": "sd15-vae", "speech": "wav2vec2", "detector": "dwpose", "face": "arcface"},
        _sd15,
        partial(preset, "sd15"),
        9_800_000_000,
        torch.float32,  # to be trained
    ),
    "animate-anyone": Adapter(
        "AnimateAnyone: a person follows poses",
        {"network": "animate-anyone", "vae": "sd-vae-ft-mse", "image": "clip-image", "detector": "dwpose"},
        _animate_anyone,
        animate_anyone.full_size,
        5_200_000_000,
    ),
    "echomimic-v2": Adapter(
        "EchoMimicV2: a half body speaks and follows poses of the hands",
        {"network": "echomimic-v2", "vae": "sd-vae-ft-mse", "speech": "whisper-tiny", "detector": "dwpose"},
        _echomimic_v2,
        echomimic_v2.full_size,
        4_600_000_000,
    ),
    "hallo2": Adapter(
        "a beginning for training from Hallo2",
        {"network": "hallo2", "vae": "sd-vae-ft-mse", "speech": "wav2vec2", "detector": "dwpose", "face": "arcface"},
        _hallo2,
        hallo2.full_size,
        9_800_000_000,
        torch.float32,
    ),
}
