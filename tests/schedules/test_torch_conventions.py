"""The cases of PyTorch's own test module for schedulers, written anew for AdaptiveLR.

Its list (test/optim/test_lrscheduler.py): no reference cycles, the order of calls, resuming, the
closed form, last rates, states, what else is stepped on the same optimizer, constant bases.
"""

import copy
import gc
import io
import pickle
import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    EPOCH_DEPRECATION_WARNING,
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.optim.swa_utils import SWALR

from tune_adaptive import AdaptiveLR
from tune_adaptive.schedules import SCHEDULES, Horizon
from tune_adaptive.schedules.optimizers import RIVALS

BASE = 0.1
PLAIN: dict[str, Any] = {"feedback": False, "hold": 0.0, "complexity_weight": 0, "timer": None}
OURS = [name for name in SCHEDULES if name not in RIVALS]  # a rival has an optimizer of its own


def sgd(*lrs: float | Tensor) -> SGD:
    return SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in lrs or (BASE,)])


def plain(optimizer: Optimizer, **options: Any) -> AdaptiveLR:
    return AdaptiveLR(optimizer, 10, **(PLAIN | options))


def built(name: str, optimizer: Optimizer, warmup_steps: int = 0) -> LRScheduler:
    horizon = Horizon(20, warmup_steps, complexity=0.4, timer=None, steps_per_epoch=4)
    return SCHEDULES[name](optimizer, horizon)


def walk(schedule: Any, num_steps: int) -> list[list[float]]:
    """The rates of each group before each step."""
    lrs = []
    for _ in range(num_steps):
        lrs.append([float(group["lr"]) for group in schedule.optimizer.param_groups])
        schedule.optimizer.step()
        schedule.step()
    return lrs


def expected(num_steps: int, *bases: float, start: int = 0) -> list[list[float]]:
    return [
        [b * max(0.0, 1 - (start + t) / 10) for b in bases or (BASE,)] for t in range(num_steps)
    ]


# ---------------------------------------------------------------------- nobody is kept alive


@pytest.fixture
def no_collector() -> Any:
    sgd()  # what torch imports with its first optimizer leaves a cycle
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("num_steps", [0, 1, 3])
@pytest.mark.parametrize("name", OURS)
def test_no_cycle_keeps_a_schedule_its_optimizer_or_the_weights(
    name: str, num_steps: int, no_collector: None
) -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = SGD([weight], lr=BASE)
    schedule = built(name, optimizer)
    for _ in range(num_steps):
        weight.sum().backward()
        optimizer.step()
        schedule.step()
    alive = [weakref.ref(each) for each in (schedule, optimizer, weight)]
    del schedule
    assert alive[0]() is None
    assert len(optimizer._optimizer_step_post_hooks) == 0, "the hook went with the schedule"
    del optimizer, weight
    assert [each() for each in alive] == [None] * 3


def test_schedules_that_are_replaced_do_not_pile_up() -> None:
    optimizer = sgd()
    for _ in range(5):
        schedule = plain(optimizer)
        walk(schedule, 1)
    assert len(optimizer._optimizer_step_post_hooks) == 1


# ---------------------------------------------------------------------- the order of calls


def old_pattern(schedule: Any) -> None:
    for _ in range(5):
        schedule.step()
        schedule.optimizer.step()


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("copied", [False, True])
def test_the_old_order_of_calls_is_warned_of_once(name: str, copied: bool) -> None:
    schedule = built(name, sgd())
    if copied:
        schedule = copy.deepcopy(schedule)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        old_pattern(schedule)
    assert [str(each.message)[:50] for each in caught] == [
        "Detected call of `lr_scheduler.step()` before `opt"
    ]


