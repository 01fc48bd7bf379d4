"""Render one experiment: the same text as HTML and Markdown, and the verdict for machines."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.analysis.tables import tables
from tune_adaptive.records.codec import without_nan
from tune_adaptive.report.blocks import render
from tune_adaptive.report.experiment import experiment_blocks
from tune_adaptive.report.figures import draw_figures
from tune_adaptive.system.files import make_inside, write_whole

VERDICT_VERSION = 4


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
    for form in ("html", "md"):
        path = folder / f"report.{form}"
        blocks = experiment_blocks(analysis, figures)
        write_whole(path, render(form, analysis.plan.name, blocks))
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
                "metric": asdict(analysis.history.task(verdict.task).metric),
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
