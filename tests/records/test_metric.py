"""What models are judged by."""

import math

import pytest

from tune_adaptive.records.metric import ACCURACY, Metric

LOSS = Metric("loss", greater_is_better=False, high=math.inf, unit="nats", margin=0.0)
R2 = Metric("R2", low=-math.inf, unit="", margin=0.0)


def test_more_of_a_score_is_better() -> None:
    assert ACCURACY.score(0.9) > ACCURACY.score(0.8)
    assert LOSS.score(0.1) > LOSS.score(0.2)
    assert LOSS.score(LOSS.score(0.3)) == 0.3, "its own inverse"


def test_an_error_is_the_distance_to_a_perfect_model() -> None:
    assert ACCURACY.error(0.75) == 0.25
    assert LOSS.error(0.75) == 0.75
    assert R2.error(-1.0) == 2.0
    assert Metric("reward", high=math.inf, unit="").error(3.0) is None


def test_the_worst_is_the_other_end_of_the_range() -> None:
    assert ACCURACY.worst == 0.0
    assert math.isnan(LOSS.worst) and math.isnan(R2.worst)


def test_shares_are_shown_in_percent_and_their_differences_in_points() -> None:
    assert ACCURACY.shown(0.8765) == "87.65%"
    assert (ACCURACY.label, ACCURACY.in_differences) == ("accuracy [%]", " [percentage points]")
    assert LOSS.shown(0.87654) == "0.8765 nats"
    assert (LOSS.label, LOSS.in_differences) == ("loss [nats]", " [nats]")
    assert LOSS.number(-0.01, "+") == "-0.01000"
    assert (R2.shown(0.5), R2.label, R2.in_differences) == ("0.5000", "R2", "")


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_a_value_out_of_range_is_told(value: float) -> None:
    assert "must be a finite number in [0, 1]" in (ACCURACY.problem(value) or "")


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        (Metric(" "), "name ' '"),
        (Metric("m", low=1.0), "low 1.0 must be < high 1.0"),
        (Metric("m", low=math.nan), "low nan must be <"),
        (Metric("m", high=100.0), "a share lies within [0, 1]"),
        (Metric("m", margin=-1.0), "margin -1.0"),
        (Metric("m", margin=math.inf), "margin inf"),
    ],
)
def test_a_metric_that_cannot_be_is_told(metric: Metric, problem: str) -> None:
    assert problem in "; ".join(metric.problems())
