"""The plan of an experiment, frozen in ``plan.toml`` before the first run."""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w

from tune_adaptive.ablations import ABLATIONS
from tune_adaptive.errors import InputError
from tune_adaptive.packing import Packed
from tune_adaptive.runs import Slowdown, Stage
from tune_adaptive.signals.complexity import Complexity
from tune_adaptive.spaces import space_from_dict

FORMAT = 5

FIRST_SEED: dict[str, int] = {"search": 0, "select": 100_000, "final": 200_000, "verify": 300_000}
"""Where the seeds of each begin, so that no two share one. Ablations and contention repeat
the final runs, and so their seeds."""

CANARY_EPOCHS = 3
NUM_CANARIES = 3  # at the start, in the middle and at the end of the final stage
START_UP_S = 20.0
"""What Ray and its workers take on a small machine [s], for the estimate."""

SEEDS_PER_EXPERIMENT = 1_000_000

MAX_CLASS_RATIO = 3.0
"""Classes are of very unequal size where the largest has this many times the smallest's."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What may become a file's name: experiments, schedules and each half of a task's name."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What was found in a task's data while planning; none of it forbids a search.

    Attributes:
        num_validation_in_train: Validation examples that are training examples too.
        num_test_in_train: Test examples that are training examples too.
        class_ratio: Examples of train's largest class to those of its smallest, >= 1.
        majority_accuracy: Test accuracy of always answering with train's largest class.
        remarks: What was left out, converted or is missing.
    """

    num_validation_in_train: int
    num_test_in_train: int
    class_ratio: float
    majority_accuracy: float
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What is fixed for one task.

    Attributes:
        name: ``dataset/model``.
        num_epochs: T.
        num_train: Size of the training split.
        num_validation: Size of the validation split.
        num_test: Size of the test split.
        batch_size: Examples per optimizer step.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        augment: Of images: ``none``, ``shift``, ``standard`` or ``document``.
        clip_norm: Gradients of a larger norm are scaled down to it; infinity leaves them.
        notes: What else was decided: where the data are from, a model's stem or checkpoint.
        data_sha256: Hash of the three splits.
        complexity: C and what it was made of.
        precision: ``fp32`` or ``bf16``.
        epoch_s: Seconds of one epoch and its validation on one slot, as calibrated.
        loaded_epoch_s: The same with every slot at work.
        cpus_per_trial: CPUs each trial gets.
        gpus_per_trial: Share of a GPU each trial gets; 0 trains on the CPU.
        slots: Trials of it that run at once where no others do.
        spaces: Per schedule, the tables of its search space.
        space_sha256: Per schedule, the hash of its search space.
        facts: What was found in its data; None in plans of earlier versions.
    """

    name: str
    num_epochs: int
    num_train: int
    num_validation: int
    num_test: int
    batch_size: int
    optimizer: str
    augment: str
    clip_norm: float
    notes: Mapping[str, str | int | float]
    data_sha256: str
    complexity: Complexity
    precision: str
    epoch_s: float
    loaded_epoch_s: float
    cpus_per_trial: float
    gpus_per_trial: float
    slots: int
    spaces: Mapping[str, Mapping[str, Any]]
    space_sha256: Mapping[str, str]
    facts: DataFacts | None = None

    @property
    def contained(self) -> list[str]:
        """Say how much of validation and test is training data too."""
        if self.facts is None:
            return []
        return [
            f"{name}: {num} of {size} examples ({num / size:.2%}) are training examples too"
            for name, num, size in (
                ("validation", self.facts.num_validation_in_train, self.num_validation),
                ("test", self.facts.num_test_in_train, self.num_test),
            )
            if num
        ]

    @property
    def imbalance(self) -> list[str]:
        """Say of classes of very unequal size what guessing the largest is worth."""
        if self.facts is None or self.facts.class_ratio < MAX_CLASS_RATIO:
            return []
        return [
            f"the largest class has {self.facts.class_ratio:.3g} times the training examples of "
            f"the smallest: guessing it has a test accuracy of {self.facts.majority_accuracy:.3f}"
        ]

    @property
    def remarks(self) -> list[str]:
        """Say what a person should know of its data."""
        own = [] if self.facts is None else self.facts.remarks
        return [*own, *self.contained, *self.imbalance]


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
        num_witnesses: Trials of each arm that are drawn beforehand and never stopped early.
        num_candidates: How many trials of each arm are re-run to select one, besides its
            defaults.
        num_select_seeds: Fresh seeds of each candidate.
        num_final_seeds: Fresh seeds of each selected configuration, and of each default.
        final_slots: Runs that are at work at once after the selection: one a device.
        ablations: Whether the studied schedule is run again without each of its parts.
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
        slowdown: What every selected configuration is run again under, if anything.
        run_time_budget_s: Seconds that a schedule which plans in time should take for a run;
            None lets it measure them.
        time_budget_s: Seconds that the whole experiment may take, which T was solved for;
            None where T was given.
        packing: What was measured to choose the tasks' ``gpus_per_trial``; empty where it was
            given.
        num_nodes: Machines of the cluster.
        storage_path: Folder or URL that all nodes share, for checkpoints; None is the
            experiment's own folder.
    """

    name: str
    created: str
    command: str
    seed: int
    schedules: tuple[str, ...]
    tasks: tuple[TaskPlan, ...]
    budget: float
    num_witnesses: int
    num_candidates: int
    num_select_seeds: int
    num_final_seeds: int
    final_slots: int
    ablations: bool
    signals: str
    num_gpus: int
    num_cpus: int
    device: str
    versions: Mapping[str, str]
    hardware: Mapping[str, str | int]
    options: Mapping[str, str | int | float]
    max_retries: int = 3
    keep_every_s: float = 50.0
    hang_after_s: float = 600.0
    slowdown: Slowdown | None = None
    run_time_budget_s: float | None = None
    time_budget_s: float | None = None
    packing: tuple[Packed, ...] = ()
    num_nodes: int = 1
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
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        for several in ("packing", "tasks"):
            fields[several] = [
                {name: value for name, value in each.items() if value is not None}
                for each in fields[several]
            ]
        path.write_bytes(tomli_w.dumps({"format": FORMAT, **fields}).encode())
        return hash_file(path)

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Read ``plan.toml``.

        Raises:
            InputError: It is not there or not a plan.
        """
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
            if document.pop("format") != FORMAT:
                raise InputError(f"{path}: a plan of another format; this reads {FORMAT}")
            tasks = tuple(
                TaskPlan(
                    **(
                        task
                        | {"complexity": Complexity(**task["complexity"])}
                        | ({"facts": DataFacts(**task["facts"])} if "facts" in task else {})
                    )
                )
                for task in document["tasks"]
            )
            schedules = tuple(document["schedules"])
            for name in (document["name"], *schedules, *(task.name for task in tasks)):
                if not all(NAME.fullmatch(part) for part in name.split("/", 1)):
                    raise InputError(f"{path}: {name!r} is no name of a task or schedule")
            for task in tasks:
                if missing := [name for name in schedules if name not in task.spaces]:
                    raise InputError(f"{path}: {task.name} has no space for {', '.join(missing)}")
                if task.complexity.num_classes < 2 or task.num_epochs < 1 or task.batch_size < 1:
                    raise InputError(f"{path}: {task.name}: a size that cannot be")
                for name in schedules:
                    space_from_dict(dict(task.spaces[name]), str(path))
            if "slowdown" in document:
                document["slowdown"] = Slowdown(**document["slowdown"])
            packing = tuple(Packed(**packed) for packed in document.get("packing", ()))
            decoded = {"tasks": tasks, "schedules": schedules, "packing": packing}
            return cls(**(document | decoded))
        except OSError as error:
            raise InputError(
                f"{path.parent}: not an experiment: no plan.toml there ({error.strerror})"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: not a plan: {error!r}") from error


def model_notes(notes: Mapping[str, str | int | float]) -> str:
    """Say what a task's notes tell of its model; where files lie is no matter."""
    told = {name: value for name, value in notes.items() if name not in ("data", "checkpoint")}
    return ", ".join(f"{name} {value}" for name, value in sorted(told.items())) or "its own"


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
