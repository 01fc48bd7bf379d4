"""What tuning costs: accuracy against all epochs spent, the search included.

Witnesses are full runs drawn beforehand, so the best of k of them is what a random search of
k runs gives, without bias (Dodge et al., "Show Your Work", EMNLP 2019). All accuracies here
are of the validation split: the search never sees another. A witness is counted with the
luck of its own seed, the defaults by their mean over fresh seeds: the comparison leans
towards tuning.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tune_adaptive.analysis.history import History
from tune_adaptive.analysis.stats import ALPHA, STUDIED, Mean, mean_interval

NUM_RESAMPLES = 2000
MIN_WITNESSES = 3


@dataclass(frozen=True, slots=True)
class CostCurve:
    """One arm.

    Attributes:
        schedule: Its name.
        epochs: Epochs spent on the best of 1, 2, ... m witnesses.
        accuracy: Expected validation accuracy of that best one.
        low: Its 10% quantile over which k of the m are drawn.
        high: Its 90% quantile.
        witnesses: Validation accuracies of the witnesses.
        untuned: The defaults, on the selection seeds; one run's cost.
        tuned: The selected configuration, on the selection seeds.
        tuned_epochs: What its search and selection cost.
    """

    schedule: str
    epochs: tuple[float, ...]
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    witnesses: tuple[float, ...]
    untuned: Mean | None
    tuned: Mean | None
    tuned_epochs: float


@dataclass(frozen=True, slots=True)
class RunsNeeded:
    """How many tuned runs a baseline needs for what the untuned studied schedule reaches.

    Attributes:
        baseline: Its name.
        runs: Fewest k whose expected best is as good; None: more than there are witnesses.
        low: 2.5% quantile, resampling witnesses and seeds; None as above.
        high: 97.5% quantile; None as above.
        num_witnesses: m, the most that can be told.
        sentence: All this in words.
    """

    baseline: str
    runs: int | None
    low: int | None
    high: int | None
    num_witnesses: int
    sentence: str


def cost_curve(history: History, task: str, schedule: str) -> CostCurve:
    """Return an arm's curve and points."""
    horizon = history.task(task).num_epochs
    chance = 1 / history.task(task).complexity.num_classes
    witnesses = [
        run.last.val_accuracy if run.status == "completed" and run.last is not None else chance
        for run in history.of("search", task, schedule, "witness")
    ]
    selected = history.selected.get((task, schedule))
    default = history.default_trial(task, schedule)
    searched = history.of("search", task, schedule) + history.of("select", task, schedule)
    ks = range(1, len(witnesses) + 1)
    return CostCurve(
        schedule=schedule,
        epochs=tuple(float(k * horizon) for k in ks),
        accuracy=tuple(expected_best(witnesses, k) for k in ks),
        low=tuple(best_quantile(witnesses, k, 0.1) for k in ks),
        high=tuple(best_quantile(witnesses, k, 0.9) for k in ks),
        witnesses=tuple(witnesses),
        untuned=_reruns(history, task, schedule, default.spec.id if default else None),
        tuned=_reruns(history, task, schedule, selected.trial_id if selected else None),
        tuned_epochs=sum(run.epoch_equivalents for run in searched),
    )


def runs_needed(curve: CostCurve, untuned: Sequence[float]) -> RunsNeeded:
    """Return the tuned runs that ``curve``'s schedule needs to reach the mean of ``untuned``.

    Args:
        curve: Of a baseline.
        untuned: Validation accuracies of the studied schedule's defaults, one a seed.
    """
    values, num = np.asarray(curve.witnesses), len(curve.witnesses)
    told = f"{STUDIED} with its defaults reaches what {curve.schedule}"
    if num < MIN_WITNESSES or not untuned:
        why = (
            f"{num} of at least {MIN_WITNESSES} witnesses"
            if untuned
            else "no re-runs of its defaults"
        )
        sentence = f"{told} needs an unknown number of tuned runs to reach: {why}."
        return RunsNeeded(curve.schedule, None, None, None, num, sentence)
    rng = np.random.default_rng(0)
    counts = sorted(
        _fewest(rng.choice(values, num), float(np.mean(rng.choice(untuned, len(untuned)))))
        for _ in range(NUM_RESAMPLES)
    )
    fewest = _fewest(values, float(np.mean(untuned)))
    low = counts[math.floor(ALPHA / 2 * NUM_RESAMPLES)]
    high = counts[math.ceil((1 - ALPHA / 2) * NUM_RESAMPLES) - 1]

    def shown(count: int) -> str:
        return f"more than {num}" if count > num else str(count)

    def known(count: int) -> int | None:
        return None if count > num else count

    sentence = (
        f"{told} needs {shown(fewest)} tuned {'run' if fewest == 1 else 'runs'} to reach "
        f"(95% interval {shown(low)} to {shown(high)}; {num} witnesses, {len(untuned)} seeds)."
    )
    return RunsNeeded(curve.schedule, known(fewest), known(low), known(high), num, sentence)


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


def _fewest(values: np.ndarray, goal: float) -> int:
    """Return the fewest runs whose expected best reaches ``goal``; m + 1 if none does."""
    num = len(values)
    return next((k for k in range(1, num + 1) if expected_best(list(values), k) >= goal), num + 1)


def rerun_accuracies(history: History, task: str, schedule: str, trial_id: str) -> list[float]:
    """Return the validation accuracies of a trial's selection re-runs."""
    return [
        run.last.val_accuracy
        for run in history.of("select", task, schedule)
        if run.spec.id.startswith(f"select-{trial_id}-")
        and run.status == "completed"
        and run.last is not None
    ]


def _reruns(history: History, task: str, schedule: str, trial_id: str | None) -> Mean | None:
    if trial_id is None:
        return None
    found = rerun_accuracies(history, task, schedule, trial_id)
    return mean_interval(found) if found else None
