"""Writes experiments, event by event, without training anything."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.ray_backend.test_engine import plan
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.records import ledger
from tune_adaptive.records.plan import Plan
from tune_adaptive.records.runs import Configuration, EpochResult, RunSpec, Stage, Status
from tune_adaptive.records.spaces import Parameter, SearchSpace
from tune_adaptive.records.task_plan import DataFacts

TASK = "tiny/linear"
STEPS = 3 * 7  # 100 examples in batches of 16
BASE = [0.80, 0.81, 0.82, 0.79, 0.80, 0.81, 0.82, 0.79]
SPACE = SearchSpace(
    (
        Parameter("lr", "float", 1e-3, low=1e-4, high=1e-1, log=True),
        Parameter("weight_decay", "float", 0.05, low=0.0, high=0.1),
        Parameter("warmup_frac", "float", 0.1, low=0.0, high=0.2),
    )
)
MIDDLE = Configuration.from_values("step", {"lr": 1e-3, "weight_decay": 0.05, "warmup_frac": 0.1})


def epoch(number: int, val: float, test: float | None = None, at: float = 0.0) -> EpochResult:
    return EpochResult(
        epoch=number,
        epoch_equivalents=float(number),
        num_steps=7 * number,
        planned_steps=STEPS,
        train_loss=1.0,
        val_loss=1.0,
        val_metric=val,
        lrs=(0.1,),
        lr_steps=(number,),
        progress=number / 3,
        train_s=2.0,
        eval_s=1.0,
        ended_at=at,
        num_cotenants=0,
        test_metric=test,
        ended=number == 3,
    )


def three(val: float, test: float | None = None) -> list[EpochResult]:
    return [epoch(1, val), epoch(2, val), epoch(3, val, test)]


class Maker:
    """Writes an experiment's folder: one of T = 3 epochs, planned in full."""

    def __init__(
        self, folder: Path, schedules: Sequence[str] = ("adaptive", "step"), **plan_fields: object
    ) -> None:
        self.folder = folder
        self.schedules = schedules
        self.plan_fields = plan_fields
        self.events: list[ledger.Event] = []
        self.at = 0.0
        self.facts: DataFacts | None = DataFacts(0, 0, 1.0, 0.1)
        self.num_told = 0  # runs that the last row tells of; 0 is as many as there are
        self.num_before: dict[Stage, int] = {}  # and that the row of a stage does, likewise

    def run(
        self,
        id_: str,
        schedule: str,
        epochs: Sequence[EpochResult],
        seed: int = 0,
        status: Status | None = "completed",
        role: str | None = None,
        num_epochs: int = 3,
        number: int | None = None,
        repeats: str | None = None,
    ) -> None:
        stage: Stage = id_.split("-")[0]  # type: ignore[assignment]
        opens = stage in ("final", "ablation", "contention") and role != "canary"
        roles = {"search": "sampled", "select": "candidate", "final": "selected"}
        spec = RunSpec(
            id_,
            stage,
            TASK,
            replace(MIDDLE, schedule=schedule),
            seed,
            num_epochs,
            open_test=opens,
            role=role or roles[stage],
            number=number,
            repeats=repeats,
        )
        self.events.append(ledger.RunStarted(spec, self.at))
        self.events += [ledger.EpochDone(id_, each) for each in epochs]
        if any(each.test_metric is not None for each in epochs):
            self.events.append(ledger.TestOpened(id_, self.at))
        self.at += 1.0
        if status is not None:
            self.events.append(ledger.RunEnded(id_, status, "", self.at))

    def search(self, schedule: str, values: Sequence[float]) -> None:
        """The defaults, then controls: full runs of these validation accuracies."""
        for number, value in enumerate(values):
            role = "control" if number else "default"
            id_ = f"search-{schedule}-{number:04d}"
            self.run(id_, schedule, three(value), seed=number, role=role, number=number)

    def reselect(self, schedule: str, values: Sequence[float], num: int = 2) -> None:
        """The defaults and the best ``num`` of a search are re-run, twice each."""
        trials = sorted(enumerate(values), key=lambda pair: pair[1], reverse=True)
        for number, value in {*trials[:num], (0, values[0])}:
            for seed in range(2):
                id_ = f"select-search-{schedule}-{number:04d}-{seed}"
                trial_id = f"search-{schedule}-{number:04d}"
                self.run(id_, schedule, three(value), 100_000 + seed, repeats=trial_id)
        configuration = replace(MIDDLE, schedule=schedule)
        number, value = trials[0]
        self.events.append(
            ledger.Selected(TASK, configuration, value, f"search-{schedule}-{number:04d}")
        )

    def select(self, schedule: str, val: float) -> None:
        """Selected, whatever was searched."""
        self.run(f"select-best-{schedule}-0", schedule, three(val), seed=100_000)
        configuration = replace(MIDDLE, schedule=schedule)
        self.events.append(ledger.Selected(TASK, configuration, val, f"best-{schedule}"))

    def final(self, schedule: str, test: Sequence[float], val: float = 0.9) -> None:
        for seed, value in enumerate(test):
            self.run(f"final-{schedule}-{seed}", schedule, three(val, value), 200_000 + seed)

    def canaries(self, seconds: Sequence[float]) -> None:
        for index, train_s in enumerate(seconds):
            epochs = [replace(each, train_s=train_s) for each in three(0.5)]
            self.run(f"final-canary-{index}", "constant", epochs, 200_000, role="canary")

    def plan(self) -> Plan:
        task = replace(
            plan().tasks[0],
            num_train=100,
            batch_size=16,
            facts=self.facts,
            spaces={schedule: SPACE for schedule in self.schedules},
        )
        fields = {"schedules": tuple(self.schedules), "tasks": (task,), **self.plan_fields}
        return replace(plan(), **fields)  # type: ignore[arg-type]

    def rows(self) -> list[ledger.Event]:
        """The events, those of each stage behind the row that begins it."""
        stages = self.plan().stages
        stage_of = {e.run.id: e.run.stage for e in self.events if isinstance(e, ledger.RunStarted)}
        by_stage: dict[Stage, list[ledger.Event]] = {stage: [] for stage in stages}
        stage: Stage = "search"
        for event in self.events:
            if isinstance(event, ledger.RunStarted):
                stage = event.run.stage
            elif isinstance(event, ledger.Selected | ledger.ArmFailed):
                stage = "select"
            else:
                stage = stage_of.get(getattr(event, "run_id", ""), stage)
            by_stage.setdefault(stage, []).append(event)
        found: list[ledger.Event] = []
        for stage, events in by_stage.items():
            num_started = sum(isinstance(event, ledger.RunStarted) for event in found)
            if stage == "select":  # a selection follows the re-runs
                events.sort(key=lambda e: isinstance(e, ledger.Selected | ledger.ArmFailed))
            if stage in stages:
                told = self.num_before.get(stage, num_started)
                found.append(ledger.StageStarted(stage, 1.0, told, 0.0))
            found += events
        return found

    def write(self) -> Path:
        sha256 = self.plan().write(self.folder / "plan.toml")
        rows = self.rows()
        num_started = sum(isinstance(event, ledger.RunStarted) for event in rows)
        closed = ledger.Closed(self.num_told or num_started, self.at)
        self.write_rows([ledger.Opened(0.0, sha256), *rows, closed])
        return self.folder

    def write_rows(self, rows: Sequence[ledger.Event]) -> None:
        with ledger.Ledger(self.folder / "ledger.jsonl") as open_ledger:
            for event in rows:
                open_ledger.append(event)

    def analysis(self) -> Analysis:
        return Analysis(self.write())


def honest(folder: Path) -> Maker:
    """An experiment that keeps every rule: 4 controls an arm, 8 final seeds."""
    maker = Maker(folder, budget=5.0, num_controls=4, num_final_seeds=8)
    for schedule, values in (
        ("adaptive", (0.85, 0.80, 0.82, 0.84, 0.86)),
        ("step", (0.75, 0.70, 0.72, 0.84, 0.86)),
    ):
        maker.search(schedule, values)
        maker.reselect(schedule, values)
        maker.final(schedule, [base + 0.03 * (schedule == "adaptive") for base in BASE])
    maker.canaries([2.0, 2.0, 2.02])
    return maker
