"""What every schedule must do. A new entry of SCHEDULES is tested without writing a test."""

import math
from typing import Any

import optuna
import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler

from tune_adaptive.protocol import builder_defaults
from tune_adaptive.runs import RECIPE_NAMES, Recipe
from tune_adaptive.schedules import SCHEDULES, Horizon
from tune_adaptive.spaces import SearchSpace, default_space_dir, load_space

TOTAL_STEPS = 60
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
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
    horizon = Horizon(TOTAL_STEPS, warmup_steps=warmup_steps, complexity=0.4, timer=None)
    return SCHEDULES[schedule](optimizer, horizon, **parameters)


def walk(schedule: LRScheduler, start: int = 0, stop: int = TOTAL_STEPS) -> list[float]:
    lrs = []
    for t in range(start, stop):
        lrs.append(float(schedule.optimizer.param_groups[0]["lr"]))
        schedule.optimizer.step()
        if hasattr(schedule, "observe"):
            schedule.observe(loss=1.0 + 0.5 * math.sin(t))
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


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_is_the_same_for_every_schedule(schedule: str) -> None:
    lrs = walk(build(schedule, {}, warmup_steps=5))
    assert lrs[:5] == pytest.approx([BASE * (t + 1) / 5 for t in range(5)])


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
    ],
)
def test_rates_follow_the_analytic_curve(schedule: str, curve: Any) -> None:
    built = build(schedule, {})
    lrs = [*walk(built), float(built.optimizer.param_groups[0]["lr"])]
    for t in (0, 15, 30, 45, 60):
        assert lrs[t] == pytest.approx(BASE * curve(t / TOTAL_STEPS))
