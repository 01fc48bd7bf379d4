"""What is studied. A schedule is one builder here and one TOML in ``search_spaces/``.

A builder takes the optimizer, the :class:`Horizon` and, as keyword arguments with
defaults, the schedule's own hyperparameters. It returns a torch ``LRScheduler`` that is
stepped once per optimizer step; if it has ``observe``, it is told how training goes, see
:class:`Listener`. Every schedule here can be pickled and copied at any step, and holds its last
rate where it is stepped beyond ``horizon.total_steps``.
"""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tune_adaptive.errors import did_you_mean
from tune_adaptive.schedules import baselines, documented, rivals
from tune_adaptive.schedules.adaptive import AdaptiveLR
from tune_adaptive.schedules.base import ListeningLR
from tune_adaptive.schedules.horizon import Horizon
from tune_adaptive.schedules.interface import Listener
from tune_adaptive.schedules.optimizers import (
    OPTIMIZERS,
    build_optimizer,
    set_mode,
)
from tune_adaptive.schedules.recorded import open_loop
from tune_adaptive.schedules.registry import Schedule, Schedules
from tune_adaptive.schedules.requirements import is_installed, require_installed

__all__ = [
    "OPTIMIZERS",
    "PLANS_IN_TIME",
    "SCHEDULES",
    "AdaptiveLR",
    "Horizon",
    "Listener",
    "ListeningLR",
    "Schedule",
    "build_optimizer",
    "is_installed",
    "open_loop",
    "require_installed",
    "set_mode",
    "unknown_schedule",
]


def adaptive(
    optimizer: Optimizer,
    horizon: Horizon,
    *,
    complexity_weight: float = 0.5,
    resource_weight: float = 0.5,
    hold: float = 0.1,
    power: float = 1.0,
    min_lr_ratio: float = 0.0,
    max_lr_ratio: float = 100.0,
    feedback: bool = True,
    feedback_interval_frac: float = 1 / 60,
    feedback_factor: float = 0.2,
    feedback_threshold: float = 0.1,
) -> LRScheduler:
    """Build :class:`AdaptiveLR`, its bounds as ratios to the base, its interval to T.

    Args:
        optimizer: Wrapped optimizer.
        horizon: The run it plans for.
        complexity_weight: How much the dataset's complexity lengthens the hold, in [0, 1].
        resource_weight: 0 plans in steps, 1 in time.
        hold: Fraction of the budget held whatever the complexity, in [0, 0.9].
        power: Exponent of the anneal, >= 0; 0 never anneals.
        min_lr_ratio: min_lr / base, in [0, 1].
        max_lr_ratio: The most that max_lr / base may be, >= 1; see
            :func:`~tune_adaptive.schedules.bounds.highest_lr`.
        feedback: Whether training feedback moves the level.
        feedback_interval_frac: Steps between looks as a fraction of T (at least 5 steps).
        feedback_factor: Step of the level, in (0, 0.5).
        feedback_threshold: Relative rise over the best loss that counts as harm, >= 0.
    """
    return AdaptiveLR(
        optimizer,
        horizon.total_steps,
        complexity=horizon.complexity,
        complexity_weight=complexity_weight,
        resource_weight=resource_weight,
        hold=hold,
        power=power,
        min_lr_ratio=min_lr_ratio,
        max_lr_ratio=max_lr_ratio,
        warmup_steps=horizon.warmup_steps,
        feedback=feedback,
        feedback_interval=max(5, int(feedback_interval_frac * horizon.total_steps)),
        feedback_factor=feedback_factor,
        feedback_threshold=feedback_threshold,
        time_budget_s=horizon.time_budget_s,
        timer=horizon.timer,
    )


_OWN: dict[str, Schedule] = {
    "adaptive": adaptive,
    "resource_complexity": documented.resource_complexity,
    "feedback": documented.feedback,
    "step": baselines.step,
    "exponential": baselines.exponential,
    "constant": baselines.constant,
    "cyclic": baselines.cyclic,
    "cosine": baselines.cosine,
    "linear": baselines.linear,
    "wsd": baselines.wsd,
    "rex": baselines.rex,
    "onecycle": baselines.onecycle,
    "sgdr": baselines.sgdr,
    "plateau": baselines.plateau,
    "greedy": baselines.greedy,
    "schedule_free": rivals.schedule_free,
    "prodigy": rivals.prodigy,
}

SCHEDULES = Schedules(_OWN)
"""Every schedule that a search can compare, by the name of its TOML; others can be taken in."""


def unknown_schedule(name: str) -> str:
    """Say that there is no schedule of that name."""
    return f"unknown schedule {name!r}{did_you_mean(name, SCHEDULES)}"


PLANS_IN_TIME = frozenset({"adaptive"})
"""Those of them that read ``Horizon.time_budget_s``."""
