"""Choice of the device and the precision a model computes in."""

from __future__ import annotations

import ctypes
import os
import re
import sys

import torch

from cyberhost_model.config import Preset
from cyberhost_model.errors import ResourceError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT_BYTES = 1 << 25  # the most that glibc takes for the second


def multiplies_bf16() -> bool:
    """Return whether the CPU computes quicker in bf16 than in fp32, and the system allows it.

    That is so with Intel's AMX, and with the vector instructions (AVX512-BF16) of AMD's CPUs, which multiply twice as
    many numbers of bf16 at a time; those of Intel's are slower than fp32 (docs/reference/performance.md).
    """
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", None), getattr(torch.cpu, "_init_amx", None)
    if all(check is not None and check() for check in tiles):
        return True
    vectors = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    named = getattr(torch.cpu, "get_capabilities", None)
    return bool(vectors and vectors() and named and "AMD" in str(named().get("cpu_name")))


def choose_device(device: str, precision: str, preset: Preset | None = None) -> tuple[torch.device, torch.dtype]:
    """Resolve the names of a device and a precision, as options give them.

    device "auto": CUDA, else Apple's GPU, else the CPU. precision "auto": half precision on CUDA (the preset's; fp16
    without one), bf16 on a CPU that is quicker so (`multiplies_bf16`), else fp32. Raises ResourceError for a device
    that is missing and for an unknown name.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ResourceError("no CUDA device is available: use --device cpu, or install a torch build with CUDA")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ResourceError("no Apple GPU is available: use --device cpu")
    if not re.fullmatch(r"(cpu|mps|cuda)(:\d{1,3})?", device):
        raise ResourceError(f"there is no device {device[:40]!r}: choose auto, cuda, mps or cpu")
    names = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if precision != "auto" and precision not in names:
        raise ResourceError(f"there is no precision {precision!r}: choose auto, {', '.join(names)}")
    dtype = names.get(precision, torch.float32)
    if precision == "auto" and device.startswith("cuda"):
        dtype = names["fp16" if preset is None else preset.half_precision]
        if dtype == torch.bfloat16 and torch.cuda.get_device_capability(device)[0] < 8:  # before Ampere it is emulated
            dtype = torch.float32
    elif precision == "auto" and device.startswith("cpu") and multiplies_bf16():
        dtype = torch.bfloat16
    if device.startswith("cpu") and dtype == torch.float16:
        raise ResourceError("fp16 is not for the CPU: use --precision auto or fp32")
    return torch.device(device), dtype


def keep_freed_memory() -> None:
    """Have the C library of Linux keep up to 32 MB that were freed, for what a CPU computes next.

    Otherwise it gives the buffers of a frame back to the system and gets them anew for the next one: thousands of
    pages, a tenth of the time of a clip in a virtual machine. Where the environment sets what it keeps (`MALLOC_...`,
    `GLIBC_TUNABLES`), and with other C libraries, nothing is done.
    """
    if not sys.platform.startswith("linux") or any(name.startswith(("MALLOC_", "GLIBC_TUN")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for threshold in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            mallopt(threshold, _KEPT_BYTES)


def slow_precision(device: torch.device, dtype: torch.dtype) -> list[str]:
    """Tell that bf16 was asked for on a CPU without units for it."""
    if device.type != "cpu" or dtype != torch.bfloat16 or multiplies_bf16():
        return []
    return [
        "this CPU has no units for bf16, which takes up to ten times as long as fp32 here: leave out --precision bf16"
    ]


def supported_device(device: torch.device) -> torch.device:
    """Return `device`, or the CPU in place of an Apple GPU.

    For operations that most versions of torch lack there: QR, bicubic and border sampling.
    """
    return torch.device("cpu") if device.type == "mps" else device
