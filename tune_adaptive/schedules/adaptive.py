"""AdaptiveLR: the schedule this project studies.

Complexity decides how long to hold, resources decide how fast the budget clock
runs, feedback corrects the level, bounds cap it. At step t, per param group g::

    lr_g(t)   = clip(base_g * warm(t) * anneal_g(p_t) * m_t, min_lr_g, max_lr_g)
    warm(t)   = min(1, (t + 1) / warmup_steps)
    anneal(p) = floor + (1 - floor) * (1 if p < h else ((1 - p) / (1 - h)) ** power)
    floor     = min_lr / base
    h         = min(0.9, hold + complexity_weight * C)

``p`` is the budget clock, 0 at the start and 1 when the budget is spent (``clock.py``);
``m`` is the feedback multiplier (``level.py``).
"""

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from tune_adaptive.schedules.accelerated import require_one_call_per_step
from tune_adaptive.schedules.base import ListeningLR, like, rates_of, set_rate
from tune_adaptive.schedules.bounds import Group, base_of, bounds_of, levels_of
from tune_adaptive.schedules.clock import BudgetClock, is_asynchronous
from tune_adaptive.schedules.configuration import (
    ARGUMENTS,
    MAX_HOLD,
    MAX_LR_RATIO,
    REFERENCE_BATCH_SIZE,
    STATE_VERSION,
    AdaptiveConfiguration,
    check_state,
)
from tune_adaptive.schedules.level import Level
from tune_adaptive.schedules.optimizer_steps import (
    OptimizerSteps,
    around,
    require_optimizer,
    warn_of_ignored,
)
from tune_adaptive.schedules.shared_rates import SharedRates, begin, remember


