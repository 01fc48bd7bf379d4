"""The budget clock p: how much of a run's budget is spent, from 0 to 1.

When the step from t to t + 1 has ended, n = T - t - 1 steps remain in the plan and
a = (W - e) / tau of them can still be afforded (e seconds consumed of the time budget W,
tau the recent step time). With w = resource_weight::

    p_{t+1} = p_t + (1 - p_t) / (1 + (1 - w) * n + w * min(n, max(0, a)))

At constant speed that is p = t / T. A dead band makes it exact to the bit: while
a >= 0.9 n the plan in steps is used, in its closed form.
"""

import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import Optimizer

DEAD_BAND = 0.9
NUM_TAU_WINDOWS = 3
NUM_WINDOWS_PER_RUN = 60
MIN_WINDOW_STEPS = 5


class BudgetClock:
    """The clock of one run; advanced once per optimizer step.

    Args:
        total_steps: T, >= 1.
        resource_weight: w in [0, 1]; 0 counts steps, 1 counts seconds.
        time_budget_s: W [s], > 0. None is what the run takes at the speed measured at its
            start: W = e + (T - t) * tau_0, tau_0 the median step time of the second to
            fourth of about 60 windows, so that neither warming up nor a slow first step counts.
        timer: Clock read at each step [s]; None hears time from :meth:`hear` alone.
        synchronize: Wait for the device once a window, so that the timer sees the time of
            steps and not of their dispatch.

    Attributes:
        p: Share of the budget that is spent, in [0, 1].
        step_s: Seconds of the last step as they were heard; None where they were not.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        resource_weight: float,
        time_budget_s: float | None,
        timer: Callable[[], float] | None,
        synchronize: bool,
    ) -> None:
        self.p = 0.0
        self.step_s: float | None = None
        self._total_steps = total_steps
        self._weight = resource_weight
        self._timer = timer if resource_weight > 0 else None
        self._synchronize = synchronize
        self._last_tick: float | None = None
        self._heard_s: float | None = None  # of the step that is not yet counted
        self._anchor_step, self._anchor_p = 0, 0.0  # where the present plan in steps began
        self._time_budget_s = time_budget_s
        self._elapsed_s = 0.0
        self._tau_s: float | None = None
        self._tau_window = max(MIN_WINDOW_STEPS, total_steps // NUM_WINDOWS_PER_RUN)
        self._window_s, self._window_steps, self._num_windows = 0.0, 0, 0
        self._window_means_s: list[float] = []

    def hear(self, seconds: float) -> None:
        """Count ``seconds`` to the step under way, instead of the timer's.

        What is not finite, or is negative, counts as not heard.
        """
        if 0.0 <= seconds < math.inf:
            self._heard_s = (self._heard_s or 0.0) + seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep the time spent inside off the clock."""
        start = self._timer() if self._timer else 0.0
        try:
            yield
        finally:
            if self._timer and self._last_tick is not None:
                self._last_tick += self._timer() - start

    def jump(self, t: int) -> None:
        """Stand where a plan in steps stands after ``t`` of them."""
        self._anchor_step, self._anchor_p = 0, 0.0
        self.p = min(1.0, max(0.0, t / self._total_steps))
        self._last_tick = None

    def advance(self, t: int) -> None:
        """Count the step that ended; ``t`` have ended now."""
        seconds = self._heard_s
        if self._timer is not None:
            if self._synchronize and self._window_steps + 1 == self._tau_window:
                torch.accelerator.synchronize()  # a window's seconds are those of its steps
            now = self._timer()
            if seconds is None and self._last_tick is not None:
                seconds = now - self._last_tick
            self._last_tick = now
        self._heard_s, self.step_s = None, seconds
        total, w = self._total_steps, self._weight
        if seconds is not None and w > 0:
            self._elapsed_s += seconds
            self._window_s += seconds
            self._window_steps += 1
            if self._window_steps == self._tau_window:
                self._end_window(total - t)
        if t >= total or self.p >= 1.0:
            self.p = 1.0
            return
        remaining = total - t
        affordable: float = remaining
        if self._time_budget_s is not None and w > 0:
            affordable = self._num_affordable_steps(remaining)
        if affordable >= DEAD_BAND * remaining:
            fraction = (t - self._anchor_step) / (total - self._anchor_step)
            self.p = self._anchor_p + (1.0 - self._anchor_p) * fraction
        else:
            self.p += (1.0 - self.p) / (1.0 + (1.0 - w) * remaining + w * affordable)
            self._anchor_step, self._anchor_p = t, self.p

    def _end_window(self, remaining: int) -> None:
        self._num_windows += 1
        if self._num_windows > 1:  # the first one warms the machine up
            means = self._window_means_s
            means.append(self._window_s / self._window_steps)
            del means[:-NUM_TAU_WINDOWS]
            self._tau_s = statistics.median(means)
            if self._time_budget_s is None and len(means) == NUM_TAU_WINDOWS:
                self._time_budget_s = self._elapsed_s + max(0, remaining) * self._tau_s
        self._window_s, self._window_steps = 0.0, 0

    def _num_affordable_steps(self, remaining: int) -> float:
        """Return min(remaining, max(0, (W - e) / tau)); what is unknown is affordable."""
        assert self._time_budget_s is not None
        left_s = self._time_budget_s - self._elapsed_s
        if not left_s > 0:
            return 0.0
        if not self._tau_s:
            return remaining
        affordable = left_s / self._tau_s
        return affordable if affordable < remaining else remaining

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain Python."""
        state = {name: getattr(self, name) for name in _STATE}
        return state | {"_window_means_s": list(self._window_means_s)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``; the time until now is not counted."""
        for name in _STATE:
            setattr(self, name, state[name])
        self._window_means_s = list(state["_window_means_s"])
        self._last_tick = None


def is_asynchronous(optimizer: Optimizer) -> bool:
    """Whether the host runs ahead of a parameter's device; it does not on the CPU or meta."""
    accelerator = (
        torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    )
    return accelerator is not None and any(
        parameter.device.type == accelerator.type
        for group in optimizer.param_groups
        for parameter in group["params"]
    )


_STATE = (
    "p",
    "step_s",
    "_heard_s",
    "_anchor_step",
    "_anchor_p",
    "_time_budget_s",
    "_elapsed_s",
    "_tau_s",
    "_window_s",
    "_window_steps",
    "_num_windows",
    "_window_means_s",
)
