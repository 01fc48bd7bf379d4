"""Builders of the baselines: torch's own classes, stepped once per optimizer step.

Warm-up is the recipe's and the same for every schedule: ``LinearLR`` from
1/warmup_steps to 1, then the schedule over the steps that are left: t and T below
count from the end of the warm-up.
"""

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
    StepLR,
)

from tune_adaptive.schedules.horizon import Horizon


def constant(optimizer: Optimizer, horizon: Horizon) -> LRScheduler:
    """Hold the base learning rate: lr(t) = base (``torch.optim.lr_scheduler.ConstantLR``)."""
    return _after_warmup(
        optimizer, horizon, lambda steps: ConstantLR(optimizer, factor=1.0, total_iters=steps)
    )


def step(
    optimizer: Optimizer, horizon: Horizon, *, gamma: float = 0.3, step_size_frac: float = 1 / 3
) -> LRScheduler:
    """Drop by a factor at equal intervals (``torch.optim.lr_scheduler.StepLR``).

    lr(t) = base * gamma ** floor(t / step_size), step_size = round(step_size_frac * T).

    Args:
        optimizer: Wrapped optimizer.
        horizon: The run it plans for.
        gamma: Factor of each drop, in (0, 1].
        step_size_frac: Steps between drops as a fraction of T, in (0, 1].
    """
    return _after_warmup(
        optimizer,
        horizon,
        lambda steps: StepLR(
            optimizer, step_size=max(1, round(step_size_frac * steps)), gamma=gamma
        ),
    )


def exponential(
    optimizer: Optimizer, horizon: Horizon, *, final_ratio: float = 0.05
) -> LRScheduler:
    """Decay by the same factor each step (``torch.optim.lr_scheduler.ExponentialLR``).

    lr(t) = base * final_ratio ** (t / T).

    Args:
        optimizer: Wrapped optimizer.
        horizon: The run it plans for.
        final_ratio: lr(T) / base, in (0, 1].
    """
    return _after_warmup(
        optimizer,
        horizon,
        lambda steps: ExponentialLR(optimizer, gamma=final_ratio ** (1 / steps)),
    )


def _after_warmup(
    optimizer: Optimizer, horizon: Horizon, build: Callable[[int], LRScheduler]
) -> LRScheduler:
    num_warmup = horizon.warmup_steps
    if num_warmup == 0:
        return build(horizon.total_steps)
    warmup = LinearLR(optimizer, start_factor=1 / num_warmup, total_iters=max(1, num_warmup - 1))
    rest = build(max(1, horizon.total_steps - num_warmup))
    return SequentialLR(optimizer, [warmup, rest], milestones=[num_warmup])
