"""One implementation in a process of its own: loads once, then measures one part for every line it is sent.

    python -m benchmarks.worker '{"implementation": ..., "size": ..., "device": ..., "precision": ..., "repository":
    ...}'

Answers are JSON lines: first {"parts": [...], "load_seconds": ..., "device": ...}, then {"seconds": ..., "peak_mb":
...} for the name of a part.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path

from benchmarks.clocks import CLOCKS
from benchmarks.sizes import SIZES


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries and peers print must not mix with the answers
    given = json.loads(sys.argv[1])
    started = time.perf_counter()
    import torch

    from benchmarks.implementations.shared import DTYPES

    if given["threads"]:
        torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    device = torch.device(given["device"])
    dtype = DTYPES[given["precision"]]
    module = importlib.import_module(f"benchmarks.implementations.{given['implementation']}")
    if given["repository"]:
        os.chdir(given["repository"])
        sys.path.insert(0, given["repository"])
    with torch.no_grad():
        parts = module.parts(SIZES[given["size"]], device, dtype, given["inputs"], **given["options"])
        loaded = time.perf_counter() - started
        name = (
            torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
        )
        print(
            json.dumps({"parts": list(parts), "load_seconds": loaded, "device": name, "torch": torch.__version__}),
            file=answers,
        )
        for line in sys.stdin:
            part = parts[json.loads(line)]
            with getattr(
                part, "inside", contextlib.nullcontext
            )():  # what is set up more seldom than the part runs, and not counted
                print(json.dumps(measure(part, device, CLOCKS[given["clock"]])), file=answers)


def measure(part, device, clock) -> dict[str, float | None]:
    """Seconds of one call, and the most memory held from its beginning to its end: the GPU's, or this process's."""
    import torch

    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    fresh = cuda or reset_peak()
    began = clock()
    part()
    if cuda:
        torch.cuda.synchronize(device)
    seconds = clock() - began
    peak = torch.cuda.max_memory_allocated(device) if cuda else peak_memory()
    return {"seconds": seconds, "peak_mb": peak / 1e6, "peak_since_start": not fresh}


def reset_peak() -> bool:
    """Whether the kernel forgets this process's peak so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_memory() -> int:
    """Bytes; Linux counts since `reset_peak`, others since the start."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
