"""The view of an experiment: a fold over the ledger's events.

A live table in a terminal that can redraw; elsewhere one plain line whenever a run ends, and
at least every half minute.
"""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune_adaptive.errors import last_line
from tune_adaptive.records import ledger
from tune_adaptive.records.plan import Plan
from tune_adaptive.records.runs import RunSpec, Stage
from tune_adaptive.signals.neighbours import CpuSample, neighbours
from tune_adaptive.system.console import MIN_WIDTH, printable

HEARTBEAT_S = 30.0
"""The longest that nothing is printed where there is no live table [s]."""
MIN_HEIGHT = 3
"""Lines of a terminal that a live table fits in; others say 0."""


@dataclass(slots=True)
class ArmTally:
    """What one arm has done in the present stage."""

    running: int = 0
    completed: int = 0
    stopped: int = 0
    lost: int = 0  # diverged or failed
    best: float | None = None  # validation metric of a run that trained to its end
    spent: float = 0.0


@dataclass(slots=True)
class Tally:
    """What the events so far add up to."""

    plan: Plan
    stage: Stage | None = None
    first_epoch: tuple[float, float] | None = None  # when the stage's first ended, and its E
    spent: dict[Stage, float] = field(default_factory=dict)
    arms: dict[tuple[str, str], ArmTally] = field(default_factory=dict)
    runs: dict[str, RunSpec] = field(default_factory=dict)
    run_spent: dict[str, dict[int, float]] = field(default_factory=dict)  # by epoch
    last: dict[str, float] = field(default_factory=dict)

    def add(self, event: ledger.Event) -> None:
        """Take in one event; one of a run whose start was lost, in a damaged ledger, is not."""
        of_a_run = ledger.RunResumed | ledger.EpochDone | ledger.RunEnded
        if isinstance(event, of_a_run) and event.run_id not in self.runs:
            return
        if isinstance(event, ledger.Opened):
            self.first_epoch = None  # the pace is of this session
        elif isinstance(event, ledger.StageStarted):
            self.stage, self.first_epoch = event.stage, None
            self.spent[event.stage] = 0.0
            self.arms = {
                (task.name, schedule): ArmTally()
                for task in self.plan.tasks
                for schedule in self.plan.schedules
            }
        elif isinstance(event, ledger.RunStarted):
            self.runs[event.run.id] = event.run
            self._arm(event.run).running += 1
        elif isinstance(event, ledger.RunResumed):
            run, spent = self.runs[event.run_id], self.run_spent.get(event.run_id, {})
            kept = {epoch: e for epoch, e in spent.items() if epoch <= event.num_epochs}
            void = max(spent.values(), default=0.0) - max(kept.values(), default=0.0)
            self.run_spent[run.id] = kept
            self._arm(run).spent -= void
            self.spent[run.stage] = self.spent.get(run.stage, 0.0) - void
        elif isinstance(event, ledger.EpochDone):
            run, result = self.runs[event.run_id], event.result
            spent = self.run_spent.setdefault(run.id, {})
            delta = result.epoch_equivalents - max(spent.values(), default=0.0)
            spent[result.epoch] = result.epoch_equivalents
            self.last[run.id] = result.val_metric
            self._arm(run).spent += delta
            self.spent[run.stage] = self.spent.get(run.stage, 0.0) + delta
            self.first_epoch = self.first_epoch or (result.ended_at, self.spent[run.stage])
        elif isinstance(event, ledger.RunEnded):
            arm = self._arm(self.runs[event.run_id])
            arm.running -= 1
            if event.status == "completed":
                arm.completed += 1
                reached = [arm.best, self.last.get(event.run_id)]
                score = self.plan.task(self.runs[event.run_id].task).metric.score
                arm.best = max((v for v in reached if v is not None), key=score, default=None)
            elif event.status == "stopped":
                arm.stopped += 1
            else:
                arm.lost += 1

    def _arm(self, run: RunSpec) -> ArmTally:
        return self.arms.setdefault(run.arm, ArmTally())  # a canary is of no arm

    def seconds_left(self, now: float) -> float:
        """Estimate what is left by the plan, as much slower or faster as this stage has been."""
        plan = self.plan
        if self.stage is None:
            return plan.estimated_s()
        spent, total = self.spent[self.stage], plan.stage_epochs(self.stage)
        planned_s = plan.stage_s(self.stage) / max(1.0, total)  # an epoch
        since, before = self.first_epoch or (now, spent)  # start-up is no part of the pace
        slower = (now - since) / ((spent - before) * planned_s) if spent > before else 1.0
        coming = plan.stages[plan.stages.index(self.stage) + 1 :]
        left_s = (total - spent) * planned_s + sum(map(plan.stage_s, coming))
        return max(0.0, slower * left_s)


def summary(tally: Tally, now: float, pressing: CpuSample | None = None) -> str:
    """Say in a line where an experiment is, and that others take the CPUs if they do."""
    others = "" if pressing is None else f"; {pressing}"
    if tally.stage is None:
        return f"starting Ray and its workers{others}"
    total = tally.plan.stage_epochs(tally.stage)
    stages = tally.plan.stages
    number = f"{stages.index(tally.stage) + 1} of {len(stages)}"
    return (
        f"{tally.stage} ({number}) {tally.spent[tally.stage]:.0f}/{total:g} epochs, "
        f"about {duration(tally.seconds_left(now))} left{others}"
    )


