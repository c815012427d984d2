"""Render the pages of an evaluation: the templates with their filters, style and script."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cyberhost_model.lab.evaluation.features.people import KEYPOINTS
from cyberhost_model.lab.evaluation.report.players import skeleton_lines
from cyberhost_model.lab.evaluation.report.weak import format_clock
from cyberhost_model.lab.evaluation.report.wording import (
    format_count,
    format_extras,
    format_interval,
    format_number,
    format_share,
    measure_header,
)
from cyberhost_model.media.html import render_page

_TEMPLATES = Path(__file__).with_name("templates")
_FILTERS: dict[str, Callable[..., str]] = {
    "number": format_number,
    "interval": format_interval,
    "share": format_share,
    "count_noun": format_count,
    "extras": format_extras,
    "header": measure_header,
    "clock": format_clock,
}


def render(template: str, with_players: bool = False, **values: object) -> str:
    """Render a page. with_players: whether it needs the script of players and skeletons."""
    script = _player_script() if with_players else ""
    return render_page(_TEMPLATES / template, [_TEMPLATES / "report.css"], script, _FILTERS, None, **values)


def _player_script() -> str:
    """Return the page's script: players that run together, skeletons over them."""
    constants = json.dumps({"points": KEYPOINTS, "lines": skeleton_lines()}, separators=(",", ":"))
    code = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    return f'"use strict";\nconst BONES = {constants};\n{code}'
