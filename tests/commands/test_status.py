"""How an experiment stands, told from another terminal."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tune_adaptive.commands.status import document, main, show, status
from tune_adaptive.errors import InputError
from tune_adaptive.records import ledger
from tune_adaptive.system.console import run_command


def cut(finished: Path, folder: Path, num_rows: int) -> Path:
    """Copy an experiment as it was after ``num_rows`` of its ledger, and half of the next."""
    folder.mkdir()
    shutil.copy(finished / "plan.toml", folder)
    rows = (finished / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    half = rows[num_rows][: len(rows[num_rows]) // 2] if num_rows < len(rows) else b""
    (folder / "ledger.jsonl").write_bytes(b"".join(rows[:num_rows]) + half)
    return folder


def test_a_finished_experiment_says_so(finished: Path) -> None:
    told = status(finished)
    assert (told.state, told.at_work, told.failures) == ("finished", (), [])
    shown = document(told, now=1e12)
    assert shown["seconds_left"] == 0.0
    assert shown["epochs_spent"]["search"] == shown["epochs_planned"]["search"]
    events = ledger.read(finished / "ledger.jsonl")
    assert isinstance(events[-1], ledger.Closed)
    assert told.heard_at == events[-1].at


@pytest.mark.parametrize("num_rows", [0, 1, 2, 3, 20])
def test_one_that_is_being_written_is_read_as_far_as_it_is(
    finished: Path, tmp_path: Path, num_rows: int
) -> None:
    folder = cut(finished, tmp_path / "cut", num_rows)
    before = sorted(path.name for path in folder.iterdir())
    told = status(folder)
    assert told.state == "unfinished"
    whole = ledger.read(finished / "ledger.jsonl")[:num_rows]
    begun = {e.run.id for e in whole if isinstance(e, ledger.RunStarted)}
    ended = {e.run_id for e in whole if isinstance(e, ledger.RunEnded)}
    assert {work.run.id for work in told.at_work} == begun - ended
    assert sorted(path.name for path in folder.iterdir()) == before, "nothing is written"
    json.dumps(document(told, now=1e12), allow_nan=False)


def test_what_runs_and_what_failed_are_named(finished: Path, tmp_path: Path) -> None:
    rows = ledger.read(finished / "ledger.jsonl")
    started = [i for i, event in enumerate(rows) if isinstance(event, ledger.RunStarted)]
    folder = cut(finished, tmp_path / "cut", started[1] + 1)
    first, second = rows[started[0]], rows[started[1]]
    assert isinstance(first, ledger.RunStarted)
    assert isinstance(second, ledger.RunStarted)
    with ledger.Ledger(folder / "ledger.jsonl") as end:
        end.append(
            ledger.RunEnded(first.run.id, "failed", "Traceback\nValueError: \x1b[31mno", 5.0)
        )
    shown = Console(file=io.StringIO(), width=100)
    show(status(folder), shown, now=1e12)
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert f"running: {second.run.id} epoch 0/" in text
    assert f"failed: {first.run.id}: ValueError: ?[31mno" in text


def test_a_damaged_ledger_is_told_as_far_as_it_can_be_read(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cut(finished, tmp_path / "cut", 10**9)
    rows = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    for number in (1, 2):  # a stage's start, and a run's
        rows[number] = b"{" + rows[number]
    (folder / "ledger.jsonl").write_bytes(b"".join(rows))
    told = status(folder)
    assert [damage[:7] for damage in told.damage[:2]] == ["line 2 ", "line 3 "]
    assert any("whose start is not there" in damage for damage in told.damage)
    show(told, Console(file=io.StringIO()), now=1e12)
    document(told, now=1e12)


def test_what_was_interrupted_long_ago_is_not_slower_for_it(finished: Path, tmp_path: Path) -> None:
    told = status(cut(finished, tmp_path / "cut", 20))
    assert document(told, now=1e9) == document(told, now=1e12)


@pytest.mark.parametrize("width", [20, 40, 69, 70, 200])
def test_it_fits_in_any_terminal(finished: Path, tmp_path: Path, width: int) -> None:
    shown = Console(file=io.StringIO(), width=width)
    show(status(cut(finished, tmp_path / "cut", 20)), shown, now=1e12)
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in text.splitlines())
    assert "expon" in text


def test_the_command_line(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["status", str(finished), "--json"])
    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == 0
    assert json.loads(capsys.readouterr().out)["state"] == "finished"


def test_what_is_no_experiment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an experiment"):
        status(tmp_path)
