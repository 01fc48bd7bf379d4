"""Best configurations, read back from their files into schedules.

In a user's own loop that is two lines::

    best = load_schedule("results/NAME/best/DATASET-MODEL/adaptive.toml")
    schedule = best.build(optimizer, total_steps=...)
"""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_adaptive.errors import InputError
from tune_adaptive.records.codec import convert, parse_toml, read_bytes, shown
from tune_adaptive.records.complexity import Complexity
from tune_adaptive.records.runs import RECIPE_NAMES, Configuration, OptimizerName, Recipe, Value
from tune_adaptive.records.space_files import space_from_dict
from tune_adaptive.records.spaces import SpaceError

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from tune_adaptive.schedules import Schedule

FORMAT = 2
"""Version of the files that ``export`` writes and ``load_schedule`` reads."""


@dataclass(frozen=True, slots=True)
class BestSchedule:
    """A configuration read from a ``best/*.toml``.

    Attributes:
        task: The task it was tuned on.
        configuration: Recipe and schedule parameters.
        complexity: C of the data it was tuned on, in [0, 1].
        optimizer_name: What it was tuned with, ``adam``, ``adamw`` or ``sgd``; a rival has its own.
        provenance: Where it came from, and what it reached.
        builder: Of a schedule of one's own; None is known by its name.
    """

    task: str
    configuration: Configuration
    complexity: float
    optimizer_name: str
    provenance: Mapping[str, Any]
    builder: "Schedule | None" = None

    @property
    def lr(self) -> float:
        """Base learning rate to create the optimizer with."""
        return self.configuration.recipe.lr

    @property
    def weight_decay(self) -> float:
        """Weight decay to create the optimizer with."""
        return self.configuration.recipe.weight_decay

    def optimizer(self, parameters: "Iterable[Parameter]") -> "Optimizer":
        """Build the optimizer it was tuned with: the task's, or the rival's own, ready to train."""
        from tune_adaptive.schedules import build_optimizer, set_mode

        optimizer = build_optimizer(
            self.configuration.schedule,
            parameters,
            lr=self.lr,
            weight_decay=self.weight_decay,
            optimizer=self.optimizer_name,
        )
        set_mode(optimizer, training=True)
        return optimizer

    def build(
        self,
        optimizer: "Optimizer",
        total_steps: int,
        complexity: float | None = None,
        time_budget_s: float | None = None,
    ) -> "LRScheduler":
        """Build the schedule on ``optimizer``, whose ``lr`` is the base learning rate.

        Args:
            optimizer: Any torch optimizer; create it with ``lr=best.lr``.
            total_steps: Optimizer steps of the whole training, >= 1.
            complexity: C of your data; None takes that of the data it was tuned on.
            time_budget_s: Seconds the training should take, for a schedule that plans in time.

        Returns:
            A scheduler to step once per optimizer step. If it has ``observe``, tell it the
            loss before each step. Beyond ``total_steps`` it holds its last rate.

        Raises:
            InputError: The file names a schedule or a parameter that does not exist here.
            TypeError: ``optimizer`` is no torch optimizer.
            ValueError: A number is outside its range.
        """
        from tune_adaptive.schedules import SCHEDULES, Horizon, unknown_schedule
        from tune_adaptive.schedules.optimizer_steps import require_optimizer

        require_optimizer(optimizer)
        name, parameters = self.configuration.schedule, self.configuration.parameters
        if self.builder is None and name not in SCHEDULES:
            raise InputError(
                f"{unknown_schedule(name)}; of one of your own, give load_schedule its builder"
            )
        build = self.builder or SCHEDULES[name]
        horizon = Horizon(
            total_steps=total_steps,
            complexity=self.complexity if complexity is None else complexity,
            time_budget_s=time_budget_s,
        )
        num_warmup = round(self.configuration.recipe.warmup_frac * horizon.total_steps)
        horizon = replace(horizon, warmup_steps=num_warmup)
        try:
            inspect.signature(build).bind(optimizer, horizon, **parameters)
        except TypeError as error:
            raise InputError(f"{name} does not take {list(parameters)}: {error}") from error
        return build(optimizer, horizon, **parameters)


def load_schedule(path: str | Path, builder: "Schedule | None" = None) -> BestSchedule:
    """Read a ``best/*.toml``.

    Args:
        path: The file.
        builder: Of a schedule of your own, the function that builds it: what a file names is not
            imported. Those of this package and of installed ones are known by name.

    Raises:
        InputError: It cannot be read, or its values lie outside the space it was found in.
    """
    path = Path(path)
    document = parse_toml(read_bytes(path), str(path))
    if (found := document.pop("format", None)) != FORMAT:
        raise InputError(f"{path}: format {shown(found)}; this reads {FORMAT}")
    read = convert(document, _Document, str(path))
    values: dict[str, Value] = document["recipe"] | document["parameters"]
    space = space_from_dict(read.space, str(path))
    outside = space.violations(values)
    outside += [f"{name} is missing" for name in RECIPE_NAMES if name not in values]
    if outside:
        raise SpaceError(f"{path}: {problem}" for problem in outside)
    return BestSchedule(
        task=read.task,
        configuration=Configuration(read.schedule, read.recipe, read.parameters),
        complexity=read.complexity.value,
        optimizer_name=read.optimizer,
        provenance=read.provenance,
        builder=builder,
    )


@dataclass(frozen=True, slots=True)
class _Document:
    """What a ``best/*.toml`` holds."""

    task: str
    schedule: str
    optimizer: OptimizerName
    recipe: Recipe
    parameters: Mapping[str, Value]
    complexity: Complexity
    provenance: Mapping[str, Any]
    space: Mapping[str, Any]
