"""The codec that stage codec starts from: of a run, of a model, or of another one with other components."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cyberhost_model.codecs.base import load_codec
from cyberhost_model.codecs.reference import ReferenceCodec, ReferenceCodecConfig
from cyberhost_model.errors import ModelError, TrainingError
from cyberhost_model.hub.tensors import read_safetensors
from cyberhost_model.model.checkpoint import load_preset, with_current_names
from cyberhost_model.reading import Unreadable, is_file, is_folder, one_line
from cyberhost_model.runtime.loading import find_model

COMPONENTS = ("flow", "novelty", "colour", "left")
"""Maps whose components a recipe may count."""


def codec_config(components: Mapping[str, int]) -> ReferenceCodecConfig:
    """Make the configuration of a codec with these components, 0 for those not named.

    Raises TrainingError for names or counts that no codec has.
    """
    if not isinstance(components, Mapping):
        raise TrainingError(f"components = {components!r}: must be a table of {', '.join(COMPONENTS)}")
    if unknown := [name for name in components if name not in COMPONENTS]:
        raise TrainingError(f"components: there is no {unknown[0]!r}; name {', '.join(COMPONENTS)}")
    counts = {name: components.get(name, 0) for name in COMPONENTS}
    if (
        not all(isinstance(n, int) and 0 <= n <= 64 for n in counts.values())
        or not counts["flow"]
        or not counts["novelty"]
    ):
        raise TrainingError("components must be whole numbers from 0 to 64, flow's and novelty's at least 1")
    flow, novelty, colour, left = counts.values()
    return ReferenceCodecConfig(flow, novelty, colour, left)


def codec_of_weights(weights: Mapping[str, Tensor], source: str | Path) -> ReferenceCodec:
    """Make the codec that has these weights; how many components it has is their shapes.

    Raises TrainingError where they are another part's.
    """
    bases = {name: weights[f"basis_{name}"] for name in COMPONENTS if f"basis_{name}" in weights}
    counts = {name: len(basis) if basis.ndim else 0 for name, basis in bases.items()}
    try:
        config = codec_config(counts)
        r = len(weights.get("r_mean", ()))
        config.reference = r if r != config.blocks else 0
        codec = ReferenceCodec(config)
        codec.load_state_dict(weights)
    except (RuntimeError, TrainingError) as error:
        raise TrainingError(f"{source}: is not a run of this part ({str(error).splitlines()[-1].strip()})") from error
    return codec.eval()


def codec_of(source: str) -> tuple[ReferenceCodec, dict[str, Tensor]]:
    """Load the codec of a run, or of a model ("tiny", a folder); and a run's other averaged weights, by name.

    Raises TrainingError where there is none of this kind.
    """
    file = Path(source) / "last" / "ema.safetensors"
    if is_folder(file.parent) or is_file(source):
        try:
            weights = with_current_names(read_safetensors(file if is_folder(file.parent) else source))
        except (OSError, Unreadable) as error:
            raise TrainingError(f"{source}: cannot start from it ({one_line(error)}); give a run or a model") from error
        codec = {k.removeprefix("codec."): v for k, v in weights.items() if k.startswith("codec.")}
        return codec_of_weights(codec, source), {k: v for k, v in weights.items() if not k.startswith("codec.")}
    try:
        model = find_model(source)
        loaded = load_codec(load_preset(model).codec, model / "codec")
    except ModelError as error:
        raise TrainingError(f"cannot start from it: {source} is no run, model or safetensors file ({error})") from error
    if not isinstance(loaded, ReferenceCodec):
        raise TrainingError(f"{source}: has a codec of another kind; start from one of kind {ReferenceCodec.kind!r}")
    return loaded, {}


@torch.no_grad()
def take_over(codec: ReferenceCodec, other: ReferenceCodec) -> None:
    """Take what fits of another codec's weights into one with components of its own.

    Weights of the same name and shape are copied. The two layers that read components are rewritten in terms of the new
    ones: what they said of an old component they say of the new ones that lie along it.
    """
    own, theirs = codec.state_dict(), other.state_dict()
    kept = {"z_std", *(f"basis_{name}" for name in COMPONENTS), "join.0.weight", "at_quarter.0.weight"}
    for name, value in theirs.items():
        if name not in kept and name in own and own[name].shape == value.shape:
            own[name].copy_(value)
    old, new = (each.config for each in (other, codec))
    if codec.r_mean.shape != other.r_mean.shape or old.widths != new.widths:
        return
    to_old = _change_of_components(codec, other)
    weight = other.join[0].weight
    codec.join[0].weight.copy_(
        torch.cat([torch.einsum("ochw,cn->onhw", weight[:, : old.drawn], to_old), weight[:, old.drawn :]], 1)
    )
    a = 2 * old.widths[0]
    weight = other.at_quarter[0].weight
    maps, place = [], a
    for name, channels in (("flow", 2), ("novelty", 1), ("colour", 3)):
        there = 4 * channels if getattr(old, name) else 0
        if getattr(new, name):
            maps.append(
                weight[:, place : place + there] if there else weight.new_zeros(len(weight), 4 * channels, 1, 1)
            )
        place += there
    codec.at_quarter[0].weight.copy_(torch.cat([weight[:, :a], *maps, weight[:, place:]], 1))


def _change_of_components(codec: ReferenceCodec, other: ReferenceCodec) -> Tensor:
    """Compute the matrix (old drawn, new drawn) that turns channels of `codec` into those of `other`."""
    out = torch.zeros(other.config.drawn, codec.config.drawn)
    row = column = 0
    for name in COMPONENTS[:3]:
        rows, columns = getattr(other.config, name), getattr(codec.config, name)
        if rows and columns:
            old, new = (getattr(each, f"basis_{name}").flatten(1) for each in (other, codec))
            part = (old @ new.T) * codec.z_std[column : column + columns] / other.z_std[row : row + rows, None]
            out[row : row + rows, column : column + columns] = part
        row, column = row + rows, column + columns
    return out
