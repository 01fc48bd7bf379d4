"""How long until a run is good enough: targets, hits and restricted means.

e* is the median validation error over the selection re-runs of the baseline of record. A
hit is confirmed by the next evaluation. Misses, diverged and failed runs are censored at T:
the mean of what is left is the restricted mean time (Royston and Parmar, 2013). Hits are whole
epochs: where all fall in one, their spread is unknown rather than zero, and no interval is given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tune_adaptive.analysis.history import History, Run
from tune_adaptive.analysis.stats import Mean, mean_interval, ratio_interval
from tune_adaptive.records.metric import Metric

RATIOS = {"easy": 1.5, "primary": 1.1, "hard": 1.0}
"""Targets, as multiples of e*."""


@dataclass(frozen=True, slots=True)
class TimeToTarget:
    """Of an arm's final runs.

    Attributes:
        epochs: Restricted mean; a miss counts as T.
        seconds: Restricted mean training seconds; a miss counts as T epochs.
        num_hits: Runs that reached the target.
        num_runs: All of them.
        hit_epochs: By seed, epochs to the target, None for a miss.
    """

    epochs: Mean
    seconds: Mean | None
    num_hits: int
    num_runs: int
    hit_epochs: Mapping[int, int | None]


@dataclass(frozen=True, slots=True)
class TimeSaved:
    """The studied schedule's time to the primary target beside a baseline's, paired by seed.

    Attributes:
        baseline: The other schedule.
        difference: Studied minus baseline, in epochs.
        ratio: Studied over baseline.
    """

    baseline: str
    difference: Mean
    ratio: Mean | None


def best_error(history: History, task: str) -> float | None:
    """Return e*; None where no baseline was selected, or no metric is perfect."""
    record = history.baseline_of_record(task)
    if record is None:
        return None
    trial_id = history.selected[task, record].trial_id
    metric = history.task(task).metric
    errors = [
        error
        for run in history.of("select", task, record)
        if run.spec.id.startswith(f"select-{trial_id}-") and run.last
        if (error := metric.error(run.last.val_metric)) is not None
    ]
    return float(np.median(errors)) if errors else None


def time_to_target(runs: Sequence[Run], target_error: float, metric: Metric) -> TimeToTarget | None:
    """Return how long an arm's runs took to ``target_error``; None without runs."""
    if not runs:
        return None
    train_s = [epoch.train_s for run in runs for epoch in run.epochs]
    epoch_s = float(np.mean(train_s)) if train_s else None
    epochs, seconds = [], []
    hits: dict[int, int | None] = {}
    for run in runs:
        hit = _hit(run, target_error, metric)
        hits[run.spec.seed] = hit
        epochs.append(float(run.spec.num_epochs if hit is None else hit))
        if hit is not None:
            seconds.append(sum(epoch.train_s for epoch in run.epochs if epoch.epoch <= hit))
        elif epoch_s is not None:
            seconds.append(run.spec.num_epochs * epoch_s)
    return TimeToTarget(
        epochs=_interval(epochs),
        seconds=_interval(seconds) if len(seconds) == len(runs) else None,
        num_hits=sum(hit is not None for hit in hits.values()),
        num_runs=len(runs),
        hit_epochs=hits,
    )


def time_saved(
    baseline: str, ours: TimeToTarget, theirs: TimeToTarget, horizon: int
) -> TimeSaved | None:
    """Return the effect on the restricted mean time; None without a common seed."""
    seeds = sorted(ours.hit_epochs.keys() & theirs.hit_epochs.keys())
    if not seeds:
        return None
    a, b = ([float(each.hit_epochs[seed] or horizon) for seed in seeds] for each in (ours, theirs))
    difference = _interval([x - y for x, y in zip(a, b, strict=True)])
    ratio = ratio_interval(a, b)
    if ratio is not None and difference.low is None:
        ratio = replace(ratio, low=None, high=None)
    return TimeSaved(baseline, difference, ratio)


def stable_epoch(val_losses: Sequence[float]) -> int | None:
    """Return the first epoch (from 1) from which the smoothed loss stays within 2% of its minimum.

    Smoothed by an exponential moving average, s = 0.6 s + 0.4 x. None: it rises above at the end.

    Example:
        >>> stable_epoch([1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
        8
    """
    smoothed: list[float] = []
    for loss in val_losses:
        smoothed.append(0.6 * smoothed[-1] + 0.4 * loss if smoothed else loss)
    if not smoothed:
        return None
    limit = 1.02 * min(smoothed)
    above = [index for index, value in enumerate(smoothed) if not value <= limit]
    first = above[-1] + 2 if above else 1
    return first if first <= len(smoothed) else None


def _interval(values: Sequence[float]) -> Mean:
    found = mean_interval(values)
    return replace(found, low=None, high=None) if len(set(values)) == 1 else found


def _hit(run: Run, target_error: float, metric: Metric) -> int | None:
    """Return the epoch of the first confirmed hit; one at the last epoch needs no confirmation."""
    if run.status != "completed":
        return None
    good = {
        epoch.epoch: (error := metric.error(epoch.val_metric)) is not None and error <= target_error
        for epoch in run.epochs
    }
    for number, is_good in good.items():
        if is_good and (number == max(good) or good.get(number + 1, False)):
            return number
    return None
