"""Checkpoints of a run, written atomically; the last few are kept.

`RUN/last` is the newest: model, ema and optimizer as safetensors, state.json. Older ones lie in `RUN/older/<step>`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from cyberhost_model.errors import OutputError, TrainingError
from cyberhost_model.hub.tensors import read_safetensors
from cyberhost_model.lab.training.init import run_config, run_preset
from cyberhost_model.lab.training.process import Process
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.model.checkpoint import current_name, with_current_names
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.reading import Unreadable, build, exists, one_line, read_object, short

LOCK = ".lock"
STATE = "state.json"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_locked: set[Path] = set()
MOST_STEPS = 1 << 53
"""Largest number of steps or items of a run."""


@contextlib.contextmanager
def lock_run(run: str | Path, world: Process) -> Iterator[None]:
    """Lock the run folder for the processes of `world` while the block lasts; it is made if it does not exist.

    Two trainings in one folder would overwrite each other's checkpoints. Within the block it may be locked again. The
    first process locks RUN/.lock and tells the others the result. The lock is the operating system's (a POSIX record
    lock) and ends with the process, however it ends; the file stays and names the last process. Where there are no such
    locks (Windows, some file systems) nothing is locked. Raises TrainingError, in every process and at once, when
    another process has the lock; OutputError when the folder cannot be written.
    """
    place = Path(run).absolute()
    if place in _locked:
        yield
        return
    file, error = None, None
    if world.main:
        try:
            file = _lock(place)
        except (OSError, TrainingError) as failed:
            error = failed if isinstance(failed, TrainingError) else write_error(place, failed)
    world.raise_together(error)
    _locked.add(place)
    try:
        yield
    finally:
        _locked.discard(place)
        if file is not None:
            os.close(file)


def _lock(run: Path) -> int:
    """Open and lock the file; returns its descriptor.

    It must not be opened a second time in this process: closing any descriptor of it would end the lock.
    """
    run.mkdir(parents=True, exist_ok=True)
    file = os.open(run / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        import fcntl  # not on Windows

        # Not flock: processes that make batches would inherit it, and they outlive a killed trainer by some seconds.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            who = os.read(file, 200).decode(errors="replace").strip() or "another process"
            os.close(file)
            raise TrainingError(
                f"{run}: {who} is training in this folder; wait until it is done, stop it, or choose another folder"
            ) from None
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return file


def preset_of(module: nn.Module) -> dict[str, Any]:
    """Make the entry of config.json that has a network's preset; empty for other parts of a model."""
    return {"preset": module.preset.to_dict()} if isinstance(module, CyberHostNetwork) else {}


def trained_names(module: nn.Module) -> list[str]:
    """List the names of the parameters that train, in the optimizer's order, by which its state is numbered."""
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def check_same_run(run: Path, module: nn.Module, config: LoopConfig, extra: dict[str, Any]) -> None:
    """Check that a resumed run has the network, the trained parameters and the seed it was begun with.

    Entries that an older version did not write are not checked. Raises TrainingError that names the differences.
    """
    changed = []
    if isinstance(module, CyberHostNetwork) and (before := run_preset(run)) is not None:
        changed += differing(before.to_dict(), module.preset.to_dict())
    if "trained" in extra and [current_name(str(name)) for name in extra["trained"]] != trained_names(module):
        changed.append("what trains (frozen)")
    seed = run_config(run).get("seed", config.seed)
    if seed != config.seed:
        changed.append(f"seed ({short(seed)}, now {config.seed})")
    if changed:
        raise TrainingError(
            f"{run} was begun with other settings: {', '.join(changed)}; go on with those, or --init from it into a "
            "new run"
        )


def differing(before: dict[str, Any], now: dict[str, Any], where: str = "") -> list[str]:
    """List the entries in which two nested dictionaries differ: "diffusion.prediction (flow, now x0)"."""
    found: list[str] = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differing(old, new, f"{where}{name}.")
        elif old != new:
            found.append(f"{where}{name} ({old}, now {new})")
    return found


@dataclass(frozen=True)
class RunState:
    """Content of a checkpoint's state.json: stage, steps done, items used (None in a run of an older version)."""

    stage: str
    step: int
    items: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """`trained`: names of the parameters that train; `scaler`: the state of the loss scale of fp16."""

    def __post_init__(self) -> None:
        if not 0 <= self.step <= MOST_STEPS or not 0 <= (self.items or 0) <= MOST_STEPS:
            raise ValueError(f"step and items must be within 0..{MOST_STEPS}")
        if not isinstance(self.extra.get("trained", []), list) or not isinstance(self.extra.get("scaler", {}), dict):
            raise ValueError("extra must hold a list `trained` and an object `scaler`")


def _step_of(checkpoint: Path) -> int:
    """Read the step of a former checkpoint, 0 where its state is damaged: it is put aside whatever it says."""
    try:
        return build(RunState, read_object(checkpoint / STATE)).step
    except (OSError, Unreadable):
        return 0


