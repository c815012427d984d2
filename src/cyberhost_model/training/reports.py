"""Where the numbers of a run go: curves.csv always, TensorBoard and Weights & Biases where asked for."""

from __future__ import annotations

import csv
import io
import secrets
import time
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from ..dataset.manifest import written_whole
from ..errors import TrainingError
from ..inputs.frames import stream_frames
from .settings import LoopConfig

GIF_FPS, GIF_SIDE, GIF_SECONDS = 12.5, 256, 8.0


class Report(Protocol):
    """Takes the means since the last call."""

    def add(self, step: int, values: dict[str, float]) -> None: ...

    def film(self, step: int, video: Path) -> None:
        """A sample video that was made."""

    def close(self) -> None: ...


class Curves:
    """`curves.csv`: step, seconds since this call began, then name=value."""

    def __init__(self, run: Path, start: int) -> None:
        """Rows after step `start`, of steps that a crash lost, are taken out: they are done again."""
        file = run / "curves.csv"
        if file.exists():
            rows = file.read_text().splitlines(keepends=True)
            with written_whole(file) as part:
                part.write_text("".join(row for row in rows if row.split(",", 1)[0].isdigit() and int(row.split(",", 1)[0]) <= start))
        self.file = open(file, "a", newline="")
        self.began = time.monotonic()

    def add(self, step: int, values: dict[str, float]) -> None:
        """One row."""
        row = [step, round(time.monotonic() - self.began, 1), *(f"{k}={v:.5g}" for k, v in values.items())]
        csv.writer(self.file).writerow(row)
        self.file.flush()

    def film(self, step: int, video: Path) -> None:
        """It lies in RUN/samples already."""

    def close(self) -> None:
        self.file.close()


class TensorBoard:
    """Event files in `RUN/tensorboard`."""

    def __init__(self, run: Path, start: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainingError("TensorBoard is not installed: pip install 'cyberhost[train]', or leave out --report tensorboard") from error
        self.writer = SummaryWriter(str(run / "tensorboard"), purge_step=start + 1)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Every value as a curve."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def film(self, step: int, video: Path) -> None:
        """A moving picture among the images."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        picture, (width, height) = moving_picture(video)
        image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=picture)
        self.writer.file_writer.add_summary(Summary(value=[Summary.Value(tag="sample", image=image)]), step)

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
        self.run.define_metric("*", step_metric="step")  # wandb's own count cannot go back to where a crashed run goes on

    def add(self, step: int, values: dict[str, float]) -> None:
        """Every value as a curve."""
        self.run.log({**values, "step": step})

    def film(self, step: int, video: Path) -> None:
        """The video with its sound."""
        import wandb

        self.run.log({"sample": wandb.Video(str(video), format="mp4"), "step": step})

    def close(self) -> None:
        self.run.finish()


def moving_picture(video: Path) -> tuple[bytes, tuple[int, int]]:
    """The first seconds of a video, small, as an animated GIF, and its (W, H): what TensorBoard shows."""
    frames = [Image.fromarray(frame) for frame in stream_frames(video, GIF_FPS, longest=GIF_SIDE, max_seconds=GIF_SECONDS)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / GIF_FPS), loop=0)
    return out.getvalue(), frames[0].size


def open_reports(run: Path, config: LoopConfig, facts: dict[str, Any], start: int = 0) -> list[Report]:
    """All reports of a run that goes on after step `start`. Raises TrainingError for one that is not installed."""
    reports: list[Report] = [Curves(run, start)]
    if "tensorboard" in config.report:
        reports.append(TensorBoard(run, start))
    if "wandb" in config.report:
        reports.append(WandB(run, facts))
    return reports
