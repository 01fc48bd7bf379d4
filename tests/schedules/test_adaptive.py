"""AdaptiveLR against its mathematics."""

import io
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR, SequentialLR

from tests.schedules.reference import reference_lrs
from tests.schedules.watched import Watched, watched
from tune_adaptive import AdaptiveLR

BASE = 0.1
any_float = st.floats(allow_nan=True, allow_infinity=True)
positive_s = st.floats(1e-3, 1e3)


def schedule_of(total_steps: int, lrs: tuple[float, ...] = (BASE,), **options: Any) -> AdaptiveLR:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs]
    return AdaptiveLR(SGD(groups, lr=1.0), total_steps, **({"timer": None} | options))


def advance(schedule: AdaptiveLR, **signals: Any) -> float:
    """Take one step and return the learning rate of the next."""
    schedule.optimizer.step()
    schedule.observe(**signals)
    schedule.step()
    return float(schedule.optimizer.param_groups[0]["lr"])


options = st.fixed_dictionaries(
    {
        "total_steps": st.integers(1, 200),
        "complexity": st.floats(0, 1),
        "complexity_weight": st.floats(0, 1),
        "resource_weight": st.floats(0, 1),
        "hold": st.floats(0, 0.9),
        "power": st.floats(0, 3),
        "min_lr": st.floats(0, BASE),
        "max_lr": st.floats(BASE, 100),
        "warmup_steps": st.integers(0, 50),
        "feedback": st.booleans(),
        "feedback_interval": st.integers(1, 20),
        "feedback_factor": st.floats(0.01, 0.49),
        "feedback_threshold": st.floats(0, 1),
        "feedback_z": st.floats(0, 3),
        "time_budget_s": st.none() | st.floats(1e-3, 1e4),
    }
)


