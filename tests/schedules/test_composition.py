"""AdaptiveLR among torch's own: what the LRScheduler documentation promises of a scheduler.

https://docs.pytorch.org/docs/stable/optim.html and the docstrings of torch.optim.lr_scheduler.
"""

import copy
import math
import warnings
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
)

from tests.schedules.watched import Watched, watched
from tune_adaptive import AdaptiveLR

BASE = 0.1
PLAIN: dict[str, Any] = {"feedback": False, "hold": 0.0, "complexity_weight": 0, "timer": None}


def sgd(*lrs: float) -> SGD:
    return SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs or (BASE,)])


def walk(schedule: Any, num_steps: int) -> list[float]:
    lrs = []
    for _ in range(num_steps):
        lrs.append(float(schedule.optimizer.param_groups[0]["lr"]))
        schedule.optimizer.step()
        schedule.step()
    return lrs


def anneal(t: int, total: int = 10) -> float:
    return 1 - t / total


# ---------------------------------------------------------------------- chaining


@pytest.mark.parametrize("ours_first", [True, False])
def test_chained_each_is_applied_to_what_the_other_made(ours_first: bool) -> None:
    """Documented: "each scheduler is applied one after the other on the learning rate
    obtained by the one preceding it"."""
    optimizer = sgd()
    if ours_first:
        both = [AdaptiveLR(optimizer, 10, **PLAIN), ExponentialLR(optimizer, 0.9)]
    else:
        both = [ExponentialLR(optimizer, 0.9), AdaptiveLR(optimizer, 10, **PLAIN)]
    chain = ChainedScheduler(both, optimizer)
    expected = [BASE * anneal(t) * 0.9**t for t in range(10)]
    assert walk(chain, 10) == pytest.approx(expected)
    assert chain.get_last_lr() == [0.0]


@pytest.mark.parametrize("ours_first", [True, False])
def test_chained_to_a_warm_up_it_starts_low(ours_first: bool) -> None:
    optimizer = sgd()
    build = [
        lambda: LinearLR(optimizer, start_factor=0.25, total_iters=3),
        lambda: AdaptiveLR(optimizer, 10, **PLAIN),
    ]
    chain = ChainedScheduler([make() for make in (reversed(build) if ours_first else build)])
    warm = [0.25, 0.5, 0.75, *[1.0] * 7]
    assert walk(chain, 10) == pytest.approx([BASE * anneal(t) * warm[t] for t in range(10)])


@pytest.mark.parametrize("ours_first", [True, False])
def test_chained_to_one_that_ends_at_zero_it_stays_there(ours_first: bool) -> None:
    optimizer = sgd()
    build = [
        lambda: LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=4),
        lambda: AdaptiveLR(optimizer, 10, **PLAIN),
    ]
    chain = ChainedScheduler([make() for make in (reversed(build) if ours_first else build)])
    fades = [1.0, 0.75, 0.5, 0.25, *[0.0] * 6]
    assert walk(chain, 10) == pytest.approx([BASE * anneal(t) * fades[t] for t in range(10)])


def test_a_rate_set_by_hand_is_kept_as_a_factor() -> None:
    schedule = AdaptiveLR(sgd(), 10, **PLAIN)
    lrs = []
    for t in range(10):
        if t in (2, 4, 6):  # halved, frozen, let go again
            factor = {2: 0.5, 4: 0.0, 6: 0.25}[t]
            schedule.optimizer.param_groups[0]["lr"] = BASE * anneal(t) * factor
        lrs += walk(schedule, 1)
    factors = [1, 1, 0.5, 0.5, 0, 0, 0.25, 0.25, 0.25, 0.25]
    before = BASE * anneal(6) * 0.25 / (BASE * anneal(7))  # of the rate that comes next
    expected = [BASE * anneal(t) * factor for t, factor in enumerate(factors)]
    expected[7:] = [BASE * anneal(t) * before for t in (7, 8, 9)]
    assert lrs == pytest.approx(expected)


def test_a_chain_is_restored_with_its_optimizer_in_either_order() -> None:
    def chain() -> ChainedScheduler:
        optimizer = sgd()
        return ChainedScheduler(
            [AdaptiveLR(optimizer, 10, **PLAIN), ExponentialLR(optimizer, 0.9)], optimizer
        )

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
        assert walk(resumed, 6) == whole[4:]


def test_restored_without_its_optimizer_it_goes_on_from_its_own_state() -> None:
    first, second = AdaptiveLR(sgd(), 10, **PLAIN), AdaptiveLR(sgd(), 10, **PLAIN)
    walk(first, 4)
    second.load_state_dict(first.state_dict())
    assert walk(second, 6)[1:] == walk(first, 6)[1:]


