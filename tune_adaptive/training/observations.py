"""What a run's schedule observes, from the run itself or from a recording."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from tune_adaptive.records.runs import RunSpec, Signal
from tune_adaptive.schedules import Listener
from tune_adaptive.schedules.base import floats
from tune_adaptive.signals.resources import UsageMeter


class Observations:
    """Passes what happens in a run to its schedule, steps it, and keeps what was passed."""

    def __init__(
        self,
        schedule: LRScheduler,
        listener: Listener,
        meter: UsageMeter,
        run: RunSpec,
        total_steps: int,
        heard: Sequence[Signal],
    ) -> None:
        self._schedule = schedule
        self._listener = listener
        self._meter = meter
        self._slowdown = run.slowdown
        self._total_steps = total_steps
        self._recording = [signal for signal in heard if signal.lr is not None]
        replayed = () if run.slowdown else ("seconds", "load")
        self._names = run.hearing.names if run.hearing else replayed
        self._signals: list[Signal] = []
        self._grad_norms: list[float | Tensor] = []

    def step(
        self, step: int, lr: float, loss: Tensor, grad_norm: Tensor | None, val_loss: float | None
    ) -> None:
        """Pass on the optimizer step that ended; its tensors stay on their device unread."""
        heard: dict[str, Any] = {
            "loss": loss,
            "seconds": None,
            "grad_norm": grad_norm,
            "val_loss": val_loss,
            "load": self._meter.load(),
        }
        if self._slowdown is not None:
            heard["seconds"] = self._slowdown.step_s(step, self._total_steps)
            if heard["seconds"] > 1:
                heard["load"] = 1.0  # of all tenants: the other one takes what there is
        if self._recording:
            same = self._recording[min(step, len(self._recording) - 1)]
            heard |= {name: getattr(same, name) for name in self._names if name != "lr"}
        self._listener.observe(**heard)
        self._schedule.step()
        seconds = self._listener.step_s(heard["seconds"])
        if grad_norm is not None:
            self._grad_norms.append(grad_norm)
        load = heard["load"]
        self._signals.append(Signal(step, lr, seconds=seconds, val_loss=val_loss, load=load))

    def val_loss(self, step: int, val_loss: float) -> None:
        """Pass on a validation between two steps."""
        self._listener.observe(val_loss=val_loss)
        self._signals.append(Signal(step, val_loss=val_loss))

    def state(self) -> dict[str, Any]:
        """Return what was passed on since :meth:`take`."""
        return {
            "signals": [asdict(signal) for signal in self._signals],
            "grad_norms": floats(self._grad_norms),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` returned."""
        self._signals = [Signal(**row) for row in state["signals"]]
        self._grad_norms = list(state["grad_norms"])

    def take(self, losses: Sequence[float]) -> list[Signal]:
        """Return what was passed on since the last call, with the losses of its steps."""
        loss, grad_norm = iter(losses), iter(floats(self._grad_norms))
        signals = [
            signal
            if signal.lr is None
            else replace(signal, loss=next(loss), grad_norm=next(grad_norm, None))
            for signal in self._signals
        ]
        self._signals, self._grad_norms = [], []
        return signals
