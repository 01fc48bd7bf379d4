"""Analysis -> report.html, report.md, figures, verdict.json and tables."""

from tune_adaptive.report.compare import write_comparison
from tune_adaptive.report.write import write_report

__all__ = ["write_comparison", "write_report"]
