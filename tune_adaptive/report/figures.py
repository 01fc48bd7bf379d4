"""The report's figures, as SVG for the page and PNG for the Markdown."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from tune_adaptive.analysis import Analysis, Run
from tune_adaptive.stats import STUDIED

# Okabe and Ito's colours, told apart by readers who cannot tell red from green.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
LINES = ("-", "--", "-.", ":")


@dataclass(frozen=True, slots=True)
class Figure:
    """One drawn figure.

    Attributes:
        name: Its file's stem.
        task: The task it is about.
        title: A heading.
        alt: What it shows, in words.
        svg: The drawing, an ``<svg>`` element.
        png: The same, rasterised.
    """

    name: str
    task: str
    title: str
    alt: str
    svg: str
    png: bytes


def draw_figures(analysis: Analysis) -> list[Figure]:
    """Draw the LR traces, learning curves and paired differences of every task."""
    figures = []
    for task in analysis.plan.tasks:
        figures += [
            _lr_traces(analysis, task.name),
            _learning_curves(analysis, task.name),
            *_differences(analysis, task.name),
        ]
    return figures


def _lr_traces(analysis: Analysis, task: str) -> Figure:
    with _canvas() as (canvas, axes):
        described = []
        for schedule, colour, line in _styles(analysis):
            for index, run in enumerate(_with_epochs(analysis, task, schedule)):
                steps = [step for epoch in run.epochs for step in epoch.lr_steps]
                lrs = [lr for epoch in run.epochs for lr in epoch.lrs]
                label = schedule if index == 0 else None
                axes.plot(
                    steps, lrs, label=label, alpha=0.7, linewidth=1, color=colour, linestyle=line
                )
                if index == 0:
                    described.append(f"{schedule} from {lrs[0]:.2g} to {lrs[-1]:.2g}")
        axes.set(xlabel="optimizer step", ylabel="learning rate", yscale="log")
        alt = f"Learning rate against step, one line a final run: {'; '.join(described)}."
        return _finish(canvas, axes, task, "lr-traces", "Learning rates", alt)


def _learning_curves(analysis: Analysis, task: str) -> Figure:
    with _canvas() as (canvas, axes):
        described = []
        for schedule, colour, line in _styles(analysis):
            runs = _with_epochs(analysis, task, schedule)
            if not runs:
                continue
            longest = max(len(run.epochs) for run in runs)
            values = np.full((len(runs), longest), np.nan)
            for row, run in enumerate(runs):
                values[row, : len(run.epochs)] = [100 * e.val_accuracy for e in run.epochs]
            epochs = np.arange(1, longest + 1)
            mean = np.nanmean(values, axis=0)
            axes.plot(
                epochs, mean, label=schedule, marker="o", markersize=3, color=colour, linestyle=line
            )
            axes.fill_between(
                epochs,
                np.nanmin(values, axis=0),
                np.nanmax(values, axis=0),
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
            described.append(f"{schedule} ends at {mean[-1]:.2f}")
        axes.set(xlabel="epoch", ylabel="validation accuracy [%]")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        alt = (
            "Validation accuracy in percent against epoch, mean and range of the final runs: "
            f"{'; '.join(described)}."
        )
        return _finish(canvas, axes, task, "learning-curves", "Learning curves", alt)


def _differences(analysis: Analysis, task: str) -> Iterator[Figure]:
    comparisons = analysis.comparisons[task]
    if not comparisons:
        return
    with _canvas(height=1.2 + 0.5 * len(comparisons)) as (canvas, axes):
        described = []
        margin = analysis.verdicts[task].margin
        if margin is not None:
            axes.axvspan(
                -100 * margin, 100 * margin, color="#999999", alpha=0.2, label="equivalence"
            )
        for row, each in enumerate(comparisons):
            difference = each.difference
            axes.plot(
                [100 * pair for pair in each.pairs],
                [row] * len(each.pairs),
                "|",
                color="#56B4E9",
                markersize=10,
            )
            if difference.low is not None and difference.high is not None:
                axes.hlines(row, 100 * difference.low, 100 * difference.high, color="#0072B2")
            axes.plot(100 * difference.mean, row, "o", color="#0072B2")
            described.append(f"{each.baseline} {100 * difference.mean:+.2f}")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set(
            xlabel=f"{STUDIED} minus baseline, test accuracy [percentage points]",
            yticks=range(len(comparisons)),
            yticklabels=[each.baseline for each in comparisons],
            ylim=(len(comparisons) - 0.5, -0.5),
        )
        alt = (
            f"Paired differences in test accuracy, {STUDIED} minus each baseline, in percentage "
            f"points, with 95% intervals: {'; '.join(described)}."
        )
        yield _finish(canvas, axes, task, "differences", "Paired differences", alt)


def _with_epochs(analysis: Analysis, task: str, schedule: str) -> list[Run]:
    return [run for run in analysis.final_runs(task, schedule) if run.epochs]


def _styles(analysis: Analysis) -> Iterator[tuple[str, str, str]]:
    """Yield each schedule with its colour and line."""
    for index, schedule in enumerate(analysis.plan.schedules):
        colour = COLOURS[index % len(COLOURS)]
        yield schedule, colour, LINES[(index + index // len(COLOURS)) % len(LINES)]


@contextmanager
def _canvas(height: float = 3.6) -> Iterator[tuple[Canvas, Axes]]:
    with matplotlib.rc_context({"svg.hashsalt": "tune_adaptive", "font.size": 9}):
        canvas, axes = plt.subplots(figsize=(7.0, height), layout="constrained")
        try:
            yield canvas, axes
        finally:
            plt.close(canvas)


def _finish(canvas: Canvas, axes: Axes, task: str, kind: str, title: str, alt: str) -> Figure:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="best")
    svg, png = io.StringIO(), io.BytesIO()
    canvas.savefig(svg, format="svg", metadata={"Date": None})
    canvas.savefig(png, format="png", dpi=150)
    drawing = svg.getvalue()
    return Figure(
        name=f"{task.replace('/', '-')}-{kind}",
        task=task,
        title=title,
        alt=alt,
        svg=drawing[drawing.index("<svg") :],
        png=png.getvalue(),
    )
