"""What a person should know of a task's data before anything is trained on them."""

import math
import resource
from collections.abc import Iterator, Mapping

import numpy as np
import psutil
import torch

from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.records.task_plan import DataFacts
from tune_adaptive.signals.limits import read_limits
from tune_adaptive.system.own_code import persons_code
from tune_adaptive.tasks import Dataset, Task
from tune_adaptive.tasks.arrays import num_contained
from tune_adaptive.tasks.feed import Split

MAX_NAMED = 5


def inspect_data(data: Dataset) -> DataFacts:
    """Count what splits have in common, and how unequal the classes are."""
    ratio = 1.0
    majority: float | None = None
    missing: tuple[str, ...] = ()
    if data.targets == "classes":
        counts = np.bincount(data.train.y)
        ratio = float(counts.max() / counts.min())
        majority = float((data.test.y == counts.argmax()).mean())
        missing = tuple(_missing(data, len(counts)))
    return DataFacts(
        num_validation_in_train=num_contained(data.validation, data.train),
        num_test_in_train=num_contained(data.test, data.train),
        class_ratio=ratio,
        majority_accuracy=majority,
        remarks=(*data.remarks, *missing),
    )


def _missing(data: Dataset, num_classes: int) -> Iterator[str]:
    """Say which classes of train a split has no example of."""
    for name, split in (("validation", data.validation), ("test", data.test)):
        missing = sorted(set(range(num_classes)) - set(split.y.tolist()))
        shown = [
            f"{each} ({data.classes[each]})" if data.classes else str(each)
            for each in missing[:MAX_NAMED]
        ]
        if missing:
            more = ", ..." if len(missing) > MAX_NAMED else ""
            yield (
                f"{name}: no example of {len(missing)} of the {num_classes} classes: "
                f"{', '.join(shown)}{more}"
            )


def check_metric(task: Task, data: Dataset) -> None:
    """Check that a task's metric is defined on the splits that it judges on.

    It is tried on random outputs; what a model makes of a split comes later.

    Raises:
        InputError: It is not, and where.
    """
    measure = task.measure
    if measure.compute is None:
        return
    num_outputs = data.describe().num_classes
    for name, split in (("validation", data.validation), ("test", data.test)):
        outputs = torch.randn(len(split), num_outputs, generator=torch.Generator().manual_seed(0))
        targets = Split.of(split, torch.device("cpu")).y
        with persons_code(f"{task.name}: metric {measure.name} on the {name} split"):
            value = measure.value(outputs, targets, math.nan)
        if (problem := measure.problem(value)) is not None:
            raise InputError(
                f"{task.name}: the {name} split has no {problem}, tried on random outputs; has it "
                "examples of one class, or one value, alone?"
            )


def load_data(task: Task) -> Dataset:
    """Load a task's data.

    Raises:
        InputError: They cannot be trained on, and why.
        EnvironmentFault: They are not to be had, or memory ran out.
    """
    try:
        return task.load()
    except MemoryError as error:
        free, whose = free_memory()
        raise EnvironmentFault(
            f"{task.name}: its data do not fit in memory, {_mib(free)} of {whose} are free: "
            f"{error}; lower --train-size, or raise the limit"
        ) from error


def check_memory(tasks: Mapping[str, Task], datasets: Mapping[str, Dataset]) -> None:
    """Check that the data fit a second time: Ray's object store keeps a copy for the workers.

    Raises:
        EnvironmentFault: They do not.
    """
    needed = sum(data.nbytes for data in datasets.values())
    needed += sum(task.nbytes for task in tasks.values())
    free, whose = free_memory()
    if needed > free:
        raise EnvironmentFault(
            f"the data take {_mib(needed)}, and as much again for the workers in Ray's object "
            f"store, but {_mib(free)} of {whose} are free: lower --train-size, or raise the limit"
        )


def free_memory() -> tuple[int, str]:
    """Return how many bytes this process may still take, and of what."""
    system = psutil.virtual_memory()
    free = [(system.available, f"this machine's {_mib(system.total)}")]
    limits = read_limits()
    if limits.memory_bytes is not None:
        used = limits.memory_used_bytes or 0
        free.append((limits.memory_bytes - used, f"the {_mib(limits.memory_bytes)} of its cgroup"))
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        used = psutil.Process().memory_info().vms
        free.append((soft - used, f"the {_mib(soft)} of ulimit -v"))
    most, whose = min(free)
    return max(0, most), whose


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB"
