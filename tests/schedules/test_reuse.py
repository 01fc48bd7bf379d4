"""A second AdaptiveLR on the same optimizer begins anew, as torch's LambdaLR does."""

import copy
import gc
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, LambdaLR, LinearLR, SequentialLR

from tune_adaptive import AdaptiveLR

BASE = 0.1
PLAIN: dict[str, Any] = {"feedback": False, "hold": 0.0, "complexity_weight": 0, "timer": None}


def sgd(*lrs: Any) -> SGD:
    return SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs or (BASE,)])


def rates(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def walk(schedule: Any, num_steps: int) -> list[list[float]]:
    lrs = []
    for _ in range(num_steps):
        lrs.append(rates(schedule.optimizer))
        schedule.optimizer.step()
        schedule.step()
    return lrs


@pytest.mark.parametrize("num_steps", [0, 1, 5, 10, 12])
@pytest.mark.parametrize("lives", [True, False], ids=["lives", "gone"])
@pytest.mark.parametrize("tensor", [False, True], ids=["float", "tensor"])
@pytest.mark.parametrize("options", [{}, {"warmup_steps": 3}, {"batch_size": 128}])
def test_a_second_one_begins_at_the_base(
    num_steps: int, lives: bool, tensor: bool, options: dict[str, Any]
) -> None:
    def build() -> SGD:
        return sgd(*(torch.tensor(lr) if tensor else lr for lr in (BASE, 0.4)))

    fresh = walk(AdaptiveLR(build(), 10, **PLAIN, **options), 10)
    optimizer = build()
    first = AdaptiveLR(optimizer, 10, **PLAIN, **options)
    walk(first, num_steps)
    if not lives:
        del first
        gc.collect()
    assert walk(AdaptiveLR(optimizer, 10, **PLAIN, **options), 10) == fresh
    assert walk(AdaptiveLR(optimizer, 10, **PLAIN, **options), 10) == fresh, "and a third"


def test_a_copy_is_a_predecessor_too() -> None:
    first = AdaptiveLR(sgd(), 10, **PLAIN)
    walk(first, 4)
    second = copy.deepcopy(first)
    walk(second, 3)
    AdaptiveLR(second.optimizer, 10, **PLAIN)
    assert rates(second.optimizer) == [BASE]


def test_what_others_made_of_the_first_ones_rate_is_kept() -> None:
    optimizer = sgd()
    fade = ConstantLR(optimizer, factor=0.5, total_iters=100)
    chain = ChainedScheduler([fade, AdaptiveLR(optimizer, 10, **PLAIN)], optimizer)
    walk(chain, 4)
    second = AdaptiveLR(optimizer, 10, **PLAIN)
    chain = ChainedScheduler([fade, second], optimizer)
    assert walk(chain, 4) == [pytest.approx([0.5 * BASE * (1 - t / 10)]) for t in range(4)]


def test_a_rate_that_somebody_raised_is_where_the_second_one_begins() -> None:
    optimizer = sgd()
    for num_steps in (9, 10):
        walk(AdaptiveLR(optimizer, 10, **PLAIN), num_steps)
        optimizer.param_groups[0]["lr"] = 0.05
        assert walk(AdaptiveLR(optimizer, 10, **PLAIN), 1) == [pytest.approx([0.05])]
        optimizer.param_groups[0]["lr"] = BASE


def test_in_sequence_a_second_time() -> None:
    optimizer = sgd()

    def sequence() -> SequentialLR:
        warm = LinearLR(optimizer, start_factor=0.5, total_iters=2)
        return SequentialLR(optimizer, [warm, AdaptiveLR(optimizer, 5, **PLAIN)], [2])

    first = walk(sequence(), 5)
    assert walk(sequence(), 7)[:5] == first


def test_resumed_by_last_epoch_on_a_used_optimizer() -> None:
    optimizer = sgd()
    whole = walk(AdaptiveLR(optimizer, 10, **PLAIN), 10)
    optimizer.param_groups[0]["lr"] = whole[3][0]
    resumed = AdaptiveLR(optimizer, 10, **PLAIN, last_epoch=3)
    assert walk(resumed, 6) == [pytest.approx(lr) for lr in whole[4:]]


@pytest.mark.parametrize("lr", [0.0, torch.tensor(0.0)], ids=["float", "tensor"])
def test_a_zero_of_unknown_origin_does_not_pass_silently(lr: Any) -> None:
    optimizer = sgd(lr)
    optimizer.param_groups[0]["initial_lr"] = BASE
    with pytest.warns(UserWarning, match=r"param group 0 was 0 .*initial_lr") as caught:
        walk(AdaptiveLR(optimizer, 10, **PLAIN), 4)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_warm_up_from_zero_is_no_reason_to_warn(ours_first: bool) -> None:
    optimizer = sgd()
    rise = LambdaLR(optimizer, lambda t: min(1.0, t / 2))
    ours = AdaptiveLR(optimizer, 10, **PLAIN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lrs = walk(ChainedScheduler([ours, rise] if ours_first else [rise, ours], optimizer), 4)
    assert [lr > 0 for (lr,) in lrs] == [False, True, True, True]
