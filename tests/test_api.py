"""The Python functions do what the command line does."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import tune_adaptive
from tests.conftest import run_search
from tests.training.test_loop import TASK, linear
from tune_adaptive import Experiment
from tune_adaptive.errors import InputError
from tune_adaptive.planning.options import OPTIONS, Request, read_request
from tune_adaptive.planning.parsing import Shares
from tune_adaptive.planning.prepare import prepare
from tune_adaptive.planning.presets import PRESETS

SMALL = {
    "epochs": 1,
    "budget": 1,
    "final_seeds": 1,
    "train_size": 640,
    "schedule": ["adaptive", "step"],
    "signals": "steady",
    "precision": "fp32",
}


def test_an_experiment_tells_what_its_report_does(finished: Path, tmp_path: Path) -> None:
    experiment = Experiment(finished)
    document = json.loads((finished / "verdict.json").read_text())
    task = "fashion_mnist_mini/cnn"
    assert experiment.verdict().sentence == document["tasks"][task]["sentence"]
    assert experiment.verdict(task) == experiment.verdict()
    assert experiment.report() == finished / "report.html"
    for name, table in (("trials", experiment.trials()), ("epochs", experiment.epochs())):
        table.to_parquet(tmp_path / name, index=False)
        written = pd.read_parquet(finished / f"{name}.parquet")
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / name), written)
    assert set(experiment.runs()["stage"]) == {"select", "final", "ablation", "contention"}


def test_its_best_schedule_is_built_in_one_line(finished: Path) -> None:
    best = Experiment(finished).best()
    model = torch.nn.Linear(2, 2)
    optimizer = best.optimizer(model.parameters())
    schedule = best.build(optimizer, total_steps=10)
    assert schedule.optimizer is optimizer
    with pytest.raises(InputError, match="did you mean 'exponential'"):
        Experiment(finished).best("exponentail")
    with pytest.raises(InputError, match="one of fashion_mnist_mini/cnn"):
        Experiment(finished).best(task="mnist/cnn")


def test_a_notebook_shows_verdict_and_figures(finished: Path) -> None:
    shown = Experiment(finished)._repr_html_()
    assert Experiment(finished).verdict().sentence.partition("'")[0][:40] in shown
    assert shown.count("<svg") > 5


def test_what_is_no_experiment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an experiment"):
        Experiment(tmp_path)


def test_options_are_those_of_the_command_line() -> None:
    from tune_adaptive.search import main

    ours = {"plan", "config", "save_config", "resume"}
    ours |= {"dashboard", "track", "quiet", "as_json", "verbose"}
    assert set(main.__annotations__) - {"context", "options", "return"} - ours == set(OPTIONS)


def test_every_option_says_what_it_is() -> None:
    for option in OPTIONS.values():
        assert option.option.help.endswith(".")
        assert option.kind in (int, float, bool, str, Path)
        assert option.problem(option.default) is None


def test_what_is_not_given_is_the_presets() -> None:
    for name, preset in PRESETS.items():
        made = read_request({"preset": name, "task": []})
        for field, value in preset.items():
            assert getattr(made, field) == value
    assert read_request({}) == Request()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"time_budget": "2h"}, {"time_budget_s": 7200.0}),
        ({"time_budget": 90}, {"time_budget_s": 90.0}),
        ({"task": "mnist/cnn"}, {"tasks": ("mnist/cnn",)}),
        ({"gpus_per_trial": 0.25}, {"gpus_per_trial": Shares(0.25)}),
        ({"gpus_per_trial": "auto"}, {"gpus_per_trial": Shares(is_measured=True)}),
        ({"gpus_per_trial": {"a/b": 0.5}}, {"gpus_per_trial": Shares(None, {"a/b": 0.5})}),
        (
            {"gpus_per_trial": ["auto", "a/b=1"]},
            {"gpus_per_trial": Shares(None, {"a/b": 1.0}, True)},
        ),
        ({"preset": "night", "schedule": "step"}, {"ablations": False}),
        ({"ablations": False, "preset": "night"}, {"ablations": False}),
        ({"preset": "night", "epochs": 3}, {"time_budget_s": None, "num_epochs": 3}),
        ({"results_dir": "x"}, {"results_dir": Path("x")}),
        ({"seed": 0}, {"seed": 0}),
    ],
)
def test_options_may_be_values_or_what_is_typed(
    options: dict[str, object], expected: dict[str, object]
) -> None:
    made = read_request(options)
    assert {name: getattr(made, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": "four"}, "--epochs 'four': must be a whole number"),
        ({"epochs": 2.5}, "--epochs 2.5: must be a whole number"),
        ({"budget": "much"}, "--budget 'much': must be a number"),
        ({"epochs": float("inf")}, "--epochs inf: must be a whole number"),
        ({"epochs": True}, "--epochs True: must be a whole number"),
        ({"epochs": 10**400}, "--epochs: must be a number of at most 64 bits"),
        ({"epochs": 10**5000}, "--epochs: must be a number of at most 64 bits"),
        ({"epochs": [3]}, "--epochs \\[3\\]: must be a whole number"),
        ({"budget": 1j}, "--budget 1j: must be a number"),
        ({"ablations": "false"}, "--ablations 'false': must be True or False"),
        ({"ablations": 1}, "--ablations 1: must be True or False"),
        ({"name": 5}, "--name 5: must be a text"),
        ({"name": b"x"}, "--name b'x': must be a text"),
        ({"results_dir": ""}, "--results-dir '': is empty"),
        ({"preset": ["smoke"]}, "--preset \\['smoke'\\]: must be a text"),
        ({"contention": 2}, "--contention 2: must be a text"),
        ({"time_budget": True}, "--time-budget True: must be like 8h"),
        ({"time_budget": b"8h"}, "--time-budget b'8h': must be like 8h"),
        ({"gpus_per_trial": object()}, "must be a text, a number, or several in a list"),
        ({"task": object()}, "must be a text, a number, or several in a list"),
        ({"schedule": ["all", "step"]}, "--schedule all: every schedule there is"),
        ({"epoch": 3, "budget": "x"}, "unknown option 'epoch'.*\n--budget 'x': must be a number"),
        ({"budget": "x", "seed": -1, "task": "mnist/cn"}, "(?s)--budget.*mnist/cn.*--seed must be"),
        ({"seed": None, "clip_norm": []}, None),
        ({"seed": np.int64(3), "budget": np.float32(2)}, None),
    ],
)
def test_what_is_of_another_kind_is_refused(
    options: dict[str, object], message: str | None
) -> None:
    if message is None:
        made = read_request(options)
        assert (type(made.seed), type(made.budget)) == (int, float)
    else:
        with pytest.raises(InputError, match=message):
            read_request(options)


def test_what_the_plan_decided_is_refused_with_resume(finished: Path) -> None:
    with pytest.raises(InputError, match="--epochs: decided by the plan"):
        tune_adaptive.resume(finished, epochs=3)
    with pytest.raises(InputError, match="unknown option 'epoch'"):
        tune_adaptive.resume(finished, epoch=3)


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="unknown option 'epoch'; did you mean 'epochs'"):
        tune_adaptive.search(epoch=3)


@pytest.mark.parametrize("switch", ["quiet", "dashboard", "verbose"])
def test_a_switch_is_no_text(switch: str) -> None:
    with pytest.raises(InputError, match=f"{switch} 'false': must be True or False"):
        tune_adaptive.search(**{switch: "false"})


def test_a_task_may_be_given_as_it_is(tmp_path: Path) -> None:
    options = {"epochs": 1, "schedule": "step", "signals": "steady", "precision": "fp32"}
    asked = {"task": TASK, "results_dir": tmp_path, "train_size": 64, "batch_size": 8}
    prepared = prepare(read_request(options | asked))
    [task] = prepared.plan.tasks
    assert (task.name, task.num_train, task.batch_size) == ("tiny/linear", 64, 8)
    with pytest.raises(InputError, match="there is a task 'tiny/linear' already"):
        prepare(read_request(options | {"task": [TASK, TASK]}))


@pytest.mark.slow
def test_a_task_in_memory_is_searched_interrupted_and_resumed(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is made of need not be importable where the workers are."""
    shift = 0.5
    task = replace(TASK, build=lambda data: torch.nn.Sequential(linear(data), Shift(shift)))
    options = SMALL | {"train_size": 64, "quiet": True, "results_dir": tmp_path}
    monkeypatch.setattr("tune_adaptive.api.Experiment.write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune_adaptive.search(task, name="own", **options)
    rows = (tmp_path / "own" / "ledger.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "own" / "ledger.jsonl").write_text("".join(rows[:9]))
    monkeypatch.undo()
    with pytest.raises(InputError, match="a task of your own; give it again"):
        tune_adaptive.resume(tmp_path / "own", quiet=True)
    experiment = tune_adaptive.resume(tmp_path / "own", task=[task], quiet=True)
    assert experiment.tasks == ["tiny/linear"]
    assert "task='Task tiny/linear'" in experiment.analysis.plan.command


def interrupted(experiment: Experiment) -> None:
    raise KeyboardInterrupt


class Shift(torch.nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits + self.by


@pytest.mark.slow
def test_a_search_from_python(cluster: None, tmp_path: Path) -> None:
    experiment = tune_adaptive.search(results_dir=tmp_path, name="first", quiet=True, **SMALL)
    assert experiment.folder == tmp_path / "first"
    assert experiment.report().is_file()
    assert len(experiment.trials()) == 2
    command = experiment.analysis.plan.command
    assert command.startswith("tune_adaptive.search(schedule=['adaptive', 'step'], results_dir=")
    with pytest.raises(InputError, match="there is nothing to resume"):
        tune_adaptive.resume(experiment.folder)


@pytest.mark.slow
def test_quiet_says_the_answer_and_json_nothing_else(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        *("--epochs", "1", "--budget", "1", "--final-seeds", "1", "--train-size", "640"),
        *("--schedule", "adaptive", "--schedule", "step", "--results-dir", str(tmp_path)),
    ]
    assert run_search("--name", "quiet", "--quiet", *options) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert "completed" not in told.out
    assert "report.html" in told.out
    assert run_search("--name", "json", "--json", *options) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert json.loads(told.out)["experiment"] == "json"


def test_a_plan_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_search("--plan", "--json", "--epochs", "1", "--train-size", "640") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["tasks"][0]["num_epochs"] == 1


def test_the_module_is_the_function() -> None:
    assert tune_adaptive.search is sys.modules["tune_adaptive.search"]
    assert callable(tune_adaptive.search)
