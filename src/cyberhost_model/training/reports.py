"""Where the numbers of a run go: curves.csv always, TensorBoard and Weights & Biases where asked for."""

from __future__ import annotations

import csv
import secrets
import time
from pathlib import Path
from typing import Any, Protocol

from ..errors import TrainingError
from .settings import LoopConfig


class Report(Protocol):
    """Takes the means since the last call."""

    def add(self, step: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class Curves:
    """`curves.csv`: step, seconds since this call began, then name=value."""

    def __init__(self, run: Path) -> None:
        self.file = open(run / "curves.csv", "a", newline="")
        self.began = time.monotonic()

    def add(self, step: int, values: dict[str, float]) -> None:
        """One row."""
        row = [step, round(time.monotonic() - self.began, 1), *(f"{k}={v:.5g}" for k, v in values.items())]
        csv.writer(self.file).writerow(row)
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class TensorBoard:
    """Event files in `RUN/tensorboard`."""

    def __init__(self, run: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainingError("TensorBoard is not installed: pip install 'cyberhost[train]', or leave out --report tensorboard") from error
        self.writer = SummaryWriter(str(run / "tensorboard"))

    def add(self, step: int, values: dict[str, float]) -> None:
        """Every value as a curve."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A Weights & Biases run that goes on when the training does; WANDB_PROJECT, WANDB_MODE and the rest are read by wandb itself."""

    def __init__(self, run: Path, config: dict[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise TrainingError("Weights & Biases is not installed: pip install 'cyberhost[wandb]', or leave out --report wandb") from error
        kept = run / "wandb_id"
        if not kept.exists():
            kept.write_text(secrets.token_hex(4))
        name, own = run.resolve().name, kept.read_text().strip()
        self.run = wandb.init(project="cyberhost", name=name, id=own, dir=str(run), config=config, resume="allow")

    def add(self, step: int, values: dict[str, float]) -> None:
        """Every value as a curve."""
        self.run.log(values, step=step)

    def close(self) -> None:
        self.run.finish()


def open_reports(run: Path, config: LoopConfig, facts: dict[str, Any]) -> list[Report]:
    """All reports of a run. Raises TrainingError for one that is not installed."""
    reports: list[Report] = [Curves(run)]
    if "tensorboard" in config.report:
        reports.append(TensorBoard(run))
    if "wandb" in config.report:
        reports.append(WandB(run, facts))
    return reports
