"""Published weights -> a model folder of ours: network, codec, speech encoder, detector.

Every weight is accounted for in keys.json, every licence in sources.json.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cyberhost_model.config import Preset
from cyberhost_model.errors import ModelError
from cyberhost_model.hub.cache import cyberhost_home, file_lock, hub_cache
from cyberhost_model.hub.download import device_of, need_space
from cyberhost_model.hub.inventory import MissingWeights, missing_weights
from cyberhost_model.hub.locate import locate
from cyberhost_model.hub.registry import ADAPTERS, REGISTRY, load_adapter
from cyberhost_model.hub.tensors import read_tensors
from cyberhost_model.media.files import atomic_path, written_folder
from cyberhost_model.model.checkpoint import CONFIG_FILE, load_preset, recorded_untrained, save_network, save_preset
from cyberhost_model.porting.keymap import Converted
from cyberhost_model.porting.parts import copy_embedded, save_detector, save_image_encoder, save_speech, save_vae
from cyberhost_model.runtime.publish import SOURCES

NAMED = {"detector": ("dwpose", "embedded"), "face": ("arcface", "antelope")}
"""Parts that a model names and does not hold, to be fetched when it is used, and what they can be."""
KEYS = "keys.json"
"""What became of every weight: source, old name, new names, and why it was left out or changed."""


@dataclass(frozen=True)
class Adapter:
    """How one published model is converted."""

    name: str
    what: str
    parts: dict[str, str]
    """Part -> its weights in the registry; a folder or file of the user's may take the place of each."""
    network: Callable[[Mapping[str, Path], Preset | None], Converted]
    """Paths of the parts and, instead of the preset of the full size, another preset -> the network."""
    full_size: Callable[[], Preset]
    """Its preset at the published size."""
    room: int
    """Bytes that its folder takes then, about."""
    dtype: torch.dtype = torch.float16
    """Precision in which weights are stored where `find_model` converts them."""

    def folder(self) -> Path:
        """Return the model folder on this machine; it is fetched and converted where it is not here.

        Raises as `convert` does.
        """
        return converted(self.name)

    def missing(self) -> list[MissingWeights]:
        """List what `folder` would fetch; empty where it is here already.

        An entry of size 0 is here and would be converted.
        """
        return (
            []
            if is_converted(self.name)
            else missing_weights(part_weights(self.name)) or [MissingWeights(self.name, 0)]
        )

    def named(self) -> list[str]:
        """List the parts that the model names and does not hold."""
        return [weights for part, weights in self.parts.items() if part in NAMED]


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
    name: str,
    out: str | Path,
    parts: Mapping[str, str] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    template: Preset | None = None,
) -> Summary:
    """Convert the published model `name` (one of ADAPTERS) to the model folder `out`.

    parts: what is to be used instead of the adapter's own weights: names of the registry, folders or files. dtype:
    precision in which the weights are stored. Missing weights are fetched. Raises ModelError where a weight cannot be
    mapped, OutputError where `out` exists or cannot be written, and what `locate` raises.
    """
    adapter, out = load_adapter(name), Path(out)
    used = _chosen_parts(adapter, parts or {})
    with written_folder(out) as folder:
        paths = {part: _path(source) for part, source in used.items() if part not in NAMED}
        made = adapter.network(paths, template)
        need_space(out.absolute().parent, _size(made.network, dtype))
        save_network(made.network, folder, dtype)
        _save_other_parts(folder, paths, used["detector"], dtype, by_frame=made.network.preset.portrait is not None)
        sources = [
            _source(part, source)
            for part, source in used.items()
            if part != "face" or made.network.preset.takes_arcface
        ]
        account = {"taken": [asdict(entry) for entry in made.entries], "initial": made.initial, "zero": made.zero}
        for file, content in ((SOURCES, sources), (KEYS, account)):
            (folder / file).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    counts = made.counts()
    return Summary(out, counts.taken, counts.left_out, counts.initial, {s["part"]: s["licence"] for s in sources})


