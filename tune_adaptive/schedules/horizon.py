"""What a schedule is told about the run it plans for."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Horizon:
    """The run a schedule plans for.

    Attributes:
        total_steps: T, optimizer steps in the full run, >= 1.
        warmup_steps: Steps of linear warm-up, in [0, total_steps).
        complexity: C of the training split, in [0, 1].
        timer: Clock a schedule may read [s]; None means constant speed.
        steps_per_epoch: Optimizer steps of an epoch, >= 1; None where there are no epochs.
        batch_size: Examples per step, >= 1.
        time_budget_s: Seconds the run should take, > 0; None lets a schedule measure how long
            it takes at the speed it starts with.

    Raises:
        ValueError: A value is outside its range.
    """

    total_steps: int
    warmup_steps: int = 0
    complexity: float = 0.5
    timer: Callable[[], float] | None = time.perf_counter
    steps_per_epoch: int | None = None
    batch_size: int = 64
    time_budget_s: float | None = None

    def __post_init__(self) -> None:
        for name, value, ok, allowed in (
            ("total_steps", self.total_steps, self.total_steps >= 1, ">= 1"),
            (
                "warmup_steps",
                self.warmup_steps,
                0 <= self.warmup_steps < max(1, self.total_steps),
                f"in [0, total_steps = {self.total_steps})",
            ),
            ("complexity", self.complexity, 0 <= self.complexity <= 1, "in [0, 1]"),
        ):
            if not ok:
                raise ValueError(f"{name} must be {allowed}, got {name} = {value!r}.")
