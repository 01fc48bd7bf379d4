"""A task of your own: a table, a model, a loss.

    pip install statsmodels
    python -m tune_adaptive.search --task examples.tabular:task --epochs 3 --budget 2

The data are 6,366 women asked in 1974 about their marriages (Fair, 1978; public domain, shipped
with statsmodels): does one report an affair?
"""

import numpy as np
import statsmodels.api as sm
from torch import nn
from torch.nn.functional import cross_entropy

from tune_adaptive import Dataset, Description, Examples, Task


def load() -> Dataset:
    """Return the three splits; called once, on the machine that starts the search."""
    table = sm.datasets.fair.load_pandas().data
    y = (table.pop("affairs") > 0).to_numpy().astype(np.int64)
    x = table.to_numpy(dtype=np.float32)
    rows = np.random.default_rng(0).permutation(len(y))
    validation, test, train = np.split(rows, [800, 1600])
    return Dataset(
        Examples(x[train], y[train]),
        Examples(x[validation], y[validation]),
        Examples(x[test], y[test]),
    )


def build(data: Description) -> nn.Module:
    """Return a fresh model; its weights come from torch's seeded generator."""
    return nn.Sequential(nn.Linear(data.shape[0], 64), nn.ReLU(), nn.Linear(64, data.num_classes))


def loss(logits, y):  # type: ignore[no-untyped-def]
    """Any mean loss of logits (N, K) and classes (N,)."""
    return cross_entropy(logits, y, label_smoothing=0.1)


task = Task("fair/mlp", data=load, build=build, loss=loss, batch_size=64, num_epochs=5)
