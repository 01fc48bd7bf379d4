"""What a schedule is told about the run it plans for."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from tune_adaptive.schedules.checks import Checks


@dataclass(frozen=True, slots=True)
class Horizon:
    """The run a schedule plans for; whole numbers and numbers of numpy become plain ones.

    Attributes:
        total_steps: T, optimizer steps in the full run, >= 1.
        warmup_steps: Steps of linear warm-up, in [0, total_steps).
        complexity: C of the training split, in [0, 1].
        timer: Clock a schedule may read [s]; None means constant speed.
        steps_per_epoch: Optimizer steps of an epoch, >= 1; None where there are no epochs.
        batch_size: Examples per step, >= 1.
        time_budget_s: Seconds the run should take, > 0 and finite; None lets a schedule measure
            how long it takes at the speed it starts with.

    Raises:
        ValueError: Values are of another kind or outside their range; all of them are named.
    """

    total_steps: int
    warmup_steps: int = 0
    complexity: float = 0.5
    timer: Callable[[], float] | None = time.perf_counter
    steps_per_epoch: int | None = None
    batch_size: int = 64
    time_budget_s: float | None = None

    def __post_init__(self) -> None:
        checks = Checks()
        total_steps = checks.whole("total_steps", self.total_steps, 1)
        plain: dict[str, object] = {
            "total_steps": total_steps,
            "warmup_steps": checks.whole("warmup_steps", self.warmup_steps, 0, total_steps),
            "complexity": checks.number(
                "complexity", self.complexity, lambda c: 0 <= c <= 1, "in [0, 1]"
            ),
            "batch_size": checks.whole("batch_size", self.batch_size, 1),
        }
        if self.steps_per_epoch is not None:
            plain["steps_per_epoch"] = checks.whole("steps_per_epoch", self.steps_per_epoch, 1)
        if self.time_budget_s is not None:
            plain["time_budget_s"] = checks.number(
                "time_budget_s", self.time_budget_s, lambda s: 0 < s < math.inf, "> 0 and finite"
            )
        checks.timer(self.timer)
        checks.done()
        for name, value in plain.items():
            object.__setattr__(self, name, value)
