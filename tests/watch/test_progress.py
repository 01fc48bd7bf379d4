"""The view of a running experiment."""

import io
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from tests.ray_backend.test_engine import plan, runs
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.records import ledger
from tune_adaptive.records.plan import Plan
from tune_adaptive.signals.neighbours import CpuSample
from tune_adaptive.system.console import terminal
from tune_adaptive.system.packages import meets
from tune_adaptive.watch.progress import Progress, Tally


def test_every_event_of_an_experiment_adds_up(finished: Path) -> None:
    tally = Tally(Plan.read(finished / "plan.toml"))
    for event in ledger.read(finished / "ledger.jsonl"):
        tally.add(event)
        assert all(arm.running >= 0 for arm in tally.arms.values())
    assert tally.stage == "contention"
    assert all(arm.running == 0 for arm in tally.arms.values())
    assert tally.spent["search"] == 3 * 2 * 2
    runs = Analysis(finished).runs
    for stage in tally.plan.stages:
        own = [run for run in runs if run.spec.stage == stage]
        assert tally.spent[stage] == sum(run.epoch_equivalents for run in own)
    slowed = [run.spec.arm for run in runs if run.spec.stage == "contention"]
    assert {arm: own.completed for arm, own in tally.arms.items()} == Counter(slowed)
    assert tally.first_epoch is not None
    since, _ = tally.first_epoch
    assert tally.seconds_left(now=since + 10) == pytest.approx(0, abs=1)


def test_plain_lines_where_there_is_no_terminal(finished: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=40)
    with Progress(Plan.read(finished / "plan.toml"), console) as progress:
        for event in ledger.read(finished / "ledger.jsonl"):
            progress(event)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "search: 12 epochs to spend" in text
    assert "final-fashion_mnist_mini-cnn-adaptive-0 completed val 0." in text
    assert "\x1b" not in text


def test_a_live_table_in_a_terminal(finished: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    events = ledger.read(finished / "ledger.jsonl")
    with Progress(Plan.read(finished / "plan.toml"), console) as progress:
        for event in events[: len(events) // 2]:
            progress(event)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for word in ("schedule", "stopped", "best val", "adaptive", "exponential", "left"):
        assert word in text


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    "variables",
    [
        {"TERM": "dumb"},
        {"TERM": "unknown"},
        {"COLUMNS": "0"},
        {"COLUMNS": "3"},
        {"LINES": "0", "COLUMNS": "80"},
        pytest.param(
            {"TTY_INTERACTIVE": "0"},
            marks=pytest.mark.skipif(not meets("rich>=14.1"), reason="rich 14.1 knows of it"),
        ),
    ],
    ids=str,
)
def test_plain_lines_where_a_terminal_cannot_redraw(
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")  # which makes it a terminal
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with Progress(plan(), terminal(), pressing=lambda: None) as progress:
        progress(ledger.StageStarted("search", 18, 0, 1000.0))
        assert "search: 18 epochs to spend" in capsys.readouterr().out


@pytest.mark.parametrize("variable", [{"TERM": "xterm"}, {"NO_COLOR": "1"}], ids=str)
def test_a_live_table_where_it_can(
    variable: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=25)
    with Progress(plan(), console, pressing=lambda: None) as progress:
        progress(ledger.StageStarted("search", 18, 0, 1000.0))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "18 epochs to spend" not in text
    assert "schedule" in text


def test_a_terminal_of_no_columns_is_taken_for_one_of_80(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    assert terminal().width == 80
    monkeypatch.setenv("COLUMNS", "61")
    assert terminal().width == 61


def test_something_is_printed_every_half_minute_and_who_takes_the_cpus() -> None:
    console, clock = Console(file=io.StringIO(), force_terminal=False, width=40), Clock()
    others: list[CpuSample] = []
    progress = Progress(
        plan(), console, clock=clock, pressing=lambda: others[0] if others else None
    )

    def lines() -> list[str]:
        return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]

    clock.now += 29
    progress.beat()
    assert lines() == []
    clock.now += 1
    progress.beat()
    assert lines() == ["starting Ray and its workers | 0 running, nothing new for 30 s"]
    progress(ledger.StageStarted("search", 18, 0, 1000.0))
    [run] = runs(1)
    progress(ledger.RunStarted(run, 1000.0))
    others.append(CpuSample(1000.0, 2.0, 1.9, 2))
    clock.now += 29
    progress.beat()
    assert len(lines()) == 2, "the stage was said half a minute ago"
    clock.now += 2
    progress.beat()
    progress.beat()
    assert len(lines()) == 3
    assert lines()[-1].startswith("search (1 of 3) 0/")
    assert "; other processes use 1.9 of 2 CPUs | 1 running, nothing new for 31 s" in lines()[-1]
