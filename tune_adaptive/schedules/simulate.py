"""The learning rates that a schedule would give, without training anything."""

from collections.abc import Iterable, Mapping, Sequence

import torch

from tune_adaptive.records.runs import Signal, Value
from tune_adaptive.schedules import SCHEDULES, Horizon, Listener, build_optimizer, set_mode


def simulate(
    schedule: str,
    horizon: Horizon,
    *,
    lr: float = 1e-3,
    parameters: Mapping[str, Value] | None = None,
    losses: Sequence[float] = (),
    seconds: Sequence[float] = (),
) -> list[float]:
    """Return the learning rate of each step, shape (total_steps,).

    Args:
        schedule: Its name in ``SCHEDULES``.
        horizon: The run it plans for; give ``timer=None`` so that only ``seconds`` count.
        lr: Base learning rate, > 0.
        parameters: Its own parameters; what is left out takes its default.
        losses: Training loss of each step, heard by a schedule that listens; the last one
            goes on for the steps that are left.
        seconds: Duration of each step [s], likewise.

    Example:
        >>> [round(lr, 2) for lr in simulate("linear", Horizon(4, timer=None), lr=1.0)]
        [1.0, 0.75, 0.5, 0.25]
    """
    signals = (
        Signal(
            step=t,
            lr=lr,
            loss=(loss := losses[min(t, len(losses) - 1)] if losses else None),
            val_loss=loss,
            seconds=seconds[min(t, len(seconds) - 1)] if seconds else None,
        )
        for t in range(horizon.total_steps)
    )
    return replay(schedule, horizon, signals, lr=lr, parameters=parameters)


def replay(
    schedule: str,
    horizon: Horizon,
    signals: Iterable[Signal],
    *,
    lr: float = 1e-3,
    parameters: Mapping[str, Value] | None = None,
) -> list[float]:
    """Return the learning rate of each step that ``signals`` tell of, shape (num_steps,).

    Of a run's own recording, with its horizon and configuration, that is the sequence the
    run was trained with, bit for bit.

    Args:
        schedule: Its name in ``SCHEDULES``.
        horizon: The run it plans for, with ``timer=None``.
        signals: What is heard, in its order; see ``tune_adaptive.signals.replay``.
        lr: Base learning rate, > 0.
        parameters: Its own parameters; what is left out takes its default.
    """
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer(schedule, [weight], lr=lr, weight_decay=0.0)
    set_mode(optimizer, training=True)
    built = SCHEDULES[schedule](optimizer, horizon, **(parameters or {}))
    listener = Listener(built)
    lrs = []
    for signal in signals:
        if signal.lr is not None:
            lrs.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
        listener.observe(**signal.heard())
        if signal.lr is not None:
            built.step()
    return lrs