@pytest.mark.parametrize("lr", [BASE, torch.tensor(BASE)], ids=["float", "tensor"])
@pytest.mark.parametrize("with_optimizer", [True, False])
@pytest.mark.parametrize("cut", [4, 5, 9])
def test_restored_at_or_beyond_the_end_it_holds_the_same_rate(
    cut: int, with_optimizer: bool, lr: Any
) -> None:
    """Its budget of four seconds is spent after four steps, in the midst of its warm-up."""

    def build() -> AdaptiveLR:
        options = PLAIN | {"warmup_steps": 8, "power": 0.0, "resource_weight": 1.0}
        optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=copy.deepcopy(lr))
        return AdaptiveLR(optimizer, 10, time_budget_s=4.0, **options)

    def spend(schedule: AdaptiveLR, num_steps: int) -> list[float]:
        for _ in range(num_steps):
            schedule.optimizer.step()
            schedule.observe(seconds=1.0)
            schedule.step()
        return [float(group["lr"]) for group in schedule.optimizer.param_groups]

    first, second = build(), build()
    (last,) = spend(first, cut)
    assert first.finished and 0 < last < BASE
    if with_optimizer:
        second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert spend(second, 1) == spend(first, 1) == [pytest.approx(last)]
    assert spend(second, 3) == spend(first, 3) == [pytest.approx(last)]


def test_alone_it_writes_its_own_rate_to_the_bit() -> None:
    schedule = AdaptiveLR(sgd(), 7, **PLAIN)
    for _ in range(7):
        schedule.optimizer.step()
        schedule.step()
        assert schedule.get_last_lr() == schedule.get_lr()


@pytest.mark.parametrize("ours_first", [True, False])
def test_in_sequence_each_half_has_its_own_steps(ours_first: bool) -> None:
    optimizer = sgd()
    flat: LRScheduler = ConstantLR(optimizer, factor=0.5, total_iters=100)
    ours = AdaptiveLR(optimizer, 5, **PLAIN)
    order = [ours, flat] if ours_first else [flat, ours]
    lrs = walk(SequentialLR(optimizer, order, milestones=[5]), 10)
    own = lrs[:5] if ours_first else lrs[5:]
    assert own == pytest.approx([BASE * anneal(t, 5) for t in range(5)])
    assert (lrs[5:] if ours_first else lrs[:5]) == [0.05] * 5


# ---------------------------------------------------------------------- state


def test_get_last_lr_is_what_stands_in_the_groups_and_no_alias() -> None:
    schedule = AdaptiveLR(sgd(0.1, 0.2), 10, **PLAIN)
    for _ in range(5):
        schedule.optimizer.step()
        schedule.step()
        groups = schedule.optimizer.param_groups
        assert schedule.get_last_lr() == [group["lr"] for group in groups]
    lr = torch.tensor(0.1)
    on_tensor = AdaptiveLR(AdamW([nn.Parameter(torch.zeros(1))], lr=lr), 10, **PLAIN)
    on_tensor.optimizer.step()
    on_tensor.step()
    (last,) = on_tensor.get_last_lr()
    assert isinstance(last, Tensor)
    assert last is not on_tensor.optimizer.param_groups[0]["lr"]
    assert float(last) == pytest.approx(0.09)


def test_last_epoch_resumes() -> None:
    """Documented: "Only use a non-default value when restoring from a saved checkpoint";
    it needs ``initial_lr`` in the groups and goes on with the step after ``last_epoch``."""
    whole = walk(AdaptiveLR(sgd(), 10, **PLAIN), 10)
    optimizer = sgd()
    optimizer.param_groups[0] |= {"initial_lr": BASE, "lr": whole[3]}
    resumed = AdaptiveLR(optimizer, 10, **PLAIN, last_epoch=3)
    assert resumed.last_epoch == 4
    assert walk(resumed, 6) == pytest.approx(whole[4:])
    with pytest.raises(KeyError, match="initial_lr"):
        AdaptiveLR(sgd(), 10, **PLAIN, last_epoch=3)


def test_a_jump_to_a_step_gives_the_rate_of_that_step() -> None:
    whole, schedule = walk(AdaptiveLR(sgd(), 10, **PLAIN), 10), AdaptiveLR(sgd(), 10, **PLAIN)
    schedule.optimizer.step()
    with pytest.warns(UserWarning, match="epoch parameter"):
        schedule.step(7)
    assert schedule.get_last_lr() == pytest.approx([whole[7]])


def test_a_restored_optimizer_keeps_its_rates() -> None:
    """Documented: initialise the scheduler before the optimizer's ``load_state_dict``."""
    first = AdaptiveLR(sgd(), 10, **PLAIN)
    walk(first, 4)
    second = AdaptiveLR(sgd(), 10, **PLAIN)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert second.optimizer.param_groups[0]["lr"] == first.get_last_lr()[0]
    assert walk(second, 6) == walk(first, 6)


def test_a_copy_goes_on_by_itself() -> None:
    first = AdaptiveLR(sgd(), 10, **PLAIN)
    walk(first, 4)
    second = copy.deepcopy(first)
    assert walk(second, 3) == walk(first, 3)
    assert second.last_epoch == first.last_epoch == 7


