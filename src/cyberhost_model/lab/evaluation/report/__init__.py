"""Show what runs measured: summary.md and report.html, comparisons, the table of ablations, a single video."""
