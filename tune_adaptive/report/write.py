"""Render one experiment: the same text as HTML and Markdown, and the verdict for machines."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tune_adaptive.analysis.across import claim
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.analysis.stats import Mean
from tune_adaptive.analysis.tables import tables
from tune_adaptive.analysis.targets import RATIOS
from tune_adaptive.errors import last_line
from tune_adaptive.records.codec import without_nan
from tune_adaptive.report.drawing import Figure
from tune_adaptive.report.figures import draw_figures
from tune_adaptive.system.files import make_inside, write_whole

VERDICT_VERSION = 3


def write_report(analysis: Analysis) -> list[Path]:
    """Write everything that is made of the ledger into the experiment's folder.

    Returns:
        The paths of the report, the Markdown and the verdict.
    """
    folder = analysis.folder
    for name, table in tables(analysis.history).items():
        write_whole(folder / f"{name}.parquet", table.to_parquet(index=False))
    figures = draw_figures(analysis)
    drawings = make_inside(folder, "figures")
    for figure in figures:
        write_whole(drawings / f"{figure.name}.svg", figure.svg)
    verdict = folder / "verdict.json"
    document = json.dumps(without_nan(verdict_document(analysis)), indent=2, allow_nan=False)
    write_whole(verdict, f"{document}\n")
    paths = []
    for name in ("report.html", "report.md"):
        path = folder / name
        write_whole(path, _render_report(name, analysis, figures))
        paths.append(path)
    return [*paths, verdict]


def verdict_document(analysis: Analysis) -> dict[str, Any]:
    """Return what ``verdict.json`` holds; its form is ``verdict.schema.json``."""
    return {
        "version": VERDICT_VERSION,
        "experiment": analysis.plan.name,
        "studied": analysis.plan.studied,
        "plan_sha256": analysis.history.plan_sha256,
        "exploratory": analysis.history.exploratory,
        "timing_void": analysis.timing_void,
        "audit": [asdict(check) for check in analysis.checks],
        "tasks": {
            verdict.task: asdict(verdict)
            | {
                "target_val_error": analysis.target_error(verdict.task),
                "comparisons": [asdict(each) for each in analysis.comparisons[verdict.task]],
                "slowed_comparisons": [
                    asdict(each) for each in analysis.slowed_comparisons[verdict.task]
                ],
                "untuned_comparisons": [
                    asdict(each) for each in analysis.untuned_comparisons[verdict.task]
                ],
                "times_saved": [asdict(each) for each in analysis.times_saved[verdict.task]],
                "runs_needed": [asdict(each) for each in analysis.runs_needed[verdict.task]],
                "arms": [asdict(arm) for arm in analysis.arms if arm.task == verdict.task],
                "ablations": [asdict(a) for a in analysis.ablations if a.task == verdict.task],
            }
            for verdict in analysis.verdicts.values()
        },
        "across_tasks": [asdict(each) for each in analysis.across],
    }


def render(name: str, **context: Any) -> str:
    """Render a template; everything put into an HTML page is escaped."""
    environment = Environment(
        loader=PackageLoader("tune_adaptive.report"),
        autoescape=name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": _with_interval(100.0, 2),
        "whole_percent": _with_interval(100.0, 0),
        "number": _with_interval(1.0, 2),
        "points": _with_interval(100.0, 2, "+"),
        "signed": _with_interval(1.0, 1, "+"),
        "pvalue": lambda p: "not measured" if p is None else f"{p:.4f}",
        "last_line": last_line,
        "prose": _prose,
        "cell": lambda text: _prose(text).replace("|", "\\|"),
    }
    return environment.get_template(f"{name}.j2").render(**context)


def _render_report(name: str, analysis: Analysis, figures: list[Figure]) -> str:
    def drawn(section: str, task: str = "") -> list[Figure]:
        return [f for f in figures if (f.section, f.task) == (section, task)]

    return render(
        name,
        title=analysis.plan.name,
        analysis=analysis,
        plan=analysis.plan,
        history=analysis.history,
        drawn=drawn,
        studied=analysis.plan.studied,
        ratios=RATIOS,
        claim=claim([task.name for task in analysis.plan.tasks], analysis.usable_tasks),
        void=analysis.timing_void,
        failures=[run for run in analysis.runs if run.status in ("failed", "diverged", "lost")],
        counts=Counter((run.spec.stage, run.status) for run in analysis.runs),
        statuses=("completed", "stopped", "diverged", "failed", "lost"),
        marks={True: "holds", False: "broken", None: "cannot be said"},
    )


def _prose(text: object) -> str:
    """Keep a stranger's text from being markup in Markdown: no HTML, no links, no images."""
    text = str(text).replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return text.replace("](", "]\\(")


def _with_interval(
    scale: float, digits: int, sign: str = ""
) -> Callable[[Mean | float | None], str]:
    """Return a filter that shows a number, or a mean with its interval and n."""

    def shown(value: Mean | float | None) -> str:
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

    return shown
