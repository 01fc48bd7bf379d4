"""A schedule of another package and a metric of numbers, from the search to the export."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

import tune_adaptive
from tests.commands.test_verify import verify
from tune_adaptive import Dataset, Examples, Task, load_schedule
from tune_adaptive.errors import InputError
from tune_adaptive.schedules import SCHEDULES

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "inverse_sqrt"
SMALL = ("--epochs", "2", "--budget", "2", "--final-seeds", "2", "--signals", "steady")


@pytest.mark.slow
def test_a_schedule_of_another_package_is_judged_exported_and_verified(
    search: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLE)
    named = "inverse_sqrt_lr:inverse_sqrt"
    code = search(
        *("--schedule", named, "--schedule", "step", "--studied", "inverse_sqrt", *SMALL),
        *("--train-size", "512", "--results-dir", str(tmp_path), "--name", "a"),
    )
    assert code == 0
    verdict = json.loads((tmp_path / "a" / "verdict.json").read_text(encoding="utf-8"))
    assert verdict["studied"] == "inverse_sqrt"
    [task] = verdict["tasks"].values()
    assert "inverse_sqrt minus step" in task["sentence"]
    path = tmp_path / "a" / "best" / "fashion_mnist_mini-cnn" / "inverse_sqrt.toml"
    monkeypatch.setattr(SCHEDULES, "_given", {})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(InputError, match="give load_schedule its builder"):
        load_schedule(path).build(optimizer, 100)
    from inverse_sqrt_lr import inverse_sqrt

    schedule = load_schedule(path, inverse_sqrt).build(optimizer, 100)
    assert schedule.get_last_lr()[0] <= 1.0
    assert verify(str(path), "--seeds", "1") == 2, "it is not imported because the file says so"
    assert verify(str(path), "--seeds", "1", "--schedule", named) in (0, 1)


@pytest.mark.slow
def test_the_example_is_installed_and_found_by_its_name(tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--target", str(tmp_path), str(EXAMPLE)], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "tune_adaptive", "schedules", "list"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "PYTHONPATH": f"{tmp_path}:{EXAMPLE.parents[1]}", "COLUMNS": "120"},
    )
    assert "inverse_sqrt_lr:inverse_sqrt of inverse-sqrt-lr 1.0" in done.stdout


def numbers() -> Dataset:
    """A line, with noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    y = x @ np.array([1.0, -2.0, 0.5]) + 0.1 * rng.normal(size=400)
    parts = (slice(0, 200), slice(200, 300), slice(300, 400))
    return Dataset(*(Examples(x[part], y[part]) for part in parts))


@pytest.mark.slow
def test_numbers_are_predicted_and_judged_by_their_error(cluster: None, tmp_path: Path) -> None:
    task = Task(
        *("line/linear", numbers, lambda data: torch.nn.Linear(data.shape[0], data.num_classes)),
        loss=mse_loss,
        metric="mae",
    )
    options = {"epochs": 3, "budget": 2, "final_seeds": 2, "signals": "steady", "quiet": True}
    experiment = tune_adaptive.search(
        task, ["adaptive", "constant"], results_dir=tmp_path, name="a", **options
    )
    [planned] = experiment.analysis.plan.tasks
    assert (planned.metric.name, planned.metric.greater_is_better) == ("MAE", False)
    assert planned.chance == pytest.approx(1.8, abs=0.3), "of the median, sqrt(2 / pi) deviations"
    runs = experiment.runs()
    assert set(runs.metric) == {"MAE"}
    selected = {
        event.configuration.schedule: event
        for event in experiment.analysis.history.selected.values()
    }
    for schedule, event in selected.items():
        reruns = runs[(runs.stage == "select") & (runs.schedule == schedule)]
        means = reruns.groupby(reruns.run_id.str.rsplit("-", n=1).str[0]).val_metric.mean()
        assert event.val_metric == pytest.approx(means.min()), "the least error is the best"
    assert all(math.isfinite(value) for value in runs.val_metric)
    assert "MAE" in experiment.verdict().sentence
    assert "| test MAE |" in (experiment.folder / "report.md").read_text(encoding="utf-8")
