"""Analysis -> report.html, report.md, figures, verdict.json, tables; exported configurations."""