COLUMNS = ("running", "done", "stopped", "lost", "best val", "epochs")
NARROW = 70
"""Columns of a terminal below which less is shown."""


def arms_table(tally: Tally, width: int) -> Table:
    """Return a row an arm of the present stage, as much of it as fits in ``width``."""
    table = Table(box=None, pad_edge=False)
    for header in ("task", "schedule"):
        table.add_column(header, overflow="fold")
    shown = [name for name in COLUMNS if width >= NARROW or name in ("done", "best val")]
    for name in shown:
        table.add_column(name, justify="right")
    for (task, schedule), arm in tally.arms.items():
        cells = {
            "running": str(arm.running),
            "done": str(arm.completed),
            "stopped": str(arm.stopped),
            "lost": str(arm.lost),
            "best val": "-" if arm.best is None else f"{arm.best:.4f}",
            "epochs": f"{arm.spent:.1f}",
        }
        names = Text(printable(task)), Text(printable(schedule))  # a stranger's, perhaps
        table.add_row(*names, *(cells[name] for name in shown))
    return table


def view(tally: Tally, width: int, now: float, pressing: CpuSample | None = None) -> Group:
    """Return summary, bar and table; what a low terminal cuts off are the table's last rows."""
    told = Text(summary(tally, now, pressing))
    if tally.stage is None:
        return Group(told)
    # A bar of the whole width ends its line only if it is padded.
    total = tally.plan.stage_epochs(tally.stage)
    bar = Padding(ProgressBar(total=total, completed=tally.spent[tally.stage]))
    return Group(told, bar, arms_table(tally, width))


def can_redraw(console: Console) -> bool:
    """Whether a live table can be shown: not on ``TERM=dumb``, nor where there are no columns."""
    is_able = console.is_terminal and console.is_interactive and not console.is_dumb_terminal
    return is_able and console.width >= MIN_WIDTH and console.height >= MIN_HEIGHT


class Progress:
    """Shows an experiment while it runs; call it with each event.

    Args:
        plan: Of the experiment.
        console: Where it is shown.
        past: The events before.
        clock: Gives Unix time [s].
        pressing: Says who takes the CPUs, if anybody does.
    """

    def __init__(
        self,
        plan: Plan,
        console: Console,
        past: Iterable[ledger.Event] = (),
        clock: Callable[[], float] = time.time,
        pressing: Callable[[], CpuSample | None] = lambda: neighbours().pressing(),
    ) -> None:
        self._tally = Tally(plan)
        for event in past:
            self._tally.add(event)
        self._console = console
        self._clock = clock
        self._pressing = pressing
        self._lock = threading.Lock()  # of the tally, which another thread shows
        self._is_live = can_redraw(console)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=2)
        self._printed_at = self._heard_at = clock()
        self._ended = threading.Event()

    def __enter__(self) -> "Progress":
        if self._is_live:
            self._live.start()
        else:
            threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._is_live:
            self._live.stop()

    def _keep_beating(self) -> None:
        with suppress(Exception, SystemExit):  # a terminal that was closed ends the view only
            while not self._ended.wait(1.0):
                self.beat()

    def beat(self) -> None:
        """Say where the experiment is, if nothing was printed for half a minute."""
        with self._lock:
            now = self._clock()
            if now - self._printed_at < HEARTBEAT_S:
                return
            running = sum(arm.running for arm in self._tally.arms.values())
            quiet = f"nothing new for {duration(now - self._heard_at)}"
            self._say(f"{self._summary()} | {running} running, {quiet}")

    def __call__(self, event: ledger.Event) -> None:
        """Take in one event and show it."""
        with self._lock:
            self._tally.add(event)
            self._heard_at = self._clock()
            if not self._is_live:
                self._show(event)

    def _show(self, event: ledger.Event) -> None:
        if isinstance(event, ledger.StageStarted):
            self._say(f"{event.stage}: {event.num_epochs:g} epochs to spend")
        elif isinstance(event, ledger.RunEnded):
            value = self._tally.last.get(event.run_id)
            shown = "" if value is None else f" val {value:.4f}"
            if event.message:
                shown += f" ({last_line(event.message)})"
            self._say(f"{event.run_id} {event.status}{shown} | {self._summary()}")
        elif isinstance(event, ledger.RunInterrupted):
            self._say(f"{event.run_id} interrupted ({last_line(event.message)}); it is tried again")
        elif isinstance(event, ledger.Selected):
            schedule = event.configuration.schedule
            self._say(f"selected for {event.task} {schedule}: val {event.val_metric:.4f}")
        elif isinstance(event, ledger.ArmFailed):
            self._say(f"{event.task} {event.schedule}: no trial trained to its end")

    def _say(self, line: str) -> None:
        self._printed_at = self._clock()
        self._console.out(line, highlight=False)

    def _summary(self) -> str:
        return summary(self._tally, self._clock(), self._pressing())

    def _render(self) -> Group:
        with self._lock:
            return view(self._tally, self._console.width, self._clock(), self._pressing())


def duration(seconds: float) -> str:
    """Say how long, in the two largest units."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
