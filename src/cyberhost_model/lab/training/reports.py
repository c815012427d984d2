"""The numbers of a run: its speed, and where they are written (curves.csv, TensorBoard, Weights & Biases)."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.media.files import written_whole
from cyberhost_model.media.video_reader import stream_frames
from cyberhost_model.model.cost import FlopCounter

PEAKS: dict[str, tuple[float, float]] = {
    "B200": (2250, 75),
    "H200": (989, 67),
    "H100 PCIe": (756, 51),
    "H100": (989, 67),
    "A100": (312, 19.5),
    "L40S": (362, 91.6),
    "L40": (181, 90.5),
    "L4": (121, 30.3),
    "A10": (125, 31.2),
    "A6000": (154.8, 38.7),
    "V100": (125, 15.7),
    "T4": (65, 8.1),
    "RTX 4090": (165.2, 82.6),
    "RTX 3090": (71, 35.6),
}
"""Part of a GPU's name -> dense TFLOP/s of its data sheet in half precision and in fp32; the first match counts."""
SPEED_NAMES = ("samples_s", "data_share", "tflops", "mfu")
"""Columns of the curves that measure the speed: samples a second, share of the time without data, TFLOP/s, MFU."""
GIF_FPS, GIF_SIDE, GIF_SECONDS = 12.5, 256, 8.0


def peak_flops(device: torch.device, precision: str, given_tflops: float = 0.0) -> float | None:
    """Look up the peak FLOP/s of a device; None where it is unknown (every CPU, other GPUs)."""
    if given_tflops:
        return given_tflops * 1e12
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    found = next((peaks for part, peaks in PEAKS.items() if re.search(rf"\b{part}\b", name)), None)
    return None if found is None else found[precision == "fp32"] * 1e12


class Speed:
    """The speed of training between two calls of `values`.

    One sample is one entry of the first tensor of a batch. FLOPs of a batch are three times those of its forward pass,
    of which the first of each set of tensor sizes is counted. What gradient checkpointing computes twice counts once.
    """

    def __init__(self, processes: int, peak: float | None) -> None:
        self.processes, self.peak = processes, peak
        self.counted: dict[tuple[Any, ...], float] = {}
        self._reset()

    def _reset(self) -> None:
        self.began, self.waited, self.samples, self.flops = time.monotonic(), 0.0, 0, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as time without data."""
        began = time.monotonic()
        yield
        self.waited += time.monotonic() - began

    @contextlib.contextmanager
    def forward(self, batch: dict[str, Any]) -> Iterator[None]:
        """Count a batch whose loss is computed inside."""
        tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
        key = tuple((name, *value.shape) for name, value in tensors.items())
        if key in self.counted:
            yield
        else:
            with FlopCounter() as counted:
                yield
            self.counted[key] = 3 * counted.flops
        self.flops += self.counted[key]
        self.samples += len(next(iter(tensors.values()))) if tensors else 1

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Leave out the time inside, which is no training (checkpoints, sample videos)."""
        began = time.monotonic()
        yield
        self.began += time.monotonic() - began

    def values(self) -> dict[str, float]:
        """Compute `SPEED_NAMES` since the last call.

        samples_s of all processes, data_share in 0..1, tflops and mfu (where the peak is known) of one device.
        """
        seconds = max(time.monotonic() - self.began, 1e-9)
        found = {
            "samples_s": self.samples * self.processes / seconds,
            "data_share": self.waited / seconds,
            "tflops": self.flops / seconds / 1e12,
        }
        if self.peak:
            found["mfu"] = self.flops / seconds / self.peak
        self._reset()
        return found


class Report(Protocol):
    """A place where the numbers of a run are written."""

    def add(self, step: int, values: dict[str, float]) -> None:
        """Write the means since the last call."""

    def add_video(self, step: int, video: Path) -> None:
        """Write a sample video."""

    def close(self) -> None:
        """Finish writing."""


