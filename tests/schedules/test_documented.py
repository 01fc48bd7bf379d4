"""The two founding rules, against what the documents say."""

import math
from typing import Any

import pytest
import torch
from torch.optim import SGD

from tune_adaptive.schedules import SCHEDULES, Horizon
from tune_adaptive.schedules.base import ListeningLR
from tune_adaptive.schedules.documented import FeedbackLR, ResourceComplexityLR


def sgd(lr: float = 1e-3) -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def advance(schedule: ListeningLR, **signals: Any) -> float:
    schedule.optimizer.step()
    schedule.observe(**signals)
    schedule.step()
    return float(schedule.optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("complexity", "load", "batch_size", "lr"),
    [
        (0.5, 0.5, 64, 1e-3),
        (0.0, 0.5, 64, 1e-3 * math.sqrt(2)),
        (1.0, 0.5, 64, 1e-3 / math.sqrt(2)),
        (0.5, 0.0, 64, 1e-3 * math.sqrt(2)),
        (0.5, 1.0, 64, 1e-3 / math.sqrt(2)),
        (0.5, None, 64, 1e-3),
        (0.5, 0.5, 256, 2e-3),
        (0.0, 0.0, 64 * 100, 1e-2),
    ],
)
def test_complexity_load_and_batch_size_set_the_rate(
    complexity: float, load: float | None, batch_size: int, lr: float
) -> None:
    schedule = ResourceComplexityLR(sgd(), complexity=complexity, interval=2, batch_size=batch_size)
    advance(schedule, load=load)
    assert advance(schedule, load=load) == pytest.approx(lr)


def test_the_rate_moves_at_intervals_by_the_mean_load() -> None:
    schedule = ResourceComplexityLR(sgd(), complexity=0.5, interval=3)
    lrs = [advance(schedule, load=load) for load in (0.0, 0.0, 1.0, 1.0, math.nan, 7.0)]
    third = 2 ** (0.5 * (1 - 2 / 3))
    assert lrs == pytest.approx(
        [1e-3, 1e-3, 1e-3 * third, 1e-3 * third, 1e-3 * third, 1e-3 / 2**0.5]
    )


def test_no_reading_is_a_half() -> None:
    schedule = ResourceComplexityLR(sgd(), complexity=0.5, interval=1)
    assert advance(schedule, load=1.0) < 1e-3
    assert advance(schedule) == pytest.approx(1e-3)


def test_up_a_tenth_on_improvement_down_a_tenth_else() -> None:
    schedule = FeedbackLR(sgd(1e-2), interval=1)
    lrs = [advance(schedule, val_loss=loss) for loss in (1.0, 0.99, 0.985, 0.9, math.nan, 0.5)]
    up, down = 1.1, 0.9
    expected = [1, up, up * down, up * down * up, up * down * up * down]
    assert lrs[:5] == pytest.approx([1e-2 * factor for factor in expected])
    assert lrs[5] == pytest.approx(lrs[4] * 0.9), "better than NaN is no improvement"


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_what_is_no_number_is_no_improvement_nor_is_the_look_after_it(bad: float) -> None:
    schedule = FeedbackLR(sgd(1e-2), interval=1)
    lrs = [advance(schedule, val_loss=loss) for loss in (1.0, bad, 0.5, 0.4)]
    assert lrs == pytest.approx([1e-2, 0.9e-2, 0.81e-2, 0.891e-2])


@pytest.mark.parametrize("schedule", ["plateau", "greedy"])
def test_what_is_no_number_is_never_the_best_there_was(schedule: str) -> None:
    """After one -inf nothing would ever be an improvement again."""
    heard, other = (
        simulate_metrics(schedule, [1.0, bad, *(0.9**t for t in range(40))])
        for bad in (-math.inf, math.inf)
    )
    assert heard == other


def simulate_metrics(schedule: str, metrics: list[float]) -> list[float]:
    built = SCHEDULES[schedule](sgd(1e-2), Horizon(1000, steps_per_epoch=1, timer=None))
    assert isinstance(built, ListeningLR)
    return [advance(built, val_loss=metric, loss=metric) for metric in metrics]


@pytest.mark.parametrize(
    ("listens", "asks"), [("val_loss", 100), ("loss", None), ("grad_norm", None)]
)
def test_it_hears_what_it_listens_to_and_nothing_else(listens: Any, asks: int | None) -> None:
    schedule = FeedbackLR(sgd(1e-2), listens=listens)
    assert schedule.val_interval == asks
    for t in range(1, 301):
        signals = {"val_loss": 1.0, "loss": 1.0, "grad_norm": 1.0, listens: 1.0 / t}
        advance(schedule, **signals)
    assert schedule.get_last_lr() == pytest.approx([1e-2 * 1.1**2])


def test_the_rate_stays_within_bounds() -> None:
    schedule = FeedbackLR(sgd(1e-2), interval=1, factor=0.5, min_lr=4e-3, max_lr=2e-2)
    falling = [advance(schedule, val_loss=1.0) for _ in range(5)]
    rising = [advance(schedule, val_loss=0.5**t) for t in range(1, 8)]
    assert min(falling) == 4e-3
    assert max(rising) == 2e-2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeedbackLR(sgd(), listens="accuracy"), "listens must be one of val_loss, loss"),  # type: ignore[arg-type]
        (lambda: FeedbackLR(sgd(), factor=-0.1), "factor must be in (0, 1), got factor = -0.1"),
        (lambda: FeedbackLR(sgd(), interval=0), "interval must be >= 1"),
        (lambda: FeedbackLR(sgd(), min_lr=1.0, max_lr=0.1), "min_lr = 1.0, max_lr = 0.1"),
        (
            lambda: ResourceComplexityLR(sgd(), complexity=1.5, interval=1),
            "complexity must be in [0, 1], got complexity = 1.5",
        ),
    ],
)
def test_arguments_out_of_range_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)