@pytest.mark.parametrize("name", OURS)
def test_an_overridden_step_is_warned_of_and_still_followed(name: str) -> None:
    optimizer = sgd()
    schedule = built(name, optimizer)
    inner = optimizer.step

    def step(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    optimizer.step = types.MethodType(step, optimizer)  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match=r"`optimizer.step\(\)` has been overridden"):
        walk(schedule, 1)
    walk(schedule, 2)
    assert schedule.last_epoch == 3


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("copies", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_the_new_order_warns_of_nothing_copied_or_not(name: str, copies: Any) -> None:
    for schedule in (built(name, sgd()), copies(built(name, sgd()))):
        walk(schedule, 3)  # warnings are errors here
        assert schedule.last_epoch == 3


def test_resuming_in_the_old_order_is_warned_of() -> None:
    optimizer = sgd()
    optimizer.param_groups[0]["initial_lr"] = BASE
    schedule = plain(optimizer, last_epoch=3)
    with pytest.warns(UserWarning, match="how-to-adjust-learning-rate"):
        old_pattern(schedule)


# ---------------------------------------------------------------------- rates


def test_each_group_has_its_own_rate_float_or_tensor() -> None:
    optimizer = sgd(0.05, torch.tensor(0.5))
    rates = walk(plain(optimizer), 12)
    assert rates == [pytest.approx(row) for row in expected(12, 0.05, 0.5)]
    assert isinstance(optimizer.param_groups[1]["lr"], Tensor)


def test_last_rates_are_those_in_the_groups_of_their_kind_and_copies() -> None:
    optimizer = sgd(0.05, torch.tensor(0.5), torch.tensor([0.5], dtype=torch.float64))
    schedule = plain(optimizer)
    for t in range(5):
        for lrs in (schedule.get_last_lr(), schedule.get_lr()):
            for lr, group in zip(lrs, optimizer.param_groups, strict=True):
                assert type(lr) is type(group["lr"])
                assert lr is not group["lr"] or isinstance(lr, float)
                assert float(lr) == pytest.approx(float(group["lr"]))
                if isinstance(lr, Tensor):
                    assert (lr.dtype, lr.shape) == (group["lr"].dtype, group["lr"].shape)
                    lr.mul_(7.0)  # a copy: nothing may come of it
        walk(schedule, 1)
        assert [float(g["lr"]) for g in optimizer.param_groups] == pytest.approx(
            expected(1, 0.05, 0.5, 0.5, start=t + 1)[0]
        )


def test_a_restored_schedule_tells_its_rates_in_the_groups_kind() -> None:
    first, second = plain(sgd(torch.tensor(BASE))), plain(sgd(torch.tensor(BASE)))
    walk(first, 3)
    second.load_state_dict(first.state_dict())
    (lr,) = second.get_last_lr()
    assert isinstance(lr, Tensor)
    assert float(lr) == pytest.approx(BASE * 0.7)


@pytest.mark.parametrize("epoch", [0, 2, 9, 10, 30])
def test_a_constant_epoch_gives_a_constant_rate_the_closed_form(epoch: int) -> None:
    schedule = plain(sgd())
    for _ in range(4):
        schedule.optimizer.step()
        with pytest.warns(UserWarning) as caught:
            schedule.step(epoch)
        assert [str(each.message) for each in caught] == [EPOCH_DEPRECATION_WARNING]
        assert schedule.get_last_lr() == pytest.approx([BASE * max(0.0, 1 - epoch / 10)])


def test_the_chainable_form_is_the_closed_form() -> None:
    closed, chained = plain(sgd()), plain(sgd())
    for epoch in range(1, 13):
        for schedule in (closed, chained):
            schedule.optimizer.step()
        with pytest.warns(UserWarning):
            closed.step(epoch)
        chained.step()
        assert chained.get_last_lr() == pytest.approx(closed.get_last_lr())


@pytest.mark.parametrize("lr", [torch.tensor(BASE), torch.tensor(BASE, dtype=torch.float64)])
@pytest.mark.parametrize("name", OURS)
def test_bases_stay_as_they_were_and_are_no_aliases(name: str, lr: Tensor) -> None:
    lr = lr.clone()
    optimizer = SGD([nn.Parameter(torch.ones(1))], lr=lr)
    schedule = built(name, optimizer)
    before = copy.deepcopy((optimizer.param_groups[0]["initial_lr"], schedule.base_lrs))
    for _ in range(3):
        walk(schedule, 1)
        lr.multiply_(0.1)
        assert (optimizer.param_groups[0]["initial_lr"], schedule.base_lrs) == before
    assert optimizer.param_groups[0]["lr"] is lr


@pytest.mark.parametrize("name", OURS)
def test_a_tensor_rate_is_the_float_one(name: str) -> None:
    """No group loses its tensor, and no tensor its group."""
    lr = torch.tensor(BASE, dtype=torch.float64)
    floats, tensors = (built(name, sgd(rate), warmup_steps=3) for rate in (BASE, lr))
    for t in range(24):
        for schedule in (floats, tensors):
            assert float(schedule.get_last_lr()[0]) == float(
                schedule.optimizer.param_groups[0]["lr"]
            )
            schedule.optimizer.step()
            if hasattr(schedule, "observe"):
                schedule.observe(loss=1.0 + t % 3, val_loss=1.0 + t % 3 if t % 4 == 0 else None)
            schedule.step()
        assert float(lr) == pytest.approx(floats.optimizer.param_groups[0]["lr"], rel=1e-6)
    assert tensors.optimizer.param_groups[0]["lr"] is lr


# ---------------------------------------------------------------------- with others


OTHERS: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "linear": lambda o: LinearLR(o, start_factor=0.25, total_iters=3),
    "constant": lambda o: ConstantLR(o, factor=0.5, total_iters=4),
    "exponential": lambda o: ExponentialLR(o, 0.9),
    "step": lambda o: StepLR(o, 3),
    "multistep": lambda o: MultiStepLR(o, [2, 5]),
    "multiplicative": lambda o: MultiplicativeLR(o, lambda t: 0.95),
    "polynomial": lambda o: PolynomialLR(o, 8),
    "cosine": lambda o: CosineAnnealingLR(o, 12),
}


