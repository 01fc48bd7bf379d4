"""Base, floor and bounds of each param group of AdaptiveLR."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from tune_adaptive.schedules.configuration import (
    MAX_LR_RATIO,
    AdaptiveConfiguration,
    check_bounds,
    per_group,
)
from tune_adaptive.schedules.optimizer_steps import is_sgd

ADAM_MAX_LR = 1e-2
"""What probing does not exceed with Adam-like optimizers: the first document's bound."""

Group = tuple[float, float, float, float]
"""Of a param group: base, floor, min_lr, max_lr."""


def bounds_of(
    optimizer: Optimizer, bases: Sequence[float | Tensor], plain: AdaptiveConfiguration
) -> list[Group]:
    """Return each param group's base, scaled with the batch size, its floor and its bounds.

    Raises:
        ValueError: A lower bound is above its base or its upper bound.

    References:
        Scaling with the batch: Goyal et al. 2017, arXiv:1706.02677 (SGD, linear); Malladi et
        al. 2022, arXiv:2205.10287 (Adam, square root).
    """
    scale = 1.0
    if plain.batch_size is not None:
        ratio = plain.batch_size / plain.reference_batch_size
        scale = ratio if is_sgd(optimizer) else math.sqrt(ratio)
    minima = per_group("min_lr", plain.min_lr, len(bases))
    maxima = None if plain.max_lr is None else per_group("max_lr", plain.max_lr, len(bases))
    groups = []
    for i, (lr, min_lr) in enumerate(zip(bases, minima, strict=True)):
        base = float(lr) * scale
        if base == 0:
            groups.append((0.0, 0.0, 0.0, 0.0))
            continue
        lowest = max(min_lr, plain.min_lr_ratio * base)
        highest = highest_lr(optimizer, base, plain.max_lr_ratio) if maxima is None else maxima[i]
        check_bounds(i, base, lowest, highest)
        groups.append((base, lowest / base, lowest, highest))
    return groups


def levels_of(groups: Sequence[Group]) -> tuple[float, float]:
    """Return the lowest and the highest level at which any group can still move."""
    moving = [group for group in groups if group[0] > 0]
    lowest = min((min_lr / base for base, _, min_lr, _ in moving), default=1.0)
    return lowest, max((max_lr / base for base, _, _, max_lr in moving), default=1.0)


def base_of(group: dict[str, Any]) -> float:
    """Return a param group's base learning rate, as torch's schedulers take it."""
    return float(group.get("initial_lr", group["lr"]))


def highest_lr(optimizer: Optimizer, base: float, ratio: float = MAX_LR_RATIO) -> float:
    """Return how high to probe from ``base``: min(ratio * base, max(base, 1e-2)).

    For SGD, whose learning rates know no such common bound, it is ratio * base. Above 1e-2
    Adam's updates kill units within a few steps, before a harmed loss can say so.

    Args:
        optimizer: What is scheduled.
        base: Base learning rate, > 0.
        ratio: >= 1.

    Example:
        >>> import torch
        >>> adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
        >>> [highest_lr(adam, base) for base in (1e-5, 1e-3, 1e-1)]
        [0.001, 0.01, 0.1]
    """
    if is_sgd(optimizer):
        return ratio * base
    return min(ratio * base, max(base, ADAM_MAX_LR))
