"""The paper's metrics for videos of any method: docs/reference/evaluation.md is the protocol.

pairing.py     folders or a manifest -> which files belong together, and every mismatch
frames.py      video file -> frames, through ffmpeg
extractor.py   what reads frames: one pass feeds them all
cache.py       features on disk, under the content of the video and the extractor's digest
metric.py      what a metric is: features -> values; `Context`, from which it gets its weights
registry.py    which module makes which measure: `build(context) -> VideoMetric | SetMetric`
run.py         all of it in a row -> `Evaluation` (evaluation.py), with `Results` (results.py)
people/        metrics of faces, lips, hands and bodies, and their networks
report/        `write_report(evaluation, folder) -> list[Path]` (summary.md, report.html);
               `compare_reports(folders, seed) -> Comparison`, `comparison_text(comparison) -> str`,
               `write_comparison(comparison, folder) -> list[Path]`
"""