@contextlib.contextmanager
def fitting(checkpoint: SavedCheckpoint) -> Iterator[None]:
    """Turn what torch says of tensors and states that do not fit into a TrainingError that names the checkpoint."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's is a RuntimeError
            raise
        raise TrainingError(
            f"{checkpoint.folder}: does not fit this stage ({one_line(error)}); replace it by the newest folder in "
            f"{checkpoint.folder.parent / 'older'}, or choose another folder"
        ) from error


@dataclass
class SavedCheckpoint:
    """A checkpoint on disk."""

    folder: Path
    step: int
    """Optimizer steps done."""
    items: int
    """Items of the data that all processes together have used."""
    extra: dict[str, Any] = field(default_factory=dict)

    def weights(self, name: str) -> dict[str, Tensor]:
        """Read the file "model", "ema" or "optimizer", on the CPU. Raises TrainingError for a damaged file."""
        file = self.folder / f"{name}.safetensors"
        try:
            return with_current_names(read_safetensors(file))
        except (OSError, Unreadable) as error:
            raise TrainingError(
                f"{file}: damaged ({one_line(error)}); replace {self.folder} by the newest folder in "
                f"{self.folder.parent / 'older'}"
            ) from error


class Checkpoints:
    """The checkpoints of one run and stage; at most `keep` of them are kept."""

    def __init__(self, run: Path, stage: str, keep: int, world: Process) -> None:
        self.run, self.stage, self.keep, self.world = run, stage, keep, world
        self.last, self.new, self.old, self.older = run / "last", run / "last.new", run / "last.old", run / "older"

    def read(self) -> SavedCheckpoint | None:
        """Return the newest checkpoint, if any. Raises TrainingError when it is damaged or of another stage."""
        if self.world.main and not exists(self.last) and exists(self.old):  # killed between two renames
            os.replace(self.old, self.last)
        self.world.raise_together(None)  # the others wait for the rename
        if not exists(self.last):
            return None
        try:
            state: RunState = build(RunState, read_object(self.last / STATE))
        except (OSError, Unreadable) as error:
            raise TrainingError(
                f"{self.last / STATE}: damaged ({one_line(error)}); replace {self.last} by the newest folder in "
                f"{self.older}"
            ) from error
        if state.stage != self.stage:
            raise TrainingError(f"{self.run} is a run of stage {state.stage}, not {self.stage}: choose another folder")
        items = state.step if state.items is None else state.items
        return SavedCheckpoint(self.last, state.step, items, state.extra)

    def write(
        self, step: int, items: int, parts: dict[str, Callable[[], dict[str, Tensor]]], extra: dict[str, Any]
    ) -> None:
        """Write a checkpoint in place of `last`; every process must call this, the first writes.

        parts: functions that gather each file's tensors, so that one file at a time is in memory. Raises OutputError,
        in every process, when the disk is full or the folder cannot be written; the checkpoint before stays.
        """
        error: Exception | None = None
        if self.world.main:
            error = self._try(lambda: self._begin())
        for name, gather in parts.items():
            weights = gather()  # also after an error: all processes take part
            if self.world.main and error is None:
                error = self._try(lambda name=name, weights=weights: _save(weights, self.new / f"{name}.safetensors"))  # type: ignore[misc]
            del weights
        if self.world.main and error is None:
            state = {"stage": self.stage, "step": step, "items": items, "extra": extra}
            error = self._try(lambda: self._finish(json.dumps(state)))
        if self.world.main and error is not None:
            shutil.rmtree(self.new, ignore_errors=True)
        self.world.raise_together(error)

    def _begin(self) -> None:
        """Make an empty folder for the new checkpoint."""
        shutil.rmtree(self.new, ignore_errors=True)
        if self.last.exists() and self.old.exists():
            self._retire()
        self.new.mkdir(parents=True)

    def _finish(self, state: str) -> None:
        """Write state.json and put the new checkpoint in the place of `last`."""
        with open(self.new / STATE, "w") as file:
            file.write(state)
            file.flush()
            os.fsync(file.fileno())
        if self.last.exists():
            os.replace(self.last, self.old)
        os.replace(self.new, self.last)
        self._retire()

    def _retire(self) -> None:
        """Move the former `last` to the older ones, and delete the oldest of these."""
        if self.keep > 1 and self.old.exists():
            place = self.older / f"{_step_of(self.old):08d}"
            shutil.rmtree(place, ignore_errors=True)
            self.older.mkdir(exist_ok=True)
            os.replace(self.old, place)
        shutil.rmtree(self.old, ignore_errors=True)
        kept = sorted(self.older.iterdir()) if self.older.exists() else []
        for place in kept[: len(kept) - (self.keep - 1)]:
            shutil.rmtree(place, ignore_errors=True)

    def _try(self, work: Callable[[], None]) -> Exception | None:
        try:
            work()
        except (OSError, SafetensorError) as error:
            return write_error(self.run, error)
        return None


def write_error(where: Path, error: Exception) -> OutputError:
    """Make the OutputError of a failed write below `where`."""
    text = " ".join(str(error).split())
    full = getattr(error, "errno", None) in NO_ROOM or any(f"os error {code}" in text for code in NO_ROOM)
    if full:
        return OutputError(
            f"{where}: no room for a checkpoint (disk full, quota or file size limit); the last one stays: free some "
            "space and run again"
        )
    return OutputError(f"{where}: cannot be written ({text}); the last checkpoint stays")


def _save(weights: dict[str, Tensor], file: Path) -> None:
    save_file({k: v.contiguous() for k, v in weights.items()}, file)
    with open(file, "rb") as written:  # a power cut after the rename must not leave an empty file
        os.fsync(written.fileno())
