"""Measure speed and memory of this project beside plain diffusers and the peers' own code, all in one run.

    python -m benchmarks [--size middle] [--device cpu] [--precision fp32]
        [--animate-anyone REPOSITORY PYTHON] [--echomimic-v2 REPOSITORY PYTHON] [--json FILE] [--markdown FILE]

REPOSITORY is a copy of the peer's code (MooreThreads/Moore-AnimateAnyone, antgroup/echomimic_v2), PYTHON an interpreter
whose environment it runs in (see scripts/peer_parity.py). Weights are random, which does not change speed. Each
implementation is a process that loads once, beside the others; they are asked in turn.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.clocks import CLOCK_HELP, CLOCKS
from benchmarks.inputs import write_inputs
from benchmarks.pool import Broken, Contestant, Worker
from benchmarks.report import OURS, PLAIN, WINDOWS, job_overhead, markdown, ratios
from benchmarks.rounds import run_rounds, summary
from benchmarks.sizes import SIZES

PEERS = {"Moore-AnimateAnyone": "animate_anyone", "EchoMimicV2": "echomimic_v2"}


def main() -> int:
    """The command line. Ends with 1 where an implementation broke."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=sorted(SIZES), default="middle")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), help="default: fp16 on a GPU, else fp32")
    parser.add_argument("--threads", type=int, help="of torch on the CPU, for each process; default torch's own")
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall", help=CLOCK_HELP)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--job-rounds", type=int, default=1, help="of the rounds, how many have the whole job")
    parser.add_argument("--only", nargs="+", metavar="LABEL", help=f"such as {OURS!r} {PLAIN!r}; all by default")
    for peer in PEERS.values():
        parser.add_argument(f"--{peer.replace('_', '-')}", nargs=2, metavar=("REPOSITORY", "PYTHON"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    given = parser.parse_args()

    contestants = [c for c in _contestants(given) if given.only is None or c.label in given.only]
    precision = given.precision or ("fp16" if given.device.startswith("cuda") else "fp32")
    report = measure(
        given.size, contestants, given.device, precision, given.threads, given.clock, given.rounds, given.job_rounds
    )
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n")
    if given.markdown:
        given.markdown.write_text(markdown(report))
    print(markdown(report))
    return 1 if report["broken"] else 0


def _contestants(given: argparse.Namespace) -> list[Contestant]:
    found = [Contestant(OURS, "ours"), Contestant(PLAIN, "plain")]
    if given.size != "tiny":  # the embedded model's codec is none of Stable Diffusion's
        found.insert(1, Contestant(WINDOWS, "windows"))
    for label, name in PEERS.items():
        if place := getattr(given, name):
            # not resolve(): that would follow the link out of a virtual environment
            found.append(Contestant(label, name, str(Path(place[1]).absolute()), str(Path(place[0]).resolve())))
    return found


def measure(
    size: str,
    contestants: list[Contestant],
    device: str,
    precision: str,
    threads: int | None,
    clock: str,
    rounds: int,
    job_rounds: int,
) -> dict[str, Any]:
    """The whole report. Contestants load side by side and are then asked in turn."""
    started: list[Worker] = []
    workers: list[Worker] = []
    broken: dict[str, str] = {}

    def tell(line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        inputs = write_inputs(SIZES[size], Path(folder))
        settings = {
            "size": size,
            "device": device,
            "precision": precision,
            "threads": threads,
            "clock": clock,
            "inputs": inputs,
        }
        try:
            for contestant in contestants:
                try:
                    started.append(Worker(contestant, settings))
                except OSError as error:
                    broken[contestant.label] = f"{contestant.python} does not start: {error.strerror}"
                    tell(f"{contestant.label}: {broken[contestant.label]}")
            for worker in started:
                try:
                    worker.ready()
                except Broken as error:
                    broken[worker.label] = str(error)
                    tell(f"{worker.label}: {error}")
                    continue
                workers.append(worker)
                tell(f"{worker.label}: loaded in {worker.facts['load_seconds']:.1f} s")
            measured = run_rounds(workers, rounds, job_rounds, device != "cpu", broken, tell)
        finally:
            for worker in started:
                worker.close()
    results = {label: {part: summary(found) for part, found in parts.items()} for label, parts in measured.items()}
    found = ratios(results)
    if overhead := job_overhead(results.get(OURS, {}), asdict(SIZES[size])):
        found["job, of its denoising and decoding"] = overhead
    facts = workers[0].facts if workers else {}
    return {
        "size": asdict(SIZES[size]),
        "device": facts.get("device"),
        "precision": precision,
        "clock": clock,
        "torch": facts.get("torch"),
        "load_seconds": {w.label: w.facts["load_seconds"] for w in workers},
        "results": results,
        "ratios": found,
        "broken": broken,
        "measurements": measured,
    }


if __name__ == "__main__":
    raise SystemExit(main())
