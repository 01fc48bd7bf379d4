"""The arms of a search: one Optuna study per schedule and task, equal budgets.

The arm that has spent least of its budget gets the next slot. Budgets are counted in
epoch-equivalents E and never overspent: a run reserves its horizon, or what is left,
when it starts, and what early stopping releases goes to the arm's other runs.
"""

import math
import sqlite3
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, Trial, TrialState
from scipy.stats.qmc import Halton
from sqlalchemy.exc import SQLAlchemyError

from tune_adaptive.errors import EnvironmentFault
from tune_adaptive.protocol.asha import Asha, first_rung
from tune_adaptive.records.metric import ACCURACY, Metric
from tune_adaptive.records.runs import Configuration, EpochResult, RunSpec, Status, file_name
from tune_adaptive.records.spaces import SearchSpace

MAX_FAILURES_IN_A_ROW = 5
NUM_STARTUP_TRIALS = 6
EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trial that trained to its end."""

    run: RunSpec
    score: float  # its validation metric, such that more is better


@dataclass(slots=True)
class _Running:
    trial: Trial
    reserved: float  # epoch-equivalents the run may spend in all
    spent_by: dict[int, float] = field(default_factory=dict)  # by epoch, those before it included
    values: dict[int, float] = field(default_factory=dict)  # by epoch

    @property
    def spent(self) -> float:
        return max(self.spent_by.values(), default=0.0)


class Arm:
    """One schedule on one task.

    Args:
        template: What all its runs share; id, seed and configuration are filled in.
        space: Its search space; the first trial is the space's defaults.
        budget: Epoch-equivalents it may spend.
        seeds: The seed of trial i is ``seeds[i % len(seeds)]``, the same in every arm.
        sampler_seed: Seed of Optuna's sampler, and of the controls.
        num_controls: Trials after the first that are drawn beforehand, from a scrambled
            Halton sequence whose common parameters are the same in every arm. They and the
            first are never stopped early, whatever the others do.
        metric: What its runs are judged by.
    """

    def __init__(
        self,
        template: RunSpec,
        space: SearchSpace,
        budget: float,
        seeds: Sequence[int],
        sampler_seed: int,
        num_controls: int = 0,
        metric: Metric = ACCURACY,
    ) -> None:
        if num_controls and budget < (1 + num_controls) * template.num_epochs:
            raise ValueError(
                f"budget must pay for the defaults and {num_controls} random-search controls, "
                f"got {budget}."
            )
        self.template = template
        self.space = space
        self.budget = budget
        self.seeds = seeds
        self.num_controls = num_controls
        self.metric = metric
        self.spent = 0.0
        self.completed: list[Candidate] = []
        self._running: dict[str, _Running] = {}
        self._asha = Asha(template.num_epochs)
        self._num_failures_in_a_row = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=sampler_seed,
                n_startup_trials=NUM_STARTUP_TRIALS,
                multivariate=True,
                group=True,
                constant_liar=True,
            )
        name = f"{template.task}:{template.configuration.schedule}"
        self.study = optuna.create_study(
            study_name=name, direction=metric.direction, sampler=sampler
        )
        self.study.enqueue_trial(space.defaults())
        points = Halton(len(space.parameters), rng=np.random.default_rng(sampler_seed))
        for point in points.random(num_controls):
            self.study.enqueue_trial(space.at(point))

    @property
    def trials(self) -> list[FrozenTrial]:
        """All its trials, as Optuna keeps them."""
        return self.study.get_trials(deepcopy=False)

    @property
    def default(self) -> Candidate | None:
        """The trial of the schedule's defaults, if it trained to its end."""
        return next((each for each in self.completed if each.run.role == "default"), None)

    @property
    def num_running(self) -> int:
        """How many of its trials run now."""
        return len(self._running)

    @property
    def committed(self) -> float:
        """Epoch-equivalents spent, or reserved by runs under way."""
        return self.spent + sum(run.reserved - run.spent for run in self._running.values())

    @property
    def can_start(self) -> bool:
        """Whether what is left pays for at least one first rung."""
        left = self.budget - self.committed
        healthy = self._num_failures_in_a_row < MAX_FAILURES_IN_A_ROW
        return healthy and left + EPSILON >= first_rung(self.template.num_epochs)

    def start(self) -> RunSpec:
        """Ask Optuna for a configuration and reserve its budget."""
        reserved = min(float(self.template.num_epochs), self.budget - self.committed)
        trial = self.study.ask()
        schedule = self.template.configuration.schedule
        role = "default" if trial.number == 0 else "control"
        run = replace(
            self.template,
            id=f"search-{file_name(*self.template.arm)}-{trial.number:04d}",
            number=trial.number,
            configuration=Configuration.from_values(schedule, self.space.suggest(trial)),
            seed=self.seeds[trial.number % len(self.seeds)],
            role=role if trial.number <= self.num_controls else "sampled",
        )
        trial.set_user_attr("arm", self.study.study_name)
        trial.set_user_attr("run_id", run.id)
        trial.set_user_attr("seed", run.seed)
        self._running[run.id] = _Running(trial, reserved)
        return run

    def heard(self, run: RunSpec, result: EpochResult) -> Status | None:
        """Account for an epoch and decide whether the run goes on.

        Optuna receives a run that was stopped early as PRUNED with the value it reported, and
        only one that trained to its end as COMPLETE. One that diverged is PRUNED with the worst
        value there is, at step 0: TPE ranks pruned trials by their last step first, and so
        this one behind all others, whatever it had reached. It would learn nothing of FAIL.
        """
        running = self._running[run.id]
        self.spent += result.epoch_equivalents - running.spent
        running.spent_by[result.epoch] = result.epoch_equivalents
        if result.diverged:
            running.values = {0: self.metric.worst}
            return self._end(run, TrialState.PRUNED, "diverged")
        running.values[result.epoch] = result.val_metric
        score = self.metric.score(result.val_metric)
        if result.ended:
            self.completed.append(Candidate(run, score))
            return self._end(run, TrialState.COMPLETE, "completed", result.val_metric)
        goes_on = self._asha.goes_on(run.id, result.epoch, score)
        if not goes_on and run.role == "sampled":
            return self._end(run, TrialState.PRUNED, "stopped")
        if running.reserved - running.spent < 1 - EPSILON:
            if self.budget - self.committed < 1 - EPSILON:
                return self._end(run, TrialState.PRUNED, "stopped")
            running.reserved += 1
        return None

    def resumed(self, run: RunSpec, num_epochs: int) -> None:
        """Give back what a run had spent after ``num_epochs``, and forget what it was worth."""
        running = self._running[run.id]
        self.spent -= running.spent
        for of_epochs in (running.values, running.spent_by):
            for epoch in [epoch for epoch in of_epochs if epoch > num_epochs]:
                del of_epochs[epoch]
        self.spent += running.spent
        self._asha.forget(run.id, num_epochs)

    def failed(self, run: RunSpec) -> None:
        """Give back what a failed run had reserved; what it spent stays spent."""
        self._end(run, TrialState.FAIL, "failed")

    def close(self) -> None:
        """Tell Optuna FAIL of what still runs, so that no trial stays RUNNING for ever."""
        for running in self._running.values():
            self.study.tell(running.trial, state=TrialState.FAIL)
        self._running.clear()

    def _end(
        self, run: RunSpec, state: TrialState, status: Status, value: float | None = None
    ) -> Status:
        running = self._running.pop(run.id)
        for epoch, reached in running.values.items():
            running.trial.report(reached, step=epoch)
        running.trial.set_user_attr("epoch_equivalents", running.spent)
        self.study.tell(running.trial, value, state=state)
        self._num_failures_in_a_row = (
            self._num_failures_in_a_row + 1 if state is TrialState.FAIL else 0
        )
        return status


