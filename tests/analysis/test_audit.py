"""Planted cheats: each breaks exactly one rule of an experiment that kept them all."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.maker import TASK, Maker, epoch, honest, three
from tune_adaptive import ledger
from tune_adaptive.analysis import Analysis
from tune_adaptive.analysis.audit import Check
from tune_adaptive.runs import EpochResult, RunSpec


def failed(analysis: Analysis) -> list[Check]:
    return [check for check in analysis.checks if check.ok is False]


def rules(analysis: Analysis) -> list[str]:
    return [check.rule.split(",")[0] for check in failed(analysis)]


def change_runs(maker: Maker, start: str, change: Callable[[RunSpec], RunSpec]) -> None:
    maker.events = [
        replace(event, run=change(event.run))
        if isinstance(event, ledger.RunStarted) and event.run.id.startswith(start)
        else event
        for event in maker.events
    ]


def change_epochs(maker: Maker, start: str, change: Callable[[EpochResult], EpochResult]) -> None:
    maker.events = [
        replace(event, result=change(event.result))
        if isinstance(event, ledger.EpochDone) and event.run_id.startswith(start)
        else event
        for event in maker.events
    ]


def drop(maker: Maker, run_id: str) -> None:
    def tells_of(event: Any) -> bool:
        own = event.run.id if isinstance(event, ledger.RunStarted) else None
        return run_id in (own, getattr(event, "run_id", None))

    maker.events = [event for event in maker.events if not tells_of(event)]


def test_an_honest_experiment_keeps_every_rule(tmp_path: Path) -> None:
    analysis = honest(tmp_path).analysis()
    assert failed(analysis) == []
    undecided = [check.rule for check in analysis.checks if check.ok is None]
    assert undecided == []
    assert (analysis.breaches, analysis.timing_void) == ([], None)
    assert analysis.verdicts[TASK].word == "better"


def test_ten_percent_more_epochs_for_one_arm(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_epochs(
        maker,
        "search-adaptive",
        lambda e: replace(e, epoch_equivalents=1.1 * e.epoch_equivalents),
    )
    assert rules(maker.analysis()) == ["Every arm spent the same"]


def test_a_difference_of_spends_within_one_first_rung_is_allowed(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    shorter = iter([replace(epoch(3, 0.86), epoch_equivalents=2.0)])
    change_epochs(maker, "search-step-0004", lambda e: next(shorter) if e.epoch == 3 else e)
    assert rules(maker.analysis()) == []


@pytest.mark.parametrize(("run", "seed"), [("search-step-0002", 200_003), ("select-best-step", 1)])
def test_an_overlapping_seed(tmp_path: Path, run: str, seed: int) -> None:
    maker = honest(tmp_path)
    change_runs(maker, run, lambda spec: replace(spec, seed=seed))
    assert rules(maker.analysis()) == ["Search"]


def test_final_seeds_of_ones_own(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_runs(maker, "final-step-7", lambda spec: replace(spec, seed=200_099))
    assert rules(maker.analysis()) == ["Search"]


@pytest.mark.parametrize("how", ["spec", "row", "result"])
def test_the_test_split_opened_in_the_search(tmp_path: Path, how: str) -> None:
    maker = honest(tmp_path)
    if how == "spec":
        change_runs(maker, "search-adaptive-0003", lambda spec: replace(spec, open_test=True))
    elif how == "row":
        maker.events.append(ledger.TestOpened("search-adaptive-0003", 9.0))
    else:
        change_epochs(
            maker,
            "search-adaptive-0003",
            lambda e: replace(e, test_accuracy=0.9) if e.ended else e,
        )
    assert rules(maker.analysis()) == ["The test split is opened once by each final run"]


def test_the_test_split_opened_twice(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_epochs(maker, "final-adaptive-3", lambda e: replace(e, test_accuracy=0.99))
    assert rules(maker.analysis()) == ["The test split is opened once by each final run"]


@pytest.mark.parametrize("run_id", ["search-adaptive-0002", "final-adaptive-3"])
def test_a_dropped_diverged_run(tmp_path: Path, run_id: str) -> None:
    maker = honest(tmp_path)
    drop(maker, run_id)
    analysis = maker.analysis()
    assert "Every launched run is accounted for" in rules(analysis)
    assert analysis.breaches


def test_a_lost_run_is_told(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    maker.events.remove(next(e for e in maker.events if isinstance(e, ledger.RunEnded)))
    [check] = failed(maker.analysis())
    assert "1 lost: search-adaptive-0000" in check.finding


def test_an_edited_plan_makes_it_exploratory(tmp_path: Path) -> None:
    folder = honest(tmp_path).write()
    assert Analysis(folder).history.exploratory is None
    plan = folder / "plan.toml"
    plan.write_text(plan.read_text().replace("num_select_seeds = 2", "num_select_seeds = 3"))
    analysis = Analysis(folder)
    assert rules(analysis) == ["The plan is the one the experiment began with"]
    assert analysis.history.exploratory == "plan.toml was edited after the experiment began"


def test_a_run_planned_for_half_the_horizon(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_runs(maker, "final-step-2", lambda spec: replace(spec, num_epochs=2))
    assert rules(maker.analysis()) == ["Every schedule plans for the full T"]


def test_a_schedule_that_plans_for_half_the_steps(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_epochs(maker, "search-step-0001", lambda e: replace(e, planned_steps=10))
    assert rules(maker.analysis()) == ["Every schedule plans for the full T"]


def test_a_witness_that_was_stopped(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    maker.events = [
        replace(event, status="stopped")
        if isinstance(event, ledger.RunEnded) and event.run_id == "search-step-0002"
        else event
        for event in maker.events
    ]
    assert "Each arm has its witnesses" in rules(maker.analysis())


def test_a_first_rung_that_ranks_otherwise_is_flagged(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_epochs(
        maker,
        "search-step",
        lambda e: replace(e, val_accuracy=1 - e.val_accuracy) if e.epoch == 1 else e,
    )
    analysis = maker.analysis()
    assert rules(analysis) == ["First rung and end rank the witnesses alike (Spearman >= 0.6)"]
    assert analysis.breaches == [], "it is advice"


def test_many_diverged_trials_are_flagged(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    maker.events = [
        replace(event, status="diverged")
        if isinstance(event, ledger.RunEnded) and event.run_id in diverged
        else event
        for event in maker.events
        for diverged in [("search-step-0003", "search-step-0004")]
    ]
    assert "At most 30% of an arm's trials diverged" in rules(maker.analysis())


def test_a_value_next_to_its_bound_is_flagged(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    for index, event in enumerate(maker.events):
        if isinstance(event, ledger.Selected):
            recipe = replace(event.configuration.recipe, lr=0.09)
            near = replace(event.configuration, recipe=recipe)
            maker.events[index] = replace(event, configuration=near)
    analysis = maker.analysis()
    assert rules(analysis) == ["No selected value lies within 5% of a bound"]
    assert "lr = 0.09 is next to its highest" in failed(analysis)[0].finding


def test_drift_voids_the_times_and_not_the_accuracies(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_epochs(maker, "final-canary-2", lambda e: replace(e, train_s=2.1))
    analysis = maker.analysis()
    assert analysis.timing_void == "the machine's speed drifted by 5.0%"
    assert analysis.breaches == []
    assert analysis.verdicts[TASK].word == "better"


def test_final_runs_beside_each_other_void_the_times(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    maker.events = [
        replace(event, at=event.at - 0.5)
        if isinstance(event, ledger.RunStarted) and event.run.id == "final-step-4"
        else event
        for event in maker.events
    ]
    assert maker.analysis().timing_void == "2 at once on 1 devices"


def test_damage_is_named(tmp_path: Path) -> None:
    folder = honest(tmp_path).write()
    path = folder / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    starts = [n for n, line in enumerate(lines) if json.loads(line)["event"] == "run_started"]
    lines[starts[0]] = b"\x00\x01\n"
    path.write_bytes(b"".join(lines) + b'{"event":')
    analysis = Analysis(folder)
    [check] = [check for check in analysis.checks if check.rule == "The ledger is whole"]
    assert check.ok is False
    assert f"line {starts[0] + 1} cannot be read" in check.finding
    assert f"line {len(lines) + 1} torn" in check.finding
    assert "search-adaptive-0000, whose start is not there" in check.finding


def test_an_experiment_that_did_not_end_and_one_without_an_arm(tmp_path: Path) -> None:
    maker = Maker(tmp_path, num_final_seeds=2)
    maker.run("search-adaptive-0000", "adaptive", three(0.8), role="default")
    analysis = maker.analysis()
    assert analysis.verdicts[TASK].word is None
    assert analysis.arms == []
