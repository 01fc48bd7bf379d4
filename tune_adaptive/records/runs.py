"""What flows through the project: configurations, runs and what a run says of itself.

Everything here is plain, frozen data. Nothing here imports torch or ray, so that the
ledger, the analysis and the report can read it anywhere.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from tune_adaptive.records.codec import (
    LARGEST,
    Amount,
    Count,
    Finite,
    Positive,
    PositiveAmount,
    Proportion,
    Whole,
    convert,
    one_of,
)

Value = bool | Whole | float | str
"""A hyperparameter's value."""

Stage = Literal["search", "select", "final", "ablation", "contention"]
Status = Literal["completed", "stopped", "diverged", "failed"]
Precision = Annotated[str, one_of("fp32", "bf16")]
SignalSource = Annotated[str, one_of("live", "steady", "replay")]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters that every schedule of a task shares (``search_spaces/common.toml``).

    Attributes:
        lr: Base learning rate, > 0.
        weight_decay: Weight decay, >= 0: decoupled where the optimizer has it so, as AdamW does.
        warmup_frac: Linear warm-up as a fraction of the planned steps, in [0, 1).
    """

    lr: Amount = 1e-3
    weight_decay: Amount = 0.01
    warmup_frac: Proportion = 0.0


@dataclass(frozen=True, slots=True)
class Configuration:
    """One point of an arm's search space: the recipe and the schedule's own parameters."""

    schedule: str
    recipe: Recipe = field(default_factory=Recipe)
    parameters: Mapping[str, Value] = field(default_factory=dict)

    @classmethod
    def from_values(cls, schedule: str, values: Mapping[str, Value]) -> "Configuration":
        """Sort flat ``name -> value`` pairs into the recipe's and the schedule's own."""
        recipe = {name: float(values[name]) for name in RECIPE_NAMES if name in values}
        own = {name: value for name, value in values.items() if name not in RECIPE_NAMES}
        return cls(schedule, Recipe(**recipe), own)

    def values(self) -> dict[str, Value]:
        """Return the flat ``name -> value`` pairs, the recipe's first."""
        return {**asdict(self.recipe), **self.parameters}


RECIPE_NAMES = tuple(Recipe.__dataclass_fields__)

OPTIMIZER_NAMES = ("adam", "adamw", "sgd")
"""What a task may be trained with."""
OptimizerName = Annotated[str, one_of(*OPTIMIZER_NAMES)]


@dataclass(frozen=True, slots=True)
class Slowdown:
    """A machine that slows down in mid-run, on a clock of its own: nobody has to wait for it.

    Each step takes 1 unit, from ``start_frac`` of the planned steps on ``factor`` units, and
    the run is cut when as many units have passed as there were steps planned.

    Attributes:
        factor: > 1.
        start_frac: In [0, 1).
    """

    factor: Annotated[float, Meta(gt=1, le=LARGEST, description="a finite number > 1")]
    start_frac: Annotated[float, Meta(ge=0, lt=1, description="a number in [0, 1)")]

    def step_s(self, step: int, total_steps: int) -> float:
        """Return how long step ``step`` (from 0) takes."""
        return self.factor if step >= self.start_frac * total_steps else 1.0

    def affordable_steps(self, total_steps: int) -> int:
        """Return the steps that end within ``total_steps`` units.

        Example:
            >>> Slowdown(2.0, 0.4).affordable_steps(100)
            70
        """
        full_speed = math.ceil(self.start_frac * total_steps)
        return full_speed + math.floor((total_steps - full_speed) / self.factor + 1e-9)


