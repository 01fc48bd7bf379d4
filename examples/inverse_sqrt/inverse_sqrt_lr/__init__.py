"""The inverse square root schedule, as a package of its own.

    pip install ./examples/inverse_sqrt
    python -m tune_adaptive.search --schedule inverse_sqrt --schedule step --studied inverse_sqrt

Nothing of tune_adaptive is imported. Its search space is inverse_sqrt.toml, beside this file.
"""

import math
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


@dataclass
class InverseSqrt:
    """The factor on the base rate; a class, because a lambda cannot be pickled or copied."""

    warmup_steps: int
    total_steps: int
    shift: float

    def __call__(self, t: int) -> float:
        """Return the factor of step t, from 0; beyond the end the last one."""
        if t < self.warmup_steps:
            return (t + 1) / self.warmup_steps
        return math.sqrt(self.shift / (self.shift + min(t, self.total_steps) - self.warmup_steps))


def inverse_sqrt(optimizer: Optimizer, horizon: Any, *, shift_frac: float = 0.1) -> LRScheduler:
    """Fall with the root of the steps: lr(t) = base * sqrt(s / (s + t)), s = shift_frac * T.

    Args:
        optimizer: Whose rates are the base.
        horizon: The run: ``total_steps`` T and the ``warmup_steps`` that all schedules share.
        shift_frac: Where the fall begins, as a fraction of the run.
    """
    shift = max(1.0, shift_frac * horizon.total_steps)
    return LambdaLR(optimizer, InverseSqrt(horizon.warmup_steps, horizon.total_steps, shift))