class AdaptiveLR(ListeningLR):
    """Learning-rate schedule that hears dataset complexity, real resources and training feedback.

    Step it once per optimizer step. Call :meth:`observe` with the step's loss before
    :meth:`step`; tensors are kept on their device and read once per feedback interval.
    The learning rate is a pure function of the configuration and of what was observed, by the
    formula at the top of this module.

    It follows torch's conventions, and three that torch leaves open. A call of :meth:`step`
    without an optimizer step before it (one that ``GradScaler`` skipped, or between
    accumulated micro-batches) does not advance it; see ``optimizer_steps.py`` for optimizers within
    others. Where something else changes a group's ``lr`` in between, as the members of a
    ``ChainedScheduler`` do, that change is kept: the group's ``lr`` is then this schedule's own
    times the other's factor, and the bounds hold for its own. An ``lr`` that is a tensor is
    written in place, and not read. Once the budget is spent the rate is held.

    A second one on the same optimizer begins anew, from ``initial_lr`` as torch's do: what the
    first one wrote is no factor. Param groups may be added at any time; they take part from the
    next step on.

    Args:
        optimizer: Wrapped optimizer; each group's ``lr`` is its base learning rate. A group
            with 0 stays at 0, whatever the bounds.
        total_steps: T, the planned number of optimizer steps, >= 1.
        complexity: C of the dataset in [0, 1]; see ``tune_adaptive.records.complexity``.
        complexity_weight: How much C lengthens the hold, in [0, 1].
        resource_weight: w in [0, 1]; 1 plans in time, 0 in steps whatever they take.
        hold: Fraction of the budget held at full level whatever C is, in [0, 0.9].
        power: Exponent of the anneal, >= 0; 1 is linear, 0 never anneals.
        min_lr: Lower bound, >= 0; one value or one per param group.
        max_lr: Upper bound; one value or one per param group; None is
            :func:`~tune_adaptive.schedules.bounds.highest_lr` of the base.
        min_lr_ratio: Lower bound as a share of each group's base, in [0, 1]; the higher of it
            and ``min_lr`` holds.
        max_lr_ratio: The most that max_lr / base may be where ``max_lr`` is None, >= 1.
        warmup_steps: Steps of linear warm-up, >= 0; no feedback meanwhile.
        feedback: Whether ``m`` moves at all.
        feedback_interval: Steps between looks, >= 1; None is max(5, T // 60).
        feedback_factor: a in (0, 0.5): m grows by 1 + a, shrinks by 1 - 2a.
        feedback_threshold: Relative rise over the best loss that counts as harm, >= 0.
        feedback_z: Standard errors a rise must exceed to count, >= 0.
        time_budget_s: W, seconds the run may take, > 0; None is what it takes at the speed
            measured at its start.
        batch_size: B, examples per optimizer step, >= 1: each base is multiplied by
            B / reference_batch_size for SGD and by its square root for all others, which
            are Adam-like. None scales nothing.
        reference_batch_size: Batch size that the groups' ``lr`` were chosen for, >= 1.
        timer: Clock read at each step [s]; None hears time only from ``observe(seconds=)``,
            and without it assumes constant speed. On a device that runs asynchronously it is
            synchronised once a window (about 60 a run), when resource_weight > 0.
        last_epoch: Step to resume at, as in every torch scheduler.

    NaN behaviour: a loss that is not finite is harm, and is remembered neither as the best
    nor as the last one; after three windows of them :attr:`diverged` is True. Seconds that
    are not finite are not heard. See ``level.py`` for gradient norms.

    Raises:
        TypeError: ``optimizer`` is no ``torch.optim.Optimizer``.
        ValueError: Arguments are outside the ranges above; the message shows each of them. Or,
            from :meth:`step`, Accelerate calls it once for each process.

    Example:
        >>> import torch
        >>> parameter = torch.nn.Parameter(torch.zeros(1))
        >>> optimizer = torch.optim.SGD([parameter], lr=0.1)
        >>> schedule = AdaptiveLR(optimizer, total_steps=10, complexity=0.4, timer=None)
        >>> for _ in range(10):
        ...     optimizer.step()
        ...     schedule.observe(loss=1.0)
        ...     schedule.step()
        >>> schedule.finished, schedule.get_last_lr()
        (True, [0.0])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        *,
        complexity: float = 0.5,
        complexity_weight: float = 0.5,
        resource_weight: float = 0.5,
        hold: float = 0.1,
        power: float = 1.0,
        min_lr: float | Sequence[float] = 0.0,
        max_lr: float | Sequence[float] | None = None,
        min_lr_ratio: float = 0.0,
        max_lr_ratio: float = MAX_LR_RATIO,
        warmup_steps: int = 0,
        feedback: bool = True,
        feedback_interval: int | None = None,
        feedback_factor: float = 0.2,
        feedback_threshold: float = 0.1,
        feedback_z: float = 1.0,
        time_budget_s: float | None = None,
        batch_size: int | None = None,
        reference_batch_size: int = REFERENCE_BATCH_SIZE,
        timer: Callable[[], float] | None = time.perf_counter,
        last_epoch: int = -1,
    ) -> None:
        require_optimizer(optimizer)
        given = {name: value for name, value in locals().items() if name in ARGUMENTS}
        plain = self._configuration = AdaptiveConfiguration.checked(**given, timer=timer)
        # There is no attribute ``total_steps``: by it Accelerate would end the schedule early,
        # for it compares it with the calls of ``step``, those between optimizer steps included.
        self.hold_fraction = min(MAX_HOLD, plain.hold + plain.complexity_weight * plain.complexity)
        self.power = plain.power
        self.warmup_steps = plain.warmup_steps
        self.feedback_interval = plain.feedback_interval
        self._groups: list[Group] = []
        self._clock = BudgetClock(
            plain.total_steps,
            resource_weight=plain.resource_weight,
            time_budget_s=plain.time_budget_s,
            timer=timer,
            synchronize=is_asynchronous(optimizer),
        )
        self._level = Level(
            factor=plain.feedback_factor, threshold=plain.feedback_threshold, z=plain.feedback_z
        )
        self._hears = plain.feedback
        self._rates = SharedRates()
        self._num_ignored = 0  # calls of step() in a row, since step self._ignored_at
        self._ignored_at = -1
        self._followed = optimizer
        self._steps = OptimizerSteps(optimizer, self)
        super().__init__(optimizer, last_epoch)

    @property
    def progress(self) -> float:
        """The budget clock p in [0, 1]."""
        return self._clock.p

    @property
    def step_s(self) -> float | None:
        """Seconds of the last step, as they were heard."""
        return self._clock.step_s

    @property
    def finished(self) -> bool:
        """Whether the budget is spent (p = 1): the run should end here."""
        return self._clock.p >= 1.0

    @property
    def diverged(self) -> bool:
        """Whether three feedback windows held a non-finite loss: the run should stop."""
        return self._level.diverged

    @property
    def bounds(self) -> list[tuple[float, float]]:  # type: ignore[override]
        """Lowest and highest rate of each param group."""
        return [(min_lr, max_lr) for _, _, min_lr, max_lr in self._groups]

    @property
    def multiplier(self) -> float:
        """The feedback multiplier m."""
        return self._level.m

    def observe(
        self,
        loss: float | Tensor | None = None,
        *,
        seconds: float | None = None,
        grad_norm: float | Tensor | None = None,
        val_loss: float | None = None,
        load: float | None = None,
    ) -> None:
        """Tell the schedule about the optimizer step that just ended, before :meth:`step`.

        With accumulated gradients, call it for each micro-batch or once for all.

        Args:
            loss: Training (or validation) loss, a scalar. A tensor is not read until the
                next feedback boundary, so the device is not synchronised.
            seconds: Duration since the last call [s]; overrides the timer. Non-finite or
                negative values count as not heard.
            grad_norm: Norm of the gradient, a scalar.
            val_loss: Not heard; to steer by it, pass it as ``loss``.
            load: Not heard: how busy a device is says nothing about the loss surface.
        """
        if self._hears and self._clock.p < 1.0:
            self._level.hear(loss, grad_norm)
        if seconds is not None:
            self._clock.hear(float(seconds))

    def paused(self) -> AbstractContextManager[None]:
        """Keep the time spent inside (validation, checkpoints) off the budget clock."""
        return self._clock.paused()

    def step(self, epoch: int | None = None) -> None:
        """Advance by one optimizer step; ``epoch`` jumps, as torch's own schedulers allow."""
        if self._step_count < 3 or epoch is not None:
            if self._steps.stepped and not self._steps.always:
                self.optimizer._opt_called = True  # type: ignore[attr-defined]  # or one within
            super().step(epoch)  # checks the order of calls
        else:
            self._step_count += 1
            self._advance()

    def get_lr(self) -> list[float | Tensor]:
        """Return this schedule's own learning rate of each param group, at its present state.

        What others made of it is not in it; see :meth:`get_last_lr`. Where a group's ``lr`` is a
        tensor it is one, too.
        """
        groups = self.optimizer.param_groups
        new = [base_of(group) for group in groups[len(self.base_lrs) :]]
        known = self._bounds_of([*self.base_lrs, *new]) if new else self._groups
        lrs = self._own_lrs(known)
        return [like(group["lr"], lr) for group, lr in zip(groups, lrs, strict=True)]

    def get_last_lr(self) -> list[float | Tensor]:
        """Return the learning rates that were last written; tensors are copies."""
        return [lr.clone() if isinstance(lr, Tensor) else lr for lr in self._last_lr]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain Python; it loads with ``weights_only=True``.

        Losses still on a device are read, which synchronises it.
        """
        return {
            "version": STATE_VERSION,
            "configuration": asdict(self._configuration),
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "_last_lr": [float(lr) for lr in self._last_lr],
            "base_lrs": [float(lr) for lr in self.base_lrs],
            "factors": self._rates.factors(),
            "clock": self._clock.state_dict(),
            "level": self._level.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict``, bit for bit.

        Raises:
            ValueError: The state is of another version or another configuration.
        """
        check_state(state_dict, self._configuration)
        self.last_epoch = state_dict["last_epoch"]
        self._step_count = state_dict["_step_count"]
        self.base_lrs = list(state_dict["base_lrs"])
        self._groups = self._bounds_of(self.base_lrs)
        self._rates.restore(state_dict["factors"], state_dict["_last_lr"])
        groups = itertools.chain(self.optimizer.param_groups, itertools.repeat({"lr": 0.0}))
        self._last_lr = [
            like(group["lr"], lr) for lr, group in zip(state_dict["_last_lr"], groups, strict=False)
        ]
        self._clock.load_state_dict(state_dict["clock"])
        self._level.load_state_dict(state_dict["level"])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_steps": self._steps.stepped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._steps = OptimizerSteps(self.optimizer, self)  # a copied optimizer has no hooks
        self._steps.stepped = state["_steps"]
        remember(around(self.optimizer)[-1], self._rates)

    def _update_lr(self, epoch: int | None = None) -> None:
        if epoch is None and not self._is_initial:
            self._advance()
            if self._step_count == 3:
                self._rates.warn_if_still_zero(self.optimizer.param_groups)
            return
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._clock.jump(self.last_epoch)
        self._steps.clear()
        self._groups = self._bounds_of(self.base_lrs)
        starts = self.last_epoch == 0 and epoch is None
        bases = [float(lr) for lr in self.base_lrs] if starts else None
        begin(self._rates, around(self.optimizer)[-1], self.optimizer.param_groups, bases)
        self._last_lr = self._rates.write(self.optimizer.param_groups, self._own_lrs(self._groups))

    def _advance(self) -> None:
        steps = self._steps
        if not steps.stepped or (steps.found_inf is not None and bool(steps.found_inf.item())):
            self._ignore()
            return
        steps.stepped, steps.found_inf = steps.always, None
        clock, optimizer = self._clock, self.optimizer
        ended = clock.p >= 1.0
        t = self.last_epoch = self.last_epoch + 1
        clock.advance(t)
        if ended:
            self._rates.hold(optimizer.param_groups)
            if len(self._groups) != len(optimizer.param_groups):
                self._take_in_new_groups(spent=True)
            self._last_lr = rates_of(optimizer)
            return
        if t % self.feedback_interval == 0 and self._hears:
            self._look()
        groups = optimizer.param_groups
        if len(self._groups) != len(groups):
            self._take_in_new_groups()
        self._last_lr = self._rates.write(groups, self._own_lrs(self._groups))

    def _ignore(self) -> None:
        """Stay where no optimizer step was seen, and say so where that goes on and on."""
        if self.optimizer is not self._followed:
            self._steps.stop()
            self._followed = self.optimizer
            self._steps = OptimizerSteps(self.optimizer, self)
            self._steps.stepped = True  # the step that this call is about went unseen
            self._advance()
            return
        self._steps.clear()
        self._level.drop_infinite_norms()
        require_one_call_per_step()
        if self._ignored_at != self.last_epoch:
            self._ignored_at, self._num_ignored = self.last_epoch, 0
        self._num_ignored += 1
        warn_of_ignored(self._num_ignored, self.optimizer)

    def _bounds_of(self, bases: Sequence[float | Tensor]) -> list[Group]:
        return bounds_of(self.optimizer, bases, self._configuration)

    def _own_lrs(self, groups: list[Group]) -> list[float]:
        t, p, m = self.last_epoch, self._clock.p, self._level.m
        warm = (t + 1) / self.warmup_steps if t < self.warmup_steps else 1.0
        h = self.hold_fraction
        shape = 1.0 if p < h else ((1.0 - p) / (1.0 - h)) ** self.power
        lrs = []
        for base, floor, min_lr, max_lr in groups:
            anneal = 1.0 if shape == 1.0 else floor + (1.0 - floor) * shape
            lr = base * warm * anneal * m
            lrs.append(min_lr if lr < min_lr else max_lr if lr > max_lr else lr)
        return lrs

    def _look(self) -> None:
        if self.last_epoch <= self.warmup_steps:
            self._level.forget()
            return
        # Beyond the bounds no group can move: keep m where it can answer at once.
        lowest, highest = levels_of(self._groups)
        holds = self._clock.p < self.hold_fraction
        self._level.look(holds, lowest=lowest, highest=highest)

    def _take_in_new_groups(self, spent: bool = False) -> None:
        new = self.optimizer.param_groups[len(self.base_lrs) :]
        bases = [*self.base_lrs, *(base_of(group) for group in new)]
        self._groups = self._bounds_of(bases)
        lrs = self._own_lrs(self._groups)[len(self.base_lrs) :]
        self.base_lrs = bases
        for group, lr in zip(new, lrs, strict=True):
            group.setdefault("initial_lr", float(group["lr"]))
            if spent:
                set_rate(group, lr)
            self._rates.add(group)
