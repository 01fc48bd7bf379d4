"""AdaptiveLR: the schedule this project studies.

Complexity decides how long to hold, resources decide how fast the budget clock
runs, feedback corrects the level, bounds cap it. At step t, per param group g::

    lr_g(t)   = clip(base_g * warm(t) * anneal_g(p_t) * m_t, min_lr_g, max_lr_g)
    warm(t)   = min(1, (t + 1) / warmup_steps)
    anneal(p) = floor + (1 - floor) * (1 if p < h else ((1 - p) / (1 - h)) ** power)
    floor     = min_lr / base
    h         = min(0.9, hold + complexity_weight * C)

``p`` is the budget clock: 0 at the start, 1 when the budget is spent. When the
step from t to t + 1 has ended, n = T - t - 1 steps remain in the plan and
a = (W - e) / tau of them can still be afforded (e seconds consumed of W, tau the
recent step time). With w = resource_weight::

    p_{t+1} = p_t + (1 - p_t) / (1 + (1 - w) * n + w * min(n, max(0, a)))

At constant speed that is p = t / T. A dead band makes it exact to the bit:
while a >= 0.9 n the plan in steps is used, in its closed form.

``m`` is the feedback multiplier, looked at every ``feedback_interval`` steps:
while p < h it probes upwards unless the loss is harmed, afterwards it only falls.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tune_adaptive.schedules.listening import ListeningLR, floats

STATE_VERSION = 1
"""Version of the dictionary that ``AdaptiveLR.state_dict`` returns."""

DEFAULT_MAX_LR_RATIO = 100.0
MAX_HOLD = 0.9
DEAD_BAND = 0.9
NUM_TAU_WINDOWS = 3
SPIKE_RATIO = 10.0
NUM_SPIKE_WINDOWS = 20
NUM_NONFINITE_TO_DIVERGE = 3


class AdaptiveLR(ListeningLR):
    """Learning-rate schedule that hears dataset complexity, real resources and training feedback.

    Step it once per optimizer step. Call :meth:`observe` with the step's loss before
    :meth:`step`; tensors are kept on their device and read once per feedback interval.
    The learning rate is a pure function of the configuration and of what was observed.
    The formula stands at the top of this module.

    Args:
        optimizer: Wrapped optimizer; each group's ``lr`` is its base learning rate.
        total_steps: T, the planned number of optimizer steps, >= 1.
        complexity: C of the dataset in [0, 1]; see ``tune_adaptive.signals.complexity``.
        complexity_weight: How much C lengthens the hold, in [0, 1].
        resource_weight: w in [0, 1]; 0 plans in steps, 1 plans in time.
        hold: Fraction of the budget held at full level whatever C is, in [0, 0.9].
        power: Exponent of the anneal, >= 0; 1 is linear, 0 never anneals.
        min_lr: Lower bound, >= 0; one value or one per param group.
        max_lr: Upper bound; one value or one per param group; None is 100 * base.
        warmup_steps: Steps of linear warm-up, >= 0; no feedback meanwhile.
        feedback: Whether ``m`` moves at all.
        feedback_interval: Steps between looks, >= 1; None is max(5, T // 60).
        feedback_factor: a in (0, 0.5): m grows by 1 + a, shrinks by 1 - 2a.
        feedback_threshold: Relative rise over the best loss that counts as harm, >= 0.
        feedback_z: Standard errors a rise must exceed to count, >= 0.
        time_budget_s: W [s]; None is what the run takes at the speed measured at its start:
            W = e + (T - t) * tau_0, tau_0 the median step time of the second to fourth of
            about 60 windows, so that neither warming up nor a slow first step counts.
        timer: Clock read at each step [s]; None hears time only from ``observe(seconds=)``,
            and without it assumes constant speed. On a device that runs asynchronously it is
            synchronised once a window, when resource_weight > 0.
        last_epoch: Step to resume at, as in every torch scheduler.

    Raises:
        ValueError: An argument is outside the range above; the message shows it.

    Example:
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
        warmup_steps: int = 0,
        feedback: bool = True,
        feedback_interval: int | None = None,
        feedback_factor: float = 0.2,
        feedback_threshold: float = 0.1,
        feedback_z: float = 1.0,
        time_budget_s: float | None = None,
        timer: Callable[[], float] | None = time.perf_counter,
        last_epoch: int = -1,
    ) -> None:
        if feedback_interval is None:
            feedback_interval = max(5, total_steps // 60)
        _check("total_steps", total_steps, total_steps >= 1, ">= 1")
        _check("complexity", complexity, 0 <= complexity <= 1, "in [0, 1]")
        _check("complexity_weight", complexity_weight, 0 <= complexity_weight <= 1, "in [0, 1]")
        _check("resource_weight", resource_weight, 0 <= resource_weight <= 1, "in [0, 1]")
        _check("hold", hold, 0 <= hold <= MAX_HOLD, f"in [0, {MAX_HOLD}]")
        _check("power", power, 0 <= power < math.inf, ">= 0 and finite")
        _check("warmup_steps", warmup_steps, warmup_steps >= 0, ">= 0")
        _check("feedback_interval", feedback_interval, feedback_interval >= 1, ">= 1")
        _check("feedback_factor", feedback_factor, 0 < feedback_factor < 0.5, "in (0, 0.5)")
        _check("feedback_threshold", feedback_threshold, feedback_threshold >= 0, ">= 0")
        _check("feedback_z", feedback_z, feedback_z >= 0, ">= 0")
        if time_budget_s is not None:
            _check("time_budget_s", time_budget_s, 0 < time_budget_s < math.inf, "> 0 and finite")

        self.total_steps = total_steps
        self.hold_fraction = min(MAX_HOLD, hold + complexity_weight * complexity)
        self.power = power
        self.resource_weight = resource_weight
        self.warmup_steps = warmup_steps
        self.feedback = feedback
        self.feedback_interval = feedback_interval
        self.feedback_factor = feedback_factor
        self.feedback_threshold = feedback_threshold
        self.feedback_z = feedback_z
        self._min_lr = min_lr
        self._max_lr = max_lr
        self._groups: list[tuple[float, float, float, float]] = []  # base, floor, min_lr, max_lr
        self._configuration: dict[str, Any] = {
            "total_steps": total_steps,
            "complexity": complexity,
            "complexity_weight": complexity_weight,
            "resource_weight": resource_weight,
            "hold": hold,
            "power": power,
            "min_lr": min_lr if isinstance(min_lr, float | int) else list(min_lr),
            "max_lr": max_lr if isinstance(max_lr, float | int | None) else list(max_lr),
            "warmup_steps": warmup_steps,
            "feedback": feedback,
            "feedback_interval": feedback_interval,
            "feedback_factor": feedback_factor,
            "feedback_threshold": feedback_threshold,
            "feedback_z": feedback_z,
            "time_budget_s": time_budget_s,
        }

        # The budget clock.
        self._p = 0.0
        self._anchor_step, self._anchor_p = 0, 0.0  # where the present plan in steps began
        self._time_budget_s = time_budget_s
        self._elapsed_s = 0.0
        self._tau_s: float | None = None
        self._tau_window = max(5, total_steps // 60)
        self._window_s, self._window_steps, self._num_windows = 0.0, 0, 0
        self._window_means_s: list[float] = []
        self._timer = timer
        device = next(p.device for group in optimizer.param_groups for p in group["params"])
        self._is_asynchronous = device.type != "cpu"
        self._last_tick: float | None = None
        self._heard_s: float | None = None

        # The feedback multiplier.
        self._m = 1.0
        self._losses: list[float | Tensor] = []
        self._grad_norms: list[float | Tensor] = []
        self._grad_norm_medians: list[float] = []
        self._best = math.inf
        self._previous: tuple[float, float] | None = None  # mean loss, its standard error
        self._num_nonfinite = 0
        super().__init__(optimizer, last_epoch)

    # ------------------------------------------------------------------ what a caller reads

    @property
    def progress(self) -> float:
        """The budget clock p in [0, 1]."""
        return self._p

    @property
    def finished(self) -> bool:
        """Whether the budget is spent (p = 1): the run should end here."""
        return self._p >= 1.0

    @property
    def diverged(self) -> bool:
        """Whether three feedback windows held a non-finite loss: the run should stop."""
        return self._num_nonfinite >= NUM_NONFINITE_TO_DIVERGE

    @property
    def multiplier(self) -> float:
        """The feedback multiplier m."""
        return self._m

    # ------------------------------------------------------------------ what a caller tells

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

        Args:
            loss: Training (or validation) loss, a scalar. A tensor is not read until the
                next feedback boundary, so the device is not synchronised.
            seconds: Duration of the step [s]; overrides the timer. Non-finite or negative
                values count as not heard.
            grad_norm: Norm of the gradient, a scalar.
            val_loss: Not heard; to steer by it, pass it as ``loss``.
            load: Not heard: how busy a device is says nothing about the loss surface.
        """
        if self.feedback:
            if loss is not None:
                self._losses.append(loss.detach() if isinstance(loss, Tensor) else float(loss))
            if grad_norm is not None:
                self._grad_norms.append(
                    grad_norm.detach() if isinstance(grad_norm, Tensor) else float(grad_norm)
                )
        if seconds is not None:
            self._heard_s = float(seconds)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep the time spent inside (validation, checkpoints) off the budget clock."""
        start = self._timer() if self._timer else 0.0
        try:
            yield
        finally:
            if self._timer and self._last_tick is not None:
                self._last_tick += self._timer() - start

    # ------------------------------------------------------------------ LRScheduler

    def step(self, epoch: int | None = None) -> None:
        """Advance by one optimizer step; ``epoch`` jumps, as torch's own schedulers allow."""
        if self._step_count < 2 or epoch is not None:
            super().step(epoch)  # torch's checks of the order of calls
        else:
            self._step_count += 1
            self._update_lr()

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of each param group at the present state."""
        t, p, m = self.last_epoch, self._p, self._m
        warm = (t + 1) / self.warmup_steps if t < self.warmup_steps else 1.0
        h = self.hold_fraction
        shape = 1.0 if p < h else ((1.0 - p) / (1.0 - h)) ** self.power
        lrs: list[float | Tensor] = []
        for base, floor, min_lr, max_lr in self._groups:
            anneal = 1.0 if shape == 1.0 else floor + (1.0 - floor) * shape
            lr = base * warm * anneal * m
            lrs.append(min_lr if lr < min_lr else max_lr if lr > max_lr else lr)
        return lrs

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain Python; it loads with ``weights_only=True``.

        Losses still on a device are read, which synchronises it.
        """
        return {
            "version": STATE_VERSION,
            "configuration": dict(self._configuration),
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "_last_lr": [float(lr) for lr in self._last_lr],
            "base_lrs": [float(lr) for lr in self.base_lrs],
            **{name: _plain(getattr(self, name)) for name in _STATE},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict``, bit for bit.

        Raises:
            ValueError: The state is of another version or another configuration.
        """
        version = state_dict.get("version")
        if version != STATE_VERSION:
            raise ValueError(
                f"state_dict has version {version!r}; this AdaptiveLR reads {STATE_VERSION}."
            )
        theirs, ours = state_dict["configuration"], self._configuration
        differing = [key for key in ours if theirs.get(key) != ours[key]]
        if differing:
            key = differing[0]
            raise ValueError(
                f"state_dict is of another configuration: {key} = {theirs.get(key)!r} there, "
                f"{ours[key]!r} here (differing: {', '.join(differing)})."
            )
        self.last_epoch = state_dict["last_epoch"]
        self._step_count = state_dict["_step_count"]
        self._last_lr = list(state_dict["_last_lr"])
        self.base_lrs = list(state_dict["base_lrs"])
        self._set_groups()
        for name in _STATE:
            value = state_dict[name]
            setattr(self, name, list(value) if isinstance(value, list) else value)
        self._last_tick = None

    def _update_lr(self, epoch: int | None = None) -> None:
        param_groups = self.optimizer.param_groups
        if len(self._groups) != len(param_groups):
            for group in param_groups[len(self.base_lrs) :]:
                group.setdefault("initial_lr", float(group["lr"]))
                self.base_lrs.append(group["initial_lr"])
            self._set_groups()
        if epoch is not None or self._is_initial:
            self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
            self._anchor_step, self._anchor_p = 0, 0.0
            self._p = min(1.0, self.last_epoch / self.total_steps)
            self._last_tick = None
        else:
            self.last_epoch += 1
            self._advance_clock()
            if self.last_epoch % self.feedback_interval == 0 and self.feedback:
                self._look()
        self._last_lr = self.get_lr()
        for group, lr in zip(param_groups, self._last_lr, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def _set_groups(self) -> None:
        num_groups = len(self.base_lrs)
        minima = _per_group("min_lr", self._min_lr, num_groups)
        maxima = (
            [DEFAULT_MAX_LR_RATIO * float(base) for base in self.base_lrs]
            if self._max_lr is None
            else _per_group("max_lr", self._max_lr, num_groups)
        )
        groups = []
        for lr, min_lr, max_lr in zip(self.base_lrs, minima, maxima, strict=True):
            base = float(lr)
            _check("lr", base, 0 < base < math.inf, "> 0 and finite")
            _check("min_lr", min_lr, 0 <= min_lr <= base, f"in [0, lr = {base}]")
            _check("max_lr", max_lr, base <= max_lr < math.inf, f">= lr = {base} and finite")
            groups.append((base, min_lr / base, min_lr, max_lr))
        self._groups = groups

    # ------------------------------------------------------------------ the budget clock

    def _advance_clock(self) -> None:
        if self._timer is not None and self.resource_weight > 0:
            if self._is_asynchronous and self._window_steps + 1 == self._tau_window:
                torch.accelerator.synchronize()  # a window's seconds are those of its steps
            now = self._timer()
            if self._heard_s is None and self._last_tick is not None:
                self._heard_s = now - self._last_tick
            self._last_tick = now
        seconds, self._heard_s = self._heard_s, None
        t, total = self.last_epoch, self.total_steps
        if seconds is not None and self.resource_weight > 0:
            self._hear_seconds(seconds)
        if t >= total or self._p >= 1.0:
            self._p = 1.0
            return
        remaining = total - t
        affordable = self._num_affordable_steps(remaining)
        if affordable >= DEAD_BAND * remaining:
            fraction = (t - self._anchor_step) / (total - self._anchor_step)
            self._p = self._anchor_p + (1.0 - self._anchor_p) * fraction
        else:
            w = self.resource_weight
            num_steps = 1.0 + (1.0 - w) * remaining + w * affordable
            self._p += (1.0 - self._p) / num_steps
            self._anchor_step, self._anchor_p = t, self._p

    def _hear_seconds(self, seconds: float) -> None:
        if not 0.0 <= seconds < math.inf:
            return
        self._elapsed_s += seconds
        self._window_s += seconds
        self._window_steps += 1
        if self._window_steps == self._tau_window:
            self._num_windows += 1
            if self._num_windows > 1:  # the first one warms the machine up
                means = self._window_means_s
                means.append(self._window_s / self._window_steps)
                del means[:-NUM_TAU_WINDOWS]
                self._tau_s = statistics.median(means)
                if self._time_budget_s is None and len(means) == NUM_TAU_WINDOWS:
                    left = max(0, self.total_steps - self.last_epoch)
                    self._time_budget_s = self._elapsed_s + left * self._tau_s
            self._window_s, self._window_steps = 0.0, 0

    def _num_affordable_steps(self, remaining: int) -> float:
        """Return min(remaining, max(0, (W - e) / tau)); what is unknown is affordable."""
        if self.resource_weight == 0 or self._time_budget_s is None:
            return remaining
        left_s = self._time_budget_s - self._elapsed_s
        if not left_s > 0:
            return 0.0
        if not self._tau_s:
            return remaining
        affordable = left_s / self._tau_s
        return affordable if affordable < remaining else remaining

    # ------------------------------------------------------------------ the feedback multiplier

    def _look(self) -> None:
        losses, norms = self._losses, self._grad_norms
        self._losses, self._grad_norms = [], []
        if self.last_epoch <= self.warmup_steps or not (losses or norms):
            return
        spiked = self._has_spiked(floats(norms)) if norms else False
        if losses:
            self._m *= self._loss_factor(floats(losses))
        if spiked and self._p >= self.hold_fraction:
            self._m *= 1.0 - self.feedback_factor
        # Beyond the bounds the level cannot move: keep m where it can answer at once.
        lowest = min(min_lr / base for base, _, min_lr, _ in self._groups)
        highest = max(max_lr / base for base, _, _, max_lr in self._groups)
        self._m = min(max(self._m, lowest), highest)

    def _loss_factor(self, losses: list[float]) -> float:
        mean = sum(losses) / len(losses)
        se = _standard_error(losses, mean)
        probing = self._p < self.hold_fraction
        up, down = 1.0 + self.feedback_factor, 1.0 - 2.0 * self.feedback_factor
        if not math.isfinite(mean):
            self._num_nonfinite += 1
            return down if probing else 0.5
        best, previous = self._best, self._previous
        self._best, self._previous = min(best, mean), (mean, se)
        if previous is None:
            return up if probing else 1.0
        if not probing:
            return 0.7 if mean > best + 0.5 * abs(best) else 1.0
        rise, noise = mean - previous[0], self.feedback_z * math.hypot(se, previous[1])
        far_above = best + self.feedback_threshold * abs(best) + self.feedback_z * se
        return down if rise > noise or mean > far_above else up

    def _has_spiked(self, norms: list[float]) -> bool:
        medians = self._grad_norm_medians
        spiked = bool(medians) and max(norms) > SPIKE_RATIO * statistics.median(medians)
        finite = [norm for norm in norms if math.isfinite(norm)]
        if finite:
            medians.append(statistics.median(finite))
            del medians[:-NUM_SPIKE_WINDOWS]
        return spiked


_STATE = (
    "_p",
    "_anchor_step",
    "_anchor_p",
    "_time_budget_s",
    "_elapsed_s",
    "_tau_s",
    "_window_s",
    "_window_steps",
    "_num_windows",
    "_window_means_s",
    "_heard_s",
    "_m",
    "_losses",
    "_grad_norms",
    "_grad_norm_medians",
    "_best",
    "_previous",
    "_num_nonfinite",
)


def _check(name: str, value: float, ok: bool, allowed: str) -> None:
    if not ok:
        raise ValueError(f"{name} must be {allowed}, got {name} = {value!r}.")


def _per_group(name: str, value: float | Sequence[float], num_groups: int) -> list[float]:
    values = [value] * num_groups if isinstance(value, float | int) else list(value)
    if len(values) != num_groups:
        raise ValueError(
            f"{name} must have one value or one per param group ({num_groups}), got {values!r}."
        )
    return values


def _plain(value: Any) -> Any:
    return floats(value) if isinstance(value, list) else value


def _standard_error(values: list[float], mean: float) -> float:
    if len(values) < 2:
        return 0.0
    variance = sum((value - mean) * (value - mean) for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))
