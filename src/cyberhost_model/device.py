"""Where a model computes, and in which numbers."""

from __future__ import annotations

import torch

from cyberhost_model.config import Preset
from cyberhost_model.errors import ResourceError


def multiplies_bf16() -> bool:
    """Whether the CPU has units that multiply matrices of bf16 (Intel's AMX) and the system lets them be used.

    Without them, even where there are vector instructions for it, bf16 is slower than fp32
    (docs/reference/performance.md).
    """
    known = getattr(torch.cpu, "_is_amx_tile_supported", None), getattr(torch.cpu, "_init_amx", None)
    return all(ask is not None and ask() for ask in known)


def choose_device(device: str, precision: str, preset: Preset | None = None) -> tuple[torch.device, torch.dtype]:
    """ "auto" takes CUDA, then Apple's GPU, then the CPU; on CUDA half precision, `preset`'s if it is known, else
    fp16; on a CPU with units for it bf16; elsewhere fp32. Raises ResourceError for a device that is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ResourceError("no CUDA device is available: use --device cpu, or install a torch build with CUDA")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ResourceError("no Apple GPU is available: use --device cpu")
    if device.split(":")[0] not in ("cuda", "mps", "cpu"):
        raise ResourceError(f"there is no device {device!r}: choose auto, cuda, mps or cpu")
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


def supported_device(device: torch.device) -> torch.device:
    """`device`, or the CPU for an Apple GPU: most versions of torch have neither QR nor bicubic or border sampling
    there.
    """
    return torch.device("cpu") if device.type == "mps" else device
