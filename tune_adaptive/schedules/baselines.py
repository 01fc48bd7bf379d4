"""Builders of the baselines: torch's own classes wherever they exist, stepped per optimizer step.

Warm-up is the recipe's and the same for every schedule, to the bit: base * (t + 1) /
warmup_steps (``LinearLR`` multiplies step by step, and rounds as often), then the schedule over
the steps that are left: t and T below count from the end of the warm-up. Only ``onecycle``
brings a rise of its own instead. Stepped on beyond T, each holds lr(T).
"""

from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from tune_adaptive.schedules.horizon import Horizon
from tune_adaptive.schedules.metric import MetricLR
from tune_adaptive.schedules.phases import Build, PhasedLR, after_warmup
from tune_adaptive.schedules.requirements import require_installed


def constant(optimizer: Optimizer, horizon: Horizon) -> LRScheduler:
    """Hold the base learning rate: lr(t) = base (``ConstantLR``)."""
    return _with_warmup(optimizer, horizon, _flat(optimizer))


def step(
    optimizer: Optimizer, horizon: Horizon, *, gamma: float = 0.3, step_size_frac: float = 1 / 3
) -> LRScheduler:
    """Drop by a factor at equal intervals (``StepLR``).

    lr(t) = base * gamma ** floor(t / step_size), step_size = round(step_size_frac * T).

    Args:
        optimizer: Wrapped optimizer.
        horizon: The run it plans for.
        gamma: Factor of each drop, in (0, 1].
        step_size_frac: Steps between drops as a fraction of T, in (0, 1].
    """
    return _with_warmup(
        optimizer,
        horizon,
        lambda steps: StepLR(
            optimizer, step_size=max(1, round(step_size_frac * steps)), gamma=gamma
        ),
    )


def exponential(
    optimizer: Optimizer, horizon: Horizon, *, final_ratio: float = 0.05
) -> LRScheduler:
    """Decay by the same factor each step (``ExponentialLR``): lr(t) = base * final_ratio ** (t/T).

    Args:
        optimizer: Wrapped optimizer.
        horizon: The run it plans for.
        final_ratio: lr(T) / base, in (0, 1].
    """
    return _with_warmup(
        optimizer,
        horizon,
        lambda steps: ExponentialLR(optimizer, gamma=final_ratio ** (1 / steps)),
    )


def cyclic(
    optimizer: Optimizer, horizon: Horizon, *, num_cycles: int = 3, low_ratio: float = 0.1
) -> LRScheduler:
    """Rise and fall in equal triangles (``CyclicLR``, mode triangular).

    lr(t) = base * (low_ratio + (1 - low_ratio) * (1 - |2 x - 1|)), x = fraction of the cycle.
    T is the end of the last triangle: lr(T) = low_ratio * base.
    Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017.

    Args:
        optimizer: Wrapped optimizer.
        horizon: The run it plans for.
        num_cycles: Triangles in the run, >= 1.
        low_ratio: Lowest lr / base, in (0, 1].
    """

    def build(steps: int) -> LRScheduler:
        # CyclicLR starts from the initial_lr it finds, and takes its low end where there is none.
        highs = [float(group.pop("initial_lr", group["lr"])) for group in optimizer.param_groups]
        scheduler = CyclicLR(
            optimizer,
            base_lr=[low_ratio * high for high in highs],
            max_lr=highs,
            step_size_up=max(1, round(steps / num_cycles / 2)),
            cycle_momentum=False,
        )
        for group, high in zip(optimizer.param_groups, highs, strict=True):
            group["initial_lr"] = high
        return scheduler

    return _with_warmup(optimizer, horizon, build, end=low_ratio)


def cosine(optimizer: Optimizer, horizon: Horizon, *, final_ratio: float = 0.0) -> LRScheduler:
    """Anneal along half a cosine (``CosineAnnealingLR``).

    lr(t) = base * (final_ratio + (1 - final_ratio) * (1 + cos(pi t / T)) / 2).
    Loshchilov and Hutter, "SGDR", ICLR 2017.

    Args:
        optimizer: Wrapped optimizer; its groups share one base learning rate.
        horizon: The run it plans for.
        final_ratio: lr(T) / base, in [0, 1].
    """
    eta_min = final_ratio * _one_base(optimizer)
    return _with_warmup(
        optimizer, horizon, lambda steps: CosineAnnealingLR(optimizer, T_max=steps, eta_min=eta_min)
    )


