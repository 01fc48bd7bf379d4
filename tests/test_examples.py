"""The examples, by the commands that their own files document."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tune_adaptive import load_schedule

ROOT = Path(__file__).resolve().parent.parent
TASKS = ("tabular", "regression", "labels")
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.stem not in TASKS)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] * (path.stem != "plain_loop"), id=path.stem)
        for path in EXAMPLES
    ],
)
def test_an_example_trains_by_its_documented_command(path: Path, tmp_path: Path) -> None:
    [command] = re.findall(r"^    (python \S+)$", path.read_text(encoding="utf-8"), flags=re.M)
    assert command == f"python examples/{path.name}"
    (tmp_path / "examples").symlink_to(ROOT / "examples")  # what it writes must not lie here
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, last = re.findall(r"test accuracy (\S+)", done.stdout)
    assert float(last) > 0.65, "chance is 0.1"
    assert "progress 1.00" in done.stdout
    assert [each.name for each in tmp_path.iterdir()] == ["examples"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task", "metric", "worst"),
    [
        ("tabular", "fair/mlp", "accuracy", 0.68),  # the larger class alone is 0.678
        ("regression", "randhie/mlp", "MAE", 0.69),  # the median alone is 0.701
        ("labels", "fashion_labels/mlp", "macro F1", 0.9),
    ],
)
def test_a_task_of_ones_own_is_searched_by_its_documented_command(
    name: str,
    task: str,
    metric: str,
    worst: float,
    search: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    [command] = re.findall(r"^    python -m tune_adaptive.search (.+)$", text, flags=re.M)
    assert command in (ROOT / "docs" / "your-task.md").read_text(encoding="utf-8")
    monkeypatch.chdir(ROOT)
    assert search(*shlex.split(command), "--results-dir", str(tmp_path), "--name", name) == 0
    verdict = json.loads((tmp_path / name / "verdict.json").read_text(encoding="utf-8"))
    judged = verdict["tasks"][task]
    assert judged["metric"]["name"] == metric
    for arm in judged["arms"]:
        mean = arm["test_metric"]["mean"]
        assert mean > worst if judged["metric"]["greater_is_better"] else mean < worst
    best = tmp_path / name / "best" / task.replace("/", "-") / "adaptive.toml"
    assert load_schedule(best).task == task


def test_the_guides_name_every_example() -> None:
    guide = (ROOT / "docs" / "adaptive-lr.md").read_text(encoding="utf-8")
    assert EXAMPLES
    for path in EXAMPLES:
        assert f"python examples/{path.name}" in guide
    python = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert "examples/quickstart.ipynb" in python


NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def outputs(notebook: Any) -> list[list[dict[str, Any]]]:
    """What each cell of code shows."""
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_was_executed_from_its_start_to_its_end() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    check_outputs(notebook)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    client = NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    check_outputs(notebook)


def check_outputs(notebook: Any) -> None:
    _, searched, verdict, table, figures, loop = outputs(notebook)
    shown = "".join(each["data"].get("text/html", "") for each in searched if "data" in each)
    assert "contention" not in shown
    assert "final" in shown, "the progress of the last stage"
    assert "adaptive" in verdict[0]["text"]
    assert "val_metric" in table[0]["data"]["text/html"]
    assert figures[0]["data"]["text/html"].count("<svg") > 3
    assert loop
    assert not [each for own in outputs(notebook) for each in own if each.output_type == "error"]
