"""How complex a dataset is, from its training split alone."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tune_adaptive.records.codec import Amount, Positive, Proportion

REFERENCE_CLASSES = 1000
REFERENCE_FEATURES = 150528  # ImageNet-1k at 224 x 224 x 3, so that its C is 1


@dataclass(frozen=True, slots=True)
class Complexity:
    """Dataset complexity C and what it was made of.

    Attributes:
        value: C = clip((ln K / ln 1000 + ln d / ln 150528) / 2, 0, 1).
        num_classes: K; of numbers, how many are predicted of an example.
        num_features: d per example: pixels x channels; for text the mean token count.
        num_examples: N of the training split.
        label_entropy: Entropy of the labels [nats]; 0 where numbers are predicted.
    """

    value: Proportion
    num_classes: Positive
    num_features: Amount
    num_examples: Positive
    label_entropy: Amount


def measure_complexity(labels: npt.NDArray[Any], num_features: float) -> Complexity:
    """Measure the complexity of a training split.

    Args:
        labels: Integer class of each example, shape (N,), N >= 1; or K numbers each, (N, K).
        num_features: d, features per example, >= 1.

    Example:
        >>> measure_complexity(np.arange(1000), 150528).value
        1.0
        >>> round(measure_complexity(np.arange(5000) % 10, 784).value, 3)
        0.446
    """
    if labels.ndim == 1:
        counts = np.unique(labels, return_counts=True)[1]
        num_classes = len(counts)
    else:
        counts, num_classes = np.array([len(labels)]), labels.shape[1]
    shares = counts / counts.sum()
    classes = math.log(num_classes) / math.log(REFERENCE_CLASSES)
    features = math.log(num_features) / math.log(REFERENCE_FEATURES)
    return Complexity(
        value=min(1.0, max(0.0, (classes + features) / 2)),
        num_classes=num_classes,
        num_features=float(num_features),
        num_examples=int(counts.sum()),
        label_entropy=abs(float((shares * np.log(shares)).sum())),
    )
