"""The ledger's rows -> runs, and what of the rows does not follow from those before it.

Each row by itself is what its types say. Here they are checked against each other and the plan:
their order, what is doubled, and what is missing. A row that cannot follow is damage; it counts
only where it contradicts no earlier one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tune_adaptive.records import ledger
from tune_adaptive.records.plan import Plan
from tune_adaptive.records.runs import EpochResult, RunSpec, Stage, Status

TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the ledger tells it."""

    spec: RunSpec
    started_at: float  # the last time, where it was interrupted
    ended_at: float | None
    epochs: tuple[EpochResult, ...]
    status: str  # a Status, or "lost": no end was recorded
    message: str
    num_resumed: int = 0  # how often it was resumed
    void_epochs: float = 0.0  # epoch-equivalents that interruptions threw away

    @property
    def last(self) -> EpochResult | None:
        """Its last epoch, if it has one."""
        return self.epochs[-1] if self.epochs else None

    @property
    def epoch_equivalents(self) -> float:
        """What it spent."""
        return self.epochs[-1].epoch_equivalents if self.epochs else 0.0


class Rows:
    """What the rows of a ledger add up to.

    Args:
        events: The rows, in their order.
        plan: Of the same experiment.

    Attributes:
        runs: By id, in the order they were started.
        selected: By arm, the row that selected its configuration; the first, if there are more.
        failed_arms: Arms of which no configuration trained to its end.
        ended_in_order: Ids of the runs that ended, in that order.
    """

    def __init__(self, events: Sequence[ledger.Event], plan: Plan) -> None:
        self.runs: dict[str, Run] = {}
        self.selected: dict[tuple[str, str], ledger.Selected] = {}
        self.failed_arms: set[tuple[str, str]] = set()
        self.ended_in_order: list[str] = []
        self._plan = plan
        self._metrics = {task.name: task.metric for task in plan.tasks}
        self._arms = set(plan.arms)
        self._damage: list[str] = []
        self._stage: Stage | None = None
        self._session = 0
        self._sessions: dict[str, int] = {}  # in which each run was started last; 0: interrupted
        self._opened_test: set[str] = set()
        self._is_closed = False
        if events and not isinstance(events[0], ledger.Opened | ledger.Damaged):
            self._damage.append("the row that the experiment was begun is not the first")
        for event in events:
            self._read(event)

    @property
    def damage(self) -> list[str]:
        """What could not be read, or does not follow; each once."""
        return list(dict.fromkeys(self._damage))

    def _read(self, event: ledger.Event) -> None:
        if isinstance(event, ledger.Damaged):
            self._damage.append(f"line {event.line} {event.reason}")
        elif self._is_closed:
            self._damage.append("rows follow the end of the experiment")
        elif isinstance(event, ledger.Opened):
            self._session += 1
        elif isinstance(event, ledger.StageStarted):
            self._begin(event.stage)
        elif isinstance(event, ledger.RunStarted):
            self._start(event)
        elif isinstance(event, ledger.Selected):
            arm = event.task, event.configuration.schedule
            if self._is_of_an_arm(arm, "selected"):
                if (problem := self._metrics[arm[0]].problem(event.val_metric)) is not None:
                    self._damage.append(f"{' '.join(arm)} is selected with {problem}")
                    return
                self.selected.setdefault(arm, event)
        elif isinstance(event, ledger.ArmFailed):
            arm = event.task, event.schedule
            if self._is_of_an_arm(arm, "given up"):
                self.failed_arms.add(arm)
        elif isinstance(event, ledger.Closed):
            self._is_closed = True
            if self._stage != self._plan.stages[-1]:
                self._damage.append(f"it ended without stage {self._plan.stages[-1]}")
        elif (run := self.runs.get(event.run_id)) is None:
            self._damage.append(f"a row of run {event.run_id}, whose start is not there")
        elif run.ended_at is not None:
            self._damage.append(f"run {event.run_id} continues after its end")
        else:
            self._read_of(run, event)

    def _begin(self, stage: Stage) -> None:
        stages = (None, *self._plan.stages, None)
        expected = stages[stages.index(self._stage) + 1] if self._stage in stages else None
        if stage != expected:
            where = f"stage {expected}" if expected else "the end"
            self._damage.append(f"stage {stage} begins where {where} must come")
        self._stage = stage

    def _start(self, event: ledger.RunStarted) -> None:
        spec = event.run
        if spec.id in self.runs:
            self._damage.append(f"run {spec.id} is started twice")
            return
        if spec.task not in self._metrics or (
            spec.arm[1] not in self._plan.schedules and spec.role != "canary"
        ):
            self._damage.append(f"run {spec.id} is of no arm of the plan")
            return
        if spec.stage != self._stage:
            when = f"in stage {self._stage}" if self._stage else "before any stage"
            self._damage.append(f"runs of stage {spec.stage} are started {when}")
        self.runs[spec.id] = Run(spec, event.at, None, (), "lost", "")
        self._sessions[spec.id] = self._session

    def _is_of_an_arm(self, arm: tuple[str, str], what: str) -> bool:
        if self._stage != "select":
            self._damage.append(f"{' '.join(arm)} is {what} outside stage select")
        if arm not in self._arms:
            self._damage.append(f"{' '.join(arm)} is {what} and is no arm of the plan")
        return arm in self._arms

    def _read_of(
        self,
        run: Run,
        event: ledger.RunInterrupted
        | ledger.RunResumed
        | ledger.EpochDone
        | ledger.TestOpened
        | ledger.RunEnded,
    ) -> None:
        """Take in a row of a run that is at work."""
        id_ = run.spec.id
        if isinstance(event, ledger.EpochDone):
            if (problem := self._impossible(run, event.result)) is not None:
                self._damage.append(f"run {id_}: epoch {event.result.epoch}: {problem}")
                return
            if (problem := self._misplaced(run, event.result)) is not None:
                self._damage.append(f"run {id_}: {problem}")
            if event.result.epoch == len(run.epochs) + 1:
                self.runs[id_] = replace(run, epochs=(*run.epochs, event.result))
        elif isinstance(event, ledger.TestOpened):
            if run.last is None or run.last.test_metric is None or id_ in self._opened_test:
                self._damage.append(f"run {id_}: no epoch of it opened the test split there")
            self._opened_test.add(id_)
        elif isinstance(event, ledger.RunEnded):
            if not _may_end(run, event.status):
                self._damage.append(f"run {id_} is recorded as {event.status}; its epochs are not")
            self.ended_in_order.append(id_)
            self.runs[id_] = replace(
                run, ended_at=event.at, status=event.status, message=event.message
            )
        elif isinstance(event, ledger.RunInterrupted):
            self._sessions[id_] = 0
        else:
            self._resume(run, event)

    def _impossible(self, run: Run, result: EpochResult) -> str | None:
        """Say which metric of an epoch cannot be; None if all can."""
        metric = self._metrics[run.spec.task]
        for split, value in (("validation", result.val_metric), ("test", result.test_metric)):
            problem = None if value is None or result.diverged else metric.problem(value)
            if problem is not None:
                return f"{split} {problem}"
        return None

    def _misplaced(self, run: Run, result: EpochResult) -> str | None:
        """Say why an epoch cannot follow on those before it; None if it can."""
        before = run.last
        if before is not None and before.ended:
            return f"epoch {result.epoch} follows its last"
        if result.epoch != len(run.epochs) + 1:
            return f"epoch {result.epoch} where epoch {len(run.epochs) + 1} must be"
        if self._sessions[run.spec.id] != self._session:
            return f"epoch {result.epoch} follows an interruption, and it was not resumed"
        if result.epoch_equivalents > result.epoch + TOLERANCE:
            return f"{result.epoch_equivalents:g} epoch-equivalents after epoch {result.epoch}"
        if before is not None and (
            result.epoch_equivalents < before.epoch_equivalents
            or result.num_steps < before.num_steps
        ):
            return f"what it spent falls in epoch {result.epoch}"
        return None

    def _resume(self, run: Run, event: ledger.RunResumed) -> None:
        id_ = run.spec.id
        if self._sessions[id_] == self._session:
            self._damage.append(f"run {id_} continues without an interruption")
            return
        if event.num_epochs > len(run.epochs):
            self._damage.append(
                f"run {id_} is resumed after epoch {event.num_epochs}, and did {len(run.epochs)}"
            )
        resumed = replace(
            run, epochs=run.epochs[: event.num_epochs], num_resumed=run.num_resumed + 1
        )
        void = run.void_epochs + run.epoch_equivalents - resumed.epoch_equivalents
        self.runs[id_] = replace(resumed, started_at=event.at, void_epochs=void)
        self._sessions[id_] = self._session


def _may_end(run: Run, status: Status) -> bool:
    """Whether a run's last epoch allows that end."""
    if status == "completed":
        return run.last is not None and run.last.ended and not run.last.diverged
    if status == "diverged":
        return run.last is not None and run.last.diverged
    return status == "failed" or run.spec.stage == "search"
