"""The two founding rules, literally: the baselines this project began with.

The documents state the second as an algorithm. For the first they name its inputs (GPU
utilisation, memory, batch size, dataset complexity), weights and bounds but give no
formula; the one below is our reading of it.
"""

import math
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from tune_adaptive.schedules.base import (
    SIGNALS,
    ListeningLR,
    Signal,
    Window,
    explains_new_groups,
    like,
    set_rates,
)
from tune_adaptive.schedules.horizon import Horizon
from tune_adaptive.schedules.optimizer_steps import require_optimizer

REFERENCE_BATCH_SIZE = 64
UNKNOWN_LOAD = 0.5


class _StatefulLR(ListeningLR):
    """Per-group levels that a rule moves within bounds, after a linear warm-up.

    From step ``num_steps`` on they are held; None moves them for ever. Param groups added later
    are refused by ``step``.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        min_lr: float,
        max_lr: float,
        warmup_steps: int,
        num_steps: int | None,
    ) -> None:
        require_optimizer(optimizer)
        if not 0 <= min_lr <= max_lr < math.inf:
            raise ValueError(
                f"min_lr and max_lr must satisfy 0 <= min_lr <= max_lr < inf, got "
                f"min_lr = {min_lr!r}, max_lr = {max_lr!r}."
            )
        self.min_lr, self.max_lr = min_lr, max_lr
        self.warmup_steps = warmup_steps
        self.num_steps = num_steps
        self._levels = [float(group["lr"]) for group in optimizer.param_groups]
        super().__init__(optimizer)

    @property
    def bounds(self) -> list[tuple[float, float]]:  # type: ignore[override]
        """The same for every param group."""
        return [(self.min_lr, self.max_lr)] * len(self.optimizer.param_groups)

    def get_lr(self) -> list[float | Tensor]:
        """Return each group's level, within bounds; the warm-up scales it."""
        t = self.last_epoch
        warm = (t + 1) / self.warmup_steps if t < self.warmup_steps else 1.0
        lrs = [min(max(warm * level, self.min_lr), self.max_lr) for level in self._levels]
        groups = self.optimizer.param_groups
        return [like(group["lr"], lr) for group, lr in zip(groups, lrs, strict=True)]

    def _update_lr(self, epoch: int | None = None) -> None:
        t = self.last_epoch + 1 if epoch is None else epoch
        with explains_new_groups(self):
            if t > 0 and (self.num_steps is None or t <= self.num_steps):
                self._move(t)
            super()._update_lr(epoch)

    def _move(self, t: int) -> None:
        """Change the levels after step ``t``, if it is time."""
        raise NotImplementedError

    def _plain_state(self) -> dict[str, Any]:
        """Return the rule's own state as plain Python."""
        raise NotImplementedError

    def _set_plain_state(self, state: dict[str, Any]) -> None:
        """Restore the rule's own state."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain Python; it loads with ``weights_only=True``."""
        return {
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "_last_lr": [float(lr) for lr in self._last_lr],
            "base_lrs": [float(lr) for lr in self.base_lrs],
            "levels": list(self._levels),
            "rule": self._plain_state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict``."""
        for name in ("last_epoch", "_step_count", "_last_lr", "base_lrs"):
            setattr(self, name, state_dict[name])
        self._levels = list(state_dict["levels"])
        self._set_plain_state(state_dict["rule"])


class ResourceComplexityLR(_StatefulLR):
    """The first document's rule: the learning rate follows complexity and resource use.

    Every ``interval`` steps, lr = clip(lr0 * sqrt(B / 64) * 2 ** e, min_lr, max_lr) with
    e = complexity_weight * (1 - 2 C) + resource_weight * (1 - 2 U), where U is the larger
    of GPU utilisation and memory fraction over the last interval, the mean of what was
    observed; 0.5 where there is no GPU and no reading. Our reading of the document.

    Args:
        optimizer: Wrapped optimizer; each group's ``lr`` is its lr0. Documented: Adam, 1e-3.
        complexity: C of the dataset in [0, 1].
        interval: Steps between changes, >= 1. Documented: one epoch.
        batch_size: B, >= 1. Documented: 64.
        complexity_weight: In [0, 1]. Documented: 0.5.
        resource_weight: In [0, 1]. Documented: 0.5.
        min_lr: Lower bound, >= 0. Documented: 1e-6.
        max_lr: Upper bound, >= min_lr. Documented: 1e-2.
        warmup_steps: Steps of linear warm-up, >= 0. Documented: none.
        num_steps: Steps after which the rate is held; None never.

    NaN behaviour: a load that is not within [0, 1] counts as no reading.

    Raises:
        ValueError: An argument is outside its range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        complexity: float,
        interval: int,
        batch_size: int = REFERENCE_BATCH_SIZE,
        complexity_weight: float = 0.5,
        resource_weight: float = 0.5,
        min_lr: float = 1e-6,
        max_lr: float = 1e-2,
        warmup_steps: int = 0,
        num_steps: int | None = None,
    ) -> None:
        for name, value, ok, allowed in (
            ("complexity", complexity, 0 <= complexity <= 1, "in [0, 1]"),
            ("interval", interval, interval >= 1, ">= 1"),
            ("batch_size", batch_size, batch_size >= 1, ">= 1"),
            ("complexity_weight", complexity_weight, 0 <= complexity_weight <= 1, "in [0, 1]"),
            ("resource_weight", resource_weight, 0 <= resource_weight <= 1, "in [0, 1]"),
        ):
            if not ok:
                raise ValueError(f"{name} must be {allowed}, got {name} = {value!r}.")
        self.interval = interval
        self.resource_weight = resource_weight
        exponent = complexity_weight * (1 - 2 * complexity)
        self._scale = math.sqrt(batch_size / REFERENCE_BATCH_SIZE) * 2**exponent
        self._loads = Window()
        super().__init__(
            optimizer,
            min_lr=min_lr,
            max_lr=max_lr,
            warmup_steps=warmup_steps,
            num_steps=num_steps,
        )
        self._set_levels(UNKNOWN_LOAD)
        set_rates(optimizer, self.get_lr())
        self._last_lr = self.get_lr()

    def observe(
        self,
        loss: float | Tensor | None = None,
        *,
        seconds: float | None = None,
        grad_norm: float | Tensor | None = None,
        val_loss: float | None = None,
        load: float | None = None,
    ) -> None:
        """Hear the load in [0, 1]; what is no such number counts as no reading."""
        if load is not None and 0 <= load <= 1:
            self._loads.add(load)

    def _move(self, t: int) -> None:
        if t % self.interval == 0:
            load = self._loads.mean()
            self._set_levels(UNKNOWN_LOAD if load is None else load)

    def _set_levels(self, load: float) -> None:
        scale = self._scale * 2 ** (self.resource_weight * (1 - 2 * load))
        self._levels = [float(base) * scale for base in self.base_lrs]

    def _plain_state(self) -> dict[str, Any]:
        return {"loads": list(self._loads.values)}

    def _set_plain_state(self, state: dict[str, Any]) -> None:
        self._loads.values = list(state["loads"])