def _chosen_parts(adapter: Adapter, own: Mapping[str, str]) -> dict[str, str]:
    """Part -> its source, the user's `own` in place of the adapter's. Raises ModelError."""
    if unknown := sorted(set(own) - set(adapter.parts)):
        raise ModelError(f"{adapter.name} has no part {unknown[0]!r}; its parts are {', '.join(adapter.parts)}")
    used = {**adapter.parts, **own}
    for part, choices in NAMED.items():
        if part in used and used[part] not in choices:
            raise ModelError(f"{adapter.name} has no {part} {used[part]!r}; choose {' or '.join(choices)}")
    return used


def _size(network: torch.nn.Module, dtype: torch.dtype) -> int:
    """Bytes of the weights in `dtype`."""
    return sum(weights.numel() for weights in network.state_dict().values()) * dtype.itemsize


def _save_other_parts(
    folder: Path, paths: Mapping[str, Path], detector: str, dtype: torch.dtype, by_frame: bool
) -> None:
    """Write codec, speech encoder, image encoder and detector. by_frame: see `save_speech`."""
    save_vae(paths["vae"], folder / "codec", dtype)
    if "speech" in paths:
        save_speech(paths["speech"], folder / "speech", dtype, by_frame)
    else:
        copy_embedded("speech", folder / "speech")
    if "image" in paths:
        save_image_encoder(paths["image"], folder / "image", dtype)
    save_detector(detector, folder / "detector")


def converted(name: str) -> Path:
    """Return the folder of a published model, in fp16 in HF_HOME; it is converted now where it was not before.

    Raises as `convert` does.
    """
    folder = _converted_folder(name)
    if is_converted(name):
        _renew_sampling(folder, load_adapter(name).full_size())
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(folder.parent / f".{name}.lock"):
        if not is_converted(name):
            need_room(
                name, sum(entry.size for entry in missing_weights(part_weights(name)))
            )  # before gigabytes are fetched
            convert(name, folder, dtype=load_adapter(name).dtype)
    return folder


def _renew_sampling(folder: Path, full_size: Preset) -> None:
    """Bring a folder that an earlier version converted to the settings of today's adapter; its network is the same."""
    # Whoever loads it says what is wrong; a folder may be read-only; the settings of another network may not fit.
    with contextlib.suppress(ModelError, OSError, ValueError):
        found = load_preset(folder)
        before = replace(full_size.audio, centred=found.audio.centred)
        if found != full_size and found == replace(full_size, sampling=found.sampling, audio=before):
            with atomic_path(folder / CONFIG_FILE) as part:
                save_preset(full_size, part.parent, recorded_untrained(folder))


def room_to_convert(name: str) -> int:
    """Estimate the bytes that `converted` writes besides what it fetches; 0 where nothing is to be converted."""
    return load_adapter(name).room if name in ADAPTERS and not is_converted(name) else 0


def need_room(name: str, fetched: int) -> None:
    """Check that the disks have room for `fetched` bytes from the Hub and for what `converted` writes.

    HF_HUB_CACHE and HF_HOME may lie on two disks. Raises OutputError.
    """
    cache, folder, room = hub_cache(), _converted_folder(name).parent, room_to_convert(name)
    if device_of(cache) == device_of(folder):
        need_space(cache, fetched + room)
    else:
        need_space(cache, fetched)
        need_space(folder, room)


def part_weights(name: str) -> list[str]:
    """List the names in the registry of what a converted folder is made of."""
    return [weights for part, weights in load_adapter(name).parts.items() if part not in NAMED and weights in REGISTRY]


def is_converted(name: str) -> bool:
    """Check whether `converted` would find it on this machine."""
    return (_converted_folder(name) / "config.json").is_file()


def _converted_folder(name: str) -> Path:
    return cyberhost_home() / "models" / name


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


def named_tensors(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """Read the tensors of each file, or of its twin in safetensors."""
    twins = {name: (folder / name).with_suffix(".safetensors") for name in names}
    return {name: read_tensors(twin if twin.is_file() else folder / name) for name, twin in twins.items()}
