"""What a run or several are shown as: summary.md and report.html, comparisons, the table of ablations, the report on a
single video.
"""

from cyberhost_model.lab.evaluation.report.ablation import ablation_table
from cyberhost_model.lab.evaluation.report.compare import Comparison, compare_reports
from cyberhost_model.lab.evaluation.report.compare_show import (
    comparison_section,
    comparison_text,
    comparison_values,
    write_comparison,
)
from cyberhost_model.lab.evaluation.report.write import write_report

__all__ = [
    "Comparison",
    "ablation_table",
    "compare_reports",
    "comparison_section",
    "comparison_text",
    "comparison_values",
    "write_comparison",
    "write_report",
]
