"""What each command would fetch."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import NetworkError
from ..hub.convert import ADAPTERS, held_weights, is_converted, need_room
from ..hub.missing import Missing, missing_weights
from ..model_folder import missing_parts
from .network import Hub

FULL_SIZE = "sd15"


@dataclass(frozen=True)
class Downloads:
    """What a command would fetch when it is run next; note: when, where not always."""

    command: str
    missing: list[Missing]
    note: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(entry.size for entry in self.missing)


def downloads(model: list[Missing]) -> list[Downloads]:
    """For each command; `model`: what `missing_model` says of the one they would use."""
    start = [] if is_converted(FULL_SIZE) else missing_weights(held_weights(FULL_SIZE))
    others = " or ".join(name for name in ADAPTERS if name != FULL_SIZE)
    return [
        *(Downloads(command, model) for command in ("animate", "reenact", "multimodal")),
        Downloads("eval", missing_weights(["eval"]), "for all metrics; one whose network cannot be had is skipped"),
        Downloads("train", start, f"with --init {FULL_SIZE}; another with --init {others}; nothing otherwise"),
        Downloads("data prepare", missing_weights(["dwpose", "syncnet"]), "DWPose with --detector dwpose, SyncNet with --min-sync; nothing otherwise"),
        Downloads("data encode", start + missing_parts(["arcface"]), f"with --preset {FULL_SIZE}; nothing otherwise"),
    ]


def check_fetch(model: str, missing: list[Missing], hub: Hub) -> None:
    """Raises NetworkError or OutputError where what is missing of `model`, and it cannot do without, cannot be fetched."""
    size = sum(entry.size for entry in missing if not entry.spare)
    need_room(model, size)
    if size and not hub.reachable:
        raise NetworkError(f"{model} is not on this machine and cannot be fetched: {hub.why}")
