"""Fuzz every reader: `python -m tests.fuzz --cases 10000 --seed 0` from the root of the repository.

Cases are divided among the readers. They run in worker processes; a case that its worker dies of is a finding too, and
so is one that takes longer than --seconds twice, the second time after all others: the machine may have been busy. Then
the worker is replaced. Ends with 1 where something was found.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parents[1] / "src"))


def work(seed: int, memory: int) -> None:
    """Run the cases that come on stdin, a name and a number each; answer each on stdout."""
    import resource
    import warnings

    warnings.filterwarnings("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (memory << 30, memory << 30))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from fuzz_targets import LIBRARIES, run_case

    for name in LIBRARIES:
        importlib.import_module(f"cyberhost_model.{name}")
    answers.write("null\n")  # from now on a case's time is its own
    answers.flush()
    for line in sys.stdin:
        name, number = json.loads(line)
        folder = tempfile.mkdtemp(prefix="fuzz-")
        try:
            found = run_case(name, number, seed, Path(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        answers.write(json.dumps([name, number, found]) + "\n")
        answers.flush()


class Worker:
    """A process that runs one case after another."""

    def __init__(self, options: argparse.Namespace) -> None:
        command = [sys.executable, str(HERE), "--worker", "--seed", str(options.seed), "--memory", str(options.memory)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.case: tuple[str, int] | None = None
        self.since, self.first = 0.0, True

    def give(self, case: tuple[str, int]) -> None:
        """Hand over a case."""
        assert self.process.stdin is not None
        self.case, self.since = case, time.monotonic()
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def fuzz(options: argparse.Namespace) -> int:
    """Run all cases and print the table and what was found."""
    from fuzz_targets import TARGETS

    names = options.targets.split(",") if options.targets else list(TARGETS)
    todo = [(names[i % len(names)], i // len(names)) for i in range(options.first, options.cases)]
    todo.reverse()
    ran: Counter[str] = Counter()
    findings: list[tuple[str, int, str]] = []
    selector = selectors.DefaultSelector()
    busy: set[Worker] = set()
    slow: set[tuple[str, int]] = set()
    began = time.monotonic()

    def start() -> None:
        worker = Worker(options)
        selector.register(worker.process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
        busy.add(worker)
        worker.give(todo.pop())

    def end(worker: Worker, words: str = "") -> None:
        selector.unregister(worker.process.stdout)  # type: ignore[arg-type]
        worker.stop()
        busy.discard(worker)
        if words and worker.case:
            ran[worker.case[0]] += 1
            findings.append((*worker.case, words))
            print(*worker.case, words, file=sys.stderr, flush=True)
        if todo and not late():
            start()

    def late() -> bool:
        return bool(options.minutes) and time.monotonic() - began > 60 * options.minutes

    for _ in range(min(options.workers, len(todo))):
        start()
    while busy:
        for key, _ in selector.select(timeout=1):
            worker = key.data
            line = worker.process.stdout.readline()
            if not line:
                end(worker, f"its process died ({worker.process.wait()})")
                continue
            if (answer := json.loads(line)) is None:
                worker.first, worker.since = False, time.monotonic()
                continue
            name, number, found = answer
            ran[name] += 1
            if ran.total() % 500 == 0:
                print(f"{ran.total()} of {options.cases} cases, {time.monotonic() - began:.0f} s", file=sys.stderr)
            if found:
                findings.append((name, number, found))
                print(f"{name} {number}: {found}", file=sys.stderr, flush=True)
            if todo and not late():
                worker.give(todo.pop())
            else:
                worker.case = None
                end(worker)
        for worker in list(busy):
            limit = options.seconds * (10 if worker.first else 1)  # it imports the libraries first
            if worker.case and time.monotonic() - worker.since > limit:
                if worker.case in slow:
                    end(worker, f"hangs: more than {limit:g} s")
                else:
                    slow.add(worker.case)
                    todo.insert(0, worker.case)  # the last one to be taken
                    end(worker)
    print(f"{sum(ran.values())} cases, seed {options.seed}, {time.monotonic() - began:.0f} s, {len(findings)} findings")
    print("| Reader | Cases | Findings |\n|---|---:|---:|")
    for name in names:
        print(f"| {name} | {ran[name]} | {sum(1 for found in findings if found[0] == name)} |")
    for name, number, words in findings:
        print(f"{name} {number}: {words}")
    return int(bool(findings))


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="leave out the cases before this one, of an earlier run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60, help="a case that takes longer hangs")
    parser.add_argument("--minutes", type=float, default=0, help="begin no case after so long; 0: no end")
    parser.add_argument("--memory", type=int, default=16, help="GiB of addresses a worker may have")
    parser.add_argument("--targets", default="", help="names of readers, with commas between")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.seed, options.memory)
        return 0
    return fuzz(options)


if __name__ == "__main__":
    sys.exit(main())
