"""Where the numbers of a run go: curves.csv always, TensorBoard and Weights & Biases where asked for."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.media.files import written_whole
from cyberhost_model.media.video_reader import stream_frames
from cyberhost_model.model.cost import count_flops

# How fast a run is: samples a second, the share of time spent waiting for data, FLOP/s and MFU.


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
"""Part of a GPU's name -> dense TFLOP/s of its data sheet in half precision and in fp32. The first that fits counts."""


SPEED_NAMES = ("samples_s", "data_share", "tflops", "mfu")


def peak_flops(device: torch.device, precision: str, given_tflops: float = 0.0) -> float | None:
    """FLOP/s of the device at best, or None where that is not known (every CPU, other GPUs)."""
    if given_tflops:
        return given_tflops * 1e12
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    found = next((peaks for part, peaks in PEAKS.items() if re.search(rf"\b{part}\b", name)), None)
    return None if found is None else found[precision == "fp32"] * 1e12


class Speed:
    """Measures between two calls of `values`.

    One sample is one entry of the first tensor of a batch.

    FLOPs of a batch are three times those of its forward, which `torch.utils.flop_counter` counts in a pass of its own,
    once for each set of tensor sizes: counting decomposes some operations, which would change the last bits of a step.
    What gradient checkpointing computes twice counts once.
    """

    def __init__(self, processes: int, peak: float | None) -> None:
        self.processes, self.peak = processes, peak
        self.counted: dict[tuple[Any, ...], float] = {}
        self._reset()

    def _reset(self) -> None:
        self.began, self.waited, self.samples, self.flops = time.monotonic(), 0.0, 0, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time inside is time without data."""
        began = time.monotonic()
        yield
        self.waited += time.monotonic() - began

    def batch(self, batch: dict[str, Any], module: nn.Module, forward: Callable[[], object]) -> None:
        """Note a batch.

        `forward` computes its loss by `module` without a trace: it is called when sizes are new, buffers of `module`
        are put back.
        """
        tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
        key = tuple((name, *value.shape) for name, value in tensors.items())
        if key not in self.counted:
            with self.pause():
                self.counted[key] = 3 * count_flops(module, forward)
        self.flops += self.counted[key]
        self.samples += len(next(iter(tensors.values()))) if tensors else 1

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Around what is no training (checkpoints, sample videos): its time does not count."""
        began = time.monotonic()
        yield
        self.began += time.monotonic() - began

    def values(self) -> dict[str, float]:
        """Since the last call: samples_s of all processes, data_share in 0..1, tflops and mfu (where the peak is
        known) of one device.
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
                part.write_text(
                    "".join(
                        row for row in rows if row.split(",", 1)[0].isdigit() and int(row.split(",", 1)[0]) <= start
                    )
                )
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
            raise TrainingError(
                "TensorBoard is not installed: pip install 'cyberhost[train]', or leave out --report tensorboard"
            ) from error
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
    """A Weights & Biases run that goes on when the training does; WANDB_PROJECT, WANDB_MODE and the rest are read by
    wandb itself.
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
        name, own = run.resolve().name, kept.read_text().strip()
        self.run = wandb.init(project="cyberhost", name=name, id=own, dir=str(run), config=config, resume="allow")
        self.run.define_metric(
            "*", step_metric="step"
        )  # wandb's own count cannot go back to where a crashed run goes on

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
    frames = [
        Image.fromarray(frame) for frame in stream_frames(video, GIF_FPS, longest=GIF_SIDE, max_seconds=GIF_SECONDS)
    ]
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
