"""An interrupted experiment, read back so that it can be run to its end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from tune_adaptive import ledger
from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.plan import Plan, model_notes
from tune_adaptive.planning import Experiment, cpus_here, versions_here
from tune_adaptive.signals.replay import read_signals
from tune_adaptive.tasks import TaskOptions, make_task, published_task


@contextmanager
def reopened(
    folder: Path,
    asked: Sequence[str] = (),
    data_dir: Path | None = None,
    model_path: str | None = None,
) -> Iterator[Experiment]:
    """Hold the lock of an interrupted experiment, and give it if it can be resumed here.

    Nothing but the lock is written, and nothing is imported that the folder names.

    Args:
        folder: The experiment's folder.
        asked: A person's own tasks, ``package.module:variable``.
        data_dir: Where its data are now; None is where they were.
        model_path: Where ``bert``'s encoder is now; None is where it was.

    Raises:
        InputError: It is no experiment, has ended, is damaged, is at work in another process,
            or its data have changed.
        EnvironmentFault: This machine or its packages are not those of the plan.
    """
    with ledger.locked(folder):
        yield _read(folder, asked, data_dir, model_path)


def _read(
    folder: Path, asked: Sequence[str], data_dir: Path | None, model_path: str | None
) -> Experiment:
    plan = Plan.read(folder / "plan.toml")
    rows = ledger.read(folder / "ledger.jsonl") if (folder / "ledger.jsonl").exists() else []
    past = [event for event in rows if not _is_torn(event)]
    if any(isinstance(event, ledger.Closed) for event in past):
        raise InputError(f"{folder}: it ran to its end; there is nothing to resume")
    if damaged := [event for event in past if isinstance(event, ledger.Damaged)]:
        raise InputError(
            "\n".join(f"{folder / 'ledger.jsonl'}: line {e.line} {e.reason}" for e in damaged)
        )
    _check_machine(plan)
    options = TaskOptions.read(plan.options, data_dir, model_path)
    own = {task.name: task for task in (make_task(name, options) for name in asked)}
    if strange := own.keys() - {task.name for task in plan.tasks}:
        raise InputError(f"{folder}: has no task {', '.join(sorted(strange))}")
    names = [task.name for task in plan.tasks]
    tasks = {name: own.get(name) or published_task(name, options) for name in names}
    datasets = {name: task.load() for name, task in tasks.items()}
    problems = []
    for each in plan.tasks:
        here = {"data": datasets[each.name].sha256()}
        here |= {name: getattr(tasks[each.name], name) for name in TASK_FIELDS}
        here["model"] = model_notes(tasks[each.name].notes)
        there = {"data": each.data_sha256} | {name: getattr(each, name) for name in TASK_FIELDS}
        there["model"] = model_notes(each.notes)
        problems += [
            f"{each.name}: its {name} was {there[name]}, here it is {here[name]}"
            for name in here
            if here[name] != there[name]
        ]
    if problems:
        raise InputError("\n".join(problems))
    replayed = folder / "signals" / "replayed.jsonl"
    replay = read_signals(replayed) if plan.signals == "replay" else []
    return Experiment(plan, folder, tasks, datasets, replay, past)


TASK_FIELDS = ("batch_size", "optimizer", "augment", "clip_norm")


def _is_torn(event: ledger.Event) -> bool:
    """Whether it is a last row that the writer did not finish; it is cut when written on."""
    return isinstance(event, ledger.Damaged) and event.torn


def _check_machine(plan: Plan) -> None:
    here = versions_here()
    problems = [
        f"it was begun with {name} {version}, here is {here.get(name, 'none')}"
        for name, version in plan.versions.items()
        if here.get(name) != version
    ]
    if plan.num_cpus > cpus_here():
        problems.append(f"it was planned on {plan.num_cpus} CPUs, here are {cpus_here()}")
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not plan.device.startswith(("CPU", "logical")) and plan.num_gpus > num_gpus:
        problems.append(f"it was planned on {plan.num_gpus} GPUs, here are {num_gpus}")
    if problems:
        raise EnvironmentFault("\n".join(f"{plan.name}: {problem}" for problem in problems))
