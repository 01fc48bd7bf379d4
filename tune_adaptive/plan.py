"""The plan of an experiment, frozen in ``plan.toml`` before the first run."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w

from tune_adaptive.errors import InputError
from tune_adaptive.runs import Stage
from tune_adaptive.signals.complexity import Complexity

FORMAT = 2

FIRST_SEED: dict[Stage, int] = {"search": 0, "select": 100_000, "final": 200_000}
"""Where each stage's seeds begin, so that no two stages share one."""

SEEDS_PER_EXPERIMENT = 1_000_000

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What may become a file's name: experiments, schedules and each half of a task's name."""


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
        spaces: Per schedule, the tables of its search space.
        space_sha256: Per schedule, the hash of its search space.
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
    spaces: Mapping[str, Mapping[str, Any]]
    space_sha256: Mapping[str, str]


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
        num_candidates: How many trials of each arm are re-run to select one.
        num_select_seeds: Fresh seeds of each candidate.
        num_final_seeds: Fresh seeds of each selected configuration.
        signals: ``live``, ``steady`` or ``replay``.
        gpus_per_trial: Share of a GPU each trial gets; 0 trains on the CPU.
        cpus_per_trial: CPUs each trial gets.
        num_gpus: GPUs the cluster has or was told it has.
        num_cpus: CPUs the cluster has.
        slots: Trials that run at once.
        device: What the runs train on, in words.
        versions: Of the packages that decide the numbers.
        hardware: What the machine is.
        run_time_budget_s: Seconds that a schedule which plans in time should take for a run;
            None lets it measure them.
    """

    name: str
    created: str
    command: str
    seed: int
    schedules: tuple[str, ...]
    tasks: tuple[TaskPlan, ...]
    budget: float
    num_candidates: int
    num_select_seeds: int
    num_final_seeds: int
    signals: str
    gpus_per_trial: float
    cpus_per_trial: float
    num_gpus: int
    num_cpus: int
    slots: int
    device: str
    versions: Mapping[str, str]
    hardware: Mapping[str, str | int]
    run_time_budget_s: float | None = None

    def stage_seed(self, stage: Stage, index: int) -> int:
        """Return the ``index``-th seed of a stage; the stages' seeds are disjoint."""
        return self.seed * SEEDS_PER_EXPERIMENT + FIRST_SEED[stage] + index

    def stage_epochs(self, stage: Stage) -> float:
        """Return the most a stage may spend over all arms, in epoch-equivalents."""
        full_runs = {
            "search": self.budget,
            "select": self.num_candidates * self.num_select_seeds,
            "final": self.num_final_seeds,
        }[stage]
        return sum(task.num_epochs * full_runs for task in self.tasks) * len(self.schedules)

    def estimated_s(self) -> float:
        """Return the estimated wall-clock seconds of all stages, start-up left out."""
        per_task = self.budget + self.num_candidates * self.num_select_seeds + self.num_final_seeds
        slot_s = sum(task.num_epochs * task.epoch_s * per_task for task in self.tasks)
        return slot_s * len(self.schedules) / self.slots

    def write(self, path: Path) -> None:
        """Write ``plan.toml``."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        path.write_bytes(tomli_w.dumps({"format": FORMAT, **fields}).encode())

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
                TaskPlan(**(task | {"complexity": Complexity(**task["complexity"])}))
                for task in document["tasks"]
            )
            schedules = tuple(document["schedules"])
            for name in (document["name"], *schedules, *(task.name for task in tasks)):
                if not all(NAME.fullmatch(part) for part in name.split("/", 1)):
                    raise InputError(f"{path}: {name!r} is no name of a task or schedule")
            return cls(**(document | {"tasks": tasks, "schedules": schedules}))
        except OSError as error:
            raise InputError(
                f"{path.parent}: not an experiment: no plan.toml there ({error.strerror})"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: not a plan: {error!r}") from error
