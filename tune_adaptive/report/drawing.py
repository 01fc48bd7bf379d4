"""What every figure of a report has in common: colours, canvas, legend, the SVG it becomes."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.analysis.stats import Mean
from tune_adaptive.records.metric import Metric
from tune_adaptive.records.runs import file_name

# Okabe and Ito's colours, distinguishable for readers who cannot tell red from green.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True, slots=True)
class Figure:
    """One drawn figure.

    Attributes:
        name: Its file's stem.
        task: The task it is about; empty for one over all tasks.
        section: Where in the report it belongs.
        title: A heading.
        alt: What it shows, in words.
        svg: The drawing, an ``<svg>`` element.
    """

    name: str
    task: str
    section: str
    title: str
    alt: str
    svg: str


def drawn(figures: Iterable[Figure], section: str, task: str = "") -> list[Figure]:
    """Return the figures of one section, of one task or over all."""
    return [each for each in figures if (each.section, each.task) == (section, task)]


@dataclass(frozen=True, slots=True)
class Style:
    """How a schedule looks in every figure."""

    colour: str
    line: str
    marker: str


def draw_mean(
    axes: Axes,
    x: float,
    mean: Mean,
    metric: Metric,
    style: Style,
    hollow: bool,
    label: str | None,
) -> None:
    """Draw a mean, with its interval where more than two runs give one."""
    scale = metric.scale
    low = mean.mean if mean.low is None else mean.low
    high = mean.mean if mean.high is None else mean.high
    axes.errorbar(
        x,
        scale * mean.mean,
        yerr=[[scale * (mean.mean - low)], [scale * (high - mean.mean)]] if mean.n > 2 else None,
        color=style.colour,
        marker=style.marker,
        markerfacecolor="white" if hollow else style.colour,
        linestyle="",
        label=label,
    )


def looks(analysis: Analysis) -> Iterator[Style]:
    """Yield each schedule's look, in the plan's order."""
    for index in range(len(analysis.plan.schedules)):
        turn = index // len(COLOURS)
        yield Style(
            COLOURS[index % len(COLOURS)],
            LINES[(index + turn) % len(LINES)],
            MARKERS[(index + turn) % len(MARKERS)],
        )


@contextmanager
def blank(rows: int = 1, columns: int = 1, height: float = 3.6) -> Iterator[tuple[Canvas, Any]]:
    """Give an empty canvas and its axes, drawn alike whatever style this machine has."""
    # Text stays text: smaller, searchable, and read aloud.
    # The defaults first: a matplotlibrc where one happens to stand is not ours, and could ask
    # for LaTeX.
    own = {"svg.hashsalt": "tune_adaptive", "font.size": 9, "svg.fonttype": "none"}
    own["text.parse_math"] = False  # a name with dollars in it is a name
    with matplotlib.style.context(["default", own]):
        canvas = Canvas(figsize=(7.0, height), layout="constrained")  # no pyplot: a notebook's
        yield canvas, canvas.subplots(rows, columns, squeeze=rows * columns == 1)  # is not ours


def finished(
    canvas: Canvas, drawn: list[Axes], task: str, kind: str, section: str, title: str, alt: str
) -> Figure:
    """Put grid and legend to what was drawn; return it as SVG."""
    for axes in drawn:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = drawn[0].get_legend_handles_labels()
    if handles:  # below the axes: as many schedules as there are would cover what is drawn
        canvas.legend(
            handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=7
        )
    svg = io.StringIO()
    canvas.savefig(svg, format="svg", metadata={"Date": None})
    drawing = svg.getvalue()
    return Figure(
        name=f"{file_name(task)}-{kind}" if task else kind,
        task=task,
        section=section,
        title=title,
        alt=alt,
        svg=drawing[drawing.index("<svg") :],
    )
