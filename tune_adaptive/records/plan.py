"""The plan of an experiment, frozen in ``plan.toml`` before the first run."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from msgspec import Meta

from tune_adaptive.errors import InputError
from tune_adaptive.records.ablations import ABLATIONS
from tune_adaptive.records.codec import (
    Count,
    DecodeError,
    Positive,
    PositiveAmount,
    Whole,
    convert,
    parse_toml,
    read_bytes,
    shown,
)
from tune_adaptive.records.packing import Packed
from tune_adaptive.records.runs import SignalSource, Slowdown, Stage
from tune_adaptive.records.space_files import space_from_dict
from tune_adaptive.records.spaces import SpaceError
from tune_adaptive.records.task_plan import Note, TaskPlan

FORMAT = 5

FIRST_SEED: dict[str, int] = {"search": 0, "select": 100_000, "final": 200_000, "verify": 300_000}
"""Where the seeds of each begin, so that no two share one. Ablations and contention repeat
the final runs, and so their seeds."""

SEEDS_PER_STAGE = 100_000
MAX_BUDGET = 33_000
"""Full runs an arm: each at most three trials, each trial a seed, and one to spare."""

MAX_GROWTH = 4
"""How many times a task's own number of epochs a time budget may make a run: longer ones learn
little more, and overfit."""

CANARY_EPOCHS = 3
NUM_CANARIES = 3  # at the start, in the middle and at the end of the final stage
START_UP_S = 20.0
"""What Ray and its workers take on a small machine [s], for the estimate."""

SEEDS_PER_EXPERIMENT = 1_000_000

Seed = Annotated[int, Meta(ge=0, lt=2**32, description="a whole number in [0, 2**32)")]
Budget = Annotated[float, Meta(ge=1, le=MAX_BUDGET, description=f"a number in [1, {MAX_BUDGET}]")]
NumSeeds = Annotated[
    int, Meta(ge=1, le=SEEDS_PER_STAGE, description=f"a whole number in [1, {SEEDS_PER_STAGE}]")
]

OLD_NUM_CONTROLS = "num_witnesses"
"""What plans called the number of random-search controls before metrics had names."""

STUDIED = "adaptive"
"""The schedule whose verdict is asked, where nobody says another."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What may become a file's name: experiments, schedules and each half of a task's name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides what an experiment does.

    Attributes:
        name: The experiment's name.
        created: When, ISO 8601.
        command: What was typed.
        seed: Root of all seeds.
        schedules: The schedules compared.
        tasks: The tasks they are compared on.
        budget: Full-run equivalents that each arm may spend in the search.
        num_controls: Trials of each arm that are drawn beforehand and never stopped early.
        num_candidates: How many trials of each arm are re-run to select one, besides its
            defaults.
        num_select_seeds: Fresh seeds of each candidate.
        num_final_seeds: Fresh seeds of each selected configuration, and of each default.
        final_slots: Runs that are at work at once after the selection: one a device.
        ablations: Whether those in ``ABLATIONS`` are run again without each of their parts.
        signals: ``live``, ``steady`` or ``replay``.
        num_gpus: GPUs the cluster has or was told it has.
        num_cpus: CPUs the cluster has.
        device: What the runs train on, in words.
        versions: Of the packages that decide the numbers.
        hardware: What the machine is.
        options: What was asked of the tasks, as far as it was not the default.
        max_retries: How often a run is handed out again that came to a halt by no fault of its own.
        keep_every_s: Seconds between two checkpoints of a run.
        hang_after_s: Seconds after which an epoch that has not ended is taken to hang.
        studied: The schedule whose verdict is asked: it is compared with all others.
        slowdown: What every selected configuration is run again under, if anything.
        run_time_budget_s: Seconds that a schedule which plans in time should take for a run;
            None lets it measure them.
        time_budget_s: Seconds that the whole experiment may take, which T was solved for;
            None where T was given.
        packing: What was measured to choose the tasks' ``gpus_per_trial``; empty where it was
            given.
        num_nodes: Machines of the cluster.
        builders: Where the schedules are from that are not of this package, by name.
        storage_path: Folder or URL that all nodes share, for checkpoints; None is the
            experiment's own folder.
    """

    name: str
    created: str
    command: str
    seed: Seed
    schedules: tuple[str, ...]
    tasks: tuple[TaskPlan, ...]
    budget: Budget
    num_controls: Count
    num_candidates: NumSeeds
    num_select_seeds: NumSeeds
    num_final_seeds: NumSeeds
    final_slots: Positive
    ablations: bool
    signals: SignalSource
    num_gpus: Count
    num_cpus: Positive
    device: str
    versions: Mapping[str, str]
    hardware: Mapping[str, str | Whole]
    options: Mapping[str, Note]
    max_retries: Count = 3
    keep_every_s: PositiveAmount = 50.0
    hang_after_s: PositiveAmount = 600.0
    studied: str = STUDIED
    slowdown: Slowdown | None = None
    run_time_budget_s: PositiveAmount | None = None
    time_budget_s: PositiveAmount | None = None
    packing: tuple[Packed, ...] = ()
    num_nodes: Positive = 1
    builders: Mapping[str, str] = field(default_factory=dict)
    storage_path: str | None = None

    @property
    def slots(self) -> int:
        """The most trials that run at once."""
        return max(task.slots for task in self.tasks)

    @property
    def slots_of(self) -> dict[str, int]:
        """By the task's name, the most trials of it at once."""
        return {task.name: task.slots for task in self.tasks}

    @property
    def is_shared_alike(self) -> bool:
        """Whether a trial gets the same of CPUs and GPUs, whatever its task."""
        return len({(task.cpus_per_trial, task.gpus_per_trial) for task in self.tasks}) == 1

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that this plan has, in their order."""
        ablation: tuple[Stage, ...] = ("ablation",) if self.ablations else ()
        contention: tuple[Stage, ...] = ("contention",) if self.slowdown else ()
        return ("search", "select", "final", *ablation, *contention)

    @property
    def arms(self) -> list[tuple[str, str]]:
        """Every (task, schedule) there is."""
        return [(task.name, schedule) for task in self.tasks for schedule in self.schedules]

    def task(self, name: str) -> TaskPlan:
        """Return what is fixed for one task."""
        return next(task for task in self.tasks if task.name == name)

    def stage_seed(self, stage: str, index: int) -> int:
        """Return the ``index``-th seed of a stage; the stages' seeds are disjoint."""
        return self.seed * SEEDS_PER_EXPERIMENT + FIRST_SEED[stage] + index

    def full_runs(self, stage: Stage) -> float:
        """Return the most full runs that a stage spends on a task, over all its arms."""
        num_ablations = sum(len(ABLATIONS.get(name, ())) for name in self.schedules)
        num_ablations = num_ablations if self.ablations else 0
        share = 1.0  # of a run, before the slowdown cuts it
        if self.slowdown is not None:
            share = self.slowdown.affordable_steps(1000) / 1000
        return {
            "search": self.budget * len(self.schedules),
            "select": (self.num_candidates + 1) * self.num_select_seeds * len(self.schedules),
            "final": 2 * self.num_final_seeds * len(self.schedules),
            "ablation": self.num_final_seeds * num_ablations,
            "contention": self.num_final_seeds * (len(self.schedules) + num_ablations) * share,
        }[stage]

    def task_epochs(self, stage: Stage, task: TaskPlan) -> float:
        """Return the most a stage may spend on a task, in epoch-equivalents."""
        epochs = self.full_runs(stage) * task.num_epochs
        if stage == "final":
            epochs += NUM_CANARIES * min(CANARY_EPOCHS, task.num_epochs)
        return epochs

    def stage_epochs(self, stage: Stage) -> float:
        """Return the most a stage may spend over all tasks, in epoch-equivalents."""
        return sum(self.task_epochs(stage, task) for task in self.tasks)

    def stage_s(self, stage: Stage) -> float:
        """Return the estimated wall-clock seconds of a stage."""
        if stage in ("search", "select"):
            return sum(
                self.task_epochs(stage, task) * task.loaded_epoch_s / task.slots
                for task in self.tasks
            )
        alone_s = sum(self.task_epochs(stage, task) * task.epoch_s for task in self.tasks)
        return alone_s / self.final_slots

    def estimated_s(self) -> float:
        """Return the estimated wall-clock seconds of all stages, start-up included."""
        return START_UP_S + sum(map(self.stage_s, self.stages))

    def write(self, path: Path) -> str:
        """Write ``plan.toml``; return its SHA-256, which the ledger keeps."""
        fields = _without_none(_plain(self))
        path.write_bytes(tomli_w.dumps({"format": FORMAT, **fields}).encode(errors="replace"))
        return hash_file(path)

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Read ``plan.toml``.

        Raises:
            InputError: It is not there or not a plan, with every problem.
        """
        try:
            data = read_bytes(path)
        except DecodeError as error:
            raise InputError(f"{path.parent}: not an experiment: {error}") from error
        document = parse_toml(data, str(path))
        if (found := document.pop("format", None)) != FORMAT:
            raise InputError(f"{path}: a plan of format {shown(found)}; this reads {FORMAT}")
        return _checked(document, str(path))


def check_plan(plan: Plan, source: str) -> None:
    """Check that a plan is one that can be read back.

    Raises:
        InputError: It is not, with every problem.
    """
    _checked(_plain(plan), source)


def _plain(plan: Plan) -> dict[str, Any]:
    """Return a plan as the tables of ``plan.toml``."""
    fields = asdict(plan)
    for table, task in zip(fields["tasks"], plan.tasks, strict=True):
        table["spaces"] = {name: space.to_dict() for name, space in task.spaces.items()}
    return fields


def _without_none(value: Any) -> Any:
    """Return plain data without what is not there: TOML has no word for it."""
    if isinstance(value, Mapping):
        return {name: _without_none(each) for name, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, list | tuple) else value


def _checked(document: dict[str, Any], source: str) -> Plan:
    """Make a plan of the tables of ``plan.toml``, which are not needed afterwards."""
    if OLD_NUM_CONTROLS in document:
        document["num_controls"] = document.pop(OLD_NUM_CONTROLS)
    plan = convert(_with_spaces(document, source), Plan, source)
    if problems := [f"{source}: {problem}" for problem in _contradictions(plan)]:
        raise DecodeError(problems)
    return plan


def _with_spaces(document: dict[str, Any], source: str) -> dict[str, Any]:
    """Put search spaces where their tables are."""
    problems: list[str] = []
    tasks = document.get("tasks")
    for task in tasks if isinstance(tasks, list | tuple) else ():
        tables = task.get("spaces") if isinstance(task, dict) else None
        if not isinstance(tables, dict):
            continue  # the types say so
        for name, table in tables.items():
            try:
                tables[name] = space_from_dict(table, f"{source}: tasks.spaces.{name}")
            except SpaceError as error:
                problems += error.problems
    if problems:
        raise DecodeError(problems)
    return document


def _contradictions(plan: Plan) -> Iterator[str]:
    """Say what of a plan does not fit the rest of it, each value being right by itself."""
    names = [task.name for task in plan.tasks]
    for name in (plan.name, plan.studied, *plan.schedules):
        if not NAME.fullmatch(name):
            yield f"{shown(name)} is no name of an experiment or schedule"
    for name in names:
        if not all(NAME.fullmatch(part) for part in name.split("/", 1)):
            yield f"{shown(name)} is no name of a task"
    for name in dict.fromkeys((*names, *plan.schedules)):
        if (*names, *plan.schedules).count(name) > 1:
            yield f"{shown(name)} is given twice"
    if not plan.tasks or not plan.schedules:
        yield "it has no task or no schedule"
    if plan.num_controls >= plan.budget:
        yield f"num_controls = {plan.num_controls}: must be < budget = {plan.budget:g}"
    for task in plan.tasks:
        yield from (f"{shown(task.name)}: metric: {each}" for each in task.metric.problems())
        if (problem := task.metric.problem(task.of_guessing)) is not None:
            yield f"{shown(task.name)}: chance: {problem}"
        if task.complexity.label_entropy > 0 and task.complexity.num_classes < 2:
            yield f"{shown(task.name)}: num_classes = {task.complexity.num_classes}: must be >= 2"
        for schedule in plan.schedules:
            if schedule not in task.spaces:
                yield f"{shown(task.name)}: has no space for {shown(schedule)}"


def model_notes(notes: Mapping[str, str | int | float]) -> str:
    """Say what a task's notes tell of its model; where files lie is no matter."""
    told = {name: value for name, value in notes.items() if name not in ("data", "checkpoint")}
    return ", ".join(f"{name} {value}" for name, value in sorted(told.items())) or "its own"


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
