"""What a slot's time goes to: training, start-up, one more trial.

    python benchmarks/slots.py

Runs ``python -m tune_adaptive.search`` on the embedded task with its usual schedules, on all slots
and on one, and reads what its ledger says of the search stage:

- busy: the share of the slots' time from the first trial's start to the last result that was spent
  in training, and in validation; at the end of a search slots idle while the last trials run;
- one more trial: the slots' time that was neither, over the trials;
- STOP to step: from the last result of a trial to the first optimizer step of the next one in
  its slot (a trial that starts takes the slot that has waited longest);
- epoch to epoch: the same inside a trial, while the driver decides whether it goes on.

Start-up is from the command to the first optimizer step, part by part: ``plan`` is data and
calibration, ``actor`` the worker's process with torch, its data and the model.
"""

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from tune_adaptive.planning.prepare import cpus_here
from tune_adaptive.records import ledger
from tune_adaptive.records.runs import EpochResult

STAMPED = Path(__file__).with_name("searchers") / "stamped.py"


@dataclass
class Trial:
    """One run of the search stage."""

    asked_at: float
    epochs: list[EpochResult] = field(default_factory=list)

    @property
    def started_at(self) -> float:
        """When its first optimizer step began."""
        return begun(self.epochs[0])

    @property
    def ended_at(self) -> float:
        """When its last epoch was validated."""
        return self.epochs[-1].ended_at


def begun(epoch: EpochResult) -> float:
    """Return when an epoch's first optimizer step began."""
    return epoch.ended_at - epoch.eval_s - epoch.train_s


def main(
    epochs: Annotated[int, typer.Option(help="T.")] = 6,
    budget: Annotated[float, typer.Option(help="Full runs an arm; there are three.")] = 12,
    train_size: Annotated[int, typer.Option(help="Training images.")] = 5000,
) -> None:
    """Print the tables."""
    rows, starts = [], []
    for slots in sorted({cpus_here(), 1}, reverse=True):
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            trials, stamps = search(Path(folder), slots, epochs, budget, train_size)
        rows.append(of_slots(trials, slots))
        starts.append(of_start(trials, stamps))
    print(
        "| slots | trials | seconds | training | validating | one more trial [ms] "
        "| STOP to step [ms], median (90%) | epoch to epoch [ms], median (90%) |"
    )
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    print("\n| to the first step [s] | imports | plan | folder | Ray | Tuner | actor |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(starts))


def search(
    folder: Path, slots: int, num_epochs: int, budget: float, train_size: int
) -> tuple[list[Trial], dict[str, float]]:
    """Search; return the trials of the search stage and the stamps of the start-up."""
    command = [sys.executable, str(STAMPED), str(folder / "stamps.json")]
    command += ["--results-dir", str(folder), "--name", "slots", "--max-concurrent", str(slots)]
    command += ["--epochs", str(num_epochs), "--budget", str(budget), "--final-seeds", "1"]
    command += ["--train-size", str(train_size)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{process.stdout}{process.stderr}")
    trials: dict[str, Trial] = {}
    for event in ledger.read(folder / "slots" / "ledger.jsonl"):
        if isinstance(event, ledger.RunStarted) and event.run.stage == "search":
            trials[event.run.id] = Trial(event.at)
        if isinstance(event, ledger.EpochDone) and event.run_id in trials:
            trials[event.run_id].epochs.append(event.result)
    stamps: dict[str, float] = json.loads((folder / "stamps.json").read_text(encoding="utf-8"))
    return list(trials.values()), stamps


def of_slots(trials: Sequence[Trial], slots: int) -> str:
    """Return the row of what the slots did."""
    every = [epoch for trial in trials for epoch in trial.epochs]
    elapsed_s = max(each.ended_at for each in every) - min(map(begun, every))
    total_s = slots * elapsed_s
    trained_s, validated_s = sum(e.train_s for e in every), sum(e.eval_s for e in every)
    between = [
        later - earlier.ended_at
        for trial in trials
        for earlier, later in zip(trial.epochs, map(begun, trial.epochs[1:]), strict=False)
    ]
    return (
        f"| {slots} | {len(trials)} | {elapsed_s:.0f} | {trained_s / total_s:.1%} "
        f"| {validated_s / total_s:.1%} "
        f"| {1e3 * (total_s - trained_s - validated_s) / len(trials):.0f} "
        f"| {ms(changes(trials, slots))} | {ms(between)} |"
    )


def changes(trials: Sequence[Trial], slots: int) -> list[float]:
    """Return the seconds from each trial's end to the first step of the next in its slot."""
    found = []
    for trial in sorted(trials, key=lambda trial: trial.started_at)[slots:]:
        ended = [other.ended_at for other in trials if other.ended_at <= trial.started_at]
        free = sorted(ended)[len(found)]  # each end is taken once, the earliest first
        found.append(trial.started_at - free)
    return found


def ms(seconds: Sequence[float]) -> str:
    """Say a median and the 90th percentile."""
    if len(seconds) < 2:
        return "-"
    slow = statistics.quantiles(seconds, n=10)[-1]
    return f"{1e3 * statistics.median(seconds):.0f} ({1e3 * slow:.0f})"


def of_start(trials: Sequence[Trial], stamps: dict[str, float]) -> str:
    """Return the row of the start-up."""
    first = min(trial.started_at for trial in trials)
    times = [stamps[name] for name in ("process", "imports", "plan", "folder", "ray")]
    times += [trials[0].asked_at, first]
    parts = [later - earlier for earlier, later in itertools.pairwise(times)]
    return f"| {first - times[0]:.1f} | {' | '.join(f'{part:.1f}' for part in parts)} |"


if __name__ == "__main__":
    typer.run(main)
