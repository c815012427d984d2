"""`--report`: what can be measured of a video that was just made, and which of its seconds are weak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyberhost_cli import measures
from cyberhost_cli.output import Sink


def report_on(video: Path, out: Path, picture: Path, device: str, overwrite: bool, sink: Sink) -> dict[str, Any]:
    """Write the report and tell what it says. The video stays, whatever happens. Raises CyberHostError."""
    from cyberhost_model.errors import CyberHostError
    from cyberhost_model.lab.evaluation.report.single import report_video
    from cyberhost_model.lab.evaluation.results import summary_values

    try:
        with sink.progress("measuring", None) as tick:
            made = report_video(video, out, picture=picture, device=device, overwrite=overwrite, command=measures.command(), progress=tick)
    except CyberHostError as error:
        raise type(error)(f"{video}: the video is made, its report is not: {error}") from error
    results = made.evaluation.results
    sink.note(measures.table(results))
    sink.note(f"{made.page}: report written; weak seconds: {len(made.weak) or 'none'}")
    for line in made.lines:
        sink.note(f"  {line}")
    return {"page": str(made.page), "weak": made.values, "metrics": summary_values(results)["metrics"]}
