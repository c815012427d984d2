"""What a run is made of: its stage's settings, data, recipe and first weights, the versions of what computes it.

It is kept in the run's config.json.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import torch

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.checkpoint import differing
from cyberhost_model.lab.training.clips import ClipFolders, clip_shares
from cyberhost_model.lab.training.init import averaged_weights, find_weights, run_config
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.marks.container import program_version
from cyberhost_model.media.files import digest_of

RECORD = "made_of"
"""Its entry in config.json."""


def origin_of(recipe: Path, init: str | None) -> dict[str, Any]:
    """Name the recipe's file and the weights that a run begins with, each with its SHA-256.

    Raises what `init.read_weights` does for weights that are not there.
    """
    found: dict[str, Any] = {"recipe": str(recipe), "recipe_sha256": digest_of(recipe)}
    if init is not None:
        place = find_weights(init)
        averaged = averaged_weights(place)
        found |= {"init": init, "init_sha256": digest_of(averaged if averaged.is_file() else place)}
    return found


def record_of(stage: Stage, run: Path, origin: dict[str, Any] | None = None) -> dict[str, Any]:
    """Describe what `run` of `stage` is made of, as JSON has it.

    settings: of the stage (batch, frames, drops, driving ...); data: folder and digest of coded clips; versions.
    origin: see `origin_of`; None: that of the run as it was begun, where it is known.
    """
    if origin is None:
        origin = run_config(run).get(RECORD, {}).get("origin", {})
    config, data = getattr(stage, "config", None), getattr(stage, "data", None)
    record = {
        "settings": dataclasses.asdict(config) if dataclasses.is_dataclass(config) else {},  # type: ignore[arg-type]
        "data": {} if data is None else _describe_data(data),
        "origin": origin,
        "versions": {"cyberhost": program_version(), "torch": torch.__version__, "python": platform.python_version()},
    }
    return json.loads(json.dumps(record))


def _describe_data(data: ClipFolders) -> dict[str, Any]:
    """Name the folders of coded clips with their shares, and digest what is in them."""
    shares = clip_shares(data)
    digests = [f"{digest_of_names(folder)} {share}" for folder, share in shares]
    names = [str(folder) if share is None else f"{folder}:{share:g}" for folder, share in shares]
    return {"folder": ", ".join(names), "digest": hashlib.sha256("\n".join(digests).encode()).hexdigest()}


def digest_of_names(folder: Path) -> str:
    """Compute the digest of the names and sizes of a folder's files: clips are never changed in place."""
    state = hashlib.sha256()
    found = (path for path in folder.rglob("*.safetensors") if path.is_file())
    for path in sorted(path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts)):
        state.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
    return state.hexdigest()


def check_same_record(run: Path, record: dict[str, Any], allow_changed: bool) -> None:
    """Compare what a run that goes on was begun with: the stage's settings, and its data by its digest.

    The data may have moved. A run of an older version has no record and goes on. Raises TrainingError that names the
    differences unless `allow_changed`.
    """
    before = run_config(run).get(RECORD)
    if not isinstance(before, dict) or allow_changed:
        return
    changed = differing(before.get("settings", {}), record["settings"])
    old, new = (made.get("data", {}).get("digest") for made in (before, record))
    if old != new:
        changed.append(f"data ({before.get('data', {}).get('folder')}, now {record['data'].get('folder')})")
    if changed:
        raise TrainingError(
            f"{run} was begun with other settings: {', '.join(changed)}; go on with those, --init from it into a new "
            "run, or give --allow-changed"
        )