def test_a_group_added_later_is_scheduled_from_its_own_rate() -> None:
    schedule = AdaptiveLR(sgd(), 10, **PLAIN)
    walk(schedule, 2)
    schedule.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.4})
    walk(schedule, 3)
    assert schedule.get_last_lr() == pytest.approx([BASE * anneal(5), 0.4 * anneal(5)])
    state = schedule.state_dict()
    twin = AdaptiveLR(sgd(BASE, 0.4), 10, **PLAIN)
    twin.load_state_dict(state)
    twin.optimizer.load_state_dict(schedule.optimizer.state_dict())
    walk(twin, 1)
    assert twin.get_last_lr() == pytest.approx([BASE * anneal(6), 0.4 * anneal(6)])


# ---------------------------------------------------------------------- steps that are none


def test_a_step_before_the_optimizers_warns_as_torch_does_and_stays() -> None:
    schedule = AdaptiveLR(sgd(), 10, **PLAIN)
    with pytest.warns(UserWarning, match=r"before `optimizer.step\(\)`"):
        schedule.step()
    assert schedule.last_epoch == 0


def test_accumulated_micro_batches_are_one_step() -> None:
    """Called for each micro-batch or for each optimizer step, it makes the same of it."""

    def run(step_each_micro_batch: bool) -> tuple[list[float], float]:
        schedule = AdaptiveLR(sgd(), 20, feedback_interval=2, timer=None)
        lrs = []
        for micro in range(40):
            schedule.observe(loss=1.0 + 0.1 * (micro % 4), seconds=0.5)
            if micro % 4 == 3:
                schedule.optimizer.step()
            if step_each_micro_batch or micro % 4 == 3:
                schedule.step()
            lrs.append(schedule.optimizer.param_groups[0]["lr"])
        assert schedule.last_epoch == 10
        assert schedule.step_s == 2.0
        return lrs, schedule.multiplier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, of the first three calls
        assert run(True) == run(False)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_amp_skips_does_not_advance_it(fused: bool) -> None:
    """``GradScaler`` skips the optimizer; a fused one is called, and skips by itself."""
    parameter = nn.Parameter(torch.ones(1))
    optimizer: Optimizer = AdamW([parameter], lr=BASE, fused=fused)
    schedule = AdaptiveLR(
        optimizer, 10, feedback_interval=1, timer=None, hold=0.0, complexity_weight=0
    )
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    overflows = [True, False, False, True, True, False]
    advanced, values = [], [parameter.item()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, of the first skipped step
        for overflow in overflows:
            scaler.scale((parameter * (math.inf if overflow else 1.0)).sum()).backward()
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_([parameter], 1e9)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            schedule.observe(loss=1.0, grad_norm=norm)
            schedule.step()
            advanced.append(schedule.last_epoch)
            values.append(parameter.item())
    assert advanced == [0, 1, 2, 2, 2, 3]
    moved = [after != before for before, after in pairwise(values)]
    assert moved == [not overflow for overflow in overflows]
    assert schedule.multiplier == 1.0, "the norm of a skipped step is no spike"


def test_reading_nothing_but_what_it_must() -> None:
    """A plain step reads no loss; a tensor rate is written and never read."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=watched(0.1))
    schedule = AdaptiveLR(optimizer, 100, feedback_interval=10, timer=None)
    before = Watched.num_reads
    for _ in range(9):
        schedule.optimizer.step()
        schedule.observe(loss=watched(1.0), grad_norm=watched(1.0))
        schedule.step()
    assert Watched.num_reads - before == 2 * 9  # fill_ and clone of the rate


def test_what_others_make_of_a_tensor_rate_is_not_read_either() -> None:
    """What lies on the meta device cannot be read."""
    schedule = AdaptiveLR(sgd(), 100, feedback_interval=10, timer=None)
    schedule.optimizer.param_groups[0]["lr"] = torch.tensor(BASE, device="meta")
    chain = ChainedScheduler([schedule, ExponentialLR(schedule.optimizer, 0.9)])
    walk_blindly(chain, 9)
    assert schedule.last_epoch == 9


def walk_blindly(schedule: Any, num_steps: int) -> None:
    for _ in range(num_steps):
        schedule.optimizer.step()
        schedule.step()


# ---------------------------------------------------------------------- batch size


@pytest.mark.parametrize(("kind", "factor"), [(SGD, 4.0), (AdamW, 2.0), (torch.optim.RMSprop, 2.0)])
def test_the_base_is_scaled_to_the_batch_when_asked(kind: Any, factor: float) -> None:
    def first_lr(**options: Any) -> float:
        optimizer = kind([nn.Parameter(torch.zeros(1))], lr=BASE)
        AdaptiveLR(optimizer, 10, **PLAIN, **options)
        return float(optimizer.param_groups[0]["lr"])

    assert first_lr() == BASE
    assert first_lr(batch_size=256) == BASE * factor
    assert first_lr(batch_size=64) == BASE
    assert first_lr(batch_size=128, reference_batch_size=32) == BASE * factor


def test_the_default_bound_follows_the_scaled_base() -> None:
    schedule = AdaptiveLR(sgd(), 10_000, batch_size=6400, feedback_interval=1, timer=None)
    for _ in range(40):
        schedule.optimizer.step()
        schedule.observe(loss=1.0)
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([100 * 100 * BASE])
