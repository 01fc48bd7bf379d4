"""Ledger -> estimates, intervals, verdicts. No torch, no ray.

The estimand of a task is the paired mean difference in test accuracy, adaptive minus
the baseline of record: the baseline with the best validation accuracy when selected.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from tune_adaptive import ledger
from tune_adaptive.errors import InputError
from tune_adaptive.plan import Plan, TaskPlan
from tune_adaptive.runs import Configuration, EpochResult, RunSpec
from tune_adaptive.stats import (
    ALPHA,
    MIN_EQUIVALENCE_MARGIN,
    STUDIED,
    Comparison,
    Mean,
    Verdict,
    judge,
    mean_interval,
    sign_flip_p,
)

TARGET_RATIO = 1.10


@dataclass(frozen=True, slots=True)
class ArmResult:
    """The final runs of one selected configuration.

    Attributes:
        task: ``dataset/model``.
        schedule: Name of the schedule.
        configuration: What was selected.
        select_val_accuracy: Its mean validation accuracy over the selection seeds.
        test_accuracy: Over the final seeds; a diverged run counts as chance, 1/K.
        train_loss: Of the last epoch [nats].
        val_loss: Of the last epoch [nats].
        val_accuracy: Of the last epoch.
        train_s: Seconds of training a run, validation left out.
        epochs_to_target: Restricted mean; a miss, diverged and failed runs too, counts as T.
        seconds_to_target: Restricted mean training seconds; a miss counts as T epochs.
        num_hits: Runs that reached the target.
        cpu_percent: 100 is one core.
        rss_bytes: Largest resident memory of the worker process.
        gpu_util: GPU utilisation in [0, 1]; None where not measured.
        gpu_mem_bytes: Largest GPU memory of the process; None where not measured.
        num_completed: Final runs that trained to their end; losses and times are theirs.
        num_diverged: Final runs that diverged.
        num_failed: Final runs that failed or never ended; they have no test accuracy.
        search_epochs: Epoch-equivalents its search spent, as the ledger counts them.
    """

    task: str
    schedule: str
    configuration: Configuration
    select_val_accuracy: float
    test_accuracy: Mean | None
    train_loss: Mean | None
    val_loss: Mean | None
    val_accuracy: Mean | None
    train_s: Mean | None
    epochs_to_target: Mean | None
    seconds_to_target: Mean | None
    num_hits: int
    cpu_percent: Mean | None
    rss_bytes: int | None
    gpu_util: Mean | None
    gpu_mem_bytes: int | None
    num_completed: int
    num_diverged: int
    num_failed: int
    search_epochs: float


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the ledger tells it."""

    spec: RunSpec
    started_at: float
    epochs: tuple[EpochResult, ...]
    status: str  # a Status, or "lost": no end was recorded
    message: str

    @property
    def last(self) -> EpochResult | None:
        """Its last epoch, if it has one."""
        return self.epochs[-1] if self.epochs else None


