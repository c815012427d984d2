"""Measure videos of any method with the paper's metrics. docs/reference/evaluation.md is the protocol.

registry    which module makes which measures; `register_metric` adds one
metric      the interfaces of metrics
metrics/    one file a metric: features -> values
networks/   the frozen public networks behind them
features/   extractors of features, the pass over the frames that feeds them, and the cache
pairing     folders or a manifest -> which files belong together, and every mismatch
summaries   values of videos and of sets -> one summary a measure
workers     several videos at once, in processes
run         all of it in a row: `evaluate(...)` -> `Evaluation`
speed       first frame and real-time factor of a model
results     the results, and the files they are written to
report/     summary.md and report.html, comparisons, the report on a single video, the table of ablations
"""
