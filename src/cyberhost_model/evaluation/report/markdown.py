"""Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

_ESCAPED = str.maketrans({c: f"\\{c}" for c in "\\|`*_[]<>#"} | {"\n": " ", "\r": " "})


def plain(text: str) -> str:
    """Text that is shown as it is, a file name for example."""
    return text.translate(_ESCAPED)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose first `left` columns are text, the others numbers; cells are Markdown without line breaks."""
    marks = [":---" if i < left else "---:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)) + "\n"