@pytest.mark.parametrize("feedback", [False, True])
@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("other", OTHERS)
def test_chained_a_tensor_rate_goes_as_a_float_does(
    other: str, ours_first: bool, feedback: bool
) -> None:
    def chain(lr: float | Tensor) -> list[float]:
        optimizer = sgd(lr)

        def ours() -> AdaptiveLR:
            return AdaptiveLR(optimizer, 10, feedback=feedback, feedback_interval=1, timer=None)

        make: list[Callable[[], LRScheduler]] = [ours, lambda: OTHERS[other](optimizer)]
        both = [each() for each in (make if ours_first else reversed(make))]
        schedule, listening = ChainedScheduler(both), both[0 if ours_first else 1]
        rates = []
        for t in range(12):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            listening.observe(loss=1.0 + t % 3)  # type: ignore[attr-defined]
            schedule.step()
        return rates

    assert chain(torch.tensor(BASE)) == pytest.approx(chain(BASE), rel=1e-4, abs=1e-12)


def shares_rates() -> bool:
    """Whether torch's ``SequentialLR`` makes a group's rate and its base one tensor."""
    optimizer = sgd(torch.tensor(BASE))
    SequentialLR(optimizer, [ConstantLR(optimizer) for _ in range(2)], milestones=[1])
    [group] = optimizer.param_groups
    return group["lr"] is group["initial_lr"]


@pytest.mark.skipif(shares_rates(), reason="this torch's SequentialLR loses the base rate")
@pytest.mark.parametrize("ours_first", [True, False])
def test_in_sequence_a_tensor_rate_goes_as_a_float_does(ours_first: bool) -> None:
    def sequence(lr: float | Tensor) -> list[list[float]]:
        optimizer = sgd(lr)
        make: list[Callable[[], LRScheduler]] = [
            lambda: plain(optimizer),
            lambda: LinearLR(optimizer, 0.5, total_iters=3),
        ]
        both = [each() for each in (make if ours_first else reversed(make))]
        return walk(SequentialLR(optimizer, both, milestones=[4]), 9)

    tensors, floats = sequence(torch.tensor(BASE)), sequence(BASE)
    assert tensors == [pytest.approx(row) for row in floats]


