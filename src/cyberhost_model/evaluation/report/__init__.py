"""What a run or several are shown as: summary.md and report.html, comparisons, the table of ablations, the report on a single video."""

from .ablation import ablation_table
from .compare import Comparison, compare_reports
from .compare_show import comparison_section, comparison_text, comparison_values, write_comparison
from .write import write_report

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
