"""Render one experiment: the same text as HTML and Markdown, and the verdict for machines."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tune_adaptive.analysis import TARGET_RATIO, Analysis
from tune_adaptive.errors import last_line
from tune_adaptive.report.figures import Figure, draw_figures
from tune_adaptive.stats import STUDIED, Mean

VERDICT_VERSION = 1


def write_report(analysis: Analysis) -> list[Path]:
    """Write everything that is made of the ledger into the experiment's folder.

    Returns:
        The paths of the report, the Markdown and the verdict.
    """
    folder = analysis.folder
    for name, table in analysis.tables().items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
    figures = draw_figures(analysis)
    (folder / "figures").mkdir(exist_ok=True)
    for figure in figures:
        (folder / "figures" / f"{figure.name}.svg").write_text(figure.svg, encoding="utf-8")
        (folder / "figures" / f"{figure.name}.png").write_bytes(figure.png)
    verdict = folder / "verdict.json"
    verdict.write_text(
        json.dumps(verdict_document(analysis), indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    paths = []
    for name in ("report.html", "report.md"):
        path = folder / name
        path.write_text(_render(name, analysis, figures), encoding="utf-8")
        paths.append(path)
    return [*paths, verdict]


def verdict_document(analysis: Analysis) -> dict[str, Any]:
    """Return what ``verdict.json`` holds."""
    return {
        "version": VERDICT_VERSION,
        "experiment": analysis.plan.name,
        "studied": STUDIED,
        "tasks": {
            verdict.task: asdict(verdict)
            | {
                "target_val_error": analysis.target_error(verdict.task),
                "comparisons": [asdict(each) for each in analysis.comparisons[verdict.task]],
                "arms": [asdict(arm) for arm in analysis.arms if arm.task == verdict.task],
            }
            for verdict in analysis.verdicts.values()
        },
    }


def _render(name: str, analysis: Analysis, figures: list[Figure]) -> str:
    environment = Environment(
        loader=PackageLoader("tune_adaptive.report"),
        autoescape=name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": _percent, "number": _number, "points": _points}
    environment.filters["last_line"] = last_line
    counts: dict[tuple[str, str], int] = {}
    for run in analysis.runs:
        counts[run.spec.stage, run.status] = counts.get((run.spec.stage, run.status), 0) + 1
    return environment.get_template(f"{name}.j2").render(
        analysis=analysis,
        plan=analysis.plan,
        figures=figures,
        verdicts=list(analysis.verdicts.values()),
        comparisons=analysis.comparisons,
        targets={task.name: analysis.target_error(task.name) for task in analysis.plan.tasks},
        target_ratio=TARGET_RATIO,
        failures=[run for run in analysis.runs if run.status in ("failed", "diverged", "lost")],
        counts=counts,
        stages=("search", "select", "final"),
        statuses=("completed", "stopped", "diverged", "failed", "lost"),
    )


def _percent(value: Mean | float | None, digits: int = 2) -> str:
    return _with_interval(value, 100.0, digits)


def _number(value: Mean | float | None, digits: int = 2) -> str:
    return _with_interval(value, 1.0, digits)


def _points(value: Mean) -> str:
    return _with_interval(value, 100.0, 2, sign="+")


def _with_interval(value: Mean | float | None, scale: float, digits: int, sign: str = "") -> str:
    if value is None:
        return "not measured"
    mean = value.mean if isinstance(value, Mean) else value
    text = f"{scale * mean:{sign}.{digits}f}"
    if isinstance(value, Mean):
        if value.low is not None and value.high is not None:
            low, high = scale * value.low, scale * value.high
            text += f" [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
        text += f" n={value.n}"
    return text
