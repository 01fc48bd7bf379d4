"""A task is a data set and a model to train on it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from tune_adaptive.tasks.data import Dataset, Description, load_fashion_mnist_mini
from tune_adaptive.tasks.vision import cnn


@dataclass(frozen=True, slots=True)
class Task:
    """A dataset/model pair.

    Attributes:
        name: ``dataset/model``.
        load: Returns the three splits; called once, by the driver.
        build: Returns a fresh model; called after seeding, once a run.
        batch_size: Examples per optimizer step.
        num_epochs: Default horizon T.
    """

    name: str
    load: Callable[[], Dataset]
    build: Callable[[Description], nn.Module]
    batch_size: int = 64
    num_epochs: int = 6


TASKS: dict[str, Task] = {
    task.name: task
    for task in (Task("fashion_mnist_mini/cnn", load=load_fashion_mnist_mini, build=cnn),)
}
"""Every task that a search can train, by name."""