class Analysis:
    """Everything that is read off one experiment.

    Args:
        folder: The experiment's folder.

    Raises:
        InputError: It holds no plan or no readable ledger.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan = Plan.read(folder / "plan.toml")
        self.events = ledger.read(folder / "ledger.jsonl")
        self.runs = _runs(self.events)
        self.selected = {
            (event.task, event.configuration.schedule): event
            for event in self.events
            if isinstance(event, ledger.Selected)
        }

    def task(self, name: str) -> TaskPlan:
        """Return the plan of one task."""
        return next(task for task in self.plan.tasks if task.name == name)

    def final_runs(self, task: str, schedule: str) -> list[Run]:
        """Return the final runs of an arm, in the order of their seeds."""
        runs = [
            run
            for run in self.runs
            if run.spec.stage == "final" and run.spec.arm == (task, schedule)
        ]
        return sorted(runs, key=lambda run: run.spec.seed)

    def baseline_of_record(self, task: str) -> str | None:
        """Return the baseline with the best validation accuracy when selected."""
        baselines = {
            schedule: event.val_accuracy
            for (name, schedule), event in self.selected.items()
            if name == task and schedule != STUDIED
        }
        return max(baselines, key=lambda name: baselines[name]) if baselines else None

    def target_error(self, task: str) -> float | None:
        """Return 1.10 e*: e* is the median validation error of the baseline's re-runs."""
        baseline = self.baseline_of_record(task)
        if baseline is None:
            return None
        trial_id = self.selected[task, baseline].trial_id
        errors = [
            1 - run.last.val_accuracy
            for run in self.runs
            if run.spec.id.startswith(f"select-{trial_id}-") and run.last
        ]
        return TARGET_RATIO * float(np.median(errors)) if errors else None

    @cached_property
    def arms(self) -> list[ArmResult]:
        """The final runs of every selected configuration, tasks and schedules in plan order."""
        return [
            self._arm(task.name, schedule)
            for task in self.plan.tasks
            for schedule in self.plan.schedules
            if (task.name, schedule) in self.selected
        ]

    @cached_property
    def comparisons(self) -> dict[str, list[Comparison]]:
        """By task, adaptive compared with every other schedule."""
        return {task.name: self._compare(task.name) for task in self.plan.tasks}

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """By task, in one of four words, how adaptive compares with the baseline of record."""
        return {task.name: self._judge(task.name) for task in self.plan.tasks}

    def _compare(self, task: str) -> list[Comparison]:
        ours = self._test_accuracies(task, STUDIED)
        found = []
        for schedule in self.plan.schedules:
            theirs = self._test_accuracies(task, schedule)
            pairs = tuple(ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs))
            if schedule != STUDIED and pairs:
                found.append((schedule, pairs))
        p_values = [sign_flip_p(pairs) for _, pairs in found]
        measured = [p for p in p_values if p is not None]
        adjusted = iter(multipletests(measured, ALPHA, "holm")[1] if measured else ())
        return [
            Comparison(
                baseline=schedule,
                difference=mean_interval(pairs),
                pairs=pairs,
                p=p,
                p_holm=None if p is None else float(next(adjusted)),
                of_record=schedule == self.baseline_of_record(task),
            )
            for (schedule, pairs), p in zip(found, p_values, strict=True)
        ]

    def _judge(self, task: str) -> Verdict:
        comparisons = self.comparisons[task]
        record = next((each for each in comparisons if each.of_record), None)
        if record is None:
            strongest = self.baseline_of_record(task) or "a baseline"
            sentence = f"{task}: no final runs of {STUDIED} and {strongest} to pair."
            return Verdict(task, None, sentence)
        # One seed SD, of the runs that trained to their end: a diverged one is no noise.
        theirs = [
            run.last.test_accuracy
            for run in self.final_runs(task, record.baseline)
            if run.last is not None and run.last.test_accuracy is not None
        ]
        margin = None
        if len(theirs) > 1:
            margin = max(MIN_EQUIVALENCE_MARGIN, float(np.std(theirs, ddof=1)))
        return judge(task, record, len(comparisons), margin)

    @property
    def busy(self) -> tuple[float, float] | None:
        """Share of the slots' time spent (training, validating) during the search.

        Counted from the first to the last result of the search; None for fewer than two.
        """
        epochs = [e for run in self.runs if run.spec.stage == "search" for e in run.epochs]
        if len(epochs) < 2:
            return None
        begin = min(epoch.ended_at for epoch in epochs)
        end = max(epoch.ended_at for epoch in epochs)
        total = (end - begin) * self.plan.slots
        if total <= 0:
            return None
        trained = validated = 0.0
        for epoch in epochs:  # an epoch trains, then validates, then ends
            trained_until = epoch.ended_at - epoch.eval_s
            validated += epoch.ended_at - max(begin, trained_until)
            trained += max(0.0, trained_until - max(begin, trained_until - epoch.train_s))
        return trained / total, validated / total

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return ``trials``, ``epochs`` and ``runs`` as data frames."""
        rows = [_run_row(run) for run in self.runs]
        epochs = [
            {"run_id": run.spec.id, "task": run.spec.task, "schedule": run.spec.arm[1]}
            | {"stage": run.spec.stage, "seed": run.spec.seed}
            | {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(epoch).items()}
            for run in self.runs
            for epoch in run.epochs
        ]
        runs = pd.DataFrame(rows)
        is_trial = pd.Series([row["stage"] == "search" for row in rows], dtype=bool)
        return {"trials": runs[is_trial], "epochs": pd.DataFrame(epochs), "runs": runs[~is_trial]}

    def _test_accuracies(self, task: str, schedule: str) -> dict[int, float]:
        chance = 1 / self.task(task).complexity.num_classes
        accuracies = {}
        for run in self.final_runs(task, schedule):
            if run.status == "diverged":
                accuracies[run.spec.seed] = chance
            elif run.last is not None and run.last.test_accuracy is not None:
                accuracies[run.spec.seed] = run.last.test_accuracy
        return accuracies

    def _arm(self, task: str, schedule: str) -> ArmResult:
        selected = self.selected[task, schedule]
        runs = self.final_runs(task, schedule)
        completed = [run for run in runs if run.status == "completed"]
        lasts = [run.last for run in completed if run.last is not None]
        epochs = [epoch for run in runs for epoch in run.epochs]
        target = self.target_error(task)
        epoch_s = _run_mean([epoch.train_s for epoch in epochs])
        hits = [] if target is None else [_time_to_target(run, target, epoch_s) for run in runs]
        memory = [epoch.rss_bytes for epoch in epochs if epoch.rss_bytes]
        gpu_memory = [epoch.gpu_mem_bytes for epoch in epochs if epoch.gpu_mem_bytes]
        trials = [
            run.last
            for run in self.runs
            if run.spec.stage == "search" and run.spec.arm == (task, schedule) and run.last
        ]
        return ArmResult(
            task=task,
            schedule=schedule,
            configuration=selected.configuration,
            select_val_accuracy=selected.val_accuracy,
            test_accuracy=_mean(list(self._test_accuracies(task, schedule).values())),
            train_loss=_mean([last.train_loss for last in lasts]),
            val_loss=_mean([last.val_loss for last in lasts]),
            val_accuracy=_mean([last.val_accuracy for last in lasts]),
            train_s=_mean([sum(epoch.train_s for epoch in run.epochs) for run in completed]),
            epochs_to_target=_mean([epochs for epochs, _, _ in hits]),
            seconds_to_target=_mean([seconds for _, seconds, _ in hits]),
            num_hits=sum(hit for _, _, hit in hits),
            cpu_percent=_mean([_run_mean([e.cpu_percent for e in r.epochs]) for r in runs]),
            rss_bytes=max(memory, default=None),
            gpu_util=_mean([_run_mean([e.gpu_util for e in r.epochs]) for r in runs]),
            gpu_mem_bytes=max(gpu_memory, default=None),
            num_completed=len(completed),
            num_diverged=sum(run.status == "diverged" for run in runs),
            num_failed=sum(run.status in ("failed", "lost") for run in runs),
            search_epochs=sum(trial.epoch_equivalents for trial in trials),
        )


def _mean(values: Sequence[float | None]) -> Mean | None:
    measured = [value for value in values if value is not None]
    return mean_interval(measured) if measured else None


def _run_mean(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return float(np.mean(measured)) if measured else None


def _time_to_target(
    run: Run, target_error: float, epoch_s: float | None
) -> tuple[float, float | None, bool]:
    """Return (epochs, training seconds, hit); a hit is confirmed by the next evaluation.

    A hit at the last epoch needs no confirmation. A miss, for whatever reason, is censored
    at T: it counts T epochs of ``epoch_s`` seconds, the arm's mean.
    """
    good = [1 - epoch.val_accuracy <= target_error for epoch in run.epochs]
    if run.status != "completed":
        good.append(False)  # what never came cannot confirm
    for index, is_good in enumerate(good[: len(run.epochs)]):
        if is_good and all(good[index + 1 : index + 2]):
            return index + 1, sum(epoch.train_s for epoch in run.epochs[: index + 1]), True
    whole_s = None if epoch_s is None else run.spec.num_epochs * epoch_s
    return run.spec.num_epochs, whole_s, False


def _run_row(run: Run) -> dict[str, Any]:
    last = run.last
    return {
        "run_id": run.spec.id,
        "stage": run.spec.stage,
        "task": run.spec.task,
        "schedule": run.spec.configuration.schedule,
        "seed": run.spec.seed,
        "status": run.status,
        "message": run.message,
        "started_at": run.started_at,
        "num_epochs": len(run.epochs),
        "epoch_equivalents": last.epoch_equivalents if last else 0.0,
        "train_s": sum(epoch.train_s for epoch in run.epochs),
        "train_loss": last.train_loss if last else None,
        "val_loss": last.val_loss if last else None,
        "val_accuracy": last.val_accuracy if last else None,
        "test_loss": last.test_loss if last else None,
        "test_accuracy": last.test_accuracy if last else None,
        **run.spec.configuration.values(),
    }


def _runs(events: Sequence[ledger.Event]) -> list[Run]:
    started: dict[str, ledger.RunStarted] = {}
    epochs: dict[str, list[EpochResult]] = {}
    ended: dict[str, ledger.RunEnded] = {}
    for event in events:
        if isinstance(event, ledger.RunStarted):
            if event.run.id in started:
                raise InputError(f"the ledger starts run {event.run.id} twice")
            started[event.run.id] = event
            epochs[event.run.id] = []
        elif isinstance(event, ledger.EpochDone):
            epochs[event.run_id].append(event.result)
        elif isinstance(event, ledger.RunEnded):
            ended[event.run_id] = event
    return [
        Run(
            spec=start.run,
            started_at=start.at,
            epochs=tuple(epochs[run_id]),
            status=ended[run_id].status if run_id in ended else "lost",
            message=ended[run_id].message if run_id in ended else "",
        )
        for run_id, start in started.items()
    ]
