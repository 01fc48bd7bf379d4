"""Ledger -> estimates, intervals, verdicts. No torch, no ray.

The estimand of a task is the paired mean difference in the test metric, the studied schedule minus
the baseline of record: the one with the best validation metric when selected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tune_adaptive.analysis.across import AcrossTasks, across_tasks
from tune_adaptive.analysis.audit import MAX_DRIFT, audit, breaches, canary_drift
from tune_adaptive.analysis.check import Check
from tune_adaptive.analysis.history import History, Run
from tune_adaptive.analysis.stats import (
    Comparison,
    Mean,
    Verdict,
    compare,
    equivalence_margin,
    judge,
    mean_interval,
    unstudied,
)
from tune_adaptive.analysis.targets import (
    RATIOS,
    TimeSaved,
    TimeToTarget,
    best_error,
    stable_epoch,
    time_saved,
    time_to_target,
)
from tune_adaptive.analysis.tuning_cost import (
    CostCurve,
    RunsNeeded,
    cost_curve,
    runs_needed,
)
from tune_adaptive.records.runs import Configuration, Stage


@dataclass(frozen=True, slots=True)
class ArmResult:
    """The final runs of one selected configuration.

    Attributes:
        task: ``dataset/model``.
        schedule: Name of the schedule.
        configuration: What was selected.
        select_val_metric: Its mean validation metric over the selection seeds.
        test_metric: Over the final seeds; a diverged run counts as chance.
        untuned_test_metric: The same of the schedule's defaults.
        train_loss: Of the last epoch [nats].
        val_loss: Of the last epoch [nats].
        val_metric: Of the last epoch.
        stable_epoch: First epoch after which the smoothed validation loss stays within 2% of
            its minimum; over the runs that became stable, ``n`` of them.
        train_s: Seconds of training a run, validation left out.
        eval_s: Seconds of validation a run.
        to_target: By name of the target; see ``targets``.
        cpu_percent: 100 is one core.
        rss_bytes: Largest resident memory of the worker process.
        gpu_util: GPU utilisation in [0, 1]; None where not measured.
        gpu_mem_bytes: Largest GPU memory of the process; None where not measured.
        num_completed: Final runs that trained to their end; losses and times are theirs.
        num_diverged: Final runs that diverged.
        num_failed: Final runs that failed or never ended; they have no test metric.
        search_epochs: Epoch-equivalents its search spent, as the ledger counts them.
    """

    task: str
    schedule: str
    configuration: Configuration
    select_val_metric: float
    test_metric: Mean | None
    untuned_test_metric: Mean | None
    train_loss: Mean | None
    val_loss: Mean | None
    val_metric: Mean | None
    stable_epoch: Mean | None
    train_s: Mean | None
    eval_s: Mean | None
    to_target: Mapping[str, TimeToTarget]
    cpu_percent: Mean | None
    rss_bytes: int | None
    gpu_util: Mean | None
    gpu_mem_bytes: int | None
    num_completed: int
    num_diverged: int
    num_failed: int
    search_epochs: float


@dataclass(frozen=True, slots=True)
class Ablation:
    """What is left of a selected configuration without one of its parts, on the same seeds.

    Attributes:
        task: ``dataset/model``.
        schedule: Whose part it is.
        name: What was taken away.
        slowed: Whether under the injected slowdown.
        metric: Test metric without it.
        worth: How much better the test metric is with it, paired by seed.
    """

    task: str
    schedule: str
    name: str
    slowed: bool
    metric: Mean
    worth: Mean | None


class Analysis:
    """Everything that is concluded from one experiment.

    Args:
        folder: The experiment's folder.

    Raises:
        InputError: It holds no plan or no readable ledger.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history = History(folder)
        self.plan = self.history.plan
        self.runs = self.history.runs
        self.events = self.history.events

    @cached_property
    def checks(self) -> list[Check]:
        """The audit."""
        return audit(self.history)

    @property
    def breaches(self) -> list[Check]:
        """The rules that were broken and touch the metrics."""
        return list(breaches(self.checks))

    @cached_property
    def timing_void(self) -> str | None:
        """Why no seconds may be compared; None if they may."""
        drift = canary_drift(self.history)
        if drift is not None and drift > MAX_DRIFT:
            return f"the machine's speed drifted by {drift:.1%}"
        failed = [check for check in self.checks if check.timing_only and check.ok is False]
        return failed[0].finding if failed else None

    def target_error(self, task: str, target: str = "primary") -> float | None:
        """Return the validation error of a target."""
        error = best_error(self.history, task)
        return None if error is None else RATIOS[target] * error

    @cached_property
    def arms(self) -> list[ArmResult]:
        """The final runs of every selected configuration, tasks and schedules in plan order."""
        return [self._arm(*arm) for arm in self.plan.arms if arm in self.history.selected]

    @cached_property
    def comparisons(self) -> dict[str, list[Comparison]]:
        """By task, the studied schedule compared with every other."""
        return {task.name: self._compare(task.name, "final") for task in self.plan.tasks}

    @cached_property
    def slowed_comparisons(self) -> dict[str, list[Comparison]]:
        """The same under the injected slowdown; empty lists where there was none."""
        return {task.name: self._compare(task.name, "contention") for task in self.plan.tasks}

    @cached_property
    def untuned_comparisons(self) -> dict[str, list[Comparison]]:
        """By task, the studied defaults compared with every other schedule after its search."""
        return {
            task.name: self._compare(
                task.name, "final", self.history.default_runs(task.name, self.plan.studied)
            )
            for task in self.plan.tasks
        }

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """By task, in one of four words, how the studied schedule compares."""
        return {task.name: self._judge(task.name) for task in self.plan.tasks}

    @cached_property
    def times_saved(self) -> dict[str, list[TimeSaved]]:
        """By task, the studied schedule's time to the primary target beside every baseline's."""
        found: dict[str, list[TimeSaved]] = {task.name: [] for task in self.plan.tasks}
        times = {(arm.task, arm.schedule): arm.to_target.get("primary") for arm in self.arms}
        for task, schedule in self.plan.arms:
            ours, theirs = times.get((task, self.plan.studied)), times.get((task, schedule))
            if schedule != self.plan.studied and ours is not None and theirs is not None:
                horizon = self.history.task(task).num_epochs
                saved = time_saved(schedule, ours, theirs, horizon)
                found[task] += [saved] if saved else []
        return found

    @cached_property
    def cost_curves(self) -> dict[str, list[CostCurve]]:
        """By task, what each arm reached for what it spent."""
        return {
            task.name: [
                cost_curve(self.history, task.name, schedule) for schedule in self.plan.schedules
            ]
            for task in self.plan.tasks
        }

    @cached_property
    def runs_needed(self) -> dict[str, list[RunsNeeded]]:
        """By task, the tuned runs that each baseline needs to reach the studied defaults."""
        found = {}
        for task, curves in self.cost_curves.items():
            defaults = self.history.default_runs(task, self.plan.studied)
            untuned = self.history.val_metrics(defaults)
            found[task] = [
                runs_needed(curve, untuned, self.plan.studied, self.history.task(task).metric)
                for curve in curves
                if curve.schedule != self.plan.studied and self.plan.studied in self.plan.schedules
            ]
        return found

    @cached_property
    def ablations(self) -> list[Ablation]:
        """Every ablation, under steady speed and slowed down."""
        groups: dict[tuple[str, str, str, Stage], list[Run]] = {}
        for run in self.runs:
            spec = run.spec
            if spec.stage in ("ablation", "contention") and spec.role != "selected":
                groups.setdefault((*spec.arm, spec.role, spec.stage), []).append(run)
        found = []
        for (task, schedule, name, stage), runs in groups.items():
            whole = self.history.of(
                "contention" if stage == "contention" else "final", task, schedule, "selected"
            )
            without = self.history.test_metrics(runs)
            with_it = self.history.test_metrics(whole)
            score = self.history.task(task).metric.score
            worth = [
                score(with_it[seed] - without[seed]) for seed in sorted(with_it.keys() & without)
            ]
            if metric := _mean(list(without.values())):
                found.append(
                    Ablation(task, schedule, name, stage == "contention", metric, _mean(worth))
                )
        return found

    @cached_property
    def across(self) -> list[AcrossTasks]:
        """Every schedule over all tasks; empty with fewer than two."""
        return across_tasks(self.history, self.usable_tasks)

    @cached_property
    def usable_tasks(self) -> list[str]:
        """The tasks with a baseline of record on which every arm has final runs, or failed."""
        history = self.history
        return [
            task.name
            for task in self.plan.tasks
            if history.baseline_of_record(task.name)
            and all(
                history.final_runs(task.name, schedule)
                or (task.name, schedule) in history.failed_arms
                for schedule in self.plan.schedules
            )
        ]

    @property
    def busy(self) -> tuple[float, float] | None:
        """Share of the slots' time spent (training, validating) during the search.

        Counted from the first to the last result of the search; None for fewer than two, and
        for an experiment that was interrupted.
        """
        slots = {task.name: task.slots for task in self.plan.tasks}
        searched = [run for run in self.runs if run.spec.stage == "search"]
        epochs = [(epoch, slots[run.spec.task]) for run in searched for epoch in run.epochs]
        if len(epochs) < 2 or self.history.num_sessions > 1:
            return None
        begin = min(epoch.ended_at for epoch, _ in epochs)
        end = max(epoch.ended_at for epoch, _ in epochs)
        if end <= begin:
            return None
        trained = validated = 0.0
        for epoch, at_once in epochs:  # an epoch trains, then validates, then ends
            trained_until = epoch.ended_at - epoch.eval_s
            train_s = max(0.0, trained_until - max(begin, trained_until - epoch.train_s))
            trained += train_s / at_once
            validated += (epoch.ended_at - max(begin, trained_until)) / at_once
        return trained / (end - begin), validated / (end - begin)

    def slowed_metric(self, task: str, schedule: str) -> Mean | None:
        """Return an arm's test metric under the injected slowdown."""
        runs = self.history.of("contention", task, schedule, "selected")
        return _mean(list(self.history.test_metrics(runs).values()))

    def _compare(
        self, task: str, stage: Stage, studied: Sequence[Run] | None = None
    ) -> list[Comparison]:
        """Compare ``studied``, else the selected runs of the studied schedule, with the others'."""
        metrics = {
            schedule: self.history.test_metrics(self.history.of(stage, task, schedule, "selected"))
            for schedule in self.plan.schedules
        }
        ours = metrics.pop(self.plan.studied, {})
        if studied is not None:
            ours = self.history.test_metrics(studied)
        record = self.history.baseline_of_record(task)
        return compare(ours, metrics, record, self.history.task(task).metric)

    def _judge(self, task: str) -> Verdict:
        if self.plan.studied not in self.plan.schedules:
            return Verdict(task, None, f"{task}: {unstudied(self.plan.studied)}.")
        comparisons = self.comparisons[task]
        record = next((each for each in comparisons if each.of_record), None)
        if record is None:
            strongest = self.history.baseline_of_record(task) or "a baseline"
            sentence = f"{task}: no final runs of {self.plan.studied} and {strongest} to pair."
            return Verdict(task, None, sentence)
        # One seed SD, of the runs that trained to their end: a diverged one is no noise.
        theirs = [
            run.last.test_metric
            for run in self.history.final_runs(task, record.baseline)
            if run.last is not None and run.last.test_metric is not None
        ]
        metric = self.history.task(task).metric
        margin = equivalence_margin(theirs, metric.margin)
        num_baselines = len(self.plan.schedules) - 1
        return judge(task, record, num_baselines, margin, self.plan.studied, metric)

    def _arm(self, task: str, schedule: str) -> ArmResult:
        history = self.history
        selected = history.selected[task, schedule]
        runs = history.final_runs(task, schedule)
        completed = [run for run in runs if run.status == "completed"]
        lasts = [run.last for run in completed if run.last is not None]
        epochs = [epoch for run in runs for epoch in run.epochs]
        memory = [epoch.rss_bytes for epoch in epochs if epoch.rss_bytes]
        gpu_memory = [epoch.gpu_mem_bytes for epoch in epochs if epoch.gpu_mem_bytes]
        to_target = {}
        for target in RATIOS:
            error = self.target_error(task, target)
            time = None if error is None else time_to_target(runs, error, history.task(task).metric)
            if time is not None:
                to_target[target] = time
        untuned = history.test_metrics(history.default_runs(task, schedule))
        return ArmResult(
            task=task,
            schedule=schedule,
            configuration=selected.configuration,
            select_val_metric=selected.val_metric,
            test_metric=_mean(list(history.test_metrics(runs).values())),
            untuned_test_metric=_mean(list(untuned.values())),
            train_loss=_mean([last.train_loss for last in lasts]),
            val_loss=_mean([last.val_loss for last in lasts]),
            val_metric=_mean([last.val_metric for last in lasts]),
            stable_epoch=_mean([stable_epoch([e.val_loss for e in r.epochs]) for r in completed]),
            train_s=_mean([sum(epoch.train_s for epoch in run.epochs) for run in completed]),
            eval_s=_mean([sum(epoch.eval_s for epoch in run.epochs) for run in completed]),
            to_target=to_target,
            cpu_percent=_mean([_run_mean([e.cpu_percent for e in r.epochs]) for r in runs]),
            rss_bytes=max(memory, default=None),
            gpu_util=_mean([_run_mean([e.gpu_util for e in r.epochs]) for r in runs]),
            gpu_mem_bytes=max(gpu_memory, default=None),
            num_completed=len(completed),
            num_diverged=sum(run.status == "diverged" for run in runs),
            num_failed=sum(run.status in ("failed", "lost") for run in runs),
            search_epochs=sum(r.epoch_equivalents for r in history.of("search", task, schedule)),
        )


def _mean(values: Sequence[float | None]) -> Mean | None:
    measured = [value for value in values if value is not None]
    return mean_interval(measured) if measured else None


def _run_mean(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return float(np.mean(measured)) if measured else None
