"""Param groups that are added in the midst of a run (gradual unfreezing), and groups at 0."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from tune_adaptive import AdaptiveLR
from tune_adaptive.schedules import SCHEDULES, Horizon

BASE = 0.1
PLAIN: dict[str, Any] = {"feedback": False, "hold": 0.0, "complexity_weight": 0, "timer": None}


def sgd(*lrs: float) -> SGD:
    return SGD([group(lr) for lr in lrs or (BASE,)])


def group(lr: float) -> dict[str, Any]:
    return {"params": [nn.Parameter(torch.zeros(1))], "lr": lr}


def walk(schedule: Any, num_steps: int, loss: float = 1.0) -> None:
    for _ in range(num_steps):
        schedule.optimizer.step()
        if hasattr(schedule, "observe"):
            schedule.observe(loss=loss, val_loss=loss)
        schedule.step()


def rates(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def built(name: str, optimizer: Optimizer, warmup_steps: int = 0, **options: Any) -> Any:
    horizon = Horizon(total_steps=30, warmup_steps=warmup_steps, complexity=0.5, timer=None)
    return SCHEDULES[name](optimizer, horizon, **options)


# ---------------------------------------------------------------------- AdaptiveLR


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_the_builders_ratios_hold_for_a_group_added_later(kind: Any) -> None:
    options = {"min_lr_ratio": 0.1, "max_lr_ratio": 1.5}
    late = built("adaptive", kind([group(1e-3)]), **options)
    walk(late, 3)
    late.optimizer.add_param_group(group(1e-4))
    early = built("adaptive", kind([group(1e-3), group(1e-4)]), **options)
    walk(early, 3)
    for _ in range(27):
        walk(late, 1)
        walk(early, 1)
        assert rates(late.optimizer) == rates(early.optimizer)
    m = late.multiplier
    assert m > 1
    assert rates(late.optimizer) == pytest.approx([0.1 * 1e-3 * m, 0.1 * 1e-4 * m])


def test_get_lr_knows_a_new_group_before_the_next_step() -> None:
    schedule = AdaptiveLR(sgd(), 10, **PLAIN)
    walk(schedule, 5)
    schedule.optimizer.add_param_group(group(0.4))
    assert schedule.get_lr() == [0.05, 0.2]
    assert rates(schedule.optimizer) == [0.05, 0.4], "nothing is written"
    walk(schedule, 1)
    assert rates(schedule.optimizer) == pytest.approx([0.04, 0.16])


@pytest.mark.parametrize("tensor", [False, True])
def test_a_group_added_after_the_end_is_taken_in(tensor: bool) -> None:
    schedule = AdaptiveLR(sgd(), 10, min_lr_ratio=0.1, **PLAIN)
    walk(schedule, 11)
    new = group(0.4) | ({"lr": torch.tensor(0.4)} if tensor else {})
    schedule.optimizer.add_param_group(new)
    walk(schedule, 1)
    assert rates(schedule.optimizer) == pytest.approx([0.01, 0.04])
    state = schedule.state_dict()
    assert [len(state[key]) for key in ("base_lrs", "_last_lr", "factors")] == [2, 2, 2]
    walk(schedule, 2)
    assert rates(schedule.optimizer) == pytest.approx([0.01, 0.04])


def test_an_older_state_without_ratios_loads() -> None:
    schedule = AdaptiveLR(sgd(), 10, **PLAIN)
    walk(schedule, 2)
    state = schedule.state_dict()
    del state["configuration"]["min_lr_ratio"], state["configuration"]["max_lr_ratio"]
    AdaptiveLR(sgd(), 10, **PLAIN).load_state_dict(state)


def test_a_group_at_zero_stays_there_whatever_the_bounds() -> None:
    schedule = AdaptiveLR(sgd(BASE, 0.0), 10, min_lr=0.01, feedback_interval=1, timer=None)
    walk(schedule, 3)
    schedule.optimizer.add_param_group(group(0.0))
    walk(schedule, 3)
    assert rates(schedule.optimizer)[1:] == [0.0, 0.0]
    assert schedule.multiplier > 1
    alone = AdaptiveLR(sgd(0.0), 10, feedback_interval=1, timer=None)
    walk(alone, 10)
    assert rates(alone.optimizer) == [0.0]


@pytest.mark.parametrize("lr", [-0.1, math.inf, math.nan])
def test_a_refused_rate_names_its_group(lr: float) -> None:
    optimizer = sgd(BASE, BASE)
    optimizer.param_groups[1]["lr"] = lr
    with pytest.raises(ValueError, match=r"lr must be >= 0 and finite \(param group 1\)"):
        AdaptiveLR(optimizer, 10)


def test_bounds_by_group_say_what_to_do_about_a_new_one() -> None:
    schedule = AdaptiveLR(sgd(), 10, max_lr=[0.2], timer=None)
    schedule.optimizer.add_param_group(group(BASE))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"max_lr .* give one value or max_lr_ratio"):
            walk(schedule, 1)


@pytest.mark.parametrize("ratio", [("min_lr_ratio", 1.1), ("max_lr_ratio", 0.9)])
def test_a_ratio_beyond_its_range_is_refused(ratio: tuple[str, float]) -> None:
    with pytest.raises(ValueError, match=f"got {ratio[0]} = {ratio[1]}"):
        AdaptiveLR(sgd(), 10, **{ratio[0]: ratio[1]})


# ---------------------------------------------------------------------- the others


@pytest.mark.parametrize("warmup_steps", [0, 4])
@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"prodigy"}))
def test_a_new_group_is_taken_in_or_refused_in_one_way(name: str, warmup_steps: int) -> None:
    if name == "greedy":
        pytest.importorskip("transformers")
    schedule = built(name, sgd(), warmup_steps)
    walk(schedule, 2)
    schedule.optimizer.add_param_group(group(0.4))
    try:
        walk(schedule, 30)
    except ValueError as error:
        assert "cannot take in param groups that were added" in str(error)
        assert "2 groups now, 1 then" in str(error)
        assert name not in ("adaptive", "plateau", "greedy")
    else:
        moves = name not in ("constant", "schedule_free", "plateau", "greedy")
        assert rates(schedule.optimizer)[1] < 0.4 or not moves, "it was left as it is"


@pytest.mark.parametrize("name", ["step", "exponential"])
def test_what_torch_takes_in_goes_on(name: str) -> None:
    schedule = built(name, sgd())
    walk(schedule, 2)
    schedule.optimizer.add_param_group(group(0.4))
    walk(schedule, 28)
    old, new = rates(schedule.optimizer)
    assert old < BASE
    assert new < 0.4


@pytest.mark.parametrize("name", ["greedy"])
def test_greedy_keeps_a_new_group_within_bounds_of_its_own(name: str) -> None:
    schedule = built(name, sgd(), patience=0, factor=0.5, min_lr_ratio=0.5)
    walk(schedule, 2)
    state = schedule.state_dict()
    schedule.optimizer.add_param_group(group(0.4))
    walk(schedule, 28)
    assert rates(schedule.optimizer) == [0.05, 0.2]
    assert [len(state["inner"][key]) for key in ("min_lrs", "max_lrs", "_init_lrs")] == [1, 1, 1]


# ---------------------------------------------------------------------- what is observed


@pytest.mark.parametrize("name", ["adaptive", "feedback", "greedy"])
def test_a_loss_of_several_elements_is_refused_where_it_is_told(name: str) -> None:
    if name == "greedy":
        pytest.importorskip("transformers")
    options = {"listens": "loss"} if name == "feedback" else {}
    schedule = built(name, sgd(), **options)
    with pytest.raises(ValueError, match=r"loss must be a number .* got shape \(3,\)"):
        schedule.observe(loss=torch.ones(3))
    with pytest.raises(ValueError, match=r"got shape \(0,\)"):
        schedule.observe(loss=torch.ones(0))


def test_shapes_of_one_element_may_alternate() -> None:
    schedule = AdaptiveLR(sgd(), 100, feedback_interval=4, timer=None)
    for shape in ((), (1,), (1, 1), ()):
        schedule.optimizer.step()
        schedule.observe(loss=torch.ones(shape), grad_norm=torch.ones(shape))
        schedule.step()
    assert schedule.multiplier > 1
    with pytest.raises(ValueError, match="grad_norm must be"):
        schedule.observe(grad_norm=torch.ones(2))
