"""How fast a run is: samples a second, the share of time spent waiting for data, FLOP/s and MFU."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

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


def _attention_flops(*args: Any, **kwargs: Any) -> int:
    return flop_registry[torch.ops.aten._scaled_dot_product_flash_attention](*args, **kwargs)


_attention_flops._get_raw = True  # type: ignore[attr-defined]  # it takes tensors, as the entries of flop_registry do
CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
FORMULAS = {**flop_registry, **CPU_ATTENTION}
"""FLOPs of operations; torch's own lack attention on a CPU."""
NAMES = ("samples_s", "data_share", "tflops", "mfu")


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
    """Measures between two calls of `values`. One sample is one entry of the first tensor of a batch.

    FLOPs of a batch are three times those of its forward, which `torch.utils.flop_counter` counts in a pass of its own, once for each set of tensor
    sizes: counting decomposes some operations, which would change the last bits of a step. What gradient checkpointing computes twice counts once.
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
        """Note a batch. `forward` computes its loss by `module` without a trace: it is called when sizes are new, buffers of `module` are put back."""
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
        """Since the last call: samples_s of all processes, data_share in 0..1, tflops and mfu (where the peak is known) of one device."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        found = {"samples_s": self.samples * self.processes / seconds, "data_share": self.waited / seconds, "tflops": self.flops / seconds / 1e12}
        if self.peak:
            found["mfu"] = self.flops / seconds / self.peak
        self._reset()
        return found


def count_flops(module: nn.Module, forward: Callable[[], object]) -> float:
    """FLOPs of `forward`, run without gradients; random numbers and the buffers of `module` are as before."""
    before = [buffer.clone() for buffer in module.buffers()]
    devices = sorted({p.device.index for p in module.parameters() if p.device.type == "cuda"})
    with torch.no_grad(), torch.random.fork_rng(devices), FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        forward()
    with torch.no_grad():
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)
    return float(counter.get_total_flops())
