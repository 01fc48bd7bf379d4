"""Over all tasks of an experiment: normalised errors, ranks, profiles. No claim from a few."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tune_adaptive.analysis.history import History
from tune_adaptive.analysis.stats import ALPHA, Mean, mean_interval

NUM_RESAMPLES = 2000
MIN_TASKS = 10
"""Fewest tasks from which anything is claimed in general."""


@dataclass(frozen=True, slots=True)
class AcrossTasks:
    """One schedule over the tasks on which every schedule has final runs.

    Attributes:
        schedule: Its name.
        errors: Test error over the mean error of the task's baseline of record, one a run.
        iqm: Interquartile mean of ``errors`` (Agarwal et al., NeurIPS 2021).
        mean_error: Mean over the tasks of their mean normalised error, with its t interval.
        mean_rank: Mean over the tasks of its rank by mean test error, 1 the best.
    """

    schedule: str
    errors: tuple[float, ...]
    iqm: Mean
    mean_error: Mean
    mean_rank: Mean

    def profile(self, tau: float) -> float:
        """Return the share of its runs whose normalised error is at most ``tau``."""
        return float(np.mean(np.asarray(self.errors) <= tau))


def across_tasks(history: History, tasks: Sequence[str]) -> list[AcrossTasks]:
    """Return every schedule's row; empty with fewer than two tasks to go over.

    A schedule without final runs on a task, because none of its trials ended well, counts there
    as chance.

    Args:
        history: The experiment.
        tasks: Those with a baseline of record on which every schedule was run to an end.
    """
    by_task: list[dict[str, np.ndarray]] = []
    for task in tasks:
        errors = {
            schedule: np.array(
                [
                    error
                    for value in history.test_metrics(history.final_runs(task, schedule)).values()
                    or [history.chance(task)]
                    if (error := history.task(task).metric.error(value)) is not None
                ]
            )
            for schedule in history.plan.schedules
        }
        if not all(map(len, errors.values())):
            continue  # the metric has no best value
        unit = errors[history.baseline_of_record(task) or ""].mean()
        if unit > 0:
            by_task.append({schedule: own / unit for schedule, own in errors.items()})
    if len(by_task) < 2:
        return []
    means = np.array([[own.mean() for own in task.values()] for task in by_task])
    ranks = stats.rankdata(means, axis=1)
    return [
        AcrossTasks(
            schedule=schedule,
            errors=tuple(float(x) for task in by_task for x in task[schedule]),
            iqm=interquartile_mean([task[schedule] for task in by_task]),
            mean_error=mean_interval([float(x) for x in means[:, column]]),
            mean_rank=mean_interval([float(x) for x in ranks[:, column]]),
        )
        for column, schedule in enumerate(history.plan.schedules)
    ]


def interquartile_mean(by_task: Sequence[np.ndarray]) -> Mean:
    """Return the interquartile mean of all runs with its 95% interval, of these tasks.

    IQM -+ t(0.975, sum of n_k - 1) SE, with SE by the stratified bootstrap: runs are drawn anew
    within each task k, their residuals widened by sqrt(n_k / (n_k - 1)). The percentiles of the
    same bootstrap cover 89 to 93% at 6 and 10 runs a task. None where no task has two runs.

    Args:
        by_task: A task's normalised errors, one a run.
    """
    pooled = np.concatenate(by_task)
    iqm, df = float(stats.trim_mean(pooled, 0.25)), len(pooled) - len(by_task)
    if not df:
        return Mean(iqm, None, None, len(pooled))
    rng = np.random.default_rng(0)
    drawn = np.concatenate(
        [
            own.mean()
            + math.sqrt(len(own) / max(1, len(own) - 1))
            * (rng.choice(own, (NUM_RESAMPLES, len(own))) - own.mean())
            for own in by_task
        ],
        axis=1,
    )
    half = stats.t.ppf(1 - ALPHA / 2, df) * stats.trim_mean(drawn, 0.25, axis=1).std(ddof=1)
    return Mean(iqm, iqm - float(half), iqm + float(half), len(pooled))


def claim(planned: Sequence[str], usable: Sequence[str]) -> str:
    """Say what the tasks allow, and which could not be used."""
    left_out = [task for task in planned if task not in usable]
    told = f"{len(usable)} {'task' if len(usable) == 1 else 'tasks'}"
    if left_out:
        told += f" (not every schedule was run to an end on {', '.join(left_out)})"
    if len(usable) < MIN_TASKS:
        return f"{told}: no general claim is made from fewer than {MIN_TASKS}."
    return f"{told}."
