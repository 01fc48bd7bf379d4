"""The report's figures: drawn once, as SVG, each with its text alternative."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.ticker import MaxNLocator

from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.analysis.history import Run
from tune_adaptive.analysis.importance import importances
from tune_adaptive.analysis.stats import Mean
from tune_adaptive.records.metric import Metric
from tune_adaptive.records.runs import RECIPE_NAMES, EpochResult
from tune_adaptive.records.spaces import Parameter
from tune_adaptive.report.drawing import Figure, blank, draw_mean, finished, looks


def draw_figures(analysis: Analysis) -> list[Figure]:
    """Draw everything the report shows."""
    figures: list[Figure] = []
    for task in analysis.plan.tasks:
        for draw in (
            _tuning_cost,
            _differences,
            _time_to_target,
            _learning_curves,
            _importance,
            _slices,
            _parallel_coordinates,
        ):
            figures += draw(analysis, task.name)
    return [*figures, *_profile(analysis)]


def _tuning_cost(analysis: Analysis, task: str) -> Iterator[Figure]:
    metric = analysis.history.task(task).metric
    with blank() as (canvas, axes):
        described = []
        for curve, style in zip(analysis.cost_curves[task], looks(analysis), strict=True):
            if curve.epochs:
                axes.plot(
                    curve.epochs,
                    _scaled(curve.metric, metric),
                    color=style.colour,
                    linestyle=style.line,
                    label=curve.schedule,
                )
                axes.fill_between(
                    curve.epochs,
                    _scaled(curve.low, metric),
                    _scaled(curve.high, metric),
                    color=style.colour,
                    alpha=0.12,
                    linewidth=0,
                )
            horizon = analysis.history.task(task).num_epochs
            label = None if curve.epochs else curve.schedule
            for what, x, hollow in (
                (curve.untuned, horizon, True),
                (curve.tuned, curve.tuned_epochs, False),
            ):
                if what is not None:
                    draw_mean(axes, x, what, metric, style, hollow, label)
                    label = None
            described.append(
                f"{curve.schedule} by default {_told(curve.untuned, metric)}, tuned "
                f"{_told(curve.tuned, metric)} after {curve.tuned_epochs:g} epochs"
            )
        axes.set(xlabel="epochs spent, the search included", ylabel=f"validation {metric.label}")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        axes.xaxis.set_minor_formatter(lambda x, _: "")
        alt = (
            f"Validation {metric.name} against epochs spent. Lines: the best of the random-search "
            "controls so far, with their 10% to 90% band. Hollow points: the schedules' defaults, "
            f"one run; solid points: tuned. {'; '.join(described)}."
        )
        yield finished(
            canvas, [axes], task, "tuning-cost", "cost", "What tuning costs, and what it buys", alt
        )


def _differences(analysis: Analysis, task: str) -> Iterator[Figure]:
    comparisons = analysis.comparisons[task]
    if not comparisons:
        return
    with blank(height=1.3 + 0.4 * len(comparisons)) as (canvas, axes):
        described = []
        margin = analysis.verdicts[task].margin
        metric = analysis.history.task(task).metric
        scale = metric.scale
        if margin is not None:
            axes.axvspan(
                -scale * margin, scale * margin, color="#999999", alpha=0.2, label="equivalence"
            )
        for row, each in enumerate(comparisons):
            difference = each.difference
            axes.plot(
                [scale * pair for pair in each.pairs],
                [row] * len(each.pairs),
                "|",
                color="#56B4E9",
                markersize=10,
            )
            if difference.low is not None and difference.high is not None:
                axes.hlines(row, scale * difference.low, scale * difference.high, color="#0072B2")
            axes.plot(scale * difference.mean, row, "o", color="#0072B2")
            described.append(f"{each.baseline} {metric.number(difference.mean, '+')}")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set(
            xlabel=f"{analysis.plan.studied} minus baseline, test {metric.name}"
            f"{metric.in_differences}",
            yticks=range(len(comparisons)),
            yticklabels=[each.baseline for each in comparisons],
            ylim=(len(comparisons) - 0.5, -0.5),
        )
        alt = (
            f"Paired differences in test {metric.name}, {analysis.plan.studied} minus each "
            f"baseline{metric.in_differences}, with 95% intervals and a tick for each seed; the "
            f"shaded band is where they count as equivalent: {'; '.join(described)}."
        )
        yield finished(canvas, [axes], task, "differences", "comparison", "Paired differences", alt)


def _time_to_target(analysis: Analysis, task: str) -> Iterator[Figure]:
    horizon = analysis.history.task(task).num_epochs
    with blank(height=2.8) as (canvas, axes):
        described = []
        for schedule, style in zip(analysis.plan.schedules, looks(analysis), strict=True):
            arm = next((a for a in analysis.arms if (a.task, a.schedule) == (task, schedule)), None)
            if arm is None or "primary" not in arm.to_target:
                continue
            time = arm.to_target["primary"]
            hits = sorted(hit for hit in time.hit_epochs.values() if hit is not None)
            xs = [0, *hits, horizon]
            ys = [0.0, *(100 * (i + 1) / time.num_runs for i in range(len(hits)))]
            axes.step(
                xs,
                [*ys, ys[-1]],
                where="post",
                color=style.colour,
                linestyle=style.line,
                label=schedule,
            )
            described.append(f"{schedule} {time.num_hits} of {time.num_runs}")
        if not described:
            return
        axes.set(xlabel="epoch", ylabel="runs at the target [%]", ylim=(-4, 104))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        alt = (
            "Share of final runs that reached the primary target against epoch; those that had "
            f"by the end: {'; '.join(described)}."
        )
        yield finished(
            canvas, [axes], task, "time-to-target", "comparison", "Time to the target", alt
        )


def _learning_curves(analysis: Analysis, task: str) -> Iterator[Figure]:
    """The validation metric with the realised learning rate beneath, in steps and in seconds."""

    def seconds_at(run: Run) -> Callable[[Sequence[float]], list[float]]:
        steps = [0.0, *(float(epoch.num_steps) for epoch in run.epochs)]
        seconds = np.concatenate([[0.0], np.cumsum([epoch.train_s for epoch in run.epochs])])
        return lambda at: list(np.interp(at, steps, seconds))

    metric = analysis.history.task(task).metric
    with blank(2, 2, height=5.2) as (canvas, grid):
        described = []
        for schedule, style in zip(analysis.plan.schedules, looks(analysis), strict=True):
            curves: list[list[float]] = [[] for _ in range(6)]  # runs parted by NaN: one line
            for run in analysis.history.final_runs(task, schedule):
                if not run.epochs:
                    continue
                ends = [float(epoch.num_steps) for epoch in run.epochs]
                reached = [metric.scale * epoch.val_metric for epoch in run.epochs]
                steps = [float(step) for epoch in run.epochs for step in epoch.lr_steps]
                lrs = [lr for epoch in run.epochs for lr in epoch.lrs]
                if not curves[0]:
                    described.append(
                        f"{schedule} from {lrs[0]:.2g} to {lrs[-1]:.2g}, ends at "
                        f"{reached[-1]:{metric.digits}}"
                    )
                clock = seconds_at(run)
                drawn = (ends, clock(ends), reached, steps, clock(steps), lrs)
                for curve, values in zip(curves, drawn, strict=True):
                    curve += [*values, math.nan]
            look: Any = {"color": style.colour, "linestyle": style.line, "linewidth": 0.9}
            look |= (
                {"alpha": 0.9, "zorder": 3} if schedule == analysis.plan.studied else {"alpha": 0.4}
            )
            for column in (0, 1):
                label = None if column else schedule
                grid[0, column].plot(curves[column], curves[2], label=label, **look)
                grid[1, column].plot(curves[3 + column], curves[5], **look)
        grid[0, 0].set(ylabel=f"validation {metric.label}")
        grid[1, 0].set(ylabel="learning rate", yscale="log", xlabel="optimizer step")
        void = " (void)" if analysis.timing_void else ""
        grid[1, 1].set(yscale="log", xlabel=f"seconds of training{void}")
        alt = (
            f"Validation {metric.name} (above) and learning rate (below) of every final run, "
            f"against optimizer steps (left) and seconds of training (right). First seeds: "
            f"{'; '.join(described)}."
        )
        yield finished(
            canvas, list(grid.flat), task, "learning-curves", "curves", "Learning curves", alt
        )


def _importance(analysis: Analysis, task: str) -> Iterator[Figure]:
    found = {
        schedule: shares
        for schedule in analysis.plan.schedules
        if (shares := importances(analysis.history, task, schedule))
    }
    if not found:
        return
    num_bars = sum(map(len, found.values()))
    with blank(height=1.2 + 0.22 * num_bars) as (canvas, axes):
        labels: list[str] = []
        described = []
        styles = dict(zip(analysis.plan.schedules, looks(analysis), strict=True))
        for schedule, shares in found.items():
            for name, share in shares.items():
                axes.barh(len(labels), share, color=styles[schedule].colour)
                labels.append(f"{schedule}: {name}")
            first = max(shares, key=lambda name: shares[name])
            described.append(f"{schedule} most of all {first} ({shares[first]:.0%})")
        axes.set(
            yticks=range(len(labels)), yticklabels=labels, xlabel="share of importance (PED-ANOVA)"
        )
        axes.invert_yaxis()
        alt = f"Importance of hyperparameters among full-length trials: {'; '.join(described)}."
        yield finished(
            canvas, [axes], task, "importance", "search", "Which hyperparameters mattered", alt
        )


def _trials(analysis: Analysis, task: str, schedule: str) -> list[tuple[Run, EpochResult]]:
    return [
        (run, run.last)
        for run in analysis.history.of("search", task, schedule)
        if run.status == "completed" and run.last is not None
    ]


def _slices(analysis: Analysis, task: str) -> Iterator[Figure]:
    """Full-length trials over each common hyperparameter, and over the studied one's own."""
    spaces, metric = analysis.history.task(task).spaces, analysis.history.task(task).metric
    own = spaces.get(analysis.plan.studied, next(iter(spaces.values()))).parameters
    names = [parameter.name for parameter in own if parameter.type != "categorical"]
    num_rows = math.ceil(len(names) / 3)
    with blank(num_rows, 3, height=0.6 + 1.7 * num_rows) as (canvas, grid):
        flat = list(grid.flat)
        for axes, name in zip(flat, names, strict=False):
            for schedule, style in zip(analysis.plan.schedules, looks(analysis), strict=True):
                if schedule != analysis.plan.studied and name not in RECIPE_NAMES:
                    continue
                points = [
                    (float(values[name]), metric.scale * last.val_metric)
                    for run, last in _trials(analysis, task, schedule)
                    if name in (values := run.spec.configuration.values())
                ]
                if points:
                    x, y = zip(*points, strict=True)
                    axes.plot(
                        x,
                        y,
                        linestyle="",
                        marker=style.marker,
                        markersize=4,
                        color=style.colour,
                        label=schedule if name == "lr" else None,
                    )
            parameter = next(each for each in own if each.name == name)
            axes.set(xlabel=name, xscale="log" if parameter.log else "linear")
            bounds = (parameter.low, parameter.high)
            axes.set_xticks(bounds, [f"{bound:g}" for bound in bounds])
            axes.xaxis.set_minor_formatter(lambda x, _: "")
        for axes in flat[len(names) :]:
            axes.axis("off")
        flat[0].set(ylabel=f"val. {metric.label}")
        alt = (
            f"Validation {metric.name} of full-length trials over each hyperparameter: "
            f"{', '.join(names)}. One marker a trial; parquet tables hold the values."
        )
        yield finished(canvas, flat[: len(names)], task, "slices", "search", "Slices", alt)


