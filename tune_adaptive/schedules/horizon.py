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
    """

    total_steps: int
    warmup_steps: int = 0
    complexity: float = 0.5
    timer: Callable[[], float] | None = time.perf_counter
