"""Whether a run that goes on is the run that was begun: the same network, parts that train and seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..errors import TrainingError
from ..model.cyberhost import CyberHostNetwork
from .initial import run_config, run_preset
from .settings import LoopConfig


def preset_of(module: nn.Module) -> dict[str, Any]:
    """The preset of a network as an entry of the run's config.json, so that others can build it; nothing for other parts of a model."""
    return {"preset": module.preset.to_dict()} if isinstance(module, CyberHostNetwork) else {}


def trained_names(module: nn.Module) -> list[str]:
    """The parameters that train, in the optimizer's order, which its state goes by."""
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def check_same_run(run: Path, module: nn.Module, config: LoopConfig, extra: dict[str, Any]) -> None:
    """Raises TrainingError that names what differs from the run as it was begun; runs of versions that did not note something are believed."""
    changed = []
    if isinstance(module, CyberHostNetwork) and (before := run_preset(run)) is not None:
        changed += differing(before.to_dict(), module.preset.to_dict())
    if "trained" in extra and extra["trained"] != trained_names(module):
        changed.append("what trains (frozen)")
    seed = run_config(run).get("seed", config.seed)
    if seed != config.seed:
        changed.append(f"seed ({seed}, now {config.seed})")
    if changed:
        raise TrainingError(f"{run} was begun with other settings: {', '.join(changed)}; go on with those, or --init from it into a new run")


def differing(before: dict[str, Any], now: dict[str, Any], where: str = "") -> list[str]:
    """Entries of two nested dictionaries that are not the same: "diffusion.prediction (flow, now x0)"."""
    found: list[str] = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differing(old, new, f"{where}{name}.")
        elif old != new:
            found.append(f"{where}{name} ({old}, now {new})")
    return found
