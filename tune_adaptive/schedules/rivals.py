"""Two rivals that change the optimizer instead of the schedule: the extra ``[rivals]``.

A schedule whose name stands in ``OPTIMIZERS`` is trained with the optimizer built there;
every other one with AdamW.
"""

import contextlib
import io
from collections.abc import Callable, Iterable
from importlib.util import find_spec

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tune_adaptive.errors import EnvironmentFault
from tune_adaptive.schedules.baselines import constant, cosine
from tune_adaptive.schedules.horizon import Horizon

Parameters = Iterable[torch.nn.Parameter]

PACKAGES = {"schedule_free": "schedulefree", "prodigy": "prodigyopt"}
"""The package that a schedule's optimizer comes from, where torch does not have it."""


def is_installed(schedule: str) -> bool:
    """Whether the schedule's optimizer can be imported."""
    return schedule not in PACKAGES or find_spec(PACKAGES[schedule]) is not None


def build_optimizer(
    schedule: str, parameters: Parameters, *, lr: float, weight_decay: float
) -> Optimizer:
    """Build the optimizer that ``schedule`` is trained with.

    Raises:
        EnvironmentFault: Its package is not installed.
    """
    if not is_installed(schedule):
        raise EnvironmentFault(
            f"schedule {schedule!r} needs the package {PACKAGES[schedule]}: "
            "pip install 'tune-adaptive[rivals]'"
        )
    return OPTIMIZERS.get(schedule, _adamw)(parameters, lr, weight_decay)


def set_mode(optimizer: Optimizer, *, training: bool) -> None:
    """Tell an optimizer that keeps two sets of weights which one the model needs now."""
    switch = getattr(optimizer, "train" if training else "eval", None)
    if switch is not None:
        switch()


def schedule_free(optimizer: Optimizer, horizon: Horizon) -> LRScheduler:
    """Hold the base learning rate; the averaging in AdamWScheduleFree replaces annealing.

    Defazio et al., "The Road Less Scheduled", NeurIPS 2024.
    """
    return constant(optimizer, horizon)


def prodigy(
    optimizer: Optimizer, horizon: Horizon, *, d_coef: float = 1.0, final_ratio: float = 0.0
) -> LRScheduler:
    """Cosine on Prodigy, which estimates the learning rate itself; the recipe's is not used.

    Mishchenko and Defazio, "Prodigy", ICML 2024.

    Args:
        optimizer: A Prodigy with ``lr`` 1.
        horizon: The run it plans for.
        d_coef: Factor on its estimate, > 0; its authors' preferred knob.
        final_ratio: lr(T) / lr(0), in [0, 1].
    """
    for group in optimizer.param_groups:
        group["d_coef"] = d_coef
    return cosine(optimizer, horizon, final_ratio=final_ratio)


def _adamw(parameters: Parameters, lr: float, weight_decay: float) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def _schedule_free(parameters: Parameters, lr: float, weight_decay: float) -> Optimizer:
    from schedulefree import AdamWScheduleFree

    optimizer: Optimizer = AdamWScheduleFree(parameters, lr=lr, weight_decay=weight_decay)
    return optimizer


def _prodigy(parameters: Parameters, lr: float, weight_decay: float) -> Optimizer:
    from prodigyopt import Prodigy

    with contextlib.redirect_stdout(io.StringIO()):  # it announces its weight decay
        optimizer: Optimizer = Prodigy(
            parameters, lr=1.0, weight_decay=weight_decay, use_bias_correction=True
        )
    return optimizer


OPTIMIZERS: dict[str, Callable[[Parameters, float, float], Optimizer]] = {
    "schedule_free": _schedule_free,
    "prodigy": _prodigy,
}
