"""What every schedule must do. A new entry of SCHEDULES is tested without writing a test."""

import copy
import math
import pickle
from typing import Any

import optuna
import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tests.schedules.watched import Watched, watched
from tune_adaptive.planning.arm_spaces import builder_defaults
from tune_adaptive.records.runs import RECIPE_NAMES, Recipe
from tune_adaptive.records.space_files import default_space_dir, load_space
from tune_adaptive.records.spaces import SearchSpace
from tune_adaptive.schedules import (
    SCHEDULES,
    Horizon,
    Listener,
    ListeningLR,
    build_optimizer,
    set_mode,
)
from tune_adaptive.schedules.optimizers import RIVALS

TOTAL_STEPS = 60
STEPS_PER_EPOCH = 12
RISE = (0.3 * (TOTAL_STEPS + 1) - 1) / TOTAL_STEPS  # where torch's OneCycleLR peaks
BASE = 0.1


def space_of(schedule: str) -> SearchSpace:
    return load_space(
        default_space_dir(),
        schedule,
        "dataset/model",
        common_defaults={name: getattr(Recipe(), name) for name in RECIPE_NAMES},
        schedule_defaults=builder_defaults(schedule),
    )


def build(schedule: str, parameters: dict[str, Any], warmup_steps: int = 0) -> LRScheduler:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer: Optimizer = SGD([parameter], lr=BASE)
    if schedule in RIVALS:
        optimizer = build_optimizer(schedule, [parameter], lr=BASE, weight_decay=0.0)
        set_mode(optimizer, training=True)
    horizon = Horizon(
        TOTAL_STEPS, warmup_steps=warmup_steps, complexity=0.4, timer=None, steps_per_epoch=12
    )
    return SCHEDULES[schedule](optimizer, horizon, **parameters)


def walk(schedule: LRScheduler, start: int = 0, stop: int = TOTAL_STEPS) -> list[float]:
    lrs = []
    for t in range(start, stop):
        lrs.append(float(schedule.optimizer.param_groups[0]["lr"]))
        schedule.optimizer.step()
        listener = Listener(schedule)
        if hasattr(schedule, "observe"):
            ends_epoch = (t + 1) % STEPS_PER_EPOCH == 0
            wants = (t + 1) % (listener.val_interval or TOTAL_STEPS + 1) == 0
            listener.observe(
                loss=1.0 + 0.5 * math.sin(t),
                grad_norm=1.0,
                val_loss=1.0 + 0.3 * math.cos(t) if ends_epoch or wants else None,
                load=0.5 + 0.4 * math.sin(t) if ends_epoch else None,
            )
        schedule.step()
    return lrs


def samples(schedule: str, num: int = 20) -> list[dict[str, Any]]:
    """Configurations of the schedule's own parameters, sampled from its space."""
    space = space_of(schedule)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = []
    for _ in range(num):
        trial = study.ask()
        values = space.suggest(trial)
        study.tell(trial, 0.0)
        assert space.violations(values) == []
        found.append({name: v for name, v in values.items() if name not in RECIPE_NAMES})
    return found


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_its_space_declares_only_its_own_parameters_and_contains_its_defaults(
    schedule: str,
) -> None:
    space = space_of(schedule)
    assert space.violations(space.defaults()) == []
    own = {name for name in space.defaults() if name not in RECIPE_NAMES}
    assert own <= set(builder_defaults(schedule))


@pytest.mark.parametrize("warmup_steps", [0, 1, 7])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_are_finite_and_never_negative(schedule: str, warmup_steps: int) -> None:
    for parameters in [{}, *samples(schedule)]:
        lrs = walk(build(schedule, parameters, warmup_steps))
        assert all(math.isfinite(lr) and lr >= 0 for lr in lrs)


