"""Schedulers whose ``step`` takes a metric, as schedules that listen."""

import math
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer

from tune_adaptive.schedules.base import (
    ListeningLR,
    Signal,
    Window,
    floats,
    keeps_tensors,
    rates_of,
)


class MetricScheduler(Protocol):
    """What torch's ``ReduceLROnPlateau`` and transformers' ``GreedyLR`` have in common."""

    def step(self, metrics: float) -> None:
        """React to a metric."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state."""


class MetricLR(ListeningLR):
    """Warm-up, then a scheduler whose ``step`` takes a metric, stepped once per optimizer step.

    Args:
        optimizer: Wrapped optimizer.
        build: Makes the inner scheduler, which changes the groups' ``lr`` itself.
        listens: ``val_loss``, each time one is observed, or ``loss``, the mean of a window.
        interval: Steps of that window, >= 1.
        warmup_steps: Steps of linear warm-up, >= 0, in which the metric is not heard.
        num_steps: Steps after which it is not heard any more either, and the rate is held.
        take_in: Told of the inner scheduler and the base rate of each param group added later,
            where the inner one has something for each; it can be pickled.

    NaN behaviour: a metric that is not finite counts as one that is infinite, so that it is
    no improvement and is never remembered as the best.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        build: Callable[[Optimizer], MetricScheduler],
        *,
        listens: Signal = "val_loss",
        interval: int = 1,
        warmup_steps: int = 0,
        num_steps: int,
        take_in: Callable[[Any, float], None] | None = None,
    ) -> None:
        self.listens = listens
        self.interval = interval
        self.warmup_steps = warmup_steps
        self.num_steps = num_steps
        self._take_in = take_in
        self._inner = build(optimizer)
        self._window = Window()
        super().__init__(optimizer)

    def observe(
        self,
        loss: float | Tensor | None = None,
        *,
        seconds: float | None = None,
        grad_norm: float | Tensor | None = None,
        val_loss: float | None = None,
        load: float | None = None,
    ) -> None:
        """Hear the metric; see :class:`ListeningLR`."""
        if self.last_epoch >= self.num_steps:
            return
        if self.listens == "loss":
            self._window.add(loss, "loss")
        elif val_loss is not None and self.last_epoch >= self.warmup_steps:
            self._hear(val_loss)

    def _take_in_new_groups(self) -> None:
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:
            base = float(group.setdefault("initial_lr", float(group["lr"])))
            self.base_lrs = [*self.base_lrs, base]  # a state may hold the list
            if self._take_in is not None:
                self._take_in(self._inner, base)

    def _hear(self, metric: float) -> None:
        self._take_in_new_groups()
        with keeps_tensors(self.optimizer):
            self._inner.step(metric if math.isfinite(metric) else math.inf)

    def get_lr(self) -> list[float | Tensor]:
        """Return the warm-up's learning rates, or what the inner scheduler made of them."""
        t = self.last_epoch
        if t < self.warmup_steps:
            return [base * (t + 1) / self.warmup_steps for base in self.base_lrs]
        return rates_of(self.optimizer)

    def _update_lr(self, epoch: int | None = None) -> None:
        t = self.last_epoch + 1 if epoch is None else epoch
        self._take_in_new_groups()
        if self.listens == "loss" and t >= self.warmup_steps and t % self.interval == 0:
            mean = self._window.mean()
            if mean is not None and t > self.warmup_steps:
                self._hear(mean)
        super()._update_lr(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain Python, the inner scheduler's within."""
        return {
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "_last_lr": [float(lr) for lr in self._last_lr],
            "base_lrs": [float(lr) for lr in self.base_lrs],
            "window": floats(self._window.values),
            "inner": self._inner.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict``."""
        for name in ("last_epoch", "_step_count", "_last_lr", "base_lrs"):
            setattr(self, name, state_dict[name])
        self._window.values = list(state_dict["window"])
        lrs = [group["lr"] for group in self.optimizer.param_groups]
        self._inner.load_state_dict(state_dict["inner"])
        for group, lr in zip(self.optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr  # GreedyLR sets its own; the optimizer's state has the right one
