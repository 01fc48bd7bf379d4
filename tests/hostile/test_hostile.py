"""Whatever is handed in ends in a result or in one clear message; never in a traceback.

The table is made of the rows of ``data``, ``options``, ``folders``, ``environments`` and
``signals``. Rows run in this process, by the function that the command line calls; those with
variables of their own, in a process of their own. An exception that leaves the command fails
its row.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from _pytest.monkeypatch import resolve

from tests.hostile import data, environments, folders, options, signals
from tests.hostile.row import Row
from tune_adaptive.__main__ import main

ROWS: tuple[Row, ...] = (
    *data.ROWS,
    *options.ROWS,
    *folders.ROWS,
    *environments.ROWS,
    *signals.ROWS,
)
MIN_ROWS = 120


def told_here(arguments: list[str]) -> int:
    """Run a command in this process; return its exit code."""
    before, sys.argv = sys.argv, ["tune-adaptive", *arguments]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def told_elsewhere(
    row: Row, arguments: list[str], variables: dict[str, str]
) -> tuple[int, str, str]:
    """Run a row's command in a process of its own; return its exit code and what it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tune_adaptive", *arguments],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = []
    if row.signal:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if re.search(row.during, line):
                break
        name, _, to_all = row.signal.partition(" ")
        started = psutil.Process(process.pid).children(recursive=True) if to_all else []
        for each in (process, *started):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal.Signals[name])
    try:
        out, err = process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, "".join(said) + out, err


def send_during(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the row's function send the row's signal to this process where it is first called."""
    function = resolve(row.during)
    sent: list[str] = []

    def sending(*given: object, **named: object) -> object:
        if not sent:
            sent.append(row.signal)
            os.kill(os.getpid(), signal.Signals[row.signal])
        return function(*given, **named)

    monkeypatch.setattr(row.during, sending)


def parameter(row: Row) -> object:
    return pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.slow else [])


@pytest.mark.parametrize("row", [parameter(row) for row in ROWS])
def test_hostile(
    row: Row,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    finished = tmp_path / "finished"
    if "{finished}" in row.command:
        shutil.copytree(request.getfixturevalue("finished"), finished)
    row.given(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # of data that are prepared
    row.patch(monkeypatch, tmp_path)
    places = {"here": str(tmp_path), "finished": str(finished)}
    arguments = [word.format(**places) for word in row.command.split()]
    if row.environment:
        variables = {name: value.format(**places) for name, value in row.environment.items()}
        code, out, err = told_elsewhere(row, arguments, variables)
    else:
        if row.signal and (row.slow or "protocol" in row.during):  # it trains, or would next
            request.getfixturevalue("cluster")
        if row.signal:
            send_during(row, monkeypatch)
        code = told_here(arguments)
        out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert code == row.code, out + err
    if row.code == 0:
        assert re.search(row.message, out + err), out + err
    else:
        first = next((line for line in err.splitlines() if line.startswith("error: ")), err)
        assert re.match(row.message, first.removeprefix("error: ")), err


def test_the_table_is_large_and_its_names_are_unique() -> None:
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))
    assert len(names) >= MIN_ROWS
