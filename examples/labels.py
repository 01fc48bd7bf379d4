"""Several labels an example, of which any number may apply.

    python -m tune_adaptive.search --task examples.labels:task --epochs 2 --budget 2

The images are the embedded part of FashionMNIST. Of each garment it is predicted whether it is
worn on the feet, has sleeves, and covers the upper body.
"""

import numpy as np
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tune_adaptive import Dataset, Description, Examples, Task, make_task

FEET, SLEEVES, UPPER = (5, 7, 9), (0, 2, 4, 6), (0, 2, 3, 4, 6)


def load() -> Dataset:
    """Return the three splits; targets are (N, 3), 1 where a label applies."""
    data = make_task("fashion_mnist_mini/cnn").load()

    def labelled(part: Examples) -> Examples:
        applies = [np.isin(part.y, classes) for classes in (FEET, SLEEVES, UPPER)]
        return Examples(part.x, np.stack(applies, axis=1))

    return Dataset(*(labelled(part) for part in (data.train, data.validation, data.test)))


def build(data: Description) -> nn.Module:
    """Return a fresh model with one logit a label."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 3))


task = Task(
    "fashion_labels/mlp",
    load,
    build,
    loss=binary_cross_entropy_with_logits,
    metric="macro_f1",
    num_epochs=5,
)
