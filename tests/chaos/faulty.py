"""A task whose runs go wrong, each in the way that its seed says, once or for ever.

The folder in ``CHAOS_FOLDER`` remembers, from process to process, what has happened already.
"""

import math
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.training.test_loop import tiny_data
from tune_adaptive.tasks import Task
from tune_adaptive.tasks.data import Description

NUM_EPOCHS = 6
STEPS_PER_EPOCH = 7
KILLS_A_SEED = 2


def happens(name: str, times: int) -> bool:
    """Whether ``name`` happens now: the first ``times`` times it is asked."""
    folder = Path(os.environ["CHAOS_FOLDER"])
    for number in range(times):
        try:
            (folder / f"{name}-{number}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return True
    return False


def _raise() -> None:
    raise ValueError("no such layer")


def _raise_once() -> None:
    if happens("raise_once", 1):
        raise ConnectionError("the network is gone")


def _hang() -> None:
    if happens("hang", 1):
        threading.Event().wait()


def _kill() -> None:
    if happens(f"kill-{torch.initial_seed()}", KILLS_A_SEED):
        os.kill(os.getpid(), signal.SIGKILL)


def _cpu_memory() -> None:
    torch.empty(2**55, dtype=torch.uint8)


def _gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


FAULTS: dict[int, Callable[[], None]] = {
    1: _raise,
    2: _raise_once,
    3: _cpu_memory,
    4: _hang,
    5: _gpu_memory,
    10: _kill,
    11: _kill,
    12: _kill,
    13: _kill,
    14: _kill,
}
"""By the seed of a trial, what happens in the middle of its second epoch."""

NAN_EPOCHS = {6: 1, 8: NUM_EPOCHS // 2, 9: NUM_EPOCHS}
"""By the seed of a trial, the epoch in which its loss is not finite any more."""


class Net(nn.Module):
    """Linear; it counts the steps that it is trained."""

    def __init__(self, data: Description) -> None:
        super().__init__()
        self.seed = torch.initial_seed()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, data.num_classes))
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, or go wrong."""
        logits: Tensor = self.layers(x)
        if not self.training:
            return logits
        self.num_steps += 1
        step = int(self.num_steps)
        if step == STEPS_PER_EPOCH + 3 and self.seed in FAULTS:
            FAULTS[self.seed]()
        nan_epoch = NAN_EPOCHS.get(self.seed)
        if nan_epoch is not None and step > (nan_epoch - 1) * STEPS_PER_EPOCH:
            return logits * math.nan
        return logits


task = Task(
    "tiny/faulty",
    data=tiny_data,
    build=Net,
    loss=cross_entropy,
    batch_size=16,
    num_epochs=NUM_EPOCHS,
)


def _build_nothing(data: Description) -> nn.Module:
    # Trials run in workers with small seeds; neither the try-out nor the calibration does.
    if "default_worker" in sys.argv[0] and torch.initial_seed() in range(100):
        raise ValueError("no such layer")
    return Net(data)


hopeless = Task("tiny/hopeless", data=tiny_data, build=_build_nothing, num_epochs=NUM_EPOCHS)
