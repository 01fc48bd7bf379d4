"""A regression of your own: numbers to predict, judged by their mean absolute error.

    pip install statsmodels
    python -m tune_adaptive.search --task examples.regression:task --epochs 2 --budget 2

The data are 20,190 person-years of the RAND Health Insurance Experiment (in the public domain,
shipped with statsmodels): how often does a person see a doctor in a year? Predicted is
log(1 + visits).
"""

import numpy as np
import statsmodels.api as sm
from torch import nn
from torch.nn.functional import mse_loss

from tune_adaptive import Dataset, Description, Examples, Task


def load() -> Dataset:
    """Return the three splits; floating-point targets are numbers to predict."""
    table = sm.datasets.randhie.load_pandas().data
    y = np.log1p(table.pop("mdvis").to_numpy(dtype=np.float32))
    x = table.to_numpy(dtype=np.float32)
    rows = np.random.default_rng(0).permutation(len(y))
    validation, test, train = np.split(rows, [2000, 5000])
    return Dataset(
        Examples(x[train], y[train]),
        Examples(x[validation], y[validation]),
        Examples(x[test], y[test]),
    )


def build(data: Description) -> nn.Module:
    """Return a fresh model; it predicts ``data.num_classes`` numbers, here one."""
    return nn.Sequential(nn.Linear(data.shape[0], 64), nn.ReLU(), nn.Linear(64, data.num_classes))


task = Task("randhie/mlp", load, build, loss=mse_loss, metric="mae", batch_size=256, num_epochs=5)
