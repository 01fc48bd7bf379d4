"""A schedule that is a table: learning rates recorded in another run, deaf to this one."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


def open_loop(optimizer: Optimizer, lrs: Sequence[float]) -> LRScheduler:
    """Return a scheduler that gives step t the rate ``lrs[t]``; the last one goes on.

    Args:
        optimizer: Wrapped optimizer; groups keep their ratios to the first one's base.
        lrs: Learning rate of the first param group at each step, at least one, >= 0.
    """
    if not lrs:
        raise ValueError("lrs must hold at least one learning rate, got none.")
    base = float(optimizer.param_groups[0]["lr"])
    return LambdaLR(optimizer, Table(list(lrs), base))


@dataclass(frozen=True)
class Table:
    """The recorded rates as factors of the base; torch's ``LambdaLR`` keeps it in its state."""

    lrs: list[float]
    base: float

    def __call__(self, t: int) -> float:
        """Return the factor at step ``t``."""
        return self.lrs[min(t, len(self.lrs) - 1)] / self.base
