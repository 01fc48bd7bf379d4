"""The optimizers that schedules are trained with: the task's, or a rival's own."""

import contextlib
import io
from collections.abc import Callable, Iterable

import torch
from torch.optim import Optimizer

from tune_adaptive.schedules.requirements import require_installed

Parameters = Iterable[torch.nn.Parameter]


def build_optimizer(
    schedule: str,
    parameters: Parameters,
    *,
    lr: float,
    weight_decay: float,
    optimizer: str = "adamw",
) -> Optimizer:
    """Build the optimizer that ``schedule`` is trained with.

    Args:
        schedule: Its name; a rival brings its own optimizer, whatever the task's is.
        parameters: Of the model.
        lr: Base learning rate.
        weight_decay: Decoupled for ``adamw`` and the rivals; part of the gradient for ``adam`` and
            ``sgd``, as in torch.
        optimizer: Name of the task's optimizer, in ``OPTIMIZERS``.

    Raises:
        EnvironmentFault: A rival's package is not installed.
    """
    require_installed(schedule)
    return RIVALS.get(schedule, OPTIMIZERS[optimizer])(parameters, lr, weight_decay)


def set_mode(optimizer: Optimizer, *, training: bool) -> None:
    """Tell an optimizer that keeps two sets of weights which one the model needs now."""
    switch = getattr(optimizer, "train" if training else "eval", None)
    if switch is not None:
        switch()


def _adam(parameters: Parameters, lr: float, weight_decay: float) -> Optimizer:
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def _adamw(parameters: Parameters, lr: float, weight_decay: float) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def _sgd(parameters: Parameters, lr: float, weight_decay: float) -> Optimizer:
    return torch.optim.SGD(
        parameters, lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay, fused=True
    )


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


Builder = Callable[[Parameters, float, float], Optimizer]

OPTIMIZERS: dict[str, Builder] = {"adam": _adam, "adamw": _adamw, "sgd": _sgd}
"""What a task may be trained with, by name."""

RIVALS: dict[str, Builder] = {"schedule_free": _schedule_free, "prodigy": _prodigy}
"""By schedule, the optimizer that is part of it."""