@st.composite
def whole_runs(draw: st.DrawFn) -> tuple[dict[str, Any], list[tuple[float, float]]]:
    """Options, and the (loss, seconds) of a run whose machine and loss change at times."""
    chosen = draw(options) | {"total_steps": draw(st.integers(30, 120).filter(lambda n: n % 10))}
    chosen["resource_weight"] = draw(st.sampled_from((0.3, 0.7, 1.0)))
    # Never t / T = h exactly, 0.9 included: there the last bit of p, which the reference
    # adds up step by step, decides.
    chosen["hold"] = 0.001234567 + 0.98 * chosen["hold"]
    speeds = draw(st.lists(st.floats(0.5, 4.0), min_size=1, max_size=4))
    levels = draw(st.lists(st.floats(0.2, 3.0), min_size=1, max_size=30))
    noise = draw(st.sampled_from((0.0, 0.05)))
    total = chosen["total_steps"]
    if chosen["time_budget_s"] is not None:
        chosen["time_budget_s"] = total * draw(st.floats(0.5, 4.0))
    return chosen, [
        (
            levels[t * len(levels) // total] + noise * math.sin(7 * t),
            speeds[t * len(speeds) // total] * (1 + noise * math.sin(3 * t)),
        )
        for t in range(total)
    ]


@given(options, st.lists(st.tuples(any_float, any_float, any_float), max_size=80))
def test_lr_is_finite_and_within_bounds_whatever_it_hears(
    chosen: dict[str, Any], signals: list[tuple[float, float, float]]
) -> None:
    schedule = schedule_of(**chosen)
    for loss, seconds, grad_norm in signals:
        lr = advance(schedule, loss=loss, seconds=seconds, grad_norm=grad_norm)
        assert math.isfinite(lr)
        assert chosen["min_lr"] <= lr <= chosen["max_lr"]
        assert 0 <= schedule.progress <= 1


@given(options, positive_s)
def test_progress_is_t_over_T_to_the_bit_at_constant_speed(
    chosen: dict[str, Any], step_s: float
) -> None:
    total_steps = chosen["total_steps"]
    schedule = schedule_of(**(chosen | {"time_budget_s": None}))
    for t in range(1, total_steps + 1):
        advance(schedule, loss=1.0, seconds=step_s)
        assert schedule.progress == t / total_steps
    assert schedule.finished


@given(
    st.lists(positive_s, min_size=1, max_size=150),
    st.floats(0.05, 3.0),
    st.floats(0, 1),
)
def test_in_time_the_run_ends_within_one_step_of_the_budget(
    seconds: list[float], share: float, complexity: float
) -> None:
    budget_s = share * sum(seconds)
    schedule = schedule_of(
        len(seconds), resource_weight=1.0, complexity=complexity, time_budget_s=budget_s
    )
    elapsed_s = 0.0
    for step_s in seconds:
        assert elapsed_s < budget_s, "went on after the budget was spent"
        advance(schedule, loss=1.0, seconds=step_s)
        elapsed_s += step_s
        if schedule.finished:
            break
    assert schedule.finished
    # It ended because the budget was spent, or because every planned step was done.
    assert elapsed_s >= budget_s * (1 - 1e-12) or schedule.last_epoch == len(seconds)


def test_a_plan_in_steps_overruns_the_time_budget_where_a_plan_in_time_does_not() -> None:
    slowed = [1.0] * 40 + [2.0] * 60
    taken = {}
    for weight in (0.0, 0.5, 1.0):
        schedule = schedule_of(100, resource_weight=weight)
        taken[weight] = 0.0
        for step_s in slowed:
            advance(schedule, loss=1.0, seconds=step_s)
            taken[weight] += step_s
            if schedule.finished:
                break
    assert taken[0.0] == 160
    assert 100 <= taken[1.0] < 102
    assert taken[1.0] <= taken[0.5] <= taken[0.0]


@given(whole_runs(), st.data())
def test_restoring_at_any_step_continues_bit_for_bit(
    run: tuple[dict[str, Any], list[tuple[float, float]]], data: st.DataObject
) -> None:
    chosen, signals = run
    cut = data.draw(st.integers(0, len(signals)))
    first = schedule_of(**chosen)
    for loss, seconds in signals[:cut]:
        advance(first, loss=loss, seconds=seconds)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = schedule_of(**chosen)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert second.get_last_lr() == first.get_last_lr()
    for loss, seconds in signals[cut:]:
        signal = {"loss": loss, "seconds": seconds}
        assert advance(second, **signal) == advance(first, **signal)
    assert second.state_dict() == first.state_dict()


@given(options, st.lists(any_float, min_size=1, max_size=60))
def test_everything_off_equals_constant_bit_for_bit(
    chosen: dict[str, Any], losses: list[float]
) -> None:
    off = {"complexity_weight": 0.0, "resource_weight": 0.0, "power": 0.0}
    schedule = schedule_of(**(chosen | off | {"feedback": False, "warmup_steps": 0}))
    parameter = torch.nn.Parameter(torch.zeros(1))
    constant = ConstantLR(SGD([parameter], lr=BASE), factor=1.0, total_iters=1)
    for loss in losses:
        constant.optimizer.step()
        constant.step()
        assert [advance(schedule, loss=loss, seconds=1.0)] == constant.get_last_lr()


@given(whole_runs())
def test_fast_and_reference_implementations_agree(
    run: tuple[dict[str, Any], list[tuple[float, float]]],
) -> None:
    chosen, signals = run
    schedule = schedule_of(**chosen)
    ours = [schedule.get_last_lr()[0]]
    ours += [advance(schedule, loss=loss, seconds=seconds) for loss, seconds in signals]
    theirs = reference_lrs(
        base=BASE,
        losses=[loss for loss, _ in signals],
        seconds=[seconds for _, seconds in signals],
        **chosen,
    )
    # The reference sums where the schedule has a closed form: (1 - p) ** power with a
    # power near 0 turns the last bits of 1 - p into visible ones at the very end.
    for t, (mine, reference) in enumerate(zip(ours, theirs, strict=True)):
        if t < chosen["total_steps"]:
            assert mine == pytest.approx(reference, rel=1e-6, abs=1e-9)


def test_holds_longer_for_a_more_complex_dataset() -> None:
    def held(complexity: float) -> int:
        schedule = schedule_of(100, complexity=complexity, feedback=False)
        return sum(advance(schedule) == BASE for _ in range(100))

    assert [held(0.0), held(0.5), held(1.0)] == [10, 35, 60]  # h = 0.1 + 0.5 C


def test_anneals_linearly_to_min_lr() -> None:
    schedule = schedule_of(10, complexity_weight=0, hold=0.0, feedback=False, min_lr=0.01)
    lrs = [advance(schedule) for _ in range(10)]
    assert lrs == pytest.approx([0.01 + 0.09 * (1 - t / 10) for t in range(1, 11)])


def test_warms_up_linearly_without_feedback() -> None:
    schedule = schedule_of(100, warmup_steps=4, feedback_interval=1)
    lrs = [schedule.get_last_lr()[0]] + [advance(schedule, loss=9.0**t) for t in range(4)]
    assert lrs == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert schedule.multiplier == 1.0


def test_probes_upwards_until_harmed() -> None:
    schedule = schedule_of(1000, feedback_interval=1)
    multipliers = []
    for loss in (1.0, 1.0, 0.9, 5.0, 0.9):
        advance(schedule, loss=loss)
        multipliers.append(schedule.multiplier)
    up, down = 1.2, 0.6
    assert multipliers == pytest.approx([up, up**2, up**3, up**3 * down, up**4 * down])


def test_noise_is_not_harm() -> None:
    """A rise within the standard error of the window means is no reason to retreat."""
    schedule = schedule_of(1000, feedback_interval=4)
    for loss in (0.5, 1.5, 0.5, 1.5, 0.6, 1.6, 0.6, 1.6):
        advance(schedule, loss=loss)
    assert schedule.multiplier == pytest.approx(1.2**2)


def test_after_the_hold_feedback_only_lowers() -> None:
    schedule = schedule_of(
        100, hold=0.0, complexity_weight=0, feedback_interval=1, feedback_threshold=0.0
    )
    multipliers = []
    for loss in (1.0, 0.5, 0.7, 0.8, math.nan):
        advance(schedule, loss=loss)
        multipliers.append(schedule.multiplier)
    assert multipliers == pytest.approx([1.0, 1.0, 1.0, 0.7, 0.35])


def test_a_gradient_spike_lowers_after_the_hold() -> None:
    schedule = schedule_of(100, hold=0.0, complexity_weight=0, feedback_interval=1)
    for norm in (1.0, 1.0, 9.0, 11.0):
        advance(schedule, grad_norm=norm)
    assert schedule.multiplier == pytest.approx(0.8)


def test_a_norm_that_is_no_number_hides_no_spike() -> None:
    schedule = schedule_of(100, hold=0.0, complexity_weight=0, feedback_interval=2)
    for norm in (1.0, 1.0, math.nan, 11.0):
        advance(schedule, grad_norm=norm)
    assert schedule.multiplier == pytest.approx(0.8)


def test_three_nonfinite_windows_diverge() -> None:
    schedule = schedule_of(100, feedback_interval=2)
    for t in range(1, 7):
        advance(schedule, loss=math.inf if t % 2 else 1.0)
        assert schedule.diverged == (t >= 6)


def test_a_slow_start_does_not_eat_the_time_budget() -> None:
    schedule = schedule_of(100, resource_weight=1.0)
    for t in range(1, 101):
        advance(schedule, loss=1.0, seconds=30.0 if t <= 5 else 1.0)
        assert schedule.progress == t / 100


@pytest.mark.parametrize("feedback", [True, False])
def test_on_an_asynchronous_device_time_is_taken_between_synchronisations(
    feedback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps are dispatched in 2 ms and computed in 4: the queue is waited for now and then."""
    host = device = 0.0

    def synchronize() -> None:
        nonlocal host
        host = max(host, device)

    monkeypatch.setattr(torch.accelerator, "synchronize", synchronize)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    schedule = AdaptiveLR(
        SGD([torch.nn.Parameter(torch.zeros(1, device="meta"))], lr=BASE),
        474,
        resource_weight=1.0,
        feedback=feedback,
        feedback_interval=47,
        timer=lambda: host,
    )
    for t in range(1, 475):
        host += 0.002
        device = max(device, host) + 0.004 if t == 1 else device + 0.004
        if t % 79 == 0:
            synchronize()  # the epoch's end reads its losses
        advance(schedule, loss=1.0)
        assert schedule.progress == pytest.approx(t / 474, abs=0.02)
    assert schedule.finished


def test_live_time_is_heard_and_pauses_are_not() -> None:
    now = 0.0

    def timer() -> float:
        return now

    schedule = schedule_of(60, resource_weight=1.0, time_budget_s=30.0, timer=timer)
    steps = 0
    while not schedule.finished:
        now += 1.0
        advance(schedule, loss=1.0)
        steps += 1
        with schedule.paused():
            now += 100.0
    assert steps == 31  # 30 s of 1 s steps; the first one, before any tick, is not heard


def test_tensor_losses_are_read_at_boundaries_only() -> None:
    schedule = schedule_of(100, feedback_interval=3)
    for t in range(1, 7):
        before = Watched.num_reads
        advance(schedule, loss=watched(1.0), grad_norm=watched(1.0))
        assert (Watched.num_reads > before) == (t % 3 == 0)
    assert schedule.multiplier == pytest.approx(1.2**2)


def test_several_groups_keep_their_own_base_and_bounds() -> None:
    schedule = schedule_of(
        10, (0.1, 0.2), feedback=False, hold=0.0, complexity_weight=0, min_lr=[0.0, 0.1]
    )
    for _ in range(5):
        advance(schedule)
    assert schedule.get_last_lr() == pytest.approx([0.05, 0.15])


def test_a_group_at_its_upper_bound_stays_there_while_another_rises() -> None:
    schedule = schedule_of(100, (0.1, 0.1), feedback_interval=1, max_lr=[0.11, 10.0])
    for _ in range(3):
        advance(schedule, loss=1.0)
    assert schedule.get_last_lr() == pytest.approx([0.11, 0.1 * 1.2**3])


def test_a_group_added_later_joins_with_its_own_lr() -> None:
    schedule = schedule_of(10, feedback=False, hold=0.0, complexity_weight=0)
    advance(schedule)
    schedule.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.4})
    advance(schedule)
    assert schedule.get_last_lr() == pytest.approx([0.08, 0.32])


def test_tensor_lr_is_filled_in_place() -> None:
    lr = torch.tensor(0.1)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = AdaptiveLR(optimizer, 10, feedback=False, hold=0.0, complexity_weight=0, timer=None)
    kept = optimizer.param_groups[0]["lr"]
    optimizer.step()
    schedule.step()
    assert kept is optimizer.param_groups[0]["lr"]
    assert float(kept) == pytest.approx(0.09)


def test_works_as_the_second_half_of_a_sequential() -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
    flat = ConstantLR(optimizer, factor=0.5, total_iters=5)
    ours = AdaptiveLR(optimizer, 5, feedback=False, hold=0.0, complexity_weight=0, timer=None)
    both = SequentialLR(optimizer, [flat, ours], milestones=[5])
    lrs = []
    for _ in range(10):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        both.step()
    assert lrs[:5] == [0.05] * 5
    assert lrs[5:] == pytest.approx([0.1, 0.08, 0.06, 0.04, 0.02])


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("total_steps", 0, ">= 1"),
        ("complexity", 1.5, "in [0, 1]"),
        ("complexity", math.nan, "in [0, 1]"),
        ("complexity_weight", -0.1, "in [0, 1]"),
        ("resource_weight", 2, "in [0, 1]"),
        ("hold", 0.95, "in [0, 0.9]"),
        ("power", -1, ">= 0"),
        ("warmup_steps", -1, ">= 0"),
        ("feedback_interval", 0, ">= 1"),
        ("feedback_factor", 0.5, "in (0, 0.5)"),
        ("feedback_threshold", -1, ">= 0"),
        ("feedback_z", -1, ">= 0"),
        ("time_budget_s", 0, "> 0"),
        ("min_lr", 0.2, "in [0, lr = 0.1]"),
        ("max_lr", 0.05, ">= lr = 0.1"),
        ("max_lr", [1.0, 2.0], "one per param group (1)"),
    ],
)
def test_arguments_out_of_range_are_named(argument: str, value: object, allowed: str) -> None:
    arguments = {"total_steps": 10} | {argument: value}
    with pytest.raises(ValueError) as error:
        schedule_of(**arguments)
    assert argument in str(error.value)
    assert repr(value) in str(error.value)
    assert allowed in str(error.value)


def test_a_state_of_another_version_or_configuration_is_refused() -> None:
    schedule = schedule_of(10)
    state = schedule.state_dict()
    with pytest.raises(ValueError, match="version 99"):
        schedule.load_state_dict(state | {"version": 99})
    with pytest.raises(ValueError, match="total_steps = 20 there, 10 here"):
        schedule.load_state_dict(schedule_of(20).state_dict())


def test_the_rate_never_rises_after_the_hold() -> None:
    schedule = schedule_of(100, hold=0.0, complexity_weight=0, feedback_interval=1)
    lrs = [advance(schedule, loss=10.0 - t % 7) for t in range(100)]
    assert all(later <= earlier for earlier, later in pairwise(lrs))


@pytest.mark.parametrize(("base", "highest"), [(1e-5, 1e-3), (1e-3, 1e-2), (3e-2, 3e-2)])
def test_with_adam_it_probes_to_a_hundredth_and_no_further(base: float, highest: float) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=base)
    schedule = AdaptiveLR(optimizer, 10_000, feedback_interval=1, timer=None)
    for _ in range(100):
        advance(schedule, loss=1.0)
    assert schedule.get_last_lr() == pytest.approx([highest])
