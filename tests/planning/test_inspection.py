"""What is said of data before anything is trained on them."""

import io
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from tests.ray_backend.test_engine import plan
from tests.training.test_loop import linear, tiny_data
from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.planning import inspection
from tune_adaptive.planning.inspection import (
    check_memory,
    check_metric,
    free_memory,
    inspect_data,
    load_data,
)
from tune_adaptive.records.plan import Plan
from tune_adaptive.search import show_plan
from tune_adaptive.signals.limits import Limits
from tune_adaptive.tasks import METRICS, Dataset, Examples, Measure, Task
from tune_adaptive.tasks.data import load_fashion_mnist_mini


def split(values: list[int], labels: list[int]) -> Examples:
    return Examples(np.array([[v, 0] for v in values], np.float32), np.array(labels))


def test_the_embedded_data_have_nothing_to_say() -> None:
    facts = inspect_data(load_fashion_mnist_mini())
    assert (facts.num_validation_in_train, facts.num_test_in_train) == (0, 0)
    assert (facts.class_ratio, facts.majority_accuracy, facts.remarks) == (1.0, 0.1, ())


def test_rows_in_common_are_counted_whatever_their_labels() -> None:
    train = split([1, 2, 3, 3], [0, 1, 0, 1])
    facts = inspect_data(Dataset(train, split([2, 9], [0, 1]), split([3, 3, 1, 8], [0, 1, 1, 1])))
    assert (facts.num_validation_in_train, facts.num_test_in_train) == (1, 3)


def test_texts_in_common_are_counted() -> None:
    def texts(rows: list[list[int]]) -> Examples:
        return Examples(np.array(rows, np.int32), np.array([0, 1]), np.array([2, 2], np.int32))

    same, other = texts([[1, 2], [3, 4]]), texts([[3, 4], [4, 3]])
    assert inspect_data(Dataset(same, same, other, 9)).num_test_in_train == 1


def test_classes_that_are_missing_or_unequal_are_said() -> None:
    train = split(list(range(12)), [0] * 9 + [1, 2, 2])
    data = Dataset(train, split([20], [2]), split([30, 31, 32, 33], [0, 0, 0, 1]))
    facts = inspect_data(replace(data, classes=("cat", "dog", "eel"), remarks=("one",)))
    assert (facts.class_ratio, facts.majority_accuracy) == (9.0, 0.75)
    assert facts.remarks == (
        "one",
        "validation: no example of 2 of the 3 classes: 0 (cat), 1 (dog)",
        "test: no example of 1 of the 3 classes: 2 (eel)",
    )


def test_the_plan_keeps_and_shows_what_was_found(tmp_path: Path) -> None:
    train = split(list(range(12)), [0] * 9 + [1, 2, 2])
    data = Dataset(train, split([20], [2]), split([3, 31, 32, 33], [0, 0, 0, 1]))
    planned = plan()
    planned = replace(planned, tasks=(replace(planned.tasks[0], facts=inspect_data(data)),))
    planned.write(tmp_path / "plan.toml")
    read = Plan.read(tmp_path / "plan.toml")
    assert read.tasks[0].remarks == planned.tasks[0].remarks
    console = Console(file=io.StringIO(), width=200)
    show_plan(read, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for said in (
        "validation: no example of 2 of the 3 classes: 0, 1",
        "test: 1 of 40 examples (2.50%) are training examples too",
        "the largest class has 9 times the training examples of the smallest: guessing it has a "
        "test accuracy of 0.750",
    ):
        assert f"note: {read.tasks[0].name}: {said}" in shown


# -------------------------------------------------------------------------------- memory


@pytest.fixture
def limit_as() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def own_task(train: Examples) -> Task:
    few = Examples(train.x[:2], train.y[:2])
    return Task("own/data", Dataset(train, few, few), build=nn.Identity)


def test_the_nearest_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "read_limits", lambda: Limits(None, 3 * 2**20, 2 * 2**20))
    assert free_memory() == (2**20, "the 3 MiB of its cgroup")
    task = own_task(split([1, 2] * 50_000, [0, 1] * 50_000))
    data = {"own/data": task.load()}
    with pytest.raises(EnvironmentFault, match=r"take 2 MiB, and as much again .* 1 MiB of the 3"):
        check_memory({"own/data": task}, data)
    monkeypatch.setattr(inspection, "read_limits", lambda: Limits())
    check_memory({"own/data": task}, data)


def test_a_limit_on_addresses_counts(limit_as: None) -> None:
    import psutil

    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, resource.RLIM_INFINITY))
    free, whose = free_memory()
    assert free <= 2**30 and "ulimit -v" in whose


def too_large() -> Dataset:
    raise MemoryError("Unable to allocate 3. GiB")


def test_memory_that_runs_out_while_loading_is_said() -> None:
    with pytest.raises(
        EnvironmentFault, match=r"own/data: its data do not fit in memory, .*3\. GiB"
    ):
        load_data(Task("own/data", too_large, build=nn.Identity))


def judged_by(metric: str | Measure, test_y: list[int] | None = None) -> Task:
    data = tiny_data()
    if test_y is not None:
        data = replace(data, test=Examples(data.test.x[: len(test_y)], np.array(test_y)))
    return Task("tiny/linear", data, linear, metric=metric)


def raises(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    raise ZeroDivisionError("of nothing")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (judged_by("auroc", [1] * 9), r"the test split has no AUROC nan: must be a finite number"),
        (judged_by(Measure("own", compute=raises)), r"own on the validation split: .*of nothing"),
        (
            judged_by(Measure("own", compute=lambda outputs, targets: 7.0)),
            r"the validation split has no own 7.0: must be a finite number in \[0, 1\]",
        ),
    ],
)
def test_a_metric_that_a_split_does_not_have_is_told(task: Task, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_metric(task, task.load())


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("mae", r"metric MAE is of numbers, and the targets are classes; of classes there is acc"),
        ("acuracy", r"one of accuracy, .*, got 'acuracy'; did you mean 'accuracy'\?"),
        (3, r"metric must be a Measure or one of accuracy"),
        (Measure("own", low=1.0), r"metric: low 1.0 must be < high 1.0"),
        (Measure("own", margin="0.1"), r"metric: margin '0.1': must be a number"),
        (Measure("own", compute=3), r"metric: compute 3: must be a function"),
        (Measure("own", targets="numbers"), r"metric: targets 'numbers': must be some of"),
        (
            Measure("own", greater_is_better=False, high=float("inf"), unit=""),
            r"metric: it has no worst value: give chance",
        ),
    ],
)
def test_a_metric_that_a_task_cannot_have_is_told(metric: Any, message: str) -> None:
    task = judged_by(metric)
    with pytest.raises(InputError, match=message):
        if problems := task.problems():
            raise InputError("\n".join(problems))
        task.load()


def test_every_metric_that_fits_is_defined_on_a_whole_split() -> None:
    for name, measure in METRICS.items():
        if measure.fits("classes"):
            task = judged_by(name)
            check_metric(task, task.load())


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros((100, 1)), r"loss cross_entropy is of classes, .* numbers: mse_loss\?"),
        (np.zeros((100, 2), bool), r"targets are labels: binary_cross_entropy_with_logits\?"),
    ],
)
def test_a_loss_of_classes_is_not_taken_for_others(y: Any, message: str) -> None:
    split = Examples(np.ones((100, 3)), y)
    metric = "mae" if y.dtype == float else "accuracy"
    with pytest.raises(InputError, match=message):
        Task("a/b", Dataset(split, split, split), linear, metric=metric).load()
