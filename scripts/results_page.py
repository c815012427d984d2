"""Write docs/results.md, and the table of README, from docs/results.json.

python scripts/results_page.py            # --check only compares
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "docs" / "results.json"
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- results: written by scripts/results_page.py -->", "<!-- end of results -->"


def cell(value: Any, digits: int) -> str:
    """Return a value as the table shows it; null is a dash."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.{digits}f}"


def table(head: list[str], rows: list[list[str]], numbers: bool) -> str:
    """Return a Markdown table; numbers are set to the right."""
    rule = ["---", *("---:" if numbers else "---" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def summary(data: dict[str, Any]) -> str:
    """Return the table of what works how well."""
    rows = [[line["what"], line["works"], line["figure"], line["weak"]] for line in data["summary"]]
    return table(["What", "Works", "Measured", "Weak point"], rows, numbers=False)


def page(data: dict[str, Any]) -> str:
    """Return the whole of docs/results.md."""
    parts = [
        "# Results of the current release",
        "<!-- Written by scripts/results_page.py from results.json; do not edit. -->",
        f"Release {data['release']}, measured {data['date']} at commit `{data['commit']}`: {data['model']}. "
        f"Defaults: {data['defaults']}.",
        *data["intro"],
        "What was tried before and left out is in [experiments](experiments/README.md). "
        "How the measures are defined is in [reference/evaluation.md](reference/evaluation.md).",
        summary(data),
        "![The astronaut of examples/ under examples/speech.wav, every fifth frame](images/astronaut.jpg)",
        "The first command of the README, every fifth frame.",
    ]
    for entry in data["tables"]:
        digits = [0, *entry["digits"]]
        rows = [[cell(value, digits[i]) for i, value in enumerate(row)] for row in entry["rows"]]
        parts += [f"## {entry['title']}", f"{entry['n'][0].upper()}{entry['n'][1:]}. {entry['how']}"]
        if entry["command"]:
            parts.append(f"Command: `{entry['command']}`")
        parts.append(table(entry["columns"], rows, numbers=True))
        if entry["says"]:
            parts.append(entry["says"])
    parts.append("## Measured with earlier weights")
    parts += [f"**{line['title']}.** {line['text']}" for line in data["older"]]
    return "\n\n".join(parts) + "\n"


def readme(text: str, data: dict[str, Any]) -> str:
    """Return README with its table replaced."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{summary(data)}\n\n{END}{rest.split(END)[1]}"


def out_of_date() -> list[str]:
    """Name the files that differ from what results.json says."""
    data = json.loads(DATA.read_text(encoding="utf-8"))
    wanted = {PAGE: page(data), README: readme(README.read_text(encoding="utf-8"), data)}
    return [path.name for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]


def main() -> None:
    """Write or compare."""
    if "--check" in sys.argv:
        stale = out_of_date()
        sys.exit(f"{' and '.join(stale)}: run scripts/results_page.py" if stale else 0)
    data = json.loads(DATA.read_text(encoding="utf-8"))
    PAGE.write_text(page(data), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8"), data), encoding="utf-8")


if __name__ == "__main__":
    main()
