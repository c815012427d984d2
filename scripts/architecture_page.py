"""Write docs/reference/architecture.md from the import contract and the rooms' own first lines.

`python scripts/architecture_page.py` writes it, `--check` only compares. The order of rooms is that of pyproject.toml's
`[tool.importlinter]`, which `lint-imports` holds the code to.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "cyberhost_model"
PAGE = ROOT / "docs" / "reference" / "architecture.md"
HEAD = """# Architecture

<!-- Written by scripts/architecture_page.py; do not edit. -->

Two floors and a command line: `cyberhost_cli` parses, shows and maps errors to exit codes; the **lab**
(`cyberhost_model/lab/`) evaluates and trains; the **product** (the rest of `cyberhost_model`) makes, loads, converts
and diagnoses a video. Imports go one way: command line -> lab -> product. Within a floor a room imports only rooms
above it in its table. `lint-imports` checks this in every test run, late imports included; the order is in
`pyproject.toml`.

How the data flows: a picture and a sound are read (`media`), the person is found (`perception`), poses are drawn as
maps (`conditions`) and the sound becomes features (`speech`); `codecs` turn pictures into latents, `model` and
`sampler` make the latents of clip after clip, and `runtime` holds it all together. Shapes: [shapes.md](shapes.md).
"""


def first_line(path: Path) -> str:
    """The summary of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).rstrip(".").replace("|", "\\|")


def table(folder: Path, rooms: list[str]) -> list[str]:
    """A row a room, from the lowest on, with its files below it."""
    lines = ["| Room | What it holds |", "|---|---|"]
    for room in rooms:
        place = folder / room
        if not place.is_dir():
            lines.append(f"| **{room}.py** | {first_line(place.with_suffix('.py'))} |")
            continue
        lines.append(f"| **{room}/** | {first_line(place / '__init__.py')} |")
        files = sorted(path for path in place.rglob("*.py") if path.name != "__init__.py")
        lines += [f"| `{path.relative_to(folder).as_posix()}` | {first_line(path)} |" for path in files]
    return lines


def page() -> str:
    """The whole page."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = {
        contract["containers"][0]: list(reversed(contract["layers"]))
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and "containers" in contract
    }
    product = [room for room in layers["cyberhost_model"] if room != "lab"]
    lab = layers["cyberhost_model.lab"]
    cli = ROOT / "src" / "cyberhost_cli"
    parts = [
        HEAD,
        "## The product\n",
        *table(PACKAGE, product),
        "\n## The lab\n",
        *table(PACKAGE / "lab", lab),
        "\n## The command line\n",
        "| File | What it holds |",
        "|---|---|",
        *(f"| `{path.name}` | {first_line(path)} |" for path in sorted(cli.glob("*.py")) if path.name[:2] != "__"),
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
        sys.exit(0 if same else f"{PAGE.relative_to(ROOT)} is out of date: python scripts/architecture_page.py")
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
