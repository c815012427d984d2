"""Pieces of HTML. Whatever comes from outside is text and passes through `text`."""

from __future__ import annotations

import functools
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from cyberhost_model.lab.evaluation.features.people import COUNT
from cyberhost_model.lab.evaluation.report.overlay import bones
from cyberhost_model.lab.evaluation.results import Results

text = html.escape


def style() -> str:
    """What the pages of an evaluation add to `pages.STYLE`."""
    return Path(__file__).with_name("report.css").read_text(encoding="utf-8")


@functools.cache
def script() -> str:
    """The page's script: players that run together, skeletons over them."""
    constants = json.dumps({"points": COUNT, "lines": bones()}, separators=(",", ":"))
    return f'"use strict";\nconst BONES = {constants};\n' + Path(__file__).with_name("report.js").read_text(
        encoding="utf-8"
    )


def table(
    label: str, head: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = (), look: str = ""
) -> str:
    """A table that scrolls by itself on a narrow screen.

    `head` is text, the cells are HTML, the first of a row its head; `words`: columns that are no numbers.
    """
    kinds = ["" if i == 0 or i in words else ' class="n"' for i in range(len(head))]
    top = "".join(f'<th scope="col"{kind}>{text(name)}</th>' for name, kind in zip(head, kinds, strict=True))
    body = "".join(
        f'<tr><th scope="row">{first}</th>'
        + "".join(f"<td{kind or ' class=wrap'}>{cell}</td>" for cell, kind in zip(others, kinds[1:], strict=True))
        + "</tr>"
        for first, *others in rows
    )
    return (
        f'<div class="scroll {look}" role="region" tabindex="0" aria-label="{text(label)}">'
        f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def section(name: str, title: str, body: str) -> str:
    """A part of the page; nothing for an empty one."""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{text(title)}</h2>{body}</section>'
        if body
        else ""
    )


def contents(sections: Mapping[str, str]) -> str:
    """Links to the parts that are there: name -> title."""
    return (
        '<nav aria-label="Parts of this page"><ul>'
        + "".join(f'<li><a href="#{n}">{text(t)}</a></li>' for n, t in sections.items())
        + "</ul></nav>"
    )


def pairs(values: Mapping[str, str]) -> str:
    """Label -> HTML, as a list."""
    return (
        "<dl>"
        + "".join(f"<dt>{text(label)}</dt><dd>{value}</dd>" for label, value in values.items() if value)
        + "</dl>"
    )


def note(words: str) -> str:
    """A remark; `words` is text."""
    return f'<p class="note">{text(words)}</p>'


def skipped(results: Results) -> str:
    """The measures that could not be had, and why; nothing where there are none."""
    rows = [[text(m.name), text(m.reason)] for m in results.metrics if m.status == "skipped"]
    return table("Measures without a value", ["Measure", "Why"], rows, words=(1,)) if rows else ""


def folded(title: str, body: str) -> str:
    """Shown when it is asked for."""
    return f"<details><summary>{text(title)}</summary>{body}</details>"
