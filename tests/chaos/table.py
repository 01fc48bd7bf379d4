"""What became of an experiment that was hurt, as a row of the table of faults."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.records import ledger


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of fault.

    Attributes:
        fault: What was done.
        injected: How often.
        survived: How often nothing was lost by it but training since the last checkpoint.
        lost_epochs: Epochs trained twice.
        duplicates: Epochs, ends or looks at the test split that the ledger counts twice.
    """

    fault: str
    injected: int
    survived: int
    lost_epochs: float
    duplicates: int


Record = Callable[[Row], None]
"""Puts a row into the table of this session."""


def lost_epochs(folder: Path) -> float:
    """Return the epochs that an experiment trained twice."""
    return sum(run.void_epochs for run in Analysis(folder).runs)


def duplicates(folder: Path) -> int:
    """Return what an experiment's ledger tells twice."""
    events = ledger.read(folder / "ledger.jsonl")
    told: Counter[object] = Counter(
        (type(event), event.run_id)
        for event in events
        if isinstance(event, ledger.RunEnded | ledger.TestOpened)
    )
    told.update((run.spec.id, epoch.epoch) for run in Analysis(folder).runs for epoch in run.epochs)
    return sum(number - 1 for number in told.values())


def markdown(rows: Iterable[Row]) -> str:
    """Return the table of faults."""
    lines = ["| fault | injected | survived | lost epochs | duplicates |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.fault} | {row.injected} | {row.survived} | {row.lost_epochs:g} "
        f"| {row.duplicates} |"
        for row in rows
    ]
    return "\n".join(lines)
