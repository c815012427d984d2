"""What `cyberhost train` says in words: its speed, and what a dry run found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

GIB = 2**30


def speed_words(values: dict[str, float]) -> str:
    """ "3.1 samples/s, 0.4 TFLOP/s, MFU 41%, 2% waiting for data", as far as it is known."""
    said = []
    if "samples_s" in values:
        said.append(f"{values['samples_s']:.3g} samples/s")
    if "tflops" in values:
        said.append(f"{values['tflops']:.3g} TFLOP/s")
    if "mfu" in values:
        said.append(f"MFU {values['mfu']:.0%}")
    if "data_share" in values:
        said.append(f"{values['data_share']:.0%} waiting for data")
    return ", ".join(said)


def dry_run_lines(found: dict[str, Any]) -> Iterator[str]:
    """The dictionary of `dry_run` as a table."""
    rows = [*found["modules"], {"name": "all", "parameters": found["parameters"], "trained": found["trained"]}]
    width = max(len(row["name"]) for row in rows)
    yield f"{'part':<{width}}  parameters     trained"
    for row in rows:
        yield f"{row['name']:<{width}}  {row['parameters']:>11,}  {row['trained']:>11,}"
    many = next(key for key in found if key.startswith("memory_fsdp_"))
    kind = ", gradient checkpointing" if found["gradient_checkpointing"] else ""
    yield f"memory, GiB a device ({found['precision']}, {found['optimizer']}{kind}):"
    yield f"  {'':<12} one process  fsdp on {many.removeprefix('memory_fsdp_')}"
    for name in found["memory"]:
        yield f"  {name:<12} {_gib(found['memory'][name])}  {_gib(found[many][name])}"
    yield f"  weights, gradients, optimizer and average are exact, activations {found['activations_are']}"
    yield f"{found['flops_per_batch'] / 1e12:.4g} TFLOP a batch, {found['steps']:,} steps, {found['samples']:,} samples a process"
    if found["hours"] is None:
        yield f"hours: unknown ({found['hours_unknown_because']})"
    else:
        yield f"hours: {found['hours']:.3g} at {found['seconds_per_step']:.3g} s a step, timed here"


def _gib(value: float | None) -> str:
    return f"{'unknown':>11}" if value is None else f"{value / GIB:>11.2f}"
