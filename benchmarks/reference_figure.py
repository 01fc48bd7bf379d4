"""The reference experiments' answer in one figure: adaptive minus what the question names."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.style
from matplotlib.figure import Figure
from reference_tables import ASKED, Experiment, difference, is_found

from tune_adaptive.records.plan import STUDIED

LOOKS: dict[str, dict[str, Any]] = {  # Okabe and Ito's colours
    ASKED[0]: {"color": "#D55E00", "marker": "s"},
    ASKED[1]: {"color": "#0072B2", "marker": "o"},
    "the strongest": {"color": "#000000", "marker": "D"},
}
PANELS = {"comparisons": "tuned", "untuned_comparisons": "untuned"}
SETTINGS = {"svg.hashsalt": "tune_adaptive", "font.size": 9, "svg.fonttype": "none"}


def draw(experiments: Sequence[Experiment]) -> str:
    """Return the figure, an SVG whose description says what it shows.

    A row for each experiment; filled where Holm's test over all baselines of the task finds it.
    """
    with mpl.style.context(["default", SETTINGS]):
        canvas = Figure(figsize=(9.0, 0.6 + 0.42 * len(experiments)), layout="constrained")
        for axes, (what, of) in zip(
            canvas.subplots(1, 2, sharex=True, sharey=True), PANELS.items(), strict=True
        ):
            for row, each in enumerate(experiments):
                for place, told in enumerate(against(each, what)):
                    _interval(axes, row + 0.24 * (place - 1), told, tuple(LOOKS.values())[place])
            axes.axvline(0, color="black", linewidth=0.8)
            axes.set(xlabel=f"{STUDIED}, {of}, minus tuned baseline [points]")
            axes.set(
                yticks=range(len(experiments)), yticklabels=[each.name for each in experiments]
            )
            axes.set(ylim=(len(experiments) - 0.5, -0.5))
            axes.grid(axis="x", alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        handles = [
            axes.plot([], [], linestyle="", label=f"minus {name}", **look)[0]
            for name, look in LOOKS.items()
        ]
        canvas.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
        svg = io.StringIO()
        metadata = {"Date": None, "Description": described(experiments)}
        canvas.savefig(svg, format="svg", metadata=metadata)
    return svg.getvalue()


def against(each: Experiment, what: str) -> list[dict[str, Any]]:
    """Return what is told of the two baselines that were asked for and of the strongest."""
    told = each.by_baseline(what)
    return [dict(told[name]) for name in (*ASKED, each.record)]


def described(experiments: Sequence[Experiment]) -> str:
    """Return the figure in words: what is filled stands between asterisks."""
    lines = []
    for what, of in PANELS.items():
        for each in experiments:
            shown = " | ".join(difference(told, each) for told in against(each, what))
            lines.append(f"{each.name}, {of}: {shown}")
    names = " | ".join(LOOKS)
    return f"{STUDIED} minus {names}, in points of test accuracy. {'; '.join(lines)}."


def _interval(axes: Any, y: float, told: dict[str, Any], look: dict[str, Any]) -> None:
    mean, low, high = (100 * told["difference"][key] for key in ("mean", "low", "high"))
    axes.hlines(y, low, high, color=look["color"], linewidth=1.2)
    face = look["color"] if is_found(told) else "white"
    axes.plot(mean, y, markersize=5, markerfacecolor=face, **look)
