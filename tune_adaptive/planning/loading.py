"""Tasks and their data as they were asked for: made, loaded, tried out."""

from dataclasses import replace
from functools import partial

from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.planning.device_shares import Share
from tune_adaptive.planning.inspection import check_metric, load_data
from tune_adaptive.planning.options import Request
from tune_adaptive.ray_backend.cluster import on_a_worker
from tune_adaptive.records.plan import NAME
from tune_adaptive.records.runs import file_name
from tune_adaptive.signals.capacity import Capacity
from tune_adaptive.tasks import Dataset, Task, make_tasks
from tune_adaptive.training.preflight import as_trained, sample, try_out

MAX_FILE_NAME = 132
"""Of a task: a run's file has its schedule, stage, number and ablation beside it, 255 in all."""


def make_named_tasks(request: Request) -> dict[str, Task]:
    """Make the tasks, by their own names."""
    tasks: dict[str, Task] = {}
    for given, task in zip(request.tasks, make_tasks(request.tasks, request.options), strict=True):
        asked = given if isinstance(given, str) else task.name
        if task.name in tasks:
            raise InputError(f"--task {asked}: there is a task {task.name!r} already")
        parts = task.name.split("/")
        if len(parts) != 2 or not all(NAME.fullmatch(part) for part in parts):
            raise InputError(f"--task {asked}: its name {task.name!r} must be like dataset/model")
        if len(file_name(task.name)) > MAX_FILE_NAME:
            raise InputError(
                f"--task {asked}: its name {task.name!r} is too long for the names of files: "
                f"{len(file_name(task.name))} characters of {MAX_FILE_NAME} (a - counts twice)"
            )
        for name in tasks:
            if file_name(name).casefold() == file_name(task.name).casefold():
                raise InputError(
                    f"--task {asked}: its name {task.name!r} and that of {name!r} differ in case "
                    "only, which the names of files do not on every system"
                )
        tasks[task.name] = task
    return tasks


def loaded(task: Task, request: Request) -> Dataset:
    """Load a task's data; check what was asked for against their size."""
    data = load_data(task)
    check_metric(task, data)
    asked = request.options.batch_size
    if asked is not None and asked > len(data.train):
        raise InputError(
            f"--batch-size {asked}: {task.name} has {len(data.train)} training examples"
        )
    if task.batch_size > len(data.train):
        told = f"batch_size {task.batch_size}: all {len(data.train)} examples are one batch"
        data = replace(data, remarks=(*data.remarks, told))
    return data


def tried(task: Task, data: Dataset, request: Request, capacity: Capacity, share: Share) -> Dataset:
    """Try a task where its trials will run; return the data that they can train on.

    An example that would be alone in the epoch's last batch, and cannot be trained on alone (batch
    normalisation needs two), is left out.
    """
    there = partial(on_a_worker, try_out, share.cpus, share.gpus)
    try:
        why = (there if capacity.is_joined else try_out)(
            task.without_data(),
            data.describe(),
            *sample(data, task.batch_size),
            num_train=len(data.train),
            precision="fp32" if request.precision == "auto" else request.precision,
            on_gpu=share.gpus > 0,
        )
    except MemoryError as error:
        raise EnvironmentFault(f"{task.name}: a step does not fit in memory: {error}") from error
    if why is None:
        return data
    fewer = as_trained(data, len(data.train) - 1)
    told = f"1 of {len(data.train)} training examples is left out, alone in its batch: {why}"
    return replace(fewer, remarks=(*fewer.remarks, told))
