"""Schedulers that are told how training goes, and so may change their mind."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Signal = Literal["val_loss", "loss", "grad_norm"]
SIGNALS: tuple[Signal, ...] = ("val_loss", "loss", "grad_norm")


class ListeningLR(LRScheduler):
    """A scheduler with :meth:`observe`. The training loop tells it all that it knows.

    Attributes:
        val_interval: Steps between the validation losses it asks for; None is content
            with one at each epoch's end.
        wants_grad_norm: Whether it asks for the norm of the gradient at each step.
    """

    val_interval: int | None = None
    wants_grad_norm: bool = False

    def observe(
        self,
        loss: float | Tensor | None = None,
        *,
        seconds: float | None = None,
        grad_norm: float | Tensor | None = None,
        val_loss: float | None = None,
        load: float | None = None,
    ) -> None:
        """Tell the schedule about the optimizer step that just ended, before ``step``.

        Args:
            loss: Training loss, a scalar; a tensor is not read before it is needed.
            seconds: Duration of the step [s].
            grad_norm: Norm of the gradient, a scalar.
            val_loss: Validation loss, where it was just measured [nats].
            load: Use of the device since the last reading, in [0, 1].
        """
        raise NotImplementedError

    @property
    def progress(self) -> float | None:
        """Share of the budget that is spent, in [0, 1]; None where steps say it."""
        return None

    @property
    def step_s(self) -> float | None:
        """Seconds of the last step as they were heard; None where they were not."""
        return None

    @property
    def finished(self) -> bool:
        """Whether the run should end because its budget is spent."""
        return False

    @property
    def diverged(self) -> bool:
        """Whether the run should end because its loss is not finite any more."""
        return False

    def paused(self) -> AbstractContextManager[None]:
        """Keep the time spent inside off the schedule's clock."""
        return nullcontext()


class Window:
    """Values of one signal since the last look; tensors are read in one go."""

    def __init__(self) -> None:
        self.values: list[float | Tensor] = []

    def add(self, value: float | Tensor | None) -> None:
        """Keep a value, if there is one; a tensor stays on its device."""
        if value is not None:
            self.values.append(value.detach() if isinstance(value, Tensor) else float(value))

    def mean(self) -> float | None:
        """Return the mean of what was kept and forget it; None where there is nothing."""
        values = floats(self.values)
        self.values = []
        return sum(values) / len(values) if values else None


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
    ) -> None:
        self.listens = listens
        self.interval = interval
        self.warmup_steps = warmup_steps
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
        if self.listens == "loss":
            self._window.add(loss)
        elif val_loss is not None and self.last_epoch >= self.warmup_steps:
            self._hear(val_loss)

    def _hear(self, metric: float) -> None:
        self._inner.step(metric if math.isfinite(metric) else math.inf)

    def get_lr(self) -> list[float | Tensor]:
        """Return the warm-up's learning rates, or what the inner scheduler made of them."""
        t = self.last_epoch
        if t < self.warmup_steps:
            return [base * (t + 1) / self.warmup_steps for base in self.base_lrs]
        if self.listens == "loss" and t % self.interval == 0:
            mean = self._window.mean()
            if mean is not None and t > self.warmup_steps:
                self._hear(mean)
        return [group["lr"] for group in self.optimizer.param_groups]

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


def floats(values: Sequence[float | Tensor]) -> list[float]:
    """Read scalars; tensors are read from their device in one go."""
    if values and all(isinstance(value, Tensor) for value in values):
        tensors = [value for value in values if isinstance(value, Tensor)]
        return [float(x) for x in torch.stack(tensors).tolist()]
    return [float(value) for value in values]