def test_a_restored_chain_on_a_tensor_rate_goes_on_in_either_order() -> None:
    def chain() -> ChainedScheduler:
        optimizer = sgd(torch.tensor(BASE))
        return ChainedScheduler([plain(optimizer), ExponentialLR(optimizer, 0.9)])

    whole, cut = walk(chain(), 10), chain()
    walk(cut, 4)
    state, optimizer_state = cut.state_dict(), cut.optimizer.state_dict()
    for optimizer_first in (True, False):
        resumed = chain()
        if optimizer_first:
            resumed.optimizer.load_state_dict(copy.deepcopy(optimizer_state))
        resumed.load_state_dict(copy.deepcopy(state))
        if not optimizer_first:
            resumed.optimizer.load_state_dict(copy.deepcopy(optimizer_state))
        assert walk(resumed, 6) == [pytest.approx(row) for row in whole[4:]]


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("second", [True, False])
def test_what_we_export_works_in_a_sequence(name: str, second: bool) -> None:
    """Torch's own ``SequentialLR`` cannot be in another; what is exported with warm-up can."""
    alone = walk(built(name, sgd(), warmup_steps=2), 6)
    optimizer = sgd()
    ours, flat = built(name, optimizer, warmup_steps=2), ConstantLR(optimizer, 0.5, 100)
    order = [flat, ours] if second else [ours, flat]
    rates = walk(SequentialLR(optimizer, order, milestones=[4 if second else 6]), 10)
    assert (rates[4:] if second else rates[:6]) == alone
    base = optimizer.param_groups[0]["initial_lr"]  # OneCycleLR makes another of it
    assert (rates[:4] if second else rates[6:]) == [[0.5 * base]] * 4


def test_beside_a_plateau_each_counts() -> None:
    optimizer = sgd()
    schedule, plateau = plain(optimizer), ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    rates = []
    for t in range(9):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        plateau.step(1.0 if t < 4 else 2.0 + t)
    halved = [0, 0, 1, 2, 3, 4, 5, 6, 7]
    assert rates == pytest.approx([BASE * (1 - t / 10) * 0.5 ** halved[t] for t in range(9)])


def test_averaging_takes_over_where_it_ends() -> None:
    optimizer = sgd()
    schedule = plain(optimizer)
    averaging = SWALR(optimizer, swa_lr=0.02, anneal_epochs=2)
    rates = walk(schedule, 5) + walk(averaging, 4)
    assert rates[:5] == [pytest.approx(row) for row in expected(5)]
    assert rates[-1] == pytest.approx([0.02])


@pytest.mark.parametrize(
    "make",
    [
        lambda o: CyclicLR(o, base_lr=0.01, max_lr=0.2, step_size_up=2, cycle_momentum=False),
        lambda o: OneCycleLR(o, max_lr=0.2, total_steps=9, cycle_momentum=False),
        lambda o: LambdaLR(o, lambda t: 1.0),
    ],
)
def test_it_begins_where_another_has_left_its_marks(make: Any) -> None:
    """Their ``initial_lr`` is found in the groups, and is the base, as for torch's own."""
    optimizer = sgd()
    make(optimizer)
    base = float(optimizer.param_groups[0]["initial_lr"])
    ours, theirs = plain(optimizer), StepLR(optimizer, 100)
    assert ours.base_lrs == theirs.base_lrs == [base]


# ---------------------------------------------------------------------- groups and optimizers


def test_a_group_added_with_a_tensor_rate_joins() -> None:
    schedule = plain(sgd())
    walk(schedule, 2)
    parameter = nn.Parameter(torch.zeros(1))
    schedule.optimizer.add_param_group({"params": [parameter], "lr": torch.tensor(0.4)})
    assert walk(schedule, 3)[1:] == [pytest.approx(row) for row in expected(2, BASE, 0.4, start=3)]


def test_another_optimizer_is_followed_from_its_first_step_on() -> None:
    schedule, other = plain(sgd()), SGD([nn.Parameter(torch.ones(1))], lr=BASE)
    walk(schedule, 3)
    old, schedule.optimizer = schedule.optimizer, other
    walk(schedule, 3)
    assert schedule.last_epoch == 6
    old.step()  # the old one is not followed any more
    with pytest.warns(UserWarning, match="ignored 20 calls"):
        for _ in range(20):
            schedule.step()
    assert schedule.last_epoch == 6