class Arms:
    """All arms of a search, sharing the slots.

    Args:
        arms: The arms.
        one_by_one: Whether a task's arms come after those of the one before it, rather than
            beside them: where a worker of one task is of no use to another.
        slots: By the task's name, how many runs of it may be at work at once; None does not limit.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        one_by_one: bool = False,
        slots: Mapping[str, int] | None = None,
    ) -> None:
        self._arms = {arm.template.arm: arm for arm in arms}
        self._slots = slots or {}
        tasks = dict.fromkeys(task for task, _ in self._arms)
        self._turn = {task: turn if one_by_one else 0 for turn, task in enumerate(tasks)}

    def next(self) -> RunSpec | None:
        """Start a run of the arm that has spent the least of its budget, if any can start."""
        at_work: Counter[str] = Counter()
        for arm in self._arms.values():
            at_work[arm.template.task] += arm.num_running
        startable = [
            arm
            for arm in self._arms.values()
            if arm.can_start
            and at_work[arm.template.task] < self._slots.get(arm.template.task, math.inf)
        ]
        if not startable:
            return None

        def due(arm: Arm) -> tuple[int, float]:
            return self._turn[arm.template.task], arm.committed / arm.budget

        return min(startable, key=due).start()

    @property
    def exhausted(self) -> bool:
        """Whether every arm has spent its budget and ended its runs."""
        return all(not arm.can_start and arm.num_running == 0 for arm in self._arms.values())

    def heard(self, run: RunSpec, result: EpochResult) -> Status | None:
        """Pass an epoch to the run's arm."""
        return self._arms[run.arm].heard(run, result)

    def resumed(self, run: RunSpec, num_epochs: int) -> None:
        """Pass to the run's arm that it goes on."""
        self._arms[run.arm].resumed(run, num_epochs)

    def failed(self, run: RunSpec, message: str) -> None:
        """Pass a failure to the run's arm."""
        self._arms[run.arm].failed(run)

    def candidates(self, arm: tuple[str, str], num: int) -> list[Candidate]:
        """Return the arm's best completed trials, the best first, and its defaults."""
        ranked = sorted(self._arms[arm].completed, key=lambda c: c.score, reverse=True)
        best, default = ranked[:num], self._arms[arm].default
        return best if default is None or default in best else [*best, default]

    def default(self, arm: tuple[str, str]) -> Candidate | None:
        """Return the arm's trial of its schedule's defaults, if it trained to its end."""
        return self._arms[arm].default

    def save_studies(self, path: Path) -> None:
        """Write every study to an SQLite file that optuna-dashboard opens, in one go.

        Raises:
            EnvironmentFault: The disk takes no more. A file that was there is as it was.
        """
        for left in path.parent.glob(f"{path.name}?*"):  # a journal would be played back, too
            left.unlink()
        draft = path.with_name(f"{path.name}.draft")
        try:
            self._write_studies(draft)
            draft.replace(path)
        except (OSError, SQLAlchemyError, StorageInternalError) as error:
            raise EnvironmentFault(f"{path}: cannot be written: {error}") from error

    def _write_studies(self, path: Path) -> None:
        # The path is never part of a URL, where %, ? and { have a meaning.
        storage = optuna.storages.RDBStorage(
            "sqlite://", engine_kwargs={"creator": partial(sqlite3.connect, path)}
        )
        try:
            for arm in self._arms.values():
                arm.close()
                saved = optuna.create_study(
                    study_name=arm.study.study_name,
                    storage=storage,
                    direction=arm.metric.direction,
                )
                saved.add_trials(arm.trials)
        finally:
            storage.remove_session()
            storage.engine.dispose()
