"""An interrupted experiment is run to its end, and one that should not be is refused."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.records import ledger


def cut(finished: Path, folder: Path, after: str) -> Path:
    """Copy an experiment as it was when a run had ended, the next row torn."""
    shutil.copytree(finished, folder)
    path = folder / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    ends = [n for n, line in enumerate(lines) if b'"run_ended"' in line and after.encode() in line]
    path.write_bytes(b"".join(lines[: ends[0] + 1]) + lines[ends[0] + 1][:20])
    begun = {e.run.id for e in ledger.read(path) if isinstance(e, ledger.RunStarted)}
    for recording in (folder / "signals").iterdir():
        if recording.stem not in begun:
            recording.unlink()
    return folder


@pytest.mark.parametrize(
    "after",
    [
        pytest.param("step-0000", marks=pytest.mark.slow),
        "contention-fashion_mnist_mini-cnn-adaptive-1-feedback_off",
    ],
)
def test_it_goes_on_where_it_was_interrupted(
    search: Callable[..., int], finished: Path, tmp_path: Path, after: str
) -> None:
    folder = cut(finished, tmp_path / "small", after)
    kept = [e for e in ledger.read(folder / "ledger.jsonl") if not isinstance(e, ledger.Damaged)]
    assert search("--resume", str(folder)) == 0
    rows = ledger.read(folder / "ledger.jsonl")
    assert rows[: len(kept)] == kept
    analysis = Analysis(folder)
    assert analysis.history.num_sessions == 2
    assert [check.finding for check in analysis.breaches] == []
    assert {run.status for run in analysis.runs} <= {"completed", "stopped"}
    counts = [Counter(run.spec.stage for run in a.runs) for a in (analysis, Analysis(finished))]
    assert counts[0]["final"] == counts[1]["final"]
    for run in analysis.runs:
        lines = (folder / "signals" / f"{run.spec.id}.jsonl").read_text().splitlines()
        steps = [line for line in lines if '"lr"' in line]
        assert run.last is not None
        assert len(steps) == run.last.num_steps, "one recording a run, from its start to its end"


def edit(old: str, new: str) -> Callable[[Path], None]:
    """Return what edits a plan."""

    def spoil(folder: Path) -> None:
        path = folder / "plan.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return spoil


def nothing(folder: Path) -> None:
    """Leave it as it is."""


def spoil_row(folder: Path) -> None:
    path = folder / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"{]\n", *lines[4:]]))


CUT = "step-0000"


@pytest.mark.parametrize(
    ("after", "spoil", "options", "code", "message"),
    [
        ("", nothing, [], 2, "it ran to its end"),
        (CUT, spoil_row, [], 2, "line 4 cannot be read"),
        (CUT, edit("seed = 0", "seed = 3"), [], 2, "plan.toml: was edited after"),
        (CUT, edit('data_sha256 = "', 'data_sha256 = "0'), [], 2, "its data was"),
        (CUT, edit("batch_size = 64", "batch_size = 9"), [], 2, "its batch_size was 9"),
        (CUT, edit('optuna = "', 'optuna = "9'), [], 3, "begun with optuna 9"),
        (CUT, edit("num_cpus = ", "num_cpus = 9"), [], 3, "CPUs, here are"),
        (CUT, nothing, ["--epochs", "9", "--seed", "3"], 2, "--epochs, --seed: decided"),
        (CUT, nothing, ["--task", "mnist/mlp"], 2, "has no task mnist/mlp"),
        (
            CUT,
            edit('data = "embedded in the package"', 'checkpoint_sha256 = "aaaa"'),
            [],
            2,
            "its model was checkpoint_sha256 aaaa, here it is its own",
        ),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused_and_left_alone(
    search: Callable[..., int],
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    after: str,
    spoil: Callable[[Path], None],
    options: list[str],
    code: int,
    message: str,
) -> None:
    folder = tmp_path / "small"
    if after:
        cut(finished, folder, after)
    else:
        shutil.copytree(finished, folder)
    spoil(folder)
    before = (folder / "ledger.jsonl").read_bytes()
    assert search("--resume", str(folder), *options) == code
    assert message in " ".join(capsys.readouterr().err.split())
    after_all = (folder / "ledger.jsonl").read_bytes()
    assert before.startswith(after_all), "at most the torn row is cut off"
    assert after_all.count(b"\n") == before.count(b"\n")


def test_two_at_once_are_one_too_many(
    search: Callable[..., int],
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = cut(finished, tmp_path / "small", CUT)
    with ledger.locked(folder):
        assert search("--resume", str(folder)) == 2
    assert f"process {os.getpid()} on " in capsys.readouterr().err
    with ledger.locked(folder):
        pass  # it was let go of


def test_a_folder_that_is_no_experiment(
    search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search("--resume", str(tmp_path)) == 2
    assert "not an experiment" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
