"""Every metric that a task can name, against its definition written out."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from tune_adaptive.errors import InputError
from tune_adaptive.tasks import METRICS, Measure
from tune_adaptive.tasks.data import Targets

Twin = Callable[[np.ndarray, np.ndarray], float]

K = 4
RNG = torch.Generator().manual_seed(0)
OUTPUTS = torch.randn(60, K, generator=RNG).round(decimals=1)  # ties
TARGETS = {
    "classes": torch.arange(60) % K,
    "two of four classes": torch.arange(60) ** 2 % K,
    "labels": (torch.rand(60, K, generator=RNG) < 0.3).float(),
    "numbers": torch.randn(60, K, generator=RNG),
}
LOSSES = {
    "classes": cross_entropy,
    "labels": binary_cross_entropy_with_logits,
    "numbers": mse_loss,
}


def kind_of(name: str) -> Targets:
    return "labels" if name == "labels" else "numbers" if name == "numbers" else "classes"


def accuracy(scores: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean([row.argmax() == label for row, label in zip(scores, y, strict=True)]))


def balanced_accuracy(scores: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean([accuracy(scores[y == k], y[y == k]) for k in set(y.tolist())]))


def macro_f1(scores: np.ndarray, y: np.ndarray) -> float:
    found, predicted = [], scores.argmax(1)
    for k in set(y.tolist()) | set(predicted.tolist()):
        hits = np.sum((predicted == k) & (y == k))
        found.append(2 * hits / (np.sum(predicted == k) + np.sum(y == k)))
    return float(np.mean(found))


def auroc(scores: np.ndarray, y: np.ndarray) -> float:
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    areas = []
    for k in set(y.tolist()):
        margin = np.subtract.outer(shares[y == k, k], shares[y != k, k])
        areas.append(np.mean(margin > 1e-9) + np.mean(abs(margin) <= 1e-9) / 2)
    return float(np.mean(areas))


def over_labels(metric: Twin) -> Twin:
    """The mean of a metric of two classes, label by label."""

    def found(scores: np.ndarray, y: np.ndarray) -> float:
        pairs = [np.stack([-column, column], 1) for column in scores.T]
        own = zip(pairs, y.T.astype(int), strict=True)
        return float(np.mean([metric(pair, column) for pair, column in own]))

    return found


def f1_of_label(scores: np.ndarray, y: np.ndarray) -> float:
    predicted = scores.argmax(1)
    return float(2 * np.sum(predicted * y) / (np.sum(predicted) + np.sum(y)))


TWINS: dict[tuple[str, Targets], Twin] = {
    ("accuracy", "classes"): accuracy,
    ("accuracy", "labels"): over_labels(accuracy),
    ("balanced_accuracy", "classes"): balanced_accuracy,
    ("macro_f1", "classes"): macro_f1,
    ("macro_f1", "labels"): over_labels(f1_of_label),
    ("auroc", "classes"): auroc,
    ("auroc", "labels"): over_labels(auroc),
    ("mae", "numbers"): lambda found, y: float(np.mean(abs(found - y))),
    ("r2", "numbers"): lambda found, y: float(
        np.mean([1 - np.mean((a - b) ** 2) / np.var(b) for a, b in zip(found.T, y.T, strict=True)])
    ),
    ("perplexity", "classes"): lambda scores, y: math.exp(
        -np.mean([math.log(np.exp(s)[k] / np.exp(s).sum()) for s, k in zip(scores, y, strict=True)])
    ),
}
PAIRS = [
    (name, targets)
    for name, measure in METRICS.items()
    for targets in TARGETS
    if measure.fits(kind_of(targets))
]


@pytest.mark.parametrize(("name", "targets"), PAIRS)
def test_a_metric_is_what_its_definition_says(name: str, targets: str) -> None:
    kind, y = kind_of(targets), TARGETS[targets]
    loss = float(LOSSES[kind](OUTPUTS, y))
    expected = loss if name == "loss" else TWINS[name, kind](OUTPUTS.numpy(), y.numpy())
    found = METRICS[name].value(OUTPUTS, y, loss)
    assert found == pytest.approx(expected, abs=1e-5)
    assert METRICS[name].problem(found) is None


@pytest.mark.parametrize(("name", "of"), [pair for pair in PAIRS if "two" not in pair[1]])
def test_guessing_reaches_what_is_said_of_it(name: str, of: str) -> None:
    """Random outputs where a metric is of decisions; else the best answer that is always alike."""
    rng = torch.Generator().manual_seed(1)
    num, kind, measure = 40_000, kind_of(of), METRICS[name]
    assert list(measure.problems()) == []
    outputs = torch.randn(num, K, generator=rng)
    if kind == "classes":
        y = (torch.rand(num, generator=rng) ** 2 * K).long()
        constant = (torch.bincount(y) / num).log().expand(num, -1)
    elif kind == "labels":
        y = (torch.rand(num, K, generator=rng) < torch.tensor([0.1, 0.3, 0.5, 0.9])).float()
        constant = torch.logit(y.mean(0)).expand(num, -1)
    else:
        y = torch.randn(num, K, generator=rng)
        constant = y.mean(0).expand(num, -1)
    if name in ("loss", "perplexity", "mae", "r2"):
        outputs = constant
    expected = measure.value(outputs, y, float(LOSSES[kind](outputs, y)))
    targets = y.numpy().astype(bool) if kind == "labels" else y.numpy()
    assert measure.of_guessing(targets, LOSSES[kind]) == pytest.approx(expected, abs=0.01)


def test_an_area_over_one_class_is_undefined() -> None:
    assert math.isnan(METRICS["auroc"].value(OUTPUTS, torch.zeros(60).long(), 1.0))


def test_what_a_chance_of_ones_own_raises_is_told() -> None:
    own = Measure("own", chance=lambda targets, loss: 1 / 0)
    with pytest.raises(InputError, match=r"metric own: chance: .*ZeroDivisionError"):
        own.of_guessing(TARGETS["classes"].numpy(), cross_entropy)


def test_without_a_word_guessing_is_the_worst_there_is() -> None:
    assert Measure("top-5").of_guessing(TARGETS["classes"].numpy(), cross_entropy) == 0.0


def test_one_label_has_every_metric_of_labels() -> None:
    """With logits so large that single precision would take them for equal."""
    y = (torch.arange(40) % 3 == 0).float()[:, None]
    outputs = 25 + torch.where(y > 0, 1.0, 0.0) + torch.arange(40)[:, None] / 100
    for measure in METRICS.values():
        if measure.fits("labels"):
            assert measure.problem(measure.value(outputs, y, 1.0)) is None
    assert METRICS["auroc"].value(outputs, y, 1.0) == 1.0