def bounds_of(schedule: str, parameters: dict[str, Any]) -> tuple[float, float]:
    """The bounds a schedule declares; one that declares none never exceeds its base."""
    chosen = builder_defaults(schedule) | parameters
    if schedule in ("resource_complexity", "feedback"):
        return chosen.get("min_lr", 1e-6), chosen.get("max_lr", 1e-1)
    base = 1.0 if schedule == "prodigy" else BASE
    lowest, highest = chosen.get("min_lr_ratio", 0.0), chosen.get("max_lr_ratio", 1.0)
    return lowest * base * (1 - 1e-9), highest * base * (1 + 1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_stay_within_the_declared_bounds(schedule: str) -> None:
    for parameters in [{}, *samples(schedule)]:
        lowest, highest = bounds_of(schedule, parameters)
        built = build(schedule, parameters)
        if (declared := getattr(built, "bounds", None)) is not None:
            assert declared == [pytest.approx((lowest, highest))]
        assert all(lowest <= lr <= highest for lr in walk(built))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_plain_step_waits_for_no_device(schedule: str) -> None:
    """Losses and norms stay unread but where a schedule looks, a tenth of the steps or fewer."""
    built = build(schedule, {})
    steps_with_reads = 0
    for _ in range(TOTAL_STEPS):
        built.optimizer.step()
        before = Watched.num_reads
        if isinstance(built, ListeningLR):
            built.observe(loss=watched(1.0), grad_norm=watched(1.0))
        built.step()
        steps_with_reads += Watched.num_reads > before
    assert steps_with_reads <= TOTAL_STEPS / 5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_is_no_number_moves_no_rate_out_of_bounds(schedule: str, bad: float) -> None:
    """Documented where a schedule listens; one that does not cannot notice."""
    for parameters in [{}, *samples(schedule, 5)]:
        built = build(schedule, parameters)
        lowest, highest = bounds_of(schedule, parameters)
        for _ in range(TOTAL_STEPS):
            built.optimizer.step()
            if isinstance(built, ListeningLR):
                built.observe(loss=bad, seconds=bad, grad_norm=bad, val_loss=bad, load=bad)
            built.step()
            assert lowest <= float(built.optimizer.param_groups[0]["lr"]) <= highest
    if isinstance(built, ListeningLR):
        assert any("NaN behaviour" in (kind.__doc__ or "") for kind in type(built).__mro__)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_is_the_same_for_every_schedule(schedule: str) -> None:
    lrs = walk(build(schedule, {}, warmup_steps=5))
    if schedule == "onecycle":  # its rise is its warm-up
        assert lrs == walk(build(schedule, {}))
    else:
        base = 1.0 if schedule == "prodigy" else BASE  # it estimates the rest
        lowest, highest = bounds_of(schedule, {})
        expected = [min(max(base * (t + 1) / 5, lowest), highest) for t in range(5)]
        assert lrs[:5] == pytest.approx(expected)


@pytest.mark.parametrize("warmup_steps", [0, 7])
@pytest.mark.parametrize("cut", [0, 1, 13, TOTAL_STEPS - 1])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_restoring_continues_identically(
    schedule: str, cut: int, warmup_steps: int, tmp_path: Any
) -> None:
    whole = walk(build(schedule, {}, warmup_steps))
    first = build(schedule, {}, warmup_steps)
    walk(first, 0, cut)
    state = {"schedule": first.state_dict(), "optimizer": first.optimizer.state_dict()}
    torch.save(state, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    second = build(schedule, {}, warmup_steps)
    second.optimizer.load_state_dict(state["optimizer"])
    second.load_state_dict(state["schedule"])
    assert walk(second, cut) == whole[cut:]


@pytest.mark.parametrize(
    ("schedule", "curve"),
    [
        ("constant", lambda x: 1.0),
        ("step", lambda x: 0.3 ** math.floor(3 * x + 1e-9)),
        ("exponential", lambda x: 0.05**x),
        ("cyclic", lambda x: 0.1 + 0.9 * (1 - abs(2 * (3 * x % 1) - 1))),
        ("cosine", lambda x: (1 + math.cos(math.pi * x)) / 2),
        ("linear", lambda x: 1 - x),
        ("wsd", lambda x: 1.0 if x <= 0.7 else (1 - x) / 0.3),
        ("rex", lambda x: (1 - x) / (1 - x / 2)),
        ("sgdr", lambda x: (1 + math.cos(math.pi * (2 * x % 1))) / 2 if x < 1 else 0.0),
        (
            "onecycle",
            lambda x: (
                0.04 + 0.96 * (1 - math.cos(math.pi * x / RISE)) / 2
                if x <= RISE
                else 4e-6 + (1 - 4e-6) * (1 + math.cos(math.pi * (x - RISE) / (1 - RISE))) / 2
            ),
        ),
    ],
)
def test_rates_follow_the_analytic_curve(schedule: str, curve: Any) -> None:
    built = build(schedule, {})
    lrs = [*walk(built), float(built.optimizer.param_groups[0]["lr"])]
    for t in (0, 15, 30, 45, 60):
        assert lrs[t] == pytest.approx(BASE * curve(t / TOTAL_STEPS), rel=0.02, abs=1e-6)


COPIES = {
    "pickled": lambda schedule: pickle.loads(pickle.dumps(schedule)),
    "deep-copied": copy.deepcopy,
}


@pytest.mark.parametrize("copies", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("warmup_steps", [0, 7])
@pytest.mark.parametrize("cut", [0, 1, 13, TOTAL_STEPS, TOTAL_STEPS + 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_copy_continues_identically_and_alone(
    schedule: str, cut: int, warmup_steps: int, copies: Any
) -> None:
    first = build(schedule, {}, warmup_steps)
    walk(first, 0, cut)
    second = copies(first)
    assert second.optimizer is not first.optimizer
    ahead = walk(second, cut, cut + 20)
    assert first.last_epoch == cut
    assert walk(first, cut, cut + 20) == ahead
    assert first.state_dict() == second.state_dict()


@pytest.mark.parametrize("warmup_steps", [0, 7])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_rate_is_a_pure_function_of_the_state(schedule: str, warmup_steps: int) -> None:
    asked, unasked = (build(schedule, {}, warmup_steps) for _ in range(2))
    for t in range(TOTAL_STEPS + 10):
        before = copy.deepcopy(asked.state_dict())
        present = [group["lr"] for group in asked.optimizer.param_groups]
        assert asked.get_lr() == asked.get_lr() == present
        assert asked.state_dict() == before
        assert walk(asked, t, t + 1) == walk(unasked, t, t + 1)


@pytest.mark.parametrize("restored", [False, True])
@pytest.mark.parametrize("warmup_steps", [0, 7])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_beyond_the_end_the_last_rate_is_held(
    schedule: str, warmup_steps: int, restored: bool
) -> None:
    """Whatever it still observes; also where it is restored there."""
    for parameters in [{}, *samples(schedule, 3)]:
        built = build(schedule, parameters, warmup_steps)
        lrs = walk(built)
        last = float(built.optimizer.param_groups[0]["lr"])
        assert last <= max(lrs)
        if not isinstance(built, ListeningLR):
            assert last <= lrs[-1], "it climbs at the end"
        if restored:
            walk(built, TOTAL_STEPS, TOTAL_STEPS + 5)
            state, optimizer_state = built.state_dict(), built.optimizer.state_dict()
            built = build(schedule, parameters, warmup_steps)
            built.optimizer.load_state_dict(optimizer_state)
            built.load_state_dict(state)
        assert set(walk(built, TOTAL_STEPS, 3 * TOTAL_STEPS)) == {last}
        assert built.get_last_lr() == [last]
