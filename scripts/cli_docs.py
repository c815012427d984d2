"""Write docs/reference/cli.md from the `--help` of every command: `python scripts/cli_docs.py` (`--check` only
compares).
"""

from __future__ import annotations

import io
import os
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

import typer

from cyberhost_cli.main import COMMANDS, load, main

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"
WIDTH = 100


def help_of(*words: str) -> str:
    """The help text of a command as the user sees it on a terminal of fixed width."""
    os.environ.update({"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERMINAL_WIDTH": str(WIDTH)})
    out = io.StringIO()
    with redirect_stdout(out):
        code = main([*words, "--help"])
    if code:
        raise SystemExit(f"cyberhost {' '.join(words)} --help returned {code}")
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def commands() -> list[tuple[str, ...]]:
    """All commands in order, those of a group after it."""
    found: list[tuple[str, ...]] = [()]
    for name, entry in COMMANDS.items():
        found.append((name,))
        target = load(entry)
        if isinstance(target, typer.Typer):
            names = [info.name or info.callback.__name__ for info in target.registered_commands if info.callback]
            found += [(name, inner.replace("_", "-")) for inner in names]
    return found


def typer_version() -> str:
    """Major and minor: the wording of a help text is Typer's, and changes with it."""
    return ".".join(typer.__version__.split(".")[:2])


def document() -> str:
    """The whole of docs/reference/cli.md."""
    parts = [
        "# Command line",
        f"<!-- Written by scripts/cli_docs.py with typer {typer_version()}; do not edit. -->",
        "Exit codes and messages are in [errors.md](../user/errors.md).",
    ]
    for words in commands():
        parts.append(f"## {' '.join(('cyberhost', *words))}")
        parts.append(f"```text\n{help_of(*words)}\n```")
    return "\n\n".join(parts) + "\n"


def options(text: str) -> set[str]:
    """The names of all options in a document."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if DOCUMENT.read_text(encoding="utf-8") == document() else "docs/reference/cli.md is out of date")
    DOCUMENT.write_text(document(), encoding="utf-8")
    print(DOCUMENT)
