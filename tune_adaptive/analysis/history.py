"""What happened, read back: the plan, the ledger's rows and the runs they tell of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tune_adaptive import ledger
from tune_adaptive.analysis.stats import STUDIED
from tune_adaptive.errors import InputError
from tune_adaptive.plan import Plan, TaskPlan, hash_file
from tune_adaptive.runs import EpochResult, RunSpec, Stage, Status


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the ledger tells it."""

    spec: RunSpec
    started_at: float  # the last time, where it was interrupted
    ended_at: float | None
    epochs: tuple[EpochResult, ...]
    status: str  # a Status, or "lost": no end was recorded
    message: str
    num_resumed: int = 0  # how often it was handed out again
    void_epochs: float = 0.0  # epoch-equivalents that interruptions threw away

    @property
    def last(self) -> EpochResult | None:
        """Its last epoch, if it has one."""
        return self.epochs[-1] if self.epochs else None

    @property
    def epoch_equivalents(self) -> float:
        """What it spent."""
        return self.epochs[-1].epoch_equivalents if self.epochs else 0.0


class History:
    """One experiment's folder, read and not judged.

    Args:
        folder: The experiment's folder.

    Raises:
        InputError: It holds no plan or no readable ledger.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan = Plan.read(folder / "plan.toml")
        self.plan_sha256 = hash_file(folder / "plan.toml")
        self.events = ledger.read(folder / "ledger.jsonl")
        self.runs, self.damage = _runs(self.events, self.plan)
        self.selected = {
            arm: event
            for event in self.events
            if isinstance(event, ledger.Selected)
            and (arm := (event.task, event.configuration.schedule)) in self.plan.arms
        }

        self.failed_arms = {
            (event.task, event.schedule)
            for event in self.events
            if isinstance(event, ledger.ArmFailed)
        }
        self.ended_in_order = [e.run_id for e in self.events if isinstance(e, ledger.RunEnded)]

    @cached_property
    def exploratory(self) -> str | None:
        """Why the experiment is not the one that was planned; None if it is."""
        begun = [e.plan_sha256 for e in self.events if isinstance(e, ledger.Opened)]
        if not begun:
            return "the ledger's first row, which names the plan, cannot be read"
        if any(each != self.plan_sha256 for each in begun):
            return "plan.toml was edited after the experiment began"
        return None

    @property
    def num_sessions(self) -> int:
        """How often it was begun or resumed."""
        return sum(isinstance(event, ledger.Opened) for event in self.events)

    @property
    def closed(self) -> bool:
        """Whether the experiment ran to its end."""
        return any(isinstance(event, ledger.Closed) for event in self.events)

    def task(self, name: str) -> TaskPlan:
        """Return the plan of one task."""
        return next(task for task in self.plan.tasks if task.name == name)

    def of(self, stage: Stage, task: str, schedule: str, role: str | None = None) -> list[Run]:
        """Return an arm's runs of a stage in the order of their seeds, of one role or of all."""
        runs = [
            run
            for run in self.runs
            if run.spec.stage == stage
            and run.spec.arm == (task, schedule)
            and run.spec.role == (role or run.spec.role)
        ]
        return sorted(runs, key=lambda run: run.spec.seed)

    def final_runs(self, task: str, schedule: str) -> list[Run]:
        """Return the final runs of an arm's selected configuration."""
        return self.of("final", task, schedule, "selected")

    def default_runs(self, task: str, schedule: str) -> list[Run]:
        """Return the final runs of an arm's defaults; those selected, where they were."""
        own = self.of("final", task, schedule, "default")
        selected = self.selected.get((task, schedule))
        default = self.default_trial(task, schedule)
        if own or selected is None or default is None:
            return own
        same = selected.configuration == default.spec.configuration
        return self.final_runs(task, schedule) if same else []

    def default_trial(self, task: str, schedule: str) -> Run | None:
        """Return the trial of an arm's defaults."""
        return next(iter(self.of("search", task, schedule, "default")), None)

    def baseline_of_record(self, task: str) -> str | None:
        """Return the baseline with the best validation accuracy when selected."""
        baselines = {
            schedule: event.val_accuracy
            for (name, schedule), event in self.selected.items()
            if name == task and schedule != STUDIED
        }
        return max(baselines, key=lambda name: baselines[name]) if baselines else None

    def chance(self, task: str) -> float:
        """Return the accuracy of guessing, 1/K."""
        return 1 / self.task(task).complexity.num_classes

    def val_accuracies(self, runs: Sequence[Run]) -> list[float]:
        """Return what runs reached on the validation split; chance where one did not end well."""
        return [
            run.last.val_accuracy
            if run.status == "completed" and run.last is not None
            else self.chance(run.spec.task)
            for run in runs
        ]

    def test_accuracies(self, runs: Sequence[Run]) -> dict[int, float]:
        """Return by seed what runs reached on the test split; a diverged one is at chance, 1/K."""
        accuracies = {}
        for run in runs:
            if run.status == "diverged":
                accuracies[run.spec.seed] = self.chance(run.spec.task)
            elif run.last is not None and run.last.test_accuracy is not None:
                accuracies[run.spec.seed] = run.last.test_accuracy
        return accuracies


