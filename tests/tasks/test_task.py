"""Tasks by name and tasks of one's own."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.test_loop import TASK, linear, tiny_data
from tune_adaptive.errors import InputError
from tune_adaptive.records.plan import Plan
from tune_adaptive.tasks import TASKS, Task, TaskOptions, make_task, unknown_task


def test_every_pair_of_one_kind_is_a_task_and_no_other() -> None:
    assert "imdb/bert" in TASKS and "mnist/mlp" in TASKS
    assert "imdb/cnn" not in TASKS and "mnist/lstm" not in TASKS
    assert all(unknown_task(name) is None for name in TASKS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imdb/resnet18", "imdb is text and resnet18 takes image; there is lstm, bilstm, bert"),
        ("minst/cnn", "unknown data set 'minst'; did you mean 'mnist'?"),
        ("mnist/cn", "unknown model 'cn'; did you mean 'cnn'?"),
        ("mnist", "unknown model ''"),
    ],
)
def test_a_task_that_cannot_be_is_told(name: str, message: str) -> None:
    assert message in (unknown_task(name) or "")


def test_options_replace_the_tasks_own() -> None:
    task = make_task(
        "cifar10/resnet18",
        TaskOptions(batch_size=7, optimizer="sgd", augment="document", clip_norm=2.0),
    )
    assert (task.batch_size, task.optimizer, task.augment, task.clip_norm) == (
        *(7, "sgd", "document", 2.0),
    )
    assert make_task("cifar10/resnet18").augment == "standard"
    assert make_task("imdb/lstm", TaskOptions(max_length=9)).notes["max_length"] == 9


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a module and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str) -> str:
        name = f"own_{uuid.uuid4().hex}"  # no two tests import the same
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


@pytest.mark.parametrize(
    ("text", "variable", "options", "message"),
    [
        ("x = 1", "task", {}, "has no attribute 'task'"),
        ("task = 1", "task", {}, "must be a tune_adaptive.Task, is int"),
        ("import no_such_module_at_all", "task", {}, "No module named"),
        ("from tests.training.test_loop import TASK", "TASK", {"max_length": 5}, "--max-length 5"),
        (
            "from tests.training.test_loop import TASK",
            "TASK",
            {"model_path": "x"},
            "--model-path x",
        ),
    ],
)
def test_a_task_of_ones_own_that_cannot_be_is_told(
    module: Callable[[str], str], text: str, variable: str, options: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_task(f"{module(text)}:{variable}", TaskOptions(**options))  # type: ignore[arg-type]


def test_data_that_cannot_be_trained_on_is_told_with_the_tasks_name() -> None:
    data = tiny_data()
    broken = replace(data, test=replace(data.test, y=data.test.y + 5))
    for given in (broken, lambda: broken):
        with pytest.raises(InputError, match="tiny/linear: test: a label"):
            Task("tiny/linear", given, linear).load()
    with pytest.raises(InputError, match="must be a Dataset, is list"):
        Task("tiny/linear", lambda: [], linear).load()  # type: ignore[arg-type, return-value]


def test_a_task_of_ones_own_is_cut_to_the_training_size() -> None:
    task = make_task("tests.training.test_loop:TASK", TaskOptions(train_size=20))
    assert len(task.load().train) == 20
    assert len(task.load().test) == len(TASK.load().test)


@pytest.mark.slow
def test_what_was_chosen_stands_in_plan_report_and_export(
    search: Callable[..., int], tmp_path: Path
) -> None:
    from tune_adaptive import load_schedule

    code = search(
        *(
            "--task",
            "tests.training.test_loop:TASK",
            "--schedule",
            "step",
            "--schedule",
            "adaptive",
        ),
        *("--epochs", "1", "--budget", "1", "--final-seeds", "1", "--optimizer", "sgd"),
        *("--clip-norm", "1.5", "--train-size", "64", "--results-dir", str(tmp_path)),
        *("--name", "own"),
    )
    assert code == 0
    [task] = Plan.read(tmp_path / "own" / "plan.toml").tasks
    assert (task.name, task.num_train) == ("tiny/linear", 64)
    assert (task.optimizer, task.clip_norm) == ("sgd", 1.5)
    assert {p.name: p for p in task.spaces["step"].parameters}["lr"].high == 0.5, "the range of SGD"
    report = (tmp_path / "own" / "report.md").read_text(encoding="utf-8")
    assert "sgd, augmentation none, gradients clipped at 1.5" in report
    best = load_schedule(tmp_path / "own" / "best" / "tiny-linear" / "step.toml")
    optimizer = best.optimizer([torch.nn.Parameter(torch.zeros(1))])
    assert isinstance(optimizer, torch.optim.SGD)


@pytest.mark.parametrize("name", ["batch_size", "num_epochs", "nbytes"])
def test_whole_numbers_of_numpy_are_whole_numbers(name: str) -> None:
    task = replace(TASK, **{name: np.int64(7)})
    assert task.problems() == []
    assert type(getattr(task, name)) is int


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("batch_size", value) for value in (0, True, "64", 1.5, 2**31)),
        *(("num_epochs", value) for value in (0, 10**30, None)),
        *(("nbytes", value) for value in (-1, "x", 2**63)),
        *(("notes", value) for value in ({"x": True}, {1: "x"}, {"x": [1]}, "x")),
    ],
)
def test_what_a_field_cannot_be_is_told_by_its_name(name: str, value: object) -> None:
    [problem] = replace(TASK, **{name: value}).problems()  # type: ignore[arg-type]
    assert problem.startswith(f"{name} must be ")
    assert problem.endswith(f"got {value!r}")


@pytest.mark.parametrize("channels", [1, 3])
def test_any_classifier_of_torchvision_is_a_model(channels: int) -> None:
    task = make_task("fashion_mnist_mini/torchvision:squeezenet1_1")
    assert (task.name, task.batch_size) == ("fashion_mnist_mini/torchvision-squeezenet1_1", 64)
    description = replace(tiny_data().describe(), shape=(32, 32, channels), num_classes=7)
    torch.manual_seed(0)
    model = task.build(description)
    assert model(torch.rand(2, channels, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("cifar10/torchvision:resnet5", "has no classifier 'resnet5'; did you mean 'resnet50'?"),
        ("cifar10/torchvision:fcn_resnet50", "has no classifier 'fcn_resnet50'"),
        ("imdb/torchvision:resnet50", "imdb is text and torchvision:resnet50 takes image"),
        ("cifra10/torchvision:resnet50", "unknown data set 'cifra10'"),
        ("folder:nowhere/torchvision:resnet50", "no such file or folder"),
    ],
)
def test_a_classifier_that_there_is_not_is_told(name: str, problem: str) -> None:
    assert problem in (unknown_task(name) or "")
