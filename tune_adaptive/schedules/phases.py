"""Torch's schedulers one after the other, and the last rate held when all have ended.

Each is built for its own number of steps and begins where the one before ends, as in
``SequentialLR``. Unlike that, what is built can be put into a ``SequentialLR`` of one's own,
pickled, copied and stepped beyond its end.
"""

import re
import warnings
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import EPOCH_DEPRECATION_WARNING, LambdaLR, LRScheduler

from tune_adaptive.schedules.base import (
    CopyableLR,
    explains_new_groups,
    keeps_tensors,
    rates_of,
    set_rates,
)
from tune_adaptive.schedules.horizon import Horizon

Build = Callable[[int], LRScheduler]
"""Makes a scheduler for the number of steps that it is given."""


class PhasedLR(CopyableLR):
    """Schedulers in turn; beyond the last one's end the rates are left as they are.

    A param group added later is what the scheduler of the time makes of it: ``StepLR`` and other
    torch classes that multiply take it in; where they cannot, ``step`` raises ValueError.

    Args:
        optimizer: Wrapped optimizer.
        phases: What builds each scheduler on ``optimizer``, and its number of steps; phases
            of no steps are left out. At least one has steps.
    """

    def __init__(self, optimizer: Optimizer, phases: Sequence[tuple[Build, int]]) -> None:
        phases = [phase for phase in phases if phase[1] > 0]
        with keeps_tensors(optimizer):
            self._phases = [build(num_steps) for build, num_steps in phases]
        self._starts = list(accumulate((num_steps for _, num_steps in phases), initial=0))
        self._end = self._starts.pop()
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rates at the present step."""
        return rates_of(self.optimizer)

    def _update_lr(self, epoch: int | None = None) -> None:
        with explains_new_groups(self), keeps_tensors(self.optimizer):
            self._move(epoch)
        self._last_lr = rates_of(self.optimizer)

    def _move(self, epoch: int | None) -> None:
        t = self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        i = bisect_right(self._starts, t) - 1
        if t == 0:
            self._begin()
        elif epoch is not None:
            raise ValueError(f"This schedule can be stepped and restarted, not set to step {t}.")
        elif t == self._starts[i]:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=re.escape(EPOCH_DEPRECATION_WARNING))
                self._phases[i].step(0)
        elif t <= self._end:
            self._phases[i].step()
        if len(self.optimizer.param_groups) != len(self.base_lrs) and t <= self._end:
            _require_all_groups(self._phases[i])

    def _begin(self) -> None:
        """Undo what building the phases did to the rates, and begin with the first."""
        set_rates(self.optimizer, [group["initial_lr"] for group in self.optimizer.param_groups])
        for phase in self._phases:
            phase.last_epoch = -1
        self._phases[0]._initial_step()
        for phase in self._phases:
            phase._step_count = 2  # the order of calls is checked in this class, and once

    def state_dict(self) -> dict[str, Any]:
        """Return the state, the phases' within; it loads with ``weights_only=True``."""
        return {
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "_last_lr": list(self._last_lr),
            "base_lrs": list(self.base_lrs),
            "phases": [phase.state_dict() for phase in self._phases],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict``; the rates themselves are in the optimizer's state."""
        for name in ("last_epoch", "_step_count"):
            setattr(self, name, state_dict[name])
        for name in ("_last_lr", "base_lrs"):
            setattr(self, name, list(state_dict[name]))
        for phase, state in zip(self._phases, state_dict["phases"], strict=True):
            phase.load_state_dict(dict(state))  # CyclicLR takes a key out of it


def _require_all_groups(phase: LRScheduler) -> None:
    """Raise ValueError, as new versions of torch do, where a scheduler leaves out new groups."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that get_lr is called outside of a step
        lrs = phase.get_lr()
    if len(lrs) != len(phase.optimizer.param_groups):
        raise ValueError(f"{len(lrs)} rates for {len(phase.optimizer.param_groups)} groups")


def after_warmup(optimizer: Optimizer, horizon: Horizon, *phases: tuple[Build, int]) -> PhasedLR:
    """Put the linear warm-up before what ``phases`` build; see :class:`PhasedLR`.

    Args:
        optimizer: Wrapped optimizer.
        horizon: The run it plans for.
        phases: What builds each scheduler, and its number of steps.
    """
    warmup = horizon.warmup_steps
    return PhasedLR(optimizer, [(lambda steps: LambdaLR(optimizer, Rise(steps)), warmup), *phases])


@dataclass(frozen=True)
class Rise:
    """Linear warm-up: (t + 1) / num_steps. A class, for lambdas cannot be pickled."""

    num_steps: int

    def __call__(self, t: int) -> float:
        """Return the factor at step ``t``."""
        return min(1.0, (t + 1) / self.num_steps)