@dataclass(frozen=True, slots=True)
class Hearing:
    """What a run hears of another run's recording instead of its own training.

    Attributes:
        recording: Id of the run that was recorded.
        names: Of ``lr`` (open loop: the schedule is a table), ``loss``, ``seconds``, ``load``.
        shuffled: Whether the recording's steps are shuffled, by the run's seed.
    """

    recording: str
    names: tuple[Annotated[str, one_of("lr", "loss", "seconds", "load")], ...]
    shuffled: bool = False


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One training to be done.

    Attributes:
        id: Unique in the experiment, ``search-0007``.
        stage: Which stage asked for it.
        task: Name of the task, ``dataset/model``.
        configuration: What to train with.
        seed: Seeds initialisation and data order, which depend on nothing else.
        num_epochs: T, the horizon the schedule plans for.
        precision: ``fp32`` or ``bf16``.
        signals: ``live``, ``steady`` or ``replay``.
        open_test: Whether the run ends with one look at the test split.
        time_budget_s: Seconds that a schedule which plans in time should take, > 0.
        role: Why it is run: ``default`` (the schedule's own defaults), ``control`` (drawn
            beforehand, never stopped early), ``sampled`` (by Optuna), ``candidate``,
            ``selected``, ``canary`` (times the machine) or the name of an ablation.
        slowdown: The injected slowdown, if there is one.
        hearing: What it hears of another run, if anything.
        number: Of a trial of the search, how many its arm had before it; of other runs, the place
            of their seed among their stage's. None in ledgers before version 4.
        repeats: Of a re-run for the selection: the id of the trial it repeats. None for other
            runs, and in ledgers before version 4.
    """

    id: str
    stage: Stage
    task: str
    configuration: Configuration
    seed: Count
    num_epochs: Positive
    precision: Precision = "fp32"
    signals: SignalSource = "live"
    open_test: bool = False
    time_budget_s: PositiveAmount | None = None
    role: str = "sampled"
    slowdown: Slowdown | None = None
    hearing: Hearing | None = None
    number: Count | None = None
    repeats: str | None = None

    @property
    def arm(self) -> tuple[str, str]:
        """The arm it belongs to: (task, schedule)."""
        return self.task, self.configuration.schedule

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "RunSpec":
        """Read what :meth:`to_dict` returned."""
        return convert(row, cls, "a run")


def file_name(*names: str) -> str:
    """Join names into one that a file can have: no two lists of names have the same.

    The halves of a task's name, ``dataset/model``, count as two; a ``-`` within a name is
    doubled. No name begins with one.

    Example:
        >>> file_name("a-b/c", "step"), file_name("a/b-c", "step")
        ('a--b-c-step', 'a-b--c-step')
    """
    parts = [part for name in names for part in name.split("/")]
    return "-".join(part.replace("-", "--") for part in parts)


@dataclass(frozen=True, slots=True)
class Signal:
    """What a run's schedule heard at once. ``None`` is not heard.

    Attributes:
        step: Optimizer steps done before it.
        lr: Learning rate (first param group) of the optimizer step it tells of; None where
            it was heard between two steps.
        loss: Training loss of that step.
        seconds: Duration of that step [s].
        grad_norm: Norm of its gradient.
        val_loss: Validation loss [nats].
        load: Use of the device, in [0, 1].
    """

    step: Count
    lr: float | None = None
    loss: float | None = None
    seconds: Amount | None = None
    grad_norm: float | None = None
    val_loss: float | None = None
    load: Proportion | None = None

    def heard(self) -> dict[str, float | None]:
        """Return the arguments for ``observe``."""
        return {name: getattr(self, name) for name in SIGNAL_NAMES}


SIGNAL_NAMES = ("loss", "seconds", "grad_norm", "val_loss", "load")


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What one epoch of a run measured. ``None`` means not measured, never 0.

    Attributes:
        epoch: 1-based number of the epoch.
        epoch_equivalents: Training examples processed so far / size of the training split.
        num_steps: Optimizer steps so far.
        planned_steps: Optimizer steps that its schedule planned for.
        train_loss: Mean training loss over the epoch [nats].
        val_loss: Validation loss at its end [nats].
        val_metric: The task's metric on the validation split at its end.
        lrs: Learning rate (first param group) at evenly spaced steps of the epoch.
        lr_steps: The optimizer steps that ``lrs`` belong to.
        progress: The schedule's budget clock in [0, 1].
        train_s: Seconds in the training loop.
        eval_s: Seconds in validation.
        ended_at: Unix time at the epoch's end [s].
        cpu_percent: CPU use of the process over the epoch; 100 is one core.
        rss_bytes: Resident memory of the process.
        gpu_util: GPU utilisation over the epoch, all tenants together, in [0, 1].
        gpu_mem_bytes: Peak memory this process held on the GPU.
        gpu_mem_fraction: GPU memory in use at its end, all tenants together, in [0, 1].
        node_cpu_percent: CPU use of the whole node at its end; 100 is all its cores.
        node_mem_fraction: Memory in use on the node at its end, in [0, 1].
        num_cotenants: Processes on the GPU that are not of this experiment; counted before
            a run's first epoch and after its last.
        ended: Whether the run ended here: its plan done, or diverged.
        diverged: Whether a loss was not finite.
        foreign_cpus: CPUs of the node that processes not of this experiment used over the epoch,
            on average, in [0, CPUs]; where the search itself runs on that node.
        test_loss: Test loss [nats]; only at the end of a final run.
        test_metric: The same on the test split; only at the end of a final run.
    """

    epoch: Positive
    epoch_equivalents: Amount
    num_steps: Count
    planned_steps: Count
    train_loss: float
    val_loss: float
    val_metric: float
    lrs: tuple[float, ...]
    lr_steps: tuple[Count, ...]
    progress: Proportion
    train_s: Amount
    eval_s: Amount
    ended_at: Finite
    cpu_percent: Amount | None = None
    rss_bytes: Count | None = None
    gpu_util: Proportion | None = None
    gpu_mem_bytes: Count | None = None
    gpu_mem_fraction: Proportion | None = None
    node_cpu_percent: Amount | None = None
    node_mem_fraction: Proportion | None = None
    num_cotenants: Count | None = None
    ended: bool = False
    diverged: bool = False
    test_loss: float | None = None
    test_metric: Finite | None = None
    foreign_cpus: Amount | None = None

    def __post_init__(self) -> None:
        for name in ("train_loss", "val_loss", "val_metric"):
            if not (self.diverged or abs(getattr(self, name)) <= LARGEST):
                raise ValueError(
                    f"{name} = {getattr(self, name)}: must be finite where the run has not diverged"
                )
        if len(self.lrs) != len(self.lr_steps):
            raise ValueError(f"{len(self.lrs)} lrs at {len(self.lr_steps)} lr_steps")

    def curves(self, num_train: int, metric: str) -> dict[str, float]:
        """Return what a tracker draws of an epoch, by name; what was not measured is left out.

        Args:
            num_train: Size of the training split.
            metric: Name of the task's metric.
        """
        share = self.epoch_equivalents - (self.epoch - 1)  # of a whole epoch: all before it were
        told = {
            "train/loss": self.train_loss,
            "validation/loss": self.val_loss,
            f"validation/{metric}": self.val_metric,
            "test/loss": self.test_loss,
            f"test/{metric}": self.test_metric,
            "lr": self.lrs[-1] if self.lrs else None,
            "examples_per_s": num_train * share / self.train_s if self.train_s else None,
            "progress": self.progress,
            "gpu/utilisation": self.gpu_util,
            "gpu/peak_bytes": self.gpu_mem_bytes,
            "gpu/memory_fraction": self.gpu_mem_fraction,
            "cpu/percent": self.cpu_percent,
            "cpu/resident_bytes": self.rss_bytes,
        }
        return {name: float(value) for name, value in told.items() if value is not None}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "EpochResult":
        """Read what ``dataclasses.asdict`` returned, after JSON or before it."""
        return convert(row, cls, "an epoch")
