"""The Dockerfile as far as it can be read without Docker: its sources, the constraints, its user and its command."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from cyberhost_cli.exit_status import ExitStatus
from cyberhost_cli.main import main

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docker" / "Dockerfile"


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """Instruction and arguments of every step."""
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n", "", "\n".join(lines))
    return [(name, rest) for line in text.splitlines() if line for name, _, rest in [line.partition(" ")]]


def test_everything_copied_is_there_and_let_through(steps: list[tuple[str, str]]) -> None:
    allowed = (FILE.parent / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    sources = [
        word for name, rest in steps if name == "COPY" and "--from" not in rest for word in shlex.split(rest)[:-1]
    ]
    assert {"src", "pyproject.toml", "constraints.txt"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists() and f"!{source}" in allowed, source


def test_every_installation_keeps_to_the_constraints(steps: list[tuple[str, str]]) -> None:
    installs = [rest for name, rest in steps if name == "RUN" and "pip install" in rest]
    assert installs and all("-c constraints.txt" in line for line in installs)
    extras = re.search(r"EXTRAS=(\S+)", FILE.read_text(encoding="utf-8"))
    known = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert extras and all(re.search(rf"^{name} = \[", known, re.MULTILINE) for name in extras[1].split(","))


def test_it_runs_as_a_user_that_can_write_its_volume(steps: list[tuple[str, str]]) -> None:
    last = steps[max(i for i, (name, _) in enumerate(steps) if name == "FROM") :]
    names = dict(last)
    assert names["USER"] == "cyberhost" and f"--owner {names['USER']} {names['VOLUME']}" in names["RUN"]
    assert f"HF_HOME={names['VOLUME']}/" in names["ENV"] and f"XDG_DATA_HOME={names['VOLUME']}" in names["ENV"]


def test_the_command_is_ours_and_asks_for_a_token(steps: list[tuple[str, str]], capsys, monkeypatch) -> None:
    monkeypatch.delenv("CYBERHOST_TOKEN", raising=False)
    (entry, *_), command = (json.loads(dict(steps)[name]) for name in ("ENTRYPOINT", "CMD"))
    assert entry == "cyberhost" and main(command) == ExitStatus.USAGE
    assert "CYBERHOST_TOKEN" in capsys.readouterr().err
    assert main([*command, "--help"]) == ExitStatus.OK
