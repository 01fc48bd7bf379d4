"""The learning rates that a schedule would give, without training anything."""

from collections.abc import Mapping, Sequence

import torch

from tune_adaptive.runs import Value
from tune_adaptive.schedules import SCHEDULES, Horizon, ListeningLR, build_optimizer, set_mode


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
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer(schedule, [weight], lr=lr, weight_decay=0.0)
    set_mode(optimizer, training=True)
    built = SCHEDULES[schedule](optimizer, horizon, **(parameters or {}))
    lrs = []
    for t in range(horizon.total_steps):
        lrs.append(float(optimizer.param_groups[0]["lr"]))
        if isinstance(built, ListeningLR):
            loss = losses[min(t, len(losses) - 1)] if losses else None
            step_s = seconds[min(t, len(seconds) - 1)] if seconds else None
            built.observe(loss=loss, val_loss=loss, seconds=step_s)
        optimizer.zero_grad()
        optimizer.step()
        built.step()
    return lrs
