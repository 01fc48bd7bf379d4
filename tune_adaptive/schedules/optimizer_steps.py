"""Whether an optimizer has stepped: what torch tells, and what optimizers around others hide."""

import warnings
import weakref
from typing import Any

from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

NUM_IGNORED_TO_WARN = 20
"""Calls of ``step`` in a row without an optimizer step; GradScaler skips fewer at its start."""
ADVICE = "See https://pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate"


class OptimizerSteps:
    """Notices the steps of an optimizer by its hooks, without keeping schedule or weights alive.

    The hooks hold this object, which holds neither the optimizer nor the schedule, so nobody
    needs the garbage collector; they are removed with their ``owner``.

    Attributes:
        stepped: Whether a step was seen since this was last cleared.
        always: Whether there are no hooks, so that each call of the schedule counts as a step.
        found_inf: 1 where a fused optimizer, which ``GradScaler`` calls always, skipped by itself.
    """

    __slots__ = ("_handles", "always", "found_inf", "stepped")

    def __init__(self, optimizer: Optimizer, owner: object) -> None:
        self.found_inf: Tensor | None = None

        def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            self.stepped = True
            if "found_inf" in optimizer.__dict__:
                self.found_inf = optimizer.__dict__["found_inf"]

        self._handles = [
            each.register_step_post_hook(hook)
            for each in around(optimizer)
            if "_optimizer_step_post_hooks" in vars(each)  # made by Optimizer.__init__
        ]
        weakref.finalize(owner, _remove, self._handles).atexit = False
        self.stepped = self.always = not self._handles
        if self.always:
            warnings.warn(
                f"{type(optimizer).__name__} has no hooks, for it did not call "
                "Optimizer.__init__, and no optimizer within that has: each call of the "
                "schedule's step() counts as an optimizer step, skipped ones too.",
                UserWarning,
                stacklevel=3,
            )

    def clear(self) -> None:
        """Wait for the next step."""
        self.stepped, self.found_inf = self.always, None

    def stop(self) -> None:
        """Notice nothing any more."""
        _remove(self._handles)


def around(optimizer: Optimizer) -> list[Optimizer]:
    """Return the optimizer and those within it, from the outside in.

    Accelerate's ``AcceleratedOptimizer``, torch's ``PostLocalSGDOptimizer``, Lookahead and SAM
    keep another optimizer in an attribute, and let it take the steps.
    """
    found = [optimizer]
    for each in found:
        for value in vars(each).values():
            if isinstance(value, Optimizer) and all(value is not known for known in found):
                found.append(value)
    return found


def is_sgd(optimizer: Optimizer) -> bool:
    """Whether the steps are those of SGD, whose rates scale with the batch and have no bound."""
    return isinstance(around(optimizer)[-1], SGD)


def require_optimizer(optimizer: object) -> None:
    """Raise TypeError, as torch does, where ``optimizer`` is none."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")


def warn_of_ignored(num_ignored: int, optimizer: Optimizer) -> None:
    """Warn once where calls of ``step`` in a row saw no step of the optimizer."""
    if num_ignored == NUM_IGNORED_TO_WARN:
        warnings.warn(
            f"AdaptiveLR ignored {NUM_IGNORED_TO_WARN} calls of step() in a row: it saw no "
            f"step of its optimizer ({type(optimizer).__name__}) before them. With "
            "accumulated gradients or skipped steps that is right; otherwise give it the "
            "optimizer whose step() your loop calls.",
            UserWarning,
            stacklevel=5,
        )


def warn_of_order(optimizer: Optimizer) -> None:
    """Warn, as torch does, where a schedule is stepped before its optimizer was."""
    if not hasattr(optimizer.step, "_wrapped_by_lr_sched"):
        warnings.warn(
            "`optimizer.step()` has been overridden after the schedule was created, so it cannot "
            "be seen whether it is called before `lr_scheduler.step()`, as it must be. " + ADVICE,
            UserWarning,
            stacklevel=3,
        )
    elif not getattr(optimizer, "_opt_called", False):
        warnings.warn(
            "Detected call of `lr_scheduler.step()` before `optimizer.step()`: call them in the "
            "opposite order, or the schedule's first value is skipped. " + ADVICE,
            UserWarning,
            stacklevel=3,
        )


def track_calls(optimizer: Optimizer) -> None:
    """Let torch notice calls of ``optimizer.step`` again: a copy has lost what noticed them."""
    _Tracker(optimizer)


class _Tracker(LRScheduler):
    """What building any scheduler does to an optimizer, and no step."""

    def _initial_step(self) -> None:
        pass


def _remove(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()
