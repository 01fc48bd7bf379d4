"""Schedulers that are told how training goes, and so may change their mind."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import EPOCH_DEPRECATION_WARNING, LRScheduler

from tune_adaptive.schedules.optimizer_steps import track_calls, warn_of_order

Signal = Literal["val_loss", "loss", "grad_norm"]
SIGNALS: tuple[Signal, ...] = ("val_loss", "loss", "grad_norm")


class CopyableLR(LRScheduler):
    """A scheduler that can be pickled and copied at any step, and is the same under every torch.

    What a step does is stated here, for versions of torch differ in the hooks that they offer;
    a subclass has ``get_lr``, or replaces ``_update_lr``.
    """

    _is_initial = False

    def _initial_step(self) -> None:
        self.base_lrs = [like(lr, lr) for lr in self.base_lrs]  # torch 2.6 shares its tensors
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def step(self, epoch: int | None = None) -> None:
        """Advance by one optimizer step; ``epoch`` jumps, as torch's own schedulers allow."""
        if self._step_count == 1:
            warn_of_order(self.optimizer)
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._get_lr_called_within_step = True
        try:
            closed = None if epoch is None else getattr(self, "_get_closed_form_lr", None)
            lrs = closed() if closed is not None else self.get_lr()
        finally:
            self._get_lr_called_within_step = False
        set_rates(self.optimizer, lrs)
        self._last_lr = rates_of(self.optimizer)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        track_calls(self.optimizer)


class ListeningLR(CopyableLR):
    """A scheduler with :meth:`observe`. The training loop tells it all that it knows.

    A base class for convenience; what a loop asks of any schedule stands in ``interface.py``.

    Attributes:
        val_interval: Steps between the validation losses it asks for; None is content
            with one at each epoch's end.
        wants_grad_norm: Whether it asks for the norm of the gradient at each step.
        bounds: Lowest and highest rate of each param group; None where it declares none.
    """

    val_interval: int | None = None
    wants_grad_norm: bool = False
    bounds: Sequence[tuple[float, float]] | None = None

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

    def add(self, value: float | Tensor | None, name: str = "value") -> None:
        """Keep a value, if there is one; a tensor stays on its device."""
        if value is not None:
            self.values.append(scalar(name, value))

    def mean(self) -> float | None:
        """Return the mean of what was kept and forget it; None where there is nothing."""
        values = floats(self.values)
        self.values = []
        return sum(values) / len(values) if values else None


def scalar(name: str, value: float | Tensor) -> float | Tensor:
    """Return a number as ``float``, or a tensor of one element without dimensions, unread.

    Raises:
        ValueError: The tensor has none or several elements.
    """
    if not isinstance(value, Tensor):
        return float(value)
    if value.dim() == 0:
        return value.detach()
    if value.numel() != 1:
        raise ValueError(
            f"{name} must be a number or a tensor of one element, got shape "
            f"{tuple(value.shape)}; reduce it first, for instance with .mean()."
        )
    return value.detach().reshape(())


def floats(values: Sequence[float | Tensor]) -> list[float]:
    """Read scalars; tensors are read from their device in one go."""
    if values and all(isinstance(value, Tensor) for value in values):
        tensors = [value for value in values if isinstance(value, Tensor)]
        return [float(x) for x in torch.stack(tensors).tolist()]
    return [float(value) for value in values]


def like(present: float | Tensor, lr: float | Tensor) -> float | Tensor:
    """Return ``lr`` as a group has it: a tensor of its own where ``present`` is one."""
    if not isinstance(present, Tensor):
        return float(lr)
    return lr.clone() if isinstance(lr, Tensor) else torch.full_like(present, lr)


def rates_of(optimizer: Optimizer) -> list[float | Tensor]:
    """Return the rates that stand in the groups; tensors are copies."""
    return [like(group["lr"], group["lr"]) for group in optimizer.param_groups]


def set_rates(optimizer: Optimizer, lrs: Sequence[float | Tensor]) -> None:
    """Write rates into the groups; one that is a tensor is filled in place, as torch does."""
    for group, lr in zip(optimizer.param_groups, lrs, strict=True):
        set_rate(group, lr)


def set_rate(group: dict[str, Any], lr: float | Tensor) -> None:
    """Write a rate into one group; see :func:`set_rates`."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr.squeeze() if isinstance(lr, Tensor) else lr)
    else:
        group["lr"] = float(lr)


@contextmanager
def keeps_tensors(optimizer: Optimizer) -> Iterator[None]:
    """Fill rates that are tensors in place where another's schedule puts new ones there.

    transformers' ``GreedyLR`` does, and in torch 2.6 ``CosineAnnealingWarmRestarts`` and
    ``ReduceLROnPlateau``.
    """
    before = [group["lr"] for group in optimizer.param_groups]
    yield
    for group, lr in zip(optimizer.param_groups, before, strict=True):
        if isinstance(lr, Tensor) and group["lr"] is not lr:
            lr.fill_(group["lr"])
            group["lr"] = lr


@contextmanager
def explains_new_groups(schedule: LRScheduler) -> Iterator[None]:
    """Say what is the matter where a schedule fails for groups added after it was created.

    Raises:
        ValueError: What torch raises there, in words that name the cause and what to do.
    """
    try:
        yield
    except (ValueError, KeyError, IndexError) as error:
        num_known = len(schedule.base_lrs)
        num_groups = len(schedule.optimizer.param_groups)
        if num_groups == num_known:
            raise
        raise ValueError(
            f"This schedule cannot take in param groups that were added after it was created "
            f"({num_groups} groups now, {num_known} then). Create the optimizer with all its "
            "groups, or schedule it with AdaptiveLR, which takes in new ones."
        ) from error