def _may_end(run: Run, status: Status) -> bool:
    """Whether a run's last epoch allows that end."""
    if status == "completed":
        return run.last is not None and run.last.ended and not run.last.diverged
    if status == "diverged":
        return run.last is not None and run.last.diverged
    return True


def _runs(events: Sequence[ledger.Event], plan: Plan) -> tuple[list[Run], list[str]]:
    """Return the runs, and what of the ledger could not be used."""
    tasks = {task.name for task in plan.tasks}
    runs: dict[str, Run] = {}
    sessions: dict[str, int] = {}  # in which each run was started last; 0: interrupted since
    damage = []
    session = 0
    for event in events:
        if isinstance(event, ledger.Opened):
            session += 1
        elif isinstance(event, ledger.Damaged):
            damage.append(f"line {event.line} {event.reason}")
        elif isinstance(event, ledger.RunStarted):
            spec = event.run
            if spec.id in runs:
                raise InputError(f"the ledger starts run {spec.id} twice")
            if spec.task not in tasks or (
                spec.arm[1] not in plan.schedules and spec.role != "canary"
            ):
                damage.append(f"run {spec.id} is of no arm of the plan")
                continue
            runs[spec.id] = Run(spec, event.at, None, (), "lost", "")
            sessions[spec.id] = session
        elif isinstance(
            event,
            ledger.RunInterrupted | ledger.RunResumed | ledger.EpochDone | ledger.RunEnded,
        ):
            run = runs.get(event.run_id)
            if run is None:
                damage.append(f"a row tells of run {event.run_id}, whose start is not there")
            elif run.ended_at is not None:
                damage.append(f"run {event.run_id} goes on after its end")
            elif isinstance(event, ledger.EpochDone):
                runs[event.run_id] = replace(run, epochs=(*run.epochs, event.result))
            elif isinstance(event, ledger.RunEnded):
                if not _may_end(run, event.status):
                    damage.append(f"run {event.run_id} is told {event.status}; its epochs are not")
                runs[event.run_id] = replace(
                    run, ended_at=event.at, status=event.status, message=event.message
                )
            elif isinstance(event, ledger.RunInterrupted):
                sessions[event.run_id] = 0
            elif sessions[event.run_id] == session:
                damage.append(f"run {event.run_id} goes on without an interruption")
            else:
                kept = tuple(epoch for epoch in run.epochs if epoch.epoch <= event.num_epochs)
                resumed = replace(run, epochs=kept, num_resumed=run.num_resumed + 1)
                void = run.void_epochs + run.epoch_equivalents - resumed.epoch_equivalents
                runs[event.run_id] = replace(resumed, started_at=event.at, void_epochs=void)
                sessions[event.run_id] = session
    return list(runs.values()), list(dict.fromkeys(damage))
