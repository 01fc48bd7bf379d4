"""A Horizon checks all that it promises."""

import json
import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from tune_adaptive.schedules import Horizon

WHOLE = ("total_steps", "warmup_steps", "steps_per_epoch", "batch_size")
NOT_WHOLE: list[Any] = [
    "8",
    1.5,
    8.0,
    True,
    np.bool_(True),
    math.nan,
    math.inf,
    -1,
    [8],
    8j,
    10**400,
]
NO_NUMBER: list[Any] = ["0.5", True, None, [0.5], 0.5j, math.nan, math.inf, -math.inf, 10**400]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in WHOLE for value in NOT_WHOLE),
        *((name, 0) for name in WHOLE if name != "warmup_steps"),
        *((name, None) for name in ("total_steps", "warmup_steps", "batch_size")),
        ("warmup_steps", 10),
        *(("complexity", value) for value in (*NO_NUMBER, -0.1, 1.1)),
        *(("time_budget_s", value) for value in (*NO_NUMBER, 0, -1) if value is not None),
        ("timer", 5.0),
        ("timer", "perf_counter"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_outside_its_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError) as error:
        Horizon(**({"total_steps": 10} | {name: value}))
    assert f"{name} must be " in str(error.value)
    assert repr(value) in str(error.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError) as error:
        Horizon(0, -1, 2.0, 3, 0, 0, 0)  # type: ignore[arg-type]
    for field in fields(Horizon):
        assert f"{field.name} must be " in str(error.value)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, torch.tensor, np.array])
def test_numbers_of_other_libraries_become_plain(kind: Any) -> None:
    horizon = Horizon(kind(10), kind(2), np.float32(0.5), None, kind(5), kind(8), kind(3))
    assert horizon == Horizon(10, 2, 0.5, None, 5, 8, 3.0)
    values = [getattr(horizon, field.name) for field in fields(Horizon)]
    assert json.loads(json.dumps(values)) == values
    assert [type(value) for value in values] == [int, int, float, type(None), int, int, float]
