"""How an experiment stands, told by its plan and ledger: ``python -m tune_adaptive status``.

It reads and writes nothing else, so it may be asked while the experiment runs, from another
terminal or another machine that sees the folder.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from tune_adaptive.analysis.rows import Rows
from tune_adaptive.errors import last_line
from tune_adaptive.records import ledger
from tune_adaptive.records.codec import without_nan
from tune_adaptive.records.plan import Plan
from tune_adaptive.records.runs import EpochResult, RunSpec
from tune_adaptive.system.console import printable, run_command, tell_damage, terminal
from tune_adaptive.watch.progress import Tally, arms_table, duration, summary

NUM_FAILURES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class AtWork:
    """A run that has begun and not ended, with its last epoch."""

    run: RunSpec
    since: float
    last: EpochResult | None


@dataclass(frozen=True, slots=True)
class Status:
    """How an experiment stands.

    Attributes:
        plan: What was decided.
        tally: What the events add up to.
        state: ``finished``, or ``unfinished``: it runs, or was interrupted.
        heard_at: When the last event happened [Unix time, s]; None before the first.
        at_work: Runs that have begun and not ended.
        failures: The last words of the runs that failed, the latest last.
        damage: Rows of the ledger that could not be read, or do not follow from those before.
    """

    plan: Plan
    tally: Tally
    state: Literal["finished", "unfinished"]
    heard_at: float | None
    at_work: Sequence[AtWork]
    failures: Sequence[str]
    damage: Sequence[str] = ()


def status(folder: Path) -> Status:
    """Read how an experiment stands.

    Raises:
        InputError: The folder holds no experiment.
    """
    plan = Plan.read(folder / "plan.toml")
    path = folder / "ledger.jsonl"
    events = ledger.read(path) if path.exists() else []  # none is written before the first row
    tally = Tally(plan)
    at_work: dict[str, AtWork] = {}
    failures: list[str] = []
    for event in events:
        tally.add(event)
        if isinstance(event, ledger.RunStarted):
            at_work[event.run.id] = AtWork(event.run, event.at, None)
        elif isinstance(event, ledger.EpochDone) and event.run_id in at_work:
            work = at_work[event.run_id]
            at_work[event.run_id] = AtWork(work.run, work.since, event.result)
        elif isinstance(event, ledger.RunEnded):
            at_work.pop(event.run_id, None)
            if event.status == "failed":
                failures.append(f"{event.run_id}: {last_line(event.message)}")
    is_closed = any(isinstance(event, ledger.Closed) for event in events)
    times = [at for event in events if (at := _at(event)) is not None]
    return Status(
        plan,
        tally,
        "finished" if is_closed else "unfinished",
        max(times, default=None),
        tuple(at_work.values()),
        failures,
        Rows([event for event in events if not ledger.is_torn(event)], plan).damage,
    )


def _at(event: ledger.Event) -> float | None:
    if isinstance(event, ledger.EpochDone):
        return event.result.ended_at
    at = getattr(event, "at", None)
    return float(at) if at is not None else None


def _pace_until(told: Status, now: float) -> float:
    """Return until when its pace is counted: what was interrupted has not become slower since."""
    return now if told.heard_at is None else told.heard_at


def document(told: Status, now: float) -> dict[str, Any]:
    """Return what ``--json`` prints; times are Unix times [s]."""
    tally, plan = told.tally, told.plan
    left_s = 0.0 if told.state == "finished" else tally.seconds_left(_pace_until(told, now))
    return {
        "experiment": plan.name,
        "state": told.state,
        "heard_at": told.heard_at,
        "stage": tally.stage,
        "stages": list(plan.stages),
        "epochs_spent": dict(tally.spent),
        "epochs_planned": {stage: plan.stage_epochs(stage) for stage in plan.stages},
        "seconds_left": left_s,
        "arms": [
            {"task": task, "schedule": schedule} | asdict(arm)
            for (task, schedule), arm in tally.arms.items()
        ],
        "at_work": [
            {
                "run_id": work.run.id,
                "task": work.run.task,
                "schedule": work.run.configuration.schedule,
                "since": work.since,
                "epoch": work.last.epoch if work.last else 0,
                "num_epochs": work.run.num_epochs,
                "val_metric": work.last.val_metric if work.last else None,
                "lr": work.last.lrs[-1] if work.last and work.last.lrs else None,
            }
            for work in told.at_work
        ],
        "failures": list(told.failures),
        "damage": list(told.damage),
    }


def show(told: Status, console: Console, now: float) -> None:
    """Print how it stands."""

    def say(line: str) -> None:
        console.print(printable(line), markup=False, highlight=False)

    ago = "" if told.heard_at is None else f"; last event {duration(now - told.heard_at)} ago"
    say(f"{told.plan.name}: {told.state}{ago}")
    if told.tally.stage is None:
        return
    if told.state == "unfinished":
        say(summary(told.tally, _pace_until(told, now)))
    console.print(arms_table(told.tally, console.width))
    for work in told.at_work:
        epoch, reached = (0, "") if work.last is None else (work.last.epoch, _reached(work.last))
        say(f"running: {work.run.id} epoch {epoch}/{work.run.num_epochs}{reached}")
    for failure in told.failures[-NUM_FAILURES_SHOWN:]:
        say(f"failed: {failure}")


def _reached(last: EpochResult) -> str:
    lr = f", lr {last.lrs[-1]:.2e}" if last.lrs else ""
    return f", val {last.val_metric:.4f}{lr}"


def main(
    folder: Annotated[Path, typer.Argument(help="An experiment's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show how an experiment stands, while it runs or after."""
    told, now = status(folder), time.time()
    tell_damage(folder, told.damage)
    if as_json:
        typer.echo(json.dumps(without_nan(document(told, now)), allow_nan=False))
    else:
        show(told, terminal(), now)


if __name__ == "__main__":
    run_command(main)
