"""Rows that do not follow from those before them: each breaks the audit, and is told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.analysis.maker import MIDDLE, TASK, epoch, honest
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.records import ledger

Rows = list[ledger.Event]
FINAL = "final-step-3"


def place(rows: Rows, kind: type, run_id: str = "") -> int:
    def is_it(event: ledger.Event) -> bool:
        own = event.run.id if isinstance(event, ledger.RunStarted) else None
        return isinstance(event, kind) and (
            not run_id or run_id in (own, getattr(event, "run_id", None))
        )

    return next(number for number, event in enumerate(rows) if is_it(event))


def without(kind: type, run_id: str = "") -> Callable[[Rows], None]:
    return lambda rows: rows.pop(place(rows, kind, run_id)) and None


def twice(kind: type, run_id: str = "") -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        number = place(rows, kind, run_id)
        rows.insert(number, rows[number])

    return change


def earlier(kind: type, run_id: str = "") -> Callable[[Rows], None]:
    """Exchange a row with the one before it."""

    def change(rows: Rows) -> None:
        number = place(rows, kind, run_id)
        rows[number - 1 : number + 1] = rows[number], rows[number - 1]

    return change


def before(kind: type, run_id: str, event: ledger.Event) -> Callable[[Rows], None]:
    return lambda rows: rows.insert(place(rows, kind, run_id), event)


def last(event: ledger.Event) -> Callable[[Rows], None]:
    return lambda rows: rows.append(event)


def other_epoch(**changes: float) -> Callable[[Rows], None]:
    """Change the second epoch of a final run."""

    def change(rows: Rows) -> None:
        number = place(rows, ledger.EpochDone, FINAL) + 1
        event = rows[number]
        assert isinstance(event, ledger.EpochDone)
        rows[number] = replace(event, result=replace(event.result, **changes))  # type: ignore[arg-type]

    return change


OTHER = replace(MIDDLE, schedule="cosine")


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (without(ledger.Opened), "begun is not the first"),
        (without(ledger.StageStarted), "stage select begins where stage search must come"),
        (without(ledger.StageStarted), "runs of stage search are started before any stage"),
        (twice(ledger.StageStarted), "stage search begins where stage select must come"),
        (
            before(ledger.RunStarted, FINAL, ledger.StageStarted("search", 1.0, 30, 0.0)),
            "stage search begins where the end must come",
        ),
        (without(ledger.RunStarted, FINAL), f"run {FINAL}, whose start is not there"),
        (twice(ledger.RunStarted, FINAL), f"run {FINAL} is started twice"),
        (without(ledger.EpochDone, FINAL), f"run {FINAL}: epoch 2 where epoch 1 must be"),
        (twice(ledger.EpochDone, FINAL), f"run {FINAL}: epoch 1 where epoch 2 must be"),
        (
            before(
                ledger.RunEnded, FINAL, ledger.EpochDone(FINAL, replace(epoch(3, 0.9), epoch=4))
            ),
            f"run {FINAL}: epoch 4 follows its last",
        ),
        (other_epoch(epoch_equivalents=0.5), f"run {FINAL}: what it spent falls in epoch 2"),
        (other_epoch(epoch_equivalents=2.5), f"run {FINAL}: 2.5 epoch-equivalents after epoch 2"),
        (other_epoch(num_steps=1), f"run {FINAL}: what it spent falls in epoch 2"),
        (earlier(ledger.TestOpened, FINAL), f"run {FINAL}: no epoch of it opened the test split"),
        (twice(ledger.TestOpened, FINAL), f"run {FINAL}: no epoch of it opened the test split"),
        (
            before(ledger.RunEnded, "search-step-0001", ledger.TestOpened("search-step-0001", 0.0)),
            "run search-step-0001: no epoch of it opened the test split",
        ),
        (last(ledger.TestOpened(FINAL, 9.0)), "rows follow the end of the experiment"),
        (twice(ledger.Closed), "rows follow the end of the experiment"),
        (twice(ledger.RunEnded, FINAL), f"run {FINAL} continues after its end"),
        (
            before(ledger.Selected, "", ledger.Selected(TASK, OTHER, 0.9, "x")),
            f"{TASK} cosine is selected and is no arm of the plan",
        ),
        (
            before(ledger.Selected, "", ledger.ArmFailed("b/c", "step")),
            "b/c step is given up and is no arm of the plan",
        ),
        (
            before(ledger.RunStarted, FINAL, ledger.Selected(TASK, MIDDLE, 0.9, "x")),
            f"{TASK} step is selected outside stage select",
        ),
        (
            before(ledger.RunEnded, FINAL, ledger.RunInterrupted(FINAL, "", 0.0)),
            "",  # it ended before it was resumed: that is how one ends that is retried no more
        ),
        (
            lambda rows: rows.insert(
                place(rows, ledger.EpochDone, FINAL) + 1, ledger.RunInterrupted(FINAL, "", 0.0)
            ),
            f"run {FINAL}: epoch 2 follows an interruption",
        ),
    ],
)
def test_a_row_that_does_not_follow_breaks_the_audit(
    tmp_path: Path, change: Callable[[Rows], None], finding: str
) -> None:
    maker = honest(tmp_path)
    maker.write()
    rows = ledger.read(tmp_path / "ledger.jsonl")
    change(rows)
    (tmp_path / "ledger.jsonl").unlink()
    maker.write_rows(rows)
    [check] = [c for c in Analysis(tmp_path).checks if c.rule == "The ledger is whole"]
    assert check.ok is (not finding)
    assert finding in check.finding


def test_the_second_selection_of_an_arm_does_not_replace_the_first(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    first = Analysis(maker.write()).history.selected
    rows = ledger.read(tmp_path / "ledger.jsonl")
    rows.insert(place(rows, ledger.Selected) + 2, ledger.Selected(TASK, MIDDLE, 0.99, "x"))
    (tmp_path / "ledger.jsonl").unlink()
    maker.write_rows(rows)
    assert Analysis(tmp_path).history.selected == first
