"""Loss and metric of a model on a split."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from tune_adaptive.errors import InputError
from tune_adaptive.tasks import Task
from tune_adaptive.tasks.feed import Feed, Split


@torch.inference_mode()
def evaluate(
    model: nn.Module, task: Task, feed: Feed, split: Split, precision: str
) -> tuple[float, float]:
    """Return the mean loss and the metric of ``model`` on ``split``.

    Where the loss is not finite the metric is NaN.

    Raises:
        InputError: The metric is not what it says that it can be.
    """
    model.eval()
    sums, outputs, targets = torch.zeros((), device=split.x.device), [], []
    for inputs, y in feed.evaluate(split):
        with autocast(split.x.device, precision):
            logits = model(*inputs)
        outputs.append(logits.float())
        targets.append(y)
        sums += task.loss(outputs[-1], y) * len(y)
    loss = float(sums) / len(split)
    if not math.isfinite(loss):
        return loss, math.nan
    value = task.measure.value(torch.cat(outputs), torch.cat(targets), loss)
    if (problem := task.measure.problem(value)) is not None:
        raise InputError(f"{task.name}: {problem}")
    return loss, value


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context of a forward pass in ``precision`` (``fp32`` or ``bf16``)."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
