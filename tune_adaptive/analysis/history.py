"""What happened, read back: the plan, the ledger's rows and the runs they tell of."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tune_adaptive import ledger
from tune_adaptive.analysis.stats import STUDIED
from tune_adaptive.errors import InputError
from tune_adaptive.plan import Plan, TaskPlan, hash_file
from tune_adaptive.runs import EpochResult, RunSpec, Stage


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the ledger tells it."""

    spec: RunSpec
    started_at: float  # the last time, where it was interrupted
    ended_at: float | None
    epochs: tuple[EpochResult, ...]
    status: str  # a Status, or "lost": no end was recorded
    message: str
    num_resumed: int = 0

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
        self.runs, self.damage = _runs(self.events)
        self.selected = {
            (event.task, event.configuration.schedule): event
            for event in self.events
            if isinstance(event, ledger.Selected)
        }

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

    def test_accuracies(self, runs: Sequence[Run]) -> dict[int, float]:
        """Return by seed what runs reached on the test split; a diverged one is at chance, 1/K."""
        accuracies = {}
        for run in runs:
            if run.status == "diverged":
                accuracies[run.spec.seed] = 1 / self.task(run.spec.task).complexity.num_classes
            elif run.last is not None and run.last.test_accuracy is not None:
                accuracies[run.spec.seed] = run.last.test_accuracy
        return accuracies


def _runs(events: Sequence[ledger.Event]) -> tuple[list[Run], list[str]]:
    """Return the runs, and what of the ledger could not be used."""
    started: dict[str, ledger.RunStarted] = {}
    resumed: dict[str, list[float]] = {}
    epochs: dict[str, list[EpochResult]] = {}
    ended: dict[str, ledger.RunEnded] = {}
    damage = []
    for event in events:
        if isinstance(event, ledger.Damaged):
            damage.append(f"line {event.line} {event.reason}")
        elif isinstance(event, ledger.RunStarted):
            if event.run.id in started:
                raise InputError(f"the ledger starts run {event.run.id} twice")
            started[event.run.id] = event
            epochs[event.run.id], resumed[event.run.id] = [], []
        elif isinstance(event, ledger.RunResumed | ledger.EpochDone | ledger.RunEnded):
            if event.run_id not in started:
                damage.append(f"a row tells of run {event.run_id}, whose start is not there")
            elif isinstance(event, ledger.RunResumed):
                epochs[event.run_id] = []
                resumed[event.run_id].append(event.at)
            elif isinstance(event, ledger.EpochDone):
                epochs[event.run_id].append(event.result)
            else:
                ended[event.run_id] = event
    runs = [
        Run(
            spec=start.run,
            started_at=[start.at, *resumed[run_id]][-1],
            ended_at=ended[run_id].at if run_id in ended else None,
            epochs=tuple(epochs[run_id]),
            status=ended[run_id].status if run_id in ended else "lost",
            message=ended[run_id].message if run_id in ended else "",
            num_resumed=len(resumed[run_id]),
        )
        for run_id, start in started.items()
    ]
    return runs, damage