def _parallel_coordinates(analysis: Analysis, task: str) -> Iterator[Figure]:
    """Every full-length trial of the studied schedule, one line each."""
    studied = analysis.plan.studied
    if studied not in analysis.plan.schedules:
        return
    trials = _trials(analysis, task, studied)
    space = analysis.history.task(task).spaces[studied]
    if not trials:
        return
    metric = analysis.history.task(task).metric
    values = [last.val_metric for _, last in trials]
    low, high = min(values), max(values)
    with blank(height=3.4) as (canvas, axes):
        for run, last in sorted(trials, key=lambda trial: metric.score(trial[1].val_metric)):
            places = [_place(parameter, run) for parameter in space.parameters]
            end = (last.val_metric - low) / (high - low) if high > low else 0.5
            merit = end if metric.greater_is_better else 1 - end
            shade = mpl.colormaps["viridis"](0.9 * (1 - merit))
            axes.plot([*places, end], color=shade, linewidth=0.6 + 1.4 * merit)
        labels = [*(parameter.name for parameter in space.parameters), f"val. {metric.name}"]
        axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize=7)
        axes.set(yticks=(0, 1), yticklabels=("lowest", "highest"), ylim=(-0.05, 1.05))
        alt = (
            f"Each line is a full-length trial of {studied} through its hyperparameters, each "
            f"between its bounds, to its validation {metric.name} from "
            f"{metric.shown(low)} to {metric.shown(high)}; the darker and thicker, the better. A "
            "gap: the parameter did not apply."
        )
        yield finished(
            canvas,
            [axes],
            task,
            "parallel",
            "search",
            f"Parallel coordinates of {studied}",
            alt,
        )


