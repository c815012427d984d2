"""The measuring side: workers that wait, asked in turn, so that what else the machine does falls on all of them
alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Broken(Exception):
    """An implementation that could not be loaded or measured; the last line that it printed."""


@dataclass(frozen=True)
class Contestant:
    """An implementation as a process: python is the interpreter whose environment it runs in, repository the copy of a
    peer's code.
    """

    label: str
    implementation: str
    python: str = sys.executable
    repository: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


class Worker:
    """A running contestant, which loads until `ready`."""

    def __init__(self, contestant: Contestant, settings: dict[str, Any]) -> None:
        self.label = contestant.label
        self._errors = tempfile.TemporaryFile()
        given = {
            **settings,
            "implementation": contestant.implementation,
            "repository": contestant.repository,
            "options": contestant.options,
        }
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [contestant.python, "-m", "benchmarks.worker", json.dumps(given)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.facts: dict[str, Any] = {}

    def ready(self) -> None:
        """Wait until it has loaded: `facts` says what it can do. Raises Broken."""
        self.facts = self._answer()

    def measure(self, part: str) -> dict[str, Any]:
        """{"seconds", "peak_mb", ...} of one call. Raises Broken."""
        assert self._process.stdin is not None
        try:
            print(json.dumps(part), file=self._process.stdin, flush=True)
        except OSError:
            raise self._broken() from None
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._broken()
        return json.loads(line)

    def _broken(self) -> Broken:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return Broken(lines[-1] if lines else f"ended with code {code}")
