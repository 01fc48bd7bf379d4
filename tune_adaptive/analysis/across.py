"""Over all tasks of an experiment: normalised errors, ranks, profiles. No claim from a few."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from tune_adaptive.analysis.history import History
from tune_adaptive.analysis.stats import Mean, mean_interval

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
        mean_rank: Mean over the tasks of its rank by mean test accuracy, 1 the best.
    """

    schedule: str
    errors: tuple[float, ...]
    iqm: float
    mean_error: Mean
    mean_rank: Mean

    def profile(self, tau: float) -> float:
        """Return the share of its runs whose normalised error is at most ``tau``."""
        return float(np.mean(np.asarray(self.errors) <= tau))


def across_tasks(history: History) -> list[AcrossTasks]:
    """Return every schedule's row; empty with fewer than two tasks to go over."""
    by_task: list[dict[str, np.ndarray]] = []
    for task in history.plan.tasks:
        record = history.baseline_of_record(task.name)
        errors = {
            schedule: 1
            - np.array(
                list(history.test_accuracies(history.final_runs(task.name, schedule)).values())
            )
            for schedule in history.plan.schedules
        }
        if record is None or any(not len(own) for own in errors.values()):
            continue
        unit = errors[record].mean()
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
            iqm=float(stats.trim_mean(np.concatenate([t[schedule] for t in by_task]), 0.25)),
            mean_error=mean_interval([float(x) for x in means[:, column]]),
            mean_rank=mean_interval([float(x) for x in ranks[:, column]]),
        )
        for column, schedule in enumerate(history.plan.schedules)
    ]


def claim(num_tasks: int) -> str:
    """Say what the number of tasks allows."""
    if num_tasks < MIN_TASKS:
        return f"{num_tasks} tasks: no general claim is made from fewer than {MIN_TASKS}."
    return f"{num_tasks} tasks."
