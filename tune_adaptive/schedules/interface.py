"""What a training loop asks of any scheduler, and what stands in where it has no answer.

The interface is by name, not by class. All of it is optional:

- ``observe(loss, seconds, grad_norm, val_loss, load)``, any of them: called with keyword
  arguments after each optimizer step, before ``step()``. What was not measured is None.
- ``val_interval``: steps between the validation losses it asks for; None (as without it) is
  content with one at each epoch's end.
- ``wants_grad_norm``: whether the norm of the gradient is measured for it at each step; False.
- ``progress``: share of the budget that is spent, in [0, 1]; None lets steps say it.
- ``step_s``: seconds of the last step as they were heard; without it, as they were given.
- ``finished``, ``diverged``: whether the run should end; False.
- ``paused()``: a context for time that is not the schedule's (validation, checkpoints).
"""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from numbers import Real
from typing import Any

import numpy as np
from torch.optim.lr_scheduler import LRScheduler

from tune_adaptive.records.runs import SIGNAL_NAMES
from tune_adaptive.schedules.checks import Checks


class Listener:
    """A scheduler as a training loop sees it.

    Args:
        schedule: Any scheduler, of whatever class.

    Raises:
        ValueError: What it has of the interface cannot be used; the message says why.
    """

    def __init__(self, schedule: LRScheduler) -> None:
        self._schedule = schedule
        self._name = type(schedule).__name__
        observe = getattr(schedule, "observe", None)
        self._observe: Callable[..., object] | None = observe
        self._takes = () if observe is None else _signals_of(observe, self._name)
        paused = getattr(schedule, "paused", nullcontext)
        if not callable(paused):
            raise ValueError(f"{self._name}.paused must be a method that returns a context.")
        self.paused: Callable[[], AbstractContextManager[object]] = paused
        interval = getattr(schedule, "val_interval", None)
        checks = Checks()
        self.val_interval: int | None = (
            None
            if interval is None
            else checks.whole(f"{self._name}.val_interval", interval, least=1)
        )
        checks.done()
        self.wants_grad_norm = self._flag("wants_grad_norm")
        for read in ("finished", "diverged", "progress"):
            getattr(self, read)

    @property
    def observes(self) -> bool:
        """Whether the schedule is told anything."""
        return self._observe is not None

    def observe(self, **signals: Any) -> None:
        """Tell the schedule those of ``signals`` that it takes, if there are any."""
        told = {name: signals.get(name) for name in self._takes}
        if self._observe is not None and any(value is not None for value in told.values()):
            self._observe(**told)

    @property
    def finished(self) -> bool:
        """Whether the run should end because its budget is spent."""
        return self._flag("finished")

    @property
    def diverged(self) -> bool:
        """Whether the run should end because its loss is not finite any more."""
        return self._flag("diverged")

    @property
    def progress(self) -> float | None:
        """Share of the budget that is spent, in [0, 1]; None where steps say it."""
        progress = getattr(self._schedule, "progress", None)
        if progress is None:
            return None
        if not isinstance(progress, Real) or not 0 <= float(progress) <= 1:
            raise ValueError(f"{self._name}.progress must be None or in [0, 1], got {progress!r}.")
        return float(progress)

    def step_s(self, given: float | None) -> float | None:
        """Return the seconds of the last step as the schedule heard them, else those ``given``."""
        seconds: float | None = getattr(self._schedule, "step_s", given)
        return seconds

    def _flag(self, name: str) -> bool:
        value = getattr(self._schedule, name, False)
        if not isinstance(value, bool | np.bool_):
            raise ValueError(
                f"{self._name}.{name} must be True or False (an attribute or a property), got "
                f"{value!r}."
            )
        return bool(value)


def _signals_of(observe: Any, name: str) -> tuple[str, ...]:
    """Return the signals that ``observe`` takes by keyword."""
    given = f"a training loop gives it, by keyword, {', '.join(SIGNAL_NAMES)}"
    try:
        parameters = inspect.signature(observe).parameters.values()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}.observe cannot be called: {error}; {given}.") from error
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    by_name = {
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    takes = tuple(signal for signal in SIGNAL_NAMES if takes_any or signal in by_name)
    unknown = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and (parameter.name not in takes or parameter.kind is parameter.POSITIONAL_ONLY)
    ]
    if unknown:
        raise ValueError(f"{name}.observe needs {', '.join(unknown)}; {given}.")
    if not takes:
        raise ValueError(f"{name}.observe takes none of the signals; {given}.")
    return takes
