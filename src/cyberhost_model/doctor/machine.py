"""The machine a job would run on: processor, driver, memory, precision, and ffmpeg."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from cyberhost_model.errors import ResourceError
from cyberhost_model.media.ffmpeg import ffmpeg_binary

ENCODERS = ("libx264", "aac")
"""What `media.video_writer` writes with."""
_FFMPEG_PATIENCE = 20.0  # seconds
_PATIENCE = 10.0  # seconds for nvidia-smi, which hangs on a broken driver
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Ffmpeg:
    """The ffmpeg that videos are read and written with.

    path of the binary; encoders: those of ENCODERS it has.
    """

    path: str
    version: str
    encoders: tuple[str, ...]


def find_ffmpeg() -> Ffmpeg:
    """Find ffmpeg. Raises ResourceError where there is none, it does not run, or it lacks an encoder."""
    path = ffmpeg_binary()
    first = _output_of(path, "-version").split("\n", 1)[0]
    names = {words[1] for words in map(str.split, _output_of(path, "-encoders").splitlines()) if len(words) > 1}
    found = Ffmpeg(
        path, first.removeprefix("ffmpeg version ").split(" ", 1)[0], tuple(name for name in ENCODERS if name in names)
    )
    if missing := set(ENCODERS) - set(found.encoders):
        raise ResourceError(
            f"{path} cannot write {' and '.join(sorted(missing))}: unset IMAGEIO_FFMPEG_EXE, or reinstall "
            "imageio-ffmpeg"
        )
    return found


def _output_of(path: str, argument: str) -> str:
    try:
        run = subprocess.run(
            [path, "-hide_banner", argument],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_FFMPEG_PATIENCE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ResourceError(f"{path} does not run ({str(error).splitlines()[0]}): reinstall imageio-ffmpeg") from None
    return run.stdout


@dataclass(frozen=True)
class Machine:
    """Where it would run. Memory is the device's own, in bytes; for a CPU and an Apple GPU it is the machine's."""

    device: str
    """"cpu", "cuda", "mps"."""
    name: str
    cores: int
    """CPU cores this process may use."""
    driver: str | None
    """Version of the GPU's driver; None where there is none or it does not tell."""
    runtime: str | None
    """What torch was built for: "CUDA 12.8", "ROCm 6.2"; None for a build without a GPU."""
    memory: int
    free: int
    precision: str
    why: str
    """Why this precision."""
    hint: str | None = None
    """A GPU that cannot be used as things are, and what to do."""


def describe_machine(device: torch.device, dtype: torch.dtype, asked_precision: str = "auto") -> Machine:
    """Describe the machine as far as it can be known, for the device and the precision of `choose_device`."""
    total, free = _memory(device)
    names = {"cuda": lambda: torch.cuda.get_device_name(device), "mps": lambda: "Apple GPU"}
    name = names.get(device.type, _cpu_name)()
    gpus = _nvidia("driver_version,name")
    driver = gpus[0].split(",")[0].strip() if gpus and device.type == "cuda" else None
    hint = None
    if gpus and device.type == "cpu" and not torch.cuda.is_available():
        hint = (
            f"{gpus[0].split(',')[-1].strip()} is in this machine, but torch cannot use it: install a torch build "
            "with CUDA (pytorch.org)"
        )
    return Machine(
        device.type, name, _cores(), driver, _runtime(), total, free, *_precision(device, dtype, asked_precision), hint
    )


def peak_memory(device: torch.device) -> int | None:
    """Measure the most memory this process has used so far, in bytes; None where that is not known.

    Of a CUDA device it counts since `reset_peak`, elsewhere of the machine since the process began.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def reset_peak(device: torch.device) -> None:
    """Count the peak of a CUDA device from here."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _precision(device: torch.device, dtype: torch.dtype, asked: str) -> tuple[str, str]:
    name = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}[dtype]
    if asked != "auto":
        return name, "asked for"
    if device.type == "cuda":
        return name, {
            "fp16": "half the memory, and what a GPU's matrix units are made for",
            "bf16": "half the memory, and fp16's range would be too small for this model",
            "fp32": "fp16's range would be too small for this model, and this GPU has no bf16",
        }[name]
    if device.type == "cpu":
        return name, {
            "bf16": "this CPU is quicker in it (AMX, or AVX512-BF16 of AMD's)",
            "fp32": "this CPU has no quick half precision (AMX, or AVX512-BF16 of AMD's); bf16 may be asked for",
        }[name]
    return name, "half precision is chosen on CUDA devices and CPUs that are quicker in it; bf16 may be asked for"


def _memory(device: torch.device) -> tuple[int, int]:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(total), int(free)
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    with contextlib.suppress(OSError, ValueError):  # "max": a container without a limit
        limit = int(_CONTAINER_LIMIT.read_text())
        used = int(_CONTAINER_LIMIT.with_name("memory.current").read_text())
        total, free = min(total, limit), min(free, max(limit - used, 0))
    return total, free


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _runtime() -> str | None:
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    hip = getattr(torch.version, "hip", None)
    return f"ROCm {hip}" if hip else None


def _nvidia(query: str) -> list[str]:
    """What nvidia-smi says, a line for each GPU; empty where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        said = subprocess.run(
            [tool, f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True, text=True, timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in said.stdout.splitlines() if line.strip()] if said.returncode == 0 else []
