"""The view of a running experiment."""

import io
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from tune_adaptive import ledger
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.plan import Plan
from tune_adaptive.progress import Progress, Tally


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
    assert tally.seconds_left(now=1e12) == pytest.approx(0, abs=1)


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
