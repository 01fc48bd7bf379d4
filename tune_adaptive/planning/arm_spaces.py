"""The search space of every arm: read, and tried at its bounds before anything is planned."""

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict

import torch
from torch.optim.lr_scheduler import LRScheduler

from tune_adaptive.errors import located
from tune_adaptive.planning.options import Request
from tune_adaptive.records.runs import Configuration, Recipe, Value
from tune_adaptive.records.space_files import load_space
from tune_adaptive.records.spaces import SearchSpace, SpaceError
from tune_adaptive.schedules import SCHEDULES, Horizon, Listener, build_optimizer, set_mode
from tune_adaptive.tasks import Task
from tune_adaptive.training.checkpoints import as_kept

NUM_STEPS = 20
"""Steps of the runs that try out a space."""


def load_spaces(request: Request, tasks: Mapping[str, Task]) -> dict[tuple[str, str], SearchSpace]:
    """Read the space of every arm, by task and schedule, and try it.

    Raises:
        SpaceError: With every problem of all files.
    """
    problems: list[str] = []
    spaces: dict[tuple[str, str], SearchSpace] = {}
    common = asdict(Recipe())
    for name, task in tasks.items():
        for schedule in request.schedules:
            brought = SCHEDULES.space(schedule)
            path = request.space_dir / f"{schedule}.toml"
            where = str(path) if brought is None or path.exists() else brought[1]
            try:
                space = load_space(
                    request.space_dir,
                    schedule,
                    name,
                    optimizer=task.optimizer,
                    common_defaults=common,
                    schedule_defaults=builder_defaults(schedule),
                    brought=brought,
                )
                spaces[name, schedule] = space
                problems += _unusable(space, schedule, task.optimizer, where)
            except SpaceError as error:
                problems += error.problems
    if problems:
        raise SpaceError(dict.fromkeys(problems))
    return spaces


def _unusable(space: SearchSpace, schedule: str, optimizer_name: str, where: str) -> Iterator[str]:
    """Build the schedule at each bound of its space and step it to its end; say what fails."""
    seen: set[str] = set()
    for values in space.corners():
        try:
            configuration = Configuration.from_values(schedule, values)
            lrs = _lrs(configuration, optimizer_name)
            if not SCHEDULES.is_own(schedule) and not seen:
                resumed = _lrs(configuration, optimizer_name, resumed_at=NUM_STEPS // 2)
                if resumed != lrs:
                    raise ValueError(
                        "after its state_dict is loaded it gives other rates than in one go"
                    )
        except Exception as error:  # a builder may be anybody's
            told = str(error) or type(error).__name__
            if not SCHEDULES.is_own(schedule):
                told = located(error)
        else:
            if all(0 <= lr < math.inf for lr in lrs):
                continue
            told = (
                f"it sets the learning rate to {next(lr for lr in lrs if not 0 <= lr < math.inf)}"
            )
        if told in seen:
            continue
        seen.add(told)
        shown = ", ".join(f"{name} = {value!r}" for name, value in values.items())
        yield f"{where}: within its bounds, {told} (at {shown})"


def _lrs(
    configuration: Configuration, optimizer_name: str, resumed_at: int | None = None
) -> list[float]:
    """Return the learning rates of a short run of nothing, resumed at a step or in one go."""
    recipe = configuration.recipe
    optimizer = build_optimizer(
        configuration.schedule,
        [torch.nn.Parameter(torch.zeros(1))],
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        optimizer=optimizer_name,
    )
    horizon = Horizon(NUM_STEPS, round(NUM_STEPS * recipe.warmup_frac), timer=None)
    build = SCHEDULES[configuration.schedule]
    schedule = build(optimizer, horizon, **configuration.parameters)
    if not isinstance(schedule, LRScheduler):
        raise TypeError(f"its builder must return an LRScheduler, returned {schedule!r}")
    Listener(schedule)
    set_mode(optimizer, training=True)
    lrs = []
    for step in range(NUM_STEPS):
        if step == resumed_at:
            before = schedule
            schedule = build(optimizer, horizon, **configuration.parameters)
            schedule.load_state_dict(dict(as_kept(before.state_dict())))
            for group, lr in zip(optimizer.param_groups, before.get_last_lr(), strict=True):
                group["lr"] = lr
        lrs.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return lrs


def builder_defaults(schedule: str) -> dict[str, Value]:
    """Return the schedule's own hyperparameters and defaults: its builder's signature."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(SCHEDULES[schedule]).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