def linear(optimizer: Optimizer, horizon: Horizon, *, final_ratio: float = 0.0) -> LRScheduler:
    """Anneal along a line (``LinearLR``): lr(t) = base * (1 - (1 - final_ratio) * t / T).

    Args:
        optimizer: Wrapped optimizer.
        horizon: The run it plans for.
        final_ratio: lr(T) / base, in [0, 1].
    """
    return _with_warmup(optimizer, horizon, _line(optimizer, final_ratio))


def wsd(
    optimizer: Optimizer, horizon: Horizon, *, decay_frac: float = 0.3, final_ratio: float = 0.0
) -> LRScheduler:
    """Warm up, stay, decay: hold the base, then anneal along a line (``ConstantLR``, ``LinearLR``).

    Hu et al., "MiniCPM", 2024.

    Args:
        optimizer: Wrapped optimizer.
        horizon: The run it plans for.
        decay_frac: Last fraction of T in which it decays, in (0, 1].
        final_ratio: lr(T) / base, in [0, 1].
    """
    num_left = horizon.total_steps - horizon.warmup_steps
    num_decay = min(num_left, max(1, round(decay_frac * num_left)))
    return after_warmup(
        optimizer,
        horizon,
        (_flat(optimizer), num_left - num_decay),
        (_line(optimizer, final_ratio), num_decay),
    )


def rex(optimizer: Optimizer, horizon: Horizon) -> LRScheduler:
    """Anneal slowly, then fast (``LambdaLR``): lr(t) = base * (1 - x) / (1 - x / 2), x = t / T.

    Chen et al., "REX: Revisiting Budgeted Training with an Improved Schedule", MLSys 2022.
    """
    return _with_warmup(optimizer, horizon, lambda steps: LambdaLR(optimizer, Rex(steps)))


@dataclass(frozen=True)
class Rex:
    """(1 - x) / (1 - x / 2), x = t / num_steps."""

    num_steps: int

    def __call__(self, t: int) -> float:
        """Return the factor at step ``t``."""
        return (1 - min(1, t / self.num_steps)) / (1 - min(1, t / self.num_steps) / 2)


def onecycle(
    optimizer: Optimizer,
    horizon: Horizon,
    *,
    rise_frac: float = 0.3,
    start_ratio: float = 0.04,
    final_ratio: float = 4e-6,
) -> LRScheduler:
    """One rise to the base and one fall, both along cosines (``OneCycleLR``).

    Its rise is its warm-up: the recipe's is not used. Smith and Topin, "Super-Convergence",
    2019.

    Args:
        optimizer: Wrapped optimizer.
        horizon: The run it plans for.
        rise_frac: Fraction of T in which it rises, in (0, 1).
        start_ratio: lr(0) / base, in (0, 1].
        final_ratio: lr(T) / base, in (0, start_ratio].
    """

    def build(steps: int) -> LRScheduler:
        return OneCycleLR(
            optimizer,
            max_lr=[float(group["lr"]) for group in optimizer.param_groups],
            total_steps=steps + 1,  # it counts the state after the last step too
            pct_start=rise_frac,
            div_factor=1 / start_ratio,
            final_div_factor=start_ratio / final_ratio,
            cycle_momentum=False,
        )

    return PhasedLR(optimizer, [(build, horizon.total_steps)])


def sgdr(
    optimizer: Optimizer, horizon: Horizon, *, num_cycles: int = 2, final_ratio: float = 0.0
) -> LRScheduler:
    """Cosines with warm restarts (``CosineAnnealingWarmRestarts``), equally long.

    lr(t) = base * (final_ratio + (1 - final_ratio) * (1 + cos(pi x)) / 2), x = fraction of the
    cosine. T is the end of the last one, and no restart: lr(T) = final_ratio * base.
    Loshchilov and Hutter, "SGDR", ICLR 2017.

    Args:
        optimizer: Wrapped optimizer; its groups share one base learning rate.
        horizon: The run it plans for.
        num_cycles: Cosines in the run, >= 1.
        final_ratio: Lowest lr / base, in [0, 1].
    """
    eta_min = final_ratio * _one_base(optimizer)

    def build(steps: int) -> LRScheduler:
        cycle = max(1, round(steps / num_cycles))
        return CosineAnnealingWarmRestarts(optimizer, T_0=cycle, eta_min=eta_min)

    return _with_warmup(optimizer, horizon, build, end=final_ratio)


