"""The stages: search -> select -> final, ablation, contention; what each run is, and why.

Every arm (a schedule on a task) spends the same budget in the search. Its best trials
are re-run on fresh seeds, the best mean is selected, and the selected configurations
run on final seeds that are fresh again and the same for every arm, beside the arms' untuned
defaults. Ablations and contention, if asked for, repeat the final runs. Only these open the
test split, each once, and only one of them is at work on a device.

What runs next depends on what was heard, in the order it was heard, and on nothing else.
"""

import math
import random
import re
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tune_adaptive.errors import SearchStopped, last_line
from tune_adaptive.protocol.arms import Arm, Arms, Candidate
from tune_adaptive.protocol.fixed_runs import FixedRuns, StageJobs
from tune_adaptive.records import ledger as record
from tune_adaptive.records.ablations import ablate
from tune_adaptive.records.plan import CANARY_EPOCHS, Plan
from tune_adaptive.records.runs import (
    RECIPE_NAMES,
    Configuration,
    EpochResult,
    RunSpec,
    Stage,
    Status,
    file_name,
)
from tune_adaptive.records.task_plan import TaskPlan

MAX_FAILURES_ALIKE = 5
DIGITS = re.compile(r"\d+")  # addresses, ids and sizes differ where the reason does not


class Stages:
    """The stages as one source of runs, so that the workers stay warm between them.

    Args:
        plan: What was decided.
        note: Takes every event that follows from it and from what is heard.
        kept: Given a run that was interrupted and the epochs it was heard to have done, says
            after how many of them it can go on.
    """

    def __init__(
        self,
        plan: Plan,
        note: Callable[[record.Event], None],
        kept: Callable[[RunSpec, int], int] = lambda run, num_epochs: 0,
    ) -> None:
        self._plan = plan
        self._arms = _arms(plan)
        self._note = note
        self._kept = kept
        self.at_work: dict[str, RunSpec] = {}  # by id, in the order they were started
        self._num_epochs: dict[str, int] = {}  # that those at work were heard to have done
        self._num_retries: Counter[str] = Counter()
        self._interrupted: deque[RunSpec] = deque()
        self._alike: list[str] = []  # what runs said that failed one after the other
        self.selected: list[Configuration] = []
        self.num_started = 0
        self._ended_well: set[str] = set()
        self._failed: set[str] = set()
        self._compared: list[RunSpec] = []  # the final runs but for the canaries
        self.failure = ""  # what the last run that failed said
        self._stages = self._sequence()
        self._present: StageJobs | None = FixedRuns([])  # before the first stage

    def _sequence(self) -> Iterator[StageJobs]:
        plan = self._plan
        self._begin("search")
        yield self._arms

        candidates = {arm: self._arms.candidates(arm, plan.num_candidates) for arm in plan.arms}
        self._begin("select")
        select = FixedRuns(self._reruns(candidates), slots=plan.slots_of)
        yield select

        winners = self._select(candidates, select)
        if not winners:
            return
        finals = [
            _rerun(plan, "final", best, f"{file_name(*best.arm)}-{index}", index, "selected")
            for best in winners
            for index in range(plan.num_final_seeds)
        ]
        self._compared = [*finals, *self._of_defaults(winners)]
        self._begin("final")
        yield self._exclusive(self._with_canaries(self._compared))
        if self.nothing_to_compare:
            return

        if plan.ablations:
            self._begin("ablation")
            yield self._exclusive(self._ablations(finals, "ablation"))
        if plan.slowdown is not None:
            self._begin("contention")
            slowed = [
                replace(
                    run,
                    id=f"contention-{file_name(*run.arm)}-{run.number}",
                    stage="contention",
                    slowdown=plan.slowdown,
                )
                for run in finals
            ]
            yield self._exclusive(slowed)
            if plan.ablations:  # they hear what the slowed runs recorded
                yield self._exclusive(self._ablations(slowed, "contention"))

    def _reruns(self, candidates: Mapping[tuple[str, str], Sequence[Candidate]]) -> list[RunSpec]:
        """Return the runs of the selection: each candidate again, on seeds of its own."""
        return [
            replace(
                _rerun(
                    *(self._plan, "select", trial.run, f"{trial.run.id}-{index}"),
                    *(index, "candidate"),
                ),
                repeats=trial.run.id,
            )
            for arm in candidates.values()
            for trial in arm
            for index in range(self._plan.num_select_seeds)
        ]

    def _select(
        self, candidates: Mapping[tuple[str, str], Sequence[Candidate]], select: FixedRuns
    ) -> list[RunSpec]:
        """Select of each arm the candidate whose re-runs did best; return their runs."""
        winners: list[RunSpec] = []
        for (task, schedule), arm in candidates.items():
            # A candidate whose re-run diverged or failed has no mean and is not selected.
            means = []
            for candidate in arm:
                seeds = range(self._plan.num_select_seeds)
                ids = [f"select-{candidate.run.id}-{i}" for i in seeds]
                if all(id_ in select.last for id_ in ids):
                    mean = statistics.fmean(select.last[id_].val_metric for id_ in ids)
                    means.append((mean, candidate.run))
            if not means:
                self._note(record.ArmFailed(task, schedule))
                continue
            score = self._plan.task(task).metric.score
            mean, best = max(means, key=lambda pair: score(pair[0]))
            self._note(record.Selected(task, best.configuration, mean, best.id))
            self.selected.append(best.configuration)
            winners.append(best)
        return winners

    def _of_defaults(self, winners: Sequence[RunSpec]) -> list[RunSpec]:
        """Return the final runs of each arm's defaults, where another was selected."""
        plan, selected = self._plan, [(best.arm, best.configuration) for best in winners]
        return [
            _rerun(
                *(plan, "final", default.run, f"{file_name(*default.run.arm)}-default-{index}"),
                *(index, "default"),
            )
            for arm in plan.arms
            if (default := self._arms.default(arm)) is not None
            and (arm, default.run.configuration) not in selected
            for index in range(plan.num_final_seeds)
        ]

    def _with_canaries(self, compared: Sequence[RunSpec]) -> list[RunSpec]:
        """Return the final runs in the order they are run in, drawn at random."""
        plan, order = self._plan, list(compared)
        random.Random(plan.seed).shuffle(order)
        if not plan.is_shared_alike:  # a worker of one task is of no use to another
            turn = {task.name: turn for turn, task in enumerate(plan.tasks)}
            order.sort(key=lambda run: turn[run.task])
        for index, place in enumerate((0, len(order) // 2, len(order))):
            canaries = [_canary(plan, task, index) for task in plan.tasks]
            order[place + index * len(canaries) : place + index * len(canaries)] = canaries
        return order

    @property
    def nothing_to_compare(self) -> bool:
        """Whether final runs were begun, and all of them failed."""
        return bool(self._compared) and all(run.id in self._failed for run in self._compared)

    def _begin(self, stage: Stage) -> None:
        epochs = self._plan.stage_epochs(stage)
        self._note(record.StageStarted(stage, epochs, self.num_started, time.time()))

    def _exclusive(self, runs: list[RunSpec]) -> StageJobs:
        """One run a device, so that their times can be compared."""
        return FixedRuns(runs, self._plan.final_slots, self._plan.slots_of)

    def _ablations(self, whole: list[RunSpec], stage: Stage) -> list[RunSpec]:
        arms: dict[tuple[str, str], list[RunSpec]] = {}
        for run in whole:
            if run.id in self._ended_well:
                arms.setdefault(run.arm, []).append(run)
        return [each for own in arms.values() for each in ablate(own, stage)]

    def interrupt(self) -> None:
        """Give up what is at work; it goes on before anything else starts."""
        self._interrupted = deque(self.at_work.values())
        self._alike = []

    def save_studies(self, path: Path) -> None:
        """Write every arm's study to an SQLite file that optuna-dashboard opens."""
        self._arms.save_studies(path)

    def next(self) -> RunSpec | None:
        """Return a run to start now, or None: nothing now."""
        if self._interrupted:
            assert self._present is not None
            run = self._interrupted.popleft()
            num_epochs = self._kept(run, self._num_epochs[run.id])
            self._num_epochs[run.id] = num_epochs
            self._present.resumed(run, num_epochs)
            self._note(record.RunResumed(run.id, num_epochs, time.time()))
            return run
        self._advance()
        started = None if self._present is None else self._present.next()
        if started is not None:
            self.at_work[started.id], self._num_epochs[started.id] = started, 0
            self.num_started += 1
            self._note(record.RunStarted(started, time.time()))
        return started

    def _advance(self) -> None:
        while self._present is not None and self._present.exhausted:
            self._present = next(self._stages, None)

    def has_work(self) -> bool:
        """Whether there is another run, or one at work; begins the next stage where it is due."""
        self._advance()
        return not self.exhausted

    @property
    def exhausted(self) -> bool:
        """Whether nothing is running and there will never be another run."""
        return self._present is None

    def heard(self, run: RunSpec, result: EpochResult) -> Status | None:
        """Hear an epoch; return how the run ends here, or None: it goes on."""
        assert self._present is not None
        self._num_epochs[run.id] = result.epoch
        self._note(record.EpochDone(run.id, result))
        if result.test_metric is not None:
            self._note(record.TestOpened(run.id, time.time()))
        status = self._present.heard(run, result)
        if status is not None:
            del self.at_work[run.id]
            self._alike = []
            self._note(record.RunEnded(run.id, status, "", time.time()))
        if status == "completed":
            self._ended_well.add(run.id)
        return status

    def failed(self, run: RunSpec, message: str, transient: bool = False) -> None:
        """Hear that a run raised or its process died; hand it out again if that may help.

        Raises:
            SearchStopped: As many runs failed, one after the other, with the same words.
        """
        assert self._present is not None
        if transient and self._num_retries[run.id] < self._plan.max_retries:
            self._num_retries[run.id] += 1
            self._interrupted.append(run)
            self._note(record.RunInterrupted(run.id, message, time.time()))
            return
        del self.at_work[run.id]
        self._present.failed(run, message)
        self._failed.add(run.id)
        self.failure = message
        self._note(record.RunEnded(run.id, "failed", message, time.time()))
        words = DIGITS.sub("", last_line(message))
        self._alike = [*self._alike, words] if words in self._alike[-1:] else [words]
        if len(self._alike) == MAX_FAILURES_ALIKE:
            raise SearchStopped(
                f"{MAX_FAILURES_ALIKE} runs failed alike, one after the other: {last_line(message)}"
            )


def _arms(plan: Plan) -> Arms:
    num_seeds = math.ceil(plan.budget) * 3 + 3  # no trial is shorter than a third of a run
    seeds = [plan.stage_seed("search", index) for index in range(num_seeds)]
    return Arms(
        [
            Arm(
                template=RunSpec(
                    id="",
                    stage="search",
                    task=task.name,
                    configuration=Configuration(schedule),
                    seed=0,
                    num_epochs=task.num_epochs,
                    precision=task.precision,
                    signals=plan.signals,
                    time_budget_s=plan.run_time_budget_s,
                ),
                space=task.spaces[schedule],
                budget=plan.budget * task.num_epochs,
                seeds=seeds,
                sampler_seed=plan.seed,
                num_controls=plan.num_controls,
                metric=task.metric,
            )
            for task in plan.tasks
            for schedule in plan.schedules
        ],
        one_by_one=not plan.is_shared_alike,
        slots=plan.slots_of,
    )


def _rerun(plan: Plan, stage: Stage, run: RunSpec, name: str, index: int, role: str) -> RunSpec:
    return replace(
        run,
        id=f"{stage}-{name}",
        stage=stage,
        seed=plan.stage_seed(stage, index),
        open_test=stage == "final",
        role=role,
        number=index,
    )


def _canary(plan: Plan, task: TaskPlan, index: int) -> RunSpec:
    """A constant learning rate and nothing else: what changes in its time is the machine."""
    space = task.spaces[plan.schedules[0]]
    values = {n: v for n, v in space.defaults().items() if n in RECIPE_NAMES}
    return RunSpec(
        id=f"final-{file_name(task.name)}-canary-{index}",
        stage="final",
        task=task.name,
        configuration=Configuration.from_values("constant", values),
        seed=plan.stage_seed("final", 0),
        num_epochs=min(CANARY_EPOCHS, task.num_epochs),
        precision=task.precision,
        signals=plan.signals,
        role="canary",
        number=index,
    )