class FeedbackLR(_StatefulLR):
    """The second document's rule: up a little while things improve, down when they do not.

    Every ``interval`` steps, lr *= 1 + factor if the signal improved by at least
    ``threshold`` (relative) since the last look, else lr *= 1 - factor; within bounds. The
    first look only remembers.

    NaN behaviour: a signal that is not finite is no improvement, nor is the look after it.

    Args:
        optimizer: Wrapped optimizer. Documented: Adam, lr 1e-2, batch 32.
        listens: ``val_loss``, ``loss`` (mean training loss of the window) or ``grad_norm``
            (its mean); lower is better. Documented: ``val_loss``.
        interval: Steps between looks, >= 1. Documented: 100.
        factor: In (0, 1). Documented: 0.1.
        threshold: Relative improvement that counts, >= 0. Documented: 0.01.
        min_lr: Lower bound, >= 0.
        max_lr: Upper bound, >= min_lr.
        warmup_steps: Steps of linear warm-up, >= 0, without looks. Documented: none.
        num_steps: Steps after which the rate is held; None never.

    Raises:
        ValueError: An argument is outside its range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        listens: Signal = "val_loss",
        interval: int = 100,
        factor: float = 0.1,
        threshold: float = 0.01,
        min_lr: float = 1e-6,
        max_lr: float = 1e-1,
        warmup_steps: int = 0,
        num_steps: int | None = None,
    ) -> None:
        for name, value, ok, allowed in (
            ("listens", listens, listens in SIGNALS, f"one of {', '.join(SIGNALS)}"),
            ("interval", interval, interval >= 1, ">= 1"),
            ("factor", factor, 0 < factor < 1, "in (0, 1)"),
            ("threshold", threshold, threshold >= 0, ">= 0"),
        ):
            if not ok:
                raise ValueError(f"{name} must be {allowed}, got {name} = {value!r}.")
        self.listens = listens
        self.interval = interval
        self.factor = factor
        self.threshold = threshold
        self.val_interval = interval if listens == "val_loss" else None
        self.wants_grad_norm = listens == "grad_norm"
        self._window = Window()
        self._previous: float | None = None
        super().__init__(
            optimizer,
            min_lr=min_lr,
            max_lr=max_lr,
            warmup_steps=warmup_steps,
            num_steps=num_steps,
        )

    def observe(
        self,
        loss: float | Tensor | None = None,
        *,
        seconds: float | None = None,
        grad_norm: float | Tensor | None = None,
        val_loss: float | None = None,
        load: float | None = None,
    ) -> None:
        """Hear the signal it listens to; see :class:`ListeningLR`."""
        heard = {"val_loss": val_loss, "loss": loss, "grad_norm": grad_norm}
        self._window.add(heard[self.listens], self.listens)

    def _move(self, t: int) -> None:
        if t % self.interval:
            return
        value = self._window.mean()
        if value is None or t <= self.warmup_steps:
            return
        previous, self._previous = self._previous, value
        if previous is None:
            return
        known = math.isfinite(previous) and math.isfinite(value)
        improved = known and previous - value >= self.threshold * abs(previous)
        scale = 1 + self.factor if improved else 1 - self.factor
        self._levels = [min(max(level * scale, self.min_lr), self.max_lr) for level in self._levels]

    def _plain_state(self) -> dict[str, Any]:
        values = [float(value) for value in self._window.values]
        return {"window": values, "previous": self._previous}

    def _set_plain_state(self, state: dict[str, Any]) -> None:
        self._window.values = list(state["window"])
        self._previous = state["previous"]


def resource_complexity(
    optimizer: Optimizer,
    horizon: Horizon,
    *,
    complexity_weight: float = 0.5,
    resource_weight: float = 0.5,
    interval: int = 0,
    min_lr: float = 1e-6,
    max_lr: float = 1e-2,
) -> ListeningLR:
    """Build :class:`ResourceComplexityLR` with the documented defaults.

    Args:
        optimizer: Wrapped optimizer.
        horizon: The run it plans for.
        complexity_weight: In [0, 1].
        resource_weight: In [0, 1].
        interval: Steps between changes; 0 is one epoch, as documented.
        min_lr: Lower bound, >= 0.
        max_lr: Upper bound, >= min_lr.
    """
    return ResourceComplexityLR(
        optimizer,
        complexity=horizon.complexity,
        interval=interval or horizon.steps_per_epoch or horizon.total_steps,
        batch_size=horizon.batch_size,
        complexity_weight=complexity_weight,
        resource_weight=resource_weight,
        min_lr=min_lr,
        max_lr=max_lr,
        warmup_steps=horizon.warmup_steps,
        num_steps=horizon.total_steps,
    )


def feedback(
    optimizer: Optimizer,
    horizon: Horizon,
    *,
    listens: Signal = "val_loss",
    interval: int = 100,
    factor: float = 0.1,
    threshold: float = 0.01,
) -> ListeningLR:
    """Build :class:`FeedbackLR` with the documented defaults, every 100 steps."""
    return FeedbackLR(
        optimizer,
        listens=listens,
        interval=interval,
        factor=factor,
        threshold=threshold,
        warmup_steps=horizon.warmup_steps,
        num_steps=horizon.total_steps,
    )
