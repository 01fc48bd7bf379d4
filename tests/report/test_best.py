"""An exported configuration built into a person's own loop."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD

from tune_adaptive.errors import InputError
from tune_adaptive.records.runs import Configuration, Recipe
from tune_adaptive.report.best import BestSchedule
from tune_adaptive.schedules import SCHEDULES
from tune_adaptive.schedules.optimizers import RIVALS

OURS = [name for name in SCHEDULES if name not in RIVALS]


def best(schedule: str, **parameters: Any) -> BestSchedule:
    configuration = Configuration(schedule, Recipe(lr=0.1, warmup_frac=0.1), parameters)
    return BestSchedule("dataset/model", configuration, 0.4, "sgd", {})


def sgd() -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


@pytest.mark.parametrize("schedule", OURS)
def test_a_loop_that_is_longer_than_planned_holds_the_last_rate(schedule: str) -> None:
    built = best(schedule).build(sgd(), total_steps=20)
    rates = []
    for _ in range(40):
        built.optimizer.step()
        built.step()
        rates.append(built.get_last_lr()[0])
    assert set(rates[19:]) == {rates[19]}


@pytest.mark.parametrize("optimizer", [None, "sgd", torch.nn.Linear(1, 1)])
@pytest.mark.parametrize("schedule", OURS)
def test_what_is_no_optimizer_is_called_that(schedule: str, optimizer: Any) -> None:
    """It was "adaptive does not take [...]", or an AttributeError."""
    with pytest.raises(TypeError, match=f"^{type(optimizer).__name__} is not an Optimizer$"):
        best(schedule).build(optimizer, total_steps=20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": 0}, "total_steps must be >= 1, got total_steps = 0"),
        ({"total_steps": 20.0}, "total_steps must be a whole number >= 1"),
        ({"total_steps": "20"}, "total_steps must be a whole number >= 1"),
        ({"total_steps": math.nan}, "total_steps must be a whole number >= 1"),
        ({"total_steps": 20, "complexity": 2}, r"complexity must be in \[0, 1\]"),
        ({"total_steps": 20, "time_budget_s": 0}, "time_budget_s must be > 0 and finite"),
    ],
)
def test_numbers_that_cannot_be_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        best("adaptive").build(sgd(), **arguments)


def test_numbers_of_numpy_are_taken() -> None:
    built, plain = (
        best("adaptive").build(sgd(), total_steps=steps, complexity=complexity)
        for steps, complexity in ((np.int64(20), np.float32(0.5)), (20, 0.5))
    )
    assert built.state_dict() == plain.state_dict()


def test_a_parameter_that_does_not_exist_here_is_named() -> None:
    with pytest.raises(InputError, match=r"step does not take \['gama'\]"):
        best("step", gama=0.1).build(sgd(), total_steps=20)
