"""What tuning costs: the metric against all epochs spent, the search included.

Random-search controls are full runs drawn at random beforehand, so the best of k of them is what a
random search of k runs gives, without bias (Dodge et al., "Show Your Work", EMNLP 2019). What the
defaults and the selected configurations reach is told by their final runs, on seeds that nobody has
searched or selected on. All metrics here are of the validation split.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from tune_adaptive.analysis.history import History
from tune_adaptive.analysis.stats import ALPHA, Mean, mean_interval
from tune_adaptive.records.metric import ACCURACY, Metric


@dataclass(frozen=True, slots=True)
class CostCurve:
    """One arm.

    Attributes:
        schedule: Its name.
        epochs: Epochs spent on the best of 1, 2, ... m controls.
        metric: Expected validation metric of that best one.
        low: Its 10% quantile over which k of the m are drawn.
        high: Its 90% quantile.
        controls: Validation metrics of the controls; chance where one did not end well.
        untuned: The defaults, on the final seeds; one run's cost.
        tuned: The selected configuration, on the final seeds.
        tuned_epochs: What its search and selection cost.
    """

    schedule: str
    epochs: tuple[float, ...]
    metric: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    controls: tuple[float, ...]
    untuned: Mean | None
    tuned: Mean | None
    tuned_epochs: float


@dataclass(frozen=True, slots=True)
class RunsNeeded:
    """How many tuned runs a baseline needs for what the untuned studied schedule reaches.

    With q the share of the baseline's search space that is at least as good, a random search
    takes 1 / q runs on average.

    Attributes:
        baseline: Its name.
        runs: m / (number of m controls that were as good); None where none was.
        low: Lower end of the interval of 1 / q.
        high: Upper end; None where there is none.
        num_controls: m.
        sentence: All this in words.
    """

    baseline: str
    runs: float | None
    low: float | None
    high: float | None
    num_controls: int
    sentence: str


def cost_curve(history: History, task: str, schedule: str) -> CostCurve:
    """Return an arm's curve and points."""
    horizon = history.task(task).num_epochs
    controls = history.val_metrics(history.of("search", task, schedule, "control"))
    untuned = history.val_metrics(history.default_runs(task, schedule))
    tuned = history.val_metrics(history.final_runs(task, schedule))
    searched = history.of("search", task, schedule) + history.of("select", task, schedule)
    ks = range(1, len(controls) + 1)
    score = history.task(task).metric.score  # its own inverse
    scores = [score(value) for value in controls]
    return CostCurve(
        schedule=schedule,
        epochs=tuple(float(k * horizon) for k in ks),
        metric=tuple(score(expected_best(scores, k)) for k in ks),
        low=tuple(score(best_quantile(scores, k, 0.1)) for k in ks),
        high=tuple(score(best_quantile(scores, k, 0.9)) for k in ks),
        controls=tuple(controls),
        untuned=mean_interval(untuned) if untuned else None,
        tuned=mean_interval(tuned) if tuned else None,
        tuned_epochs=sum(run.epoch_equivalents for run in searched),
    )


def runs_needed(
    curve: CostCurve,
    untuned: Sequence[float],
    studied: str = "ours",
    metric: Metric = ACCURACY,
) -> RunsNeeded:
    """Return the tuned runs that ``curve``'s schedule needs to reach the mean of ``untuned``.

    The interval covers at least 95%: half of the 5% goes to the t interval of that mean, half
    to the exact binomial one of q (Clopper and Pearson, 1934), each taken at its worse end.

    Args:
        curve: Of a baseline.
        untuned: Validation metrics of the studied schedule's defaults, one a seed.
        studied: Its name.
        metric: What they are.
    """
    values, num = [metric.score(value) for value in curve.controls], len(curve.controls)
    told = f"{studied} with its defaults reaches what {curve.schedule}"
    if not num or len(untuned) < 2:
        why = (
            "no random-search controls" if not num else "its defaults were not run on enough seeds"
        )
        sentence = f"{told} needs an unknown number of tuned runs to reach: {why}."
        return RunsNeeded(curve.schedule, None, None, None, num, sentence)
    goal = mean_interval([metric.score(value) for value in untuned], 1 - ALPHA / 2)
    assert goal.low is not None
    assert goal.high is not None
    as_good = _num_as_good(values, goal.mean)
    runs = num / as_good if as_good else None
    low = 1 / _share_interval(_num_as_good(values, goal.low), num)[1]
    least = _share_interval(_num_as_good(values, goal.high), num)[0]
    high = 1 / least if least > 0 else None
    sentence = (
        f"{told} needs {f'more than {num}' if runs is None else f'{runs:.1f}'} tuned runs to "
        f"reach, by random search and on average (at least 95%: {low:.1f} to "
        f"{'any number' if high is None else f'{high:.1f}'}): {as_good} of its {num} random-search "
        f"controls were as good as {metric.shown(metric.score(goal.mean))}, the mean of "
        f"{len(untuned)} seeds."
    )
    return RunsNeeded(curve.schedule, runs, low, high, num, sentence)


def _num_as_good(values: Sequence[float], goal: float) -> int:
    return sum(value >= goal - 1e-12 for value in values)


def _share_interval(count: int, num: int) -> tuple[float, float]:
    """Return the exact interval of a share, at half the error."""
    interval = binomtest(count, num).proportion_ci(1 - ALPHA / 2, method="exact")
    return float(interval.low), float(interval.high)


def expected_best(values: Sequence[float], k: int) -> float:
    """Return the expected largest of ``k`` of ``values``, drawn without replacement.

    E = sum over i of v_(i) C(i - 1, k - 1) / C(m, k), v sorted upwards, i from 1.

    Example:
        >>> expected_best([0.0, 1.0, 2.0], 2)  # of the pairs: 1, 2 and 2
        1.6666666666666667
    """
    total = math.comb(len(values), k)
    return sum(v * math.comb(i, k - 1) for i, v in enumerate(sorted(values))) / total


def best_quantile(values: Sequence[float], k: int, quantile: float) -> float:
    """Return the quantile of the largest of ``k`` of ``values``: P(<= v_(i)) = C(i, k)/C(m, k)."""
    ranked, total = sorted(values), math.comb(len(values), k)
    return next(
        value
        for i, value in enumerate(ranked, start=1)
        if math.comb(i, k) / total >= quantile - 1e-12
    )