def test_a_thing_that_is_no_optimizer_is_a_type_error() -> None:
    for thing in (None, "sgd", [nn.Parameter(torch.ones(1))]):
        with pytest.raises(TypeError, match=f"^{type(thing).__name__} is not an Optimizer$"):
            AdaptiveLR(thing, 10)  # type: ignore[arg-type]


def test_groups_without_parameters_are_scheduled() -> None:
    schedule = plain(SGD([{"params": []}], lr=BASE))
    assert walk(schedule, 3) == [pytest.approx(row) for row in expected(3)]


def test_parameters_without_values_are_scheduled() -> None:
    """On a CPU machine nothing waits for a GPU, and the meta device is none."""
    parameter = nn.Parameter(torch.zeros(1, device="meta"))
    schedule = AdaptiveLR(SGD([parameter], lr=BASE), 300, resource_weight=1.0)
    walk(schedule, 12)
    assert schedule.last_epoch == 12


# ---------------------------------------------------------------------- states


@pytest.mark.parametrize(
    "options",
    [
        {"complexity": np.float32(0.4)},
        {"min_lr": np.float64(0.01), "max_lr": np.float32(1.0)},
        {"min_lr": torch.tensor(0.01), "max_lr": torch.tensor([1.0])},
        {"max_lr": np.array([1.0]), "min_lr": (0.01,)},
        {"feedback": np.bool_(True), "feedback_interval": np.int64(2)},
        {"warmup_steps": np.int32(2), "power": np.int64(2), "hold": np.float64(0.2)},
        {"time_budget_s": np.float64(9.0), "batch_size": np.int64(32)},
        {"reference_batch_size": np.uint8(32), "batch_size": torch.tensor(32)},
    ],
)
def test_a_state_is_plain_whatever_was_configured(options: dict[str, Any]) -> None:
    schedule = AdaptiveLR(sgd(), np.int64(10), timer=None, **options)  # type: ignore[arg-type]
    walk(schedule, 3)
    file = io.BytesIO()
    torch.save(schedule.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert state == schedule.state_dict()
    assert plain_types(state) <= {int, float, bool, str, type(None), list, dict, tuple}
    other = AdaptiveLR(sgd(), 10, timer=None, **options)
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert other.get_last_lr() == schedule.get_last_lr()


def plain_types(value: object) -> set[type]:
    parts: Any = value.values() if isinstance(value, dict) else value
    within = [plain_types(part) for part in parts] if isinstance(value, dict | list | tuple) else []
    return {type(value)}.union(*within)


@pytest.mark.parametrize("lr", [BASE, torch.tensor(BASE)])
@pytest.mark.parametrize("name", OURS)
def test_a_state_of_whatever_we_export_loads_and_is_the_same(name: str, lr: Any) -> None:
    schedule = built(name, sgd(copy.deepcopy(lr)), warmup_steps=2)
    walk(schedule, 7)
    file = io.BytesIO()
    torch.save(schedule.state_dict(), file)
    for _ in range(2):
        file.seek(0)
        state = torch.load(file, weights_only=True)
        other = built(name, sgd(copy.deepcopy(lr)), warmup_steps=2)
        other.load_state_dict(state)
        other.load_state_dict(state)  # loading takes nothing out of it
        assert other.state_dict() == schedule.state_dict()
        assert other.get_last_lr() == schedule.get_last_lr()
    assert not any(isinstance(v, Optimizer) for v in state.values())


@pytest.mark.parametrize("optimizer", [SGD, Adam, AdamW])
def test_a_checkpoint_of_the_optimizer_alone_resumes_at_the_step_after(optimizer: Any) -> None:
    first = plain(optimizer([nn.Parameter(torch.ones(1))], lr=BASE))
    walk(first, 4)
    resumed = optimizer([nn.Parameter(torch.ones(1))], lr=BASE)
    resumed.load_state_dict(first.optimizer.state_dict())
    assert plain(resumed, last_epoch=3).get_last_lr() == first.get_last_lr()
    with pytest.raises(KeyError, match="initial_lr"):
        plain(optimizer([nn.Parameter(torch.ones(1))], lr=BASE), last_epoch=3)
