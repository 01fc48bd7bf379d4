"""Loss and accuracy of a model on a split."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from tune_adaptive.tasks import Task
from tune_adaptive.tasks.feed import Feed, Split


@torch.inference_mode()
def evaluate(
    model: nn.Module, task: Task, feed: Feed, split: Split, precision: str
) -> tuple[float, float]:
    """Return the mean loss [nats] and the accuracy of ``model`` on ``split``."""
    model.eval()
    loss = torch.zeros((), device=split.x.device)
    num_correct = torch.zeros((), device=split.x.device)
    for inputs, y in feed.evaluate(split):
        with autocast(split.x.device, precision):
            logits = model(*inputs)
        loss += task.loss(logits.float(), y) * len(y)
        num_correct += (logits.argmax(1) == y).sum()
    return float(loss) / len(split), float(num_correct) / len(split)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context of a forward pass in ``precision`` (``fp32`` or ``bf16``)."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