class Curves:
    """The file `curves.csv`: a header, and rows of the step, the seconds since this call of `train` began, and values.

    A value that begins later, as one that is measured now and then, gets a column of its own; its cells before are
    empty.
    """

    def __init__(self, run: Path, start: int) -> None:
        """Open the file, without the rows after step `start`: a crash lost these steps, and they are taken again."""
        self.path = run / "curves.csv"
        self.names, rows = read_curves(self.path)
        self._rewrite([row for row in rows if int(row["step"]) <= start])
        self.began = time.monotonic()

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with written_whole(self.path) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["step", "seconds", *self.names], restval="")
            writer.writeheader()
            writer.writerows(rows)
        self.file = open(self.path, "a", newline="")

    def add(self, step: int, values: dict[str, float]) -> None:
        """Write a row."""
        if new := [name for name in values if name not in self.names]:
            self.file.close()
            _, rows = read_curves(self.path)
            self.names += new
            self._rewrite(rows)
        cells = (f"{values[name]:.5g}" if name in values else "" for name in self.names)
        csv.writer(self.file).writerow([step, round(time.monotonic() - self.began, 1), *cells])
        self.file.flush()

    def add_video(self, step: int, video: Path) -> None:
        """Do nothing: the video is in RUN/samples."""

    def close(self) -> None:
        """Close the file."""
        self.file.close()


_STEP = re.compile("[0-9]{1,18}")


def read_curves(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read a run's `curves.csv`: names of the values, and a row by column for each step that is whole.

    No file is an empty one. Files without a header, whose cells are name=value, are of cyberhost 0.1.
    """
    cells: list[list[str]] = []
    if not file.exists():
        return [], []
    with file.open(encoding="utf-8", errors="replace", newline="") as open_file, contextlib.suppress(csv.Error):
        cells = [row for row in csv.reader(line.replace("\0", "") for line in open_file) if row]
    if cells and cells[0][:2] == ["step", "seconds"]:
        names, rows = cells[0], cells[1:]
        found = [
            dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names) and _STEP.fullmatch(row[0])
        ]
        return names[2:], found
    old = [row for row in cells if _STEP.fullmatch(row[0]) and len(row) > 1 and all("=" in cell for cell in row[2:])]
    found = [{"step": row[0], "seconds": row[1], **dict(c.split("=", 1) for c in row[2:])} for row in old]
    return list(dict.fromkeys(name for row in found for name in row if name not in ("step", "seconds"))), found


class TensorBoard:
    """TensorBoard's event files in `RUN/tensorboard`."""

    def __init__(self, run: Path, start: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainingError(
                "TensorBoard is not installed: pip install 'cyberhost[train]', or leave out --report tensorboard"
            ) from error
        self.writer = SummaryWriter(str(run / "tensorboard"), purge_step=start + 1)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Add a point to the curve of each value."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def add_video(self, step: int, video: Path) -> None:
        """Add the video as an animated image."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        picture, (width, height) = animated_gif(video)
        image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=picture)
        self.writer.file_writer.add_summary(Summary(value=[Summary.Value(tag="sample", image=image)]), step)

    def close(self) -> None:
        """Close the event file."""
        self.writer.close()


class WandB:
    """A Weights & Biases run, resumed when the training is.

    wandb itself reads WANDB_PROJECT, WANDB_MODE and its other environment variables.
    """

    def __init__(self, run: Path, config: dict[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise TrainingError(
                "Weights & Biases is not installed: pip install 'cyberhost[wandb]', or leave out --report wandb"
            ) from error
        kept = run / "wandb_id"
        if not kept.exists():
            kept.write_text(secrets.token_hex(4))
        name, own = run.resolve().name, kept.read_text(encoding="utf-8", errors="replace").strip()
        self.run = wandb.init(project="cyberhost", name=name, id=own, dir=str(run), config=config, resume="allow")
        # wandb's own step count cannot go back to the step where a crashed run resumes.
        self.run.define_metric("*", step_metric="step")

    def add(self, step: int, values: dict[str, float]) -> None:
        """Add a point to the curve of each value."""
        self.run.log({**values, "step": step})

    def add_video(self, step: int, video: Path) -> None:
        """Add the video with its sound."""
        import wandb

        self.run.log({"sample": wandb.Video(str(video), format="mp4"), "step": step})

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


def animated_gif(video: Path) -> tuple[bytes, tuple[int, int]]:
    """Convert the first seconds of a video to a small animated GIF, for TensorBoard; returns it and its (W, H)."""
    frames = [
        Image.fromarray(frame) for frame in stream_frames(video, GIF_FPS, longest=GIF_SIDE, max_seconds=GIF_SECONDS)
    ]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / GIF_FPS), loop=0)
    return out.getvalue(), frames[0].size


def open_reports(run: Path, config: LoopConfig, facts: dict[str, Any], start: int = 0) -> list[Report]:
    """Open all reports of a run that resumes after step `start`. Raises TrainingError for a missing package."""
    reports: list[Report] = [Curves(run, start)]
    if "tensorboard" in config.report:
        reports.append(TensorBoard(run, start))
    if "wandb" in config.report:
        reports.append(WandB(run, facts))
    return reports
