"""A run's checkpoints: written whole or not at all, the last few kept.

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
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cyberhost_model.errors import OutputError, TrainingError
from cyberhost_model.lab.training.init import run_config, run_preset
from cyberhost_model.lab.training.process import Process
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.model.checkpoint import current_name, with_current_names
from cyberhost_model.model.network import CyberHostNetwork

# One training at a time in a run folder: two would write over each other's checkpoints.


LOCK = ".lock"
_held: set[Path] = set()


@contextlib.contextmanager
def hold(run: str | Path, world: Process) -> Iterator[None]:
    """Keep the folder `run`, which is made if need be, to the processes of `world` as long as the block lasts.

    Who holds it may hold it again.

    The first process locks RUN/.lock, all others hear from it how that went. The lock is the operating system's (POSIX
    record lock) and ends with the process, however it ends; the file stays and says who came last. Systems and file
    systems without such locks (Windows) are not guarded. Raises TrainingError, in every process and at once, when
    another process holds it; OutputError when the folder cannot be written.
    """
    place = Path(run).absolute()
    if place in _held:
        yield
        return
    file, error = None, None
    if world.main:
        try:
            file = _lock(place)
        except (OSError, TrainingError) as failed:
            error = failed if isinstance(failed, TrainingError) else unwritable(place, failed)
    world.raise_together(error)
    _held.add(place)
    try:
        yield
    finally:
        _held.discard(place)
        if file is not None:
            os.close(file)


def _lock(run: Path) -> int:
    """The open, locked file.

    Nobody else of this process may open it: closing any descriptor of it would end the lock.
    """
    run.mkdir(parents=True, exist_ok=True)
    file = os.open(run / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        import fcntl  # not on Windows

        # Not flock: a process that makes batches would inherit it, and outlive a trainer that is killed by some
        # seconds.
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


# Whether a run that goes on is the run that was begun: the same network, parts that train and seed.


def preset_of(module: nn.Module) -> dict[str, Any]:
    """The preset of a network as an entry of the run's config.json, so that others can build it; nothing for other
    parts of a model.
    """
    return {"preset": module.preset.to_dict()} if isinstance(module, CyberHostNetwork) else {}


def trained_names(module: nn.Module) -> list[str]:
    """The parameters that train, in the optimizer's order, which its state goes by."""
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def check_same_run(run: Path, module: nn.Module, config: LoopConfig, extra: dict[str, Any]) -> None:
    """Raises TrainingError that names what differs from the run as it was begun; runs of versions that did not note
    something are believed.
    """
    changed = []
    if isinstance(module, CyberHostNetwork) and (before := run_preset(run)) is not None:
        changed += differing(before.to_dict(), module.preset.to_dict())
    if "trained" in extra and [current_name(name) for name in extra["trained"]] != trained_names(module):
        changed.append("what trains (frozen)")
    seed = run_config(run).get("seed", config.seed)
    if seed != config.seed:
        changed.append(f"seed ({seed}, now {config.seed})")
    if changed:
        raise TrainingError(
            f"{run} was begun with other settings: {', '.join(changed)}; go on with those, or --init from it into a "
            "new run"
        )


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


STATE = "state.json"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class Saved:
    """A checkpoint on disk."""

    folder: Path
    step: int
    """Steps done."""
    items: int
    """Items of the data used up by all processes together."""
    extra: dict[str, Any] = field(default_factory=dict)

    def weights(self, name: str) -> dict[str, Tensor]:
        """ "model", "ema" or "optimizer", on the CPU. Raises TrainingError for a damaged file."""
        file = self.folder / f"{name}.safetensors"
        try:
            return with_current_names(load_file(file))
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"{file}: damaged ({error}); replace {self.folder} by the newest folder in "
                f"{self.folder.parent / 'older'}"
            ) from error


class Checkpoints:
    """The checkpoints of one run and stage; at most `keep` of them stay."""

    def __init__(self, run: Path, stage: str, keep: int, world: Process) -> None:
        self.run, self.stage, self.keep, self.world = run, stage, keep, world
        self.last, self.fresh, self.before, self.older = run / "last", run / "last.new", run / "last.old", run / "older"

    def read(self) -> Saved | None:
        """The newest checkpoint, if there is one. Raises TrainingError when it is another stage's or damaged."""
        if self.world.main and not self.last.exists() and self.before.exists():  # killed between two renames
            os.replace(self.before, self.last)
        self.world.raise_together(None)  # the others wait for the rename
        if not self.last.exists():
            return None
        try:
            state = json.loads((self.last / STATE).read_text())
            stage, step = state["stage"], int(state["step"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{self.last / STATE}: damaged ({error}); replace {self.last} by the newest folder in {self.older}"
            ) from error
        if stage != self.stage:
            raise TrainingError(f"{self.run} is a run of stage {stage}, not {self.stage}: choose another folder")
        return Saved(self.last, step, int(state.get("items", step)), state.get("extra", {}))

    def write(
        self, step: int, items: int, parts: dict[str, Callable[[], dict[str, Tensor]]], extra: dict[str, Any]
    ) -> None:
        """Replace `last`.

        `parts` gathers each file's tensors, one file in memory at a time; every process must call this, the first
        writes.

        Raises OutputError, in every process, when the disk is full or the folder cannot be written; the checkpoint
        before stays.
        """
        error: Exception | None = None
        if self.world.main:
            error = self._try(lambda: self._begin())
        for name, gather in parts.items():
            weights = gather()  # before any error is looked at: all processes take part
            if self.world.main and error is None:
                error = self._try(lambda name=name, weights=weights: _save(weights, self.fresh / f"{name}.safetensors"))  # type: ignore[misc]
            del weights
        if self.world.main and error is None:
            state = {"stage": self.stage, "step": step, "items": items, "extra": extra}
            error = self._try(lambda: self._finish(json.dumps(state)))
        if self.world.main and error is not None:
            shutil.rmtree(self.fresh, ignore_errors=True)
        self.world.raise_together(error)

    def _begin(self) -> None:
        shutil.rmtree(self.fresh, ignore_errors=True)
        if self.last.exists() and self.before.exists():
            self._retire()
        self.fresh.mkdir(parents=True)

    def _finish(self, state: str) -> None:
        with open(self.fresh / STATE, "w") as file:
            file.write(state)
            file.flush()
            os.fsync(file.fileno())
        if self.last.exists():
            os.replace(self.last, self.before)
        os.replace(self.fresh, self.last)
        self._retire()

    def _retire(self) -> None:
        """Move what was `last` to the older ones, and forget the oldest."""
        if self.keep > 1 and self.before.exists():
            step = json.loads((self.before / STATE).read_text())["step"]
            place = self.older / f"{step:08d}"
            shutil.rmtree(place, ignore_errors=True)
            self.older.mkdir(exist_ok=True)
            os.replace(self.before, place)
        shutil.rmtree(self.before, ignore_errors=True)
        old = sorted(self.older.iterdir()) if self.older.exists() else []
        for place in old[: len(old) - (self.keep - 1)]:
            shutil.rmtree(place, ignore_errors=True)

    def _try(self, work: Callable[[], None]) -> Exception | None:
        try:
            work()
        except (OSError, SafetensorError) as error:
            return unwritable(self.run, error)
        return None


def unwritable(where: Path, error: Exception) -> OutputError:
    """What to say of a failed write below `where`."""
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