def _place(parameter: Parameter, run: Run) -> float:
    """Return where a run's value lies between the parameter's bounds, NaN where it has none."""
    value = run.spec.configuration.values().get(parameter.name)
    if value is None:
        return math.nan
    if parameter.type == "categorical":
        if value not in parameter.choices:
            return math.nan
        return parameter.choices.index(value) / max(1, len(parameter.choices) - 1)
    if isinstance(value, str):
        return math.nan
    place = parameter.quantile(float(value))
    return 0.5 if place is None else place


def _profile(analysis: Analysis) -> Iterator[Figure]:
    if not analysis.across:
        return
    with blank(height=3.0) as (canvas, axes):
        errors = [error for each in analysis.across for error in each.errors]
        taus = np.linspace(0.95 * min(errors), 1.05 * max(errors), 200)
        for each, style in zip(analysis.across, looks(analysis), strict=True):
            axes.plot(
                taus,
                [100 * each.profile(tau) for tau in taus],
                color=style.colour,
                linestyle=style.line,
                label=each.schedule,
            )
        axes.set(xlabel="normalised error", ylabel="runs at or below it [%]")
        told = "; ".join(f"{each.schedule} {each.iqm.mean:.3f}" for each in analysis.across)
        alt = (
            "Performance profile: share of final runs over all tasks whose test error, divided "
            f"by that of the task's reference baseline, is at most x. Interquartile means: {told}."
        )
        yield finished(canvas, [axes], "", "profile", "across", "Performance profile", alt)


def _told(mean: Mean | None, metric: Metric) -> str:
    return "not measured" if mean is None else f"{metric.shown(mean.mean)} (n={mean.n})"


def _scaled(values: Sequence[float], metric: Metric) -> list[float]:
    return [metric.scale * value for value in values]
