"""An interrupted experiment, read back so that it can be run to its end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tune_adaptive.analysis.rows import Rows
from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.planning.inspection import load_data
from tune_adaptive.planning.options import address_problems, nice_problems
from tune_adaptive.planning.prepare import Prepared, absolute_storage, versions_here
from tune_adaptive.ray_backend.cluster import capacity as joined_capacity
from tune_adaptive.ray_backend.cluster import joined
from tune_adaptive.records import ledger
from tune_adaptive.records.plan import Plan, hash_file, model_notes
from tune_adaptive.schedules import SCHEDULES
from tune_adaptive.signals.capacity import this_machine
from tune_adaptive.signals.replay import read_signals
from tune_adaptive.tasks import Task, TaskOptions, inapplicable, read_own_task, read_task
from tune_adaptive.training.preflight import as_trained


@contextmanager
def reopened(
    folder: Path,
    task: Sequence[str | Task] = (),
    data_dir: Path | None = None,
    model_path: str | None = None,
    address: str | None = None,
    storage_path: str | None = None,
    nice: int = 0,
    schedule: Sequence[str] = (),
) -> Iterator[Prepared]:
    """Hold the lock of an interrupted experiment, and give it if it can be resumed here.

    Nothing but the lock is written, and nothing is imported that the folder names.

    Args:
        folder: The experiment's folder.
        task: A person's own tasks, ``package.module:variable`` or as they are.
        data_dir: Where its data are now; None is where they were.
        model_path: Where ``bert``'s encoder is now; None is where it was.
        address: Of the cluster to continue on; None is a Ray of its own.
        storage_path: Where its checkpoints are, if not in the folder: nothing is written
            elsewhere because a folder that somebody sent says so.
        schedule: A person's own, by their names, which have been taken in.
        nice: Added to the niceness of the workers of our own Ray, in [0, 19].

    Raises:
        InputError: It is no experiment, has ended, is damaged, is at work in another process,
            or its data have changed.
        EnvironmentFault: This machine or its packages are not those of the plan.
    """
    if problems := [*nice_problems(nice, address), *(address_problems(address) if address else ())]:
        raise InputError("\n".join(problems))
    with ledger.locked(folder):
        experiment = _read(folder, task, schedule, data_dir, model_path, address)
        planned = experiment.plan.storage_path
        if planned != absolute_storage(storage_path):
            raise InputError(
                f"{folder}: its checkpoints are in {planned or 'its own folder'}; "
                + (f"give --storage-path {planned}" if planned else "leave out --storage-path")
            )
        yield replace(experiment, nice=nice)


def _read(
    folder: Path,
    asked: Sequence[str | Task],
    schedules: Sequence[str],
    data_dir: Path | None,
    model_path: str | None,
    address: str | None,
) -> Prepared:
    plan = Plan.read(folder / "plan.toml")
    path = folder / "ledger.jsonl"
    events = ledger.read(path) if path.exists() else []
    past = [event for event in events if not ledger.is_torn(event)]
    if any(isinstance(event, ledger.Closed) for event in past):
        raise InputError(f"{folder}: it ran to its end; there is nothing to resume")
    rows = Rows(past, plan)
    if rows.damage:
        raise InputError(
            "\n".join(f"{folder / 'ledger.jsonl'}: {damage}" for damage in rows.damage)
        )
    _check_schedules(plan, folder, schedules)
    _check_machine(plan, address)
    options = TaskOptions.read(plan.options, data_dir, model_path)
    made = [(name, read_own_task(name, options)) for name in asked]
    own = {task.name: task for _, task in made}
    if strange := own.keys() - {task.name for task in plan.tasks}:
        raise InputError(f"{folder}: has no task {', '.join(sorted(strange))}")
    names = [task.name for task in plan.tasks]
    tasks = {name: own.get(name) or read_task(name, options) for name in names}
    moved = TaskOptions(data_dir=data_dir, model_path=model_path)
    as_given = {task.name: name for name, task in made}
    if problems := inapplicable([as_given.get(name, name) for name in names], moved):
        raise InputError("\n".join(problems))
    datasets = {
        planned.name: as_trained(load_data(tasks[planned.name]), planned.num_train)
        for planned in plan.tasks
    }
    problems = []
    for each in plan.tasks:
        task_here = tasks[each.name]
        here: dict[str, object] = {"data": datasets[each.name].sha256()}
        here |= {name: getattr(task_here, name) for name in TASK_FIELDS}
        here |= {"model": model_notes(task_here.notes), "metric": task_here.measure.plain}
        there: dict[str, object] = {"data": each.data_sha256}
        there |= {name: getattr(each, name) for name in TASK_FIELDS}
        there |= {"model": model_notes(each.notes), "metric": each.metric}
        problems += [
            f"{each.name}: its {name} was {there[name]}, here it is {here[name]}"
            for name in here
            if here[name] != there[name]
        ]
    begun_with = {event.plan_sha256 for event in past if isinstance(event, ledger.Opened)}
    if begun_with - {hash_file(folder / "plan.toml")}:
        problems.append(f"{folder / 'plan.toml'}: was edited after the experiment began")
    problems += _without_recording(folder / "signals", rows)
    if problems:
        raise InputError("\n".join(problems))
    replayed = folder / "signals" / "replayed.jsonl"
    replay = read_signals(replayed) if plan.signals == "replay" else []
    return Prepared(plan, folder, tasks, datasets, replay, past, address)


def _without_recording(folder: Path, rows: Rows) -> Iterator[str]:
    """Name the runs whose recordings are gone: a resumed run adds to its own, others hear them."""
    for run in rows.runs.values():
        path = folder / f"{run.spec.id}.jsonl"
        if run.epochs and not path.is_file():
            yield f"{path}: is not there, and its run did {len(run.epochs)} epochs"


def _check_schedules(plan: Plan, folder: Path, given: Sequence[str]) -> None:
    """Check that every schedule is here; what a folder names is not imported because it says so."""
    problems = [
        f"--schedule {name}: decided by the plan of the experiment"
        for name in given
        if SCHEDULES.is_own(name) or name not in plan.schedules
    ]
    for name in plan.schedules:
        planned = plan.builders.get(name)
        if name not in SCHEDULES:
            problems.append(
                f"{folder}: schedule {name!r} is one of your own; give it again, "
                f"--schedule {planned or 'module:builder'}"
            )
        elif planned is not None and planned != (here := SCHEDULES.origin(name)):
            problems.append(f"{folder}: schedule {name!r} was {planned}, here it is {here}")
    if problems:
        raise InputError("\n".join(problems))


TASK_FIELDS = ("batch_size", "optimizer", "augment", "clip_norm")


def _check_machine(plan: Plan, address: str | None) -> None:
    versions = versions_here()
    problems = [
        f"it was begun with {name} {version}, here is {versions.get(name, 'none')}"
        for name, version in plan.versions.items()
        if versions.get(name) != version
    ]
    if address is not None:
        with joined(address):
            here = joined_capacity()
    else:
        is_rehearsed = plan.device.startswith(("CPU", "logical"))
        here = this_machine(plan.num_gpus if is_rehearsed else None)
    if len(here.nodes) > 1 and plan.storage_path is None:
        problems.append(
            f"it was planned without --storage-path, and the cluster at {address} has "
            f"{len(here.nodes)} nodes; continue on one"
        )
    for task in plan.tasks:
        fits = here.fits(task.cpus_per_trial, task.gpus_per_trial)
        if address is not None and not fits:  # it may have lost nodes: then trials wait
            problems.append(f"no node of the cluster at {address} holds a trial of {task.name}")
        if address is None and task.slots > fits:
            problems.append(
                f"it was planned on {task.slots} concurrent trials of {task.name}, here are {fits}"
            )
    for kind, planned, found in (
        ("CPUs", plan.num_cpus, here.cpus),
        ("GPUs", plan.num_gpus, here.gpus),
    ):
        if address is None and planned > found:
            problems.append(f"it was planned on {planned} {kind}, here are {found}")
    if problems:
        raise EnvironmentFault("\n".join(f"{plan.name}: {problem}" for problem in problems))
