"""What happened, read back: the plan, the ledger's rows and the runs they tell of."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tune_adaptive.analysis.rows import Rows, Run
from tune_adaptive.records import ledger
from tune_adaptive.records.plan import Plan, hash_file
from tune_adaptive.records.runs import Stage
from tune_adaptive.records.task_plan import TaskPlan

__all__ = ["History", "Run"]


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
        rows = Rows(self.events, self.plan)
        self.runs, self.damage = list(rows.runs.values()), rows.damage
        self.selected, self.failed_arms = rows.selected, rows.failed_arms
        self.ended_in_order = rows.ended_in_order

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
        return self.plan.task(name)

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
        """Return the baseline with the best validation metric when selected."""
        score = self.task(task).metric.score
        baselines = {
            schedule: score(event.val_metric)
            for (name, schedule), event in self.selected.items()
            if name == task and schedule != self.plan.studied
        }
        return max(baselines, key=lambda name: baselines[name]) if baselines else None

    def chance(self, task: str) -> float:
        """Return the metric of guessing."""
        return self.task(task).of_guessing

    def val_metrics(self, runs: Sequence[Run]) -> list[float]:
        """Return what runs reached on the validation split; chance where one did not end well."""
        return [
            run.last.val_metric
            if run.status == "completed" and run.last is not None
            else self.chance(run.spec.task)
            for run in runs
        ]

    def test_metrics(self, runs: Sequence[Run]) -> dict[int, float]:
        """Return by seed what runs reached on the test split; a diverged one is at chance."""
        metrics = {}
        for run in runs:
            if run.status == "diverged":
                metrics[run.spec.seed] = self.chance(run.spec.task)
            elif run.last is not None and run.last.test_metric is not None:
                metrics[run.spec.seed] = run.last.test_metric
        return metrics
