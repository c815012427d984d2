"""Published weights under our names, every one accounted for.

Each is taken, left out with a reason, or named in an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cyberhost_model.config import Preset
from cyberhost_model.errors import ModelError
from cyberhost_model.model.network import CyberHostNetwork


@dataclass(frozen=True)
class Rule:
    """What becomes of the weights whose whole name matches `old`."""

    old: str
    """Regular expression."""
    new: tuple[str, ...] = ()
    """Their names here, as templates of `old`'s groups.

    Several: the weight is taken more than once; none: it is left out.
    """
    why: str = ""
    """Why it is left out or changed."""
    change: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Entry:
    """What became of one weight."""

    source: str
    old: str
    new: tuple[str, ...]
    why: str


@dataclass
class Converted:
    """A network filled with weights of others, and the account of it."""

    network: CyberHostNetwork
    entries: list[Entry]
    initial: list[str]
    """Weights of the network that the source lacks: as at the start of training."""
    zero: list[str]
    """Weights of layers that the other model does not have, so that they add nothing."""

    def counts(self) -> Counts:
        """Count the weights that were taken, left out (by reason) and begin afresh."""
        left: dict[str, int] = {}
        for entry in self.entries:
            if not entry.new:
                left[entry.why] = left.get(entry.why, 0) + 1
        return Counts(sum(bool(entry.new) for entry in self.entries), left, len(self.initial), len(self.zero))


@dataclass(frozen=True)
class Counts:
    """Numbers of weights: taken, left out by reason, at the start of training, and zero."""

    taken: int
    left_out: dict[str, int]
    initial: int
    zero: int


@dataclass
class KeyMap:
    """Collects weights under our names; `into` makes the network of them."""

    initial: tuple[str, ...] = ()
    """Patterns of weights that may be missing and then stay as at the start of training."""
    zero: tuple[str, ...] = ()
    """Patterns of weights that may be missing and then become zero."""
    weights: dict[str, Tensor] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)

    def take(self, source: str, weights: dict[str, Tensor], rules: Sequence[Rule]) -> None:
        """Translate the weights of the file `source`; of several rules that match the first counts.

        Raises ModelError naming the weights that no rule matches.
        """
        unknown = []
        for old, value in weights.items():
            rule = next((rule for rule in rules if re.fullmatch(rule.old, old)), None)
            if rule is None:
                unknown.append(old)
                continue
            names = tuple(re.sub(rule.old, template, old) for template in rule.new)
            value = rule.change(value) if rule.change else value
            for name in names:
                if (
                    name in self.weights
                    and self.weights[name] is not value
                    and not torch.equal(self.weights[name], value)
                ):
                    raise ModelError(
                        f"{source}: {old} and another weight both want to be {name}, and differ; it is of another model"
                    )
                self.weights[name] = value
            self.entries.append(Entry(source, old, names, rule.why))
        if unknown:
            raise ModelError(
                f"{source}: {_names(unknown)} cannot be mapped; it is of another model or of another version of it"
            )

    def into(self, preset: Preset) -> Converted:
        """Build the network of `preset` with these weights.

        Raises ModelError naming weights that are missing, have no place or are of another shape.
        """
        with torch.device("meta"):
            shapes = {name: value.shape for name, value in CyberHostNetwork(preset).state_dict().items()}
        fresh, void = self.gaps(shapes, preset.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = CyberHostNetwork(preset).eval()
        own = network.state_dict()
        with torch.no_grad():
            for name, value in self.weights.items():
                own[name].copy_(value)
            for name in void:
                own[name].zero_()
        return Converted(network, self.entries, fresh, void)

    def gaps(self, own: Mapping[str, torch.Size], model: str) -> tuple[list[str], list[str]]:
        """Find the names in `own` (with shapes) without a weight: what stays as at the start, and what becomes zero.

        Raises ModelError as `into`.
        """
        missing = [name for name in own if name not in self.weights]
        void = [name for name in missing if any(re.fullmatch(pattern, name) for pattern in self.zero)]
        fresh = [
            name
            for name in missing
            if name not in void and any(re.fullmatch(pattern, name) for pattern in self.initial)
        ]
        wrong = [name for name, value in self.weights.items() if name in own and own[name] != value.shape]
        problems = {
            "are missing": sorted(set(missing) - {*fresh, *void}),
            "have no place": [name for name in self.weights if name not in own],
            "are of another shape": wrong,
        }
        told = [f"{_names(names)} {what}" for what, names in problems.items() if names]
        if told:
            raise ModelError(f"preset {model}: {'; '.join(told)}; the checkpoint is of another size or version")
        return fresh, void


def _names(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{len(names)} weights ({', '.join(names[:limit])}{more})"


_MODULE = r"((?:down_blocks\.\d+|up_blocks\.\d+|mid_block)\.motion_modules\.\d+)\.temporal_transformer"
_BLOCK = rf"{_MODULE}\.transformer_blocks\.(\d+)"
_TO = r"denoising_unet.unet.\1"


def motion_rules(prefix: str = "") -> tuple[Rule, ...]:
    """Make the rules from names of AnimateDiff's own code and its descendants to diffusers' names.

    `prefix`: regular expression that all names begin with.
    """
    return (
        Rule(rf"{prefix}{_MODULE}\.((?:norm|proj_in|proj_out)\..+)", (rf"{_TO}.\2",)),
        # each of both attentions has its own copy of the same sinusoids; diffusers has one for both
        Rule(
            rf"{prefix}{_BLOCK}\.attention_blocks\.[01]\.pos_encoder\.pe",
            (rf"{_TO}.transformer_blocks.\2.pos_embed.pe",),
        ),
        Rule(rf"{prefix}{_BLOCK}\.attention_blocks\.0\.(.+)", (rf"{_TO}.transformer_blocks.\2.attn1.\3",)),
        Rule(rf"{prefix}{_BLOCK}\.attention_blocks\.1\.(.+)", (rf"{_TO}.transformer_blocks.\2.attn2.\3",)),
        Rule(rf"{prefix}{_BLOCK}\.norms\.0\.(.+)", (rf"{_TO}.transformer_blocks.\2.norm1.\3",)),
        Rule(rf"{prefix}{_BLOCK}\.norms\.1\.(.+)", (rf"{_TO}.transformer_blocks.\2.norm2.\3",)),
        Rule(rf"{prefix}{_BLOCK}\.ff_norm\.(.+)", (rf"{_TO}.transformer_blocks.\2.norm3.\3",)),
        Rule(rf"{prefix}{_BLOCK}\.ff\.(.+)", (rf"{_TO}.transformer_blocks.\2.ff.\3",)),
    )


def map_files(
    files: Mapping[str, dict[str, Tensor]],
    rules: Mapping[str, tuple[Rule, ...]],
    initial: tuple[str, ...] = (),
    zero: tuple[str, ...] = (),
) -> KeyMap:
    """Map the tensors of several files, each by its own rules; initial, zero: see `KeyMap`.

    Raises ModelError naming what cannot be mapped.
    """
    keys = KeyMap(initial, zero)
    for name, rules_of_file in rules.items():
        keys.take(name, files[name], rules_of_file)
    return keys
