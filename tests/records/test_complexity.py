"""Complexity of a dataset."""

import math

import numpy as np
import pytest

from tune_adaptive.records.complexity import measure_complexity


@pytest.mark.parametrize(
    ("num_classes", "num_features", "value"),
    [
        (1000, 150528, 1.0),
        (10, 784, (math.log(10) / math.log(1000) + math.log(784) / math.log(150528)) / 2),
        (1, 1, 0.0),
        (100_000, 1e9, 1.0),
    ],
)
def test_complexity_is_the_mean_of_two_logs(
    num_classes: int, num_features: float, value: float
) -> None:
    measured = measure_complexity(np.arange(num_classes), num_features)
    assert measured.value == pytest.approx(value)
    assert (measured.num_classes, measured.num_features) == (num_classes, num_features)


def test_label_entropy_is_in_nats() -> None:
    assert measure_complexity(np.array([0, 0, 1, 1]), 9).label_entropy == pytest.approx(math.log(2))
    assert measure_complexity(np.array([3, 3]), 9).label_entropy == 0
