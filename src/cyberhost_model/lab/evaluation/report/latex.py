"""Write tables as LaTeX for the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from cyberhost_model.lab.evaluation.report.wording import DASH

ARROWS = {"up": r"$\uparrow$", "down": r"$\downarrow$"}
BOLD = r"\textbf{{{}}}"
_ESCAPED = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "−": "$-$",
        DASH: "--",
    }
)


def escape_latex(words: str) -> str:
    """Escape text for LaTeX."""
    return words.translate(_ESCAPED)


def booktabs(head: Sequence[str], groups: Sequence[Sequence[Sequence[str]]], caption: str) -> str:
    """Write a LaTeX `table` whose first column is text; rules stand between groups of rows.

    Cells are LaTeX, the caption is plain text.
    """
    lines = [r"\begin{table}", r"  \centering", rf"  \begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"    \toprule"]
    lines.append(f"    {' & '.join(head)} \\\\")
    for rows in groups:
        lines += [r"    \midrule", *(f"    {' & '.join(row)} \\\\" for row in rows)]
    lines += [r"    \bottomrule", r"  \end{tabular}", rf"  \caption{{{escape_latex(caption)}}}", r"\end{table}"]
    return "\n".join(lines) + "\n"