@dataclass(frozen=True)
class Constant:
    """The same factor at every step."""

    factor: float

    def __call__(self, t: int) -> float:
        """Return the factor at step ``t``."""
        return self.factor


def plateau(
    optimizer: Optimizer, horizon: Horizon, *, factor: float = 0.3, patience: int = 0
) -> LRScheduler:
    """Drop when the validation loss of an epoch stops falling (``ReduceLROnPlateau``).

    Args:
        optimizer: Wrapped optimizer.
        horizon: The run it plans for.
        factor: Factor of each drop, in (0, 1).
        patience: Epochs without improvement that it bears, >= 0.
    """
    return MetricLR(
        optimizer,
        lambda wrapped: ReduceLROnPlateau(wrapped, factor=factor, patience=patience),
        warmup_steps=horizon.warmup_steps,
        num_steps=horizon.total_steps,
    )


def greedy(
    optimizer: Optimizer,
    horizon: Horizon,
    *,
    factor: float = 0.9,
    patience: int = 1,
    interval_frac: float = 1 / 60,
    min_lr_ratio: float = 0.01,
    max_lr_ratio: float = 10.0,
) -> LRScheduler:
    """Up while the training loss falls, down when it does not (transformers' ``GreedyLR``).

    "GreedyLR: A Novel Adaptive Learning Rate Scheduler", arXiv 2512.14527.

    Args:
        optimizer: Wrapped optimizer.
        horizon: The run it plans for.
        factor: lr is divided or multiplied by it, in (0, 1).
        patience: Looks in a row before it moves, >= 0.
        interval_frac: Steps between looks as a fraction of T (at least 5 steps).
        min_lr_ratio: Lowest lr / base, in (0, 1].
        max_lr_ratio: Highest lr / base, >= 1.
    """
    require_installed("greedy")
    from transformers.optimization import GreedyLR

    bases = [float(group["lr"]) for group in optimizer.param_groups]
    return MetricLR(
        optimizer,
        lambda wrapped: GreedyLR(
            wrapped,
            factor=factor,
            patience=patience,
            min_lr=[min_lr_ratio * base for base in bases],
            max_lr=[max_lr_ratio * base for base in bases],
        ),
        listens="loss",
        interval=max(5, int(interval_frac * horizon.total_steps)),
        warmup_steps=horizon.warmup_steps,
        num_steps=horizon.total_steps,
        take_in=GreedyBounds(min_lr_ratio, max_lr_ratio),
    )


@dataclass(frozen=True)
class GreedyBounds:
    """Bounds of a param group that is added later; ``GreedyLR`` has lists of them."""

    min_lr_ratio: float
    max_lr_ratio: float

    def __call__(self, inner: Any, base: float) -> None:
        """Give ``inner`` those of a group with base rate ``base``."""
        inner.min_lrs = [*inner.min_lrs, self.min_lr_ratio * base]  # a state may hold the lists
        inner.max_lrs = [*inner.max_lrs, self.max_lr_ratio * base]
        inner._init_lrs = [*inner._init_lrs, base]


def _flat(optimizer: Optimizer) -> Build:
    return lambda steps: ConstantLR(optimizer, factor=1.0, total_iters=steps)


def _line(optimizer: Optimizer, final_ratio: float) -> Build:
    return lambda steps: LinearLR(
        optimizer, start_factor=1.0, end_factor=final_ratio, total_iters=steps
    )


def _one_base(optimizer: Optimizer) -> float:
    """Return the groups' base learning rate; torch's cosines take one lower end for all."""
    bases = {float(group["lr"]) for group in optimizer.param_groups}
    if len(bases) > 1:
        raise ValueError(f"the param groups must share one lr here, got {sorted(bases)}.")
    return bases.pop()


def _with_warmup(
    optimizer: Optimizer, horizon: Horizon, build: Build, end: float | None = None
) -> LRScheduler:
    """Build one scheduler over all steps that the warm-up leaves.

    ``end`` is lr(T) / base where the scheduler itself would begin another cycle there.
    """
    phases = [(build, horizon.total_steps - horizon.warmup_steps)]
    if end is not None:
        phases.append((lambda steps: LambdaLR(optimizer, Constant(end)), 1))
    return after_warmup(optimizer, horizon, *phases)
