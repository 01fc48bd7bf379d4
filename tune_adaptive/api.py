"""What the command line does, as functions of Python; ``tune_adaptive.search`` is :func:`search`.

import tune_adaptive

experiment = tune_adaptive.search(schedule=["adaptive", "step"], epochs=4)
experiment.verdict().sentence
schedule = experiment.best("adaptive").build(optimizer, total_steps=1000)
"""

from __future__ import annotations

import html
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tune_adaptive.errors import InputError, did_you_mean
from tune_adaptive.planning.options import is_given, read_for_resume, read_request
from tune_adaptive.planning.parsing import read_texts
from tune_adaptive.planning.prepare import Prepared, prepare
from tune_adaptive.planning.run_file import read_run_file
from tune_adaptive.protocol.resume import reopened
from tune_adaptive.protocol.run import run
from tune_adaptive.ray_backend.cluster import Dashboard
from tune_adaptive.records.ledger import Event
from tune_adaptive.records.runs import file_name
from tune_adaptive.report.best import BestSchedule, load_schedule
from tune_adaptive.schedules import Schedule
from tune_adaptive.system.console import terminal
from tune_adaptive.tasks import Task
from tune_adaptive.watch.isolated import Isolated
from tune_adaptive.watch.notebook import NotebookProgress
from tune_adaptive.watch.progress import Progress
from tune_adaptive.watch.trackers import Tracking, check_trackers

if TYPE_CHECKING:
    import pandas as pd

    from tune_adaptive.analysis.estimates import Analysis
    from tune_adaptive.analysis.stats import Verdict

Shown = AbstractContextManager[Callable[[Event], None]]
"""A view of a running experiment: called with every event."""


def search(
    task: str | Task | Sequence[str | Task] = (),
    schedule: str | Schedule | Sequence[str | Schedule] = (),
    *,
    quiet: bool = False,
    track: str | Sequence[str] = (),
    dashboard: bool = False,
    verbose: bool = False,
    config: str | Path | None = None,
    **options: Any,
) -> Experiment:
    """Search, compare on fresh seeds, report and export; return the finished experiment.

    It shows its progress in a terminal or a notebook. Ctrl-C interrupts it; then
    :func:`resume` goes on.

    Args:
        task: ``dataset/model``, ``module:task`` or a :class:`~tune_adaptive.Task`, one or
            several; the embedded one.
        schedule: Schedules by name, ``module:builder`` or builders, one or several, or ``"all"``;
            ``adaptive``, ``step`` and ``exponential``.
        quiet: Show nothing.
        track: ``tensorboard``, ``mlflow[:URI]`` or ``wandb[:PROJECT]``, one or several.
        dashboard: Start Ray's dashboard on loopback, and print its address.
        verbose: Show Ray's own logs.
        config: A run file; what is given beside it goes before it.
        **options: Any other option of ``python -m tune_adaptive.search``, by its name with
            underscores: ``epochs=6``, ``budget=8``, ``final_seeds=8``, ``name="first"``,
            ``time_budget="2h"``, ``gpus_per_trial=0.25``, ``gpus_per_trial={"imdb/bert": 1}``.

    Raises:
        InputError: Something asked for cannot be.
        EnvironmentFault: The machine lacks something asked for.
        NoSuccessfulTrial: No trial trained to its end.
        KeyboardInterrupt: It was interrupted.
    """
    _check_switches(quiet=quiet, dashboard=dashboard, verbose=verbose)
    typed = {"task": task, "schedule": schedule} | options
    given = {name: value for name, value in typed.items() if is_given(value)}
    told = given | {
        "task": _named(task),
        "schedule": _named(schedule),
        "config": config and str(config),
    }  # no arrays of a task
    command = ", ".join(f"{name}={value!r}" for name, value in told.items() if is_given(value))
    asked = given if config is None else read_run_file(Path(config)) | given
    check_watchers(track, dashboard and "address" not in asked)
    prepared = prepare(read_request(asked, f"tune_adaptive.search({command})"))
    if not quiet:
        for planned in prepared.plan.tasks:
            for remark in planned.remarks:
                _say(f"note: {planned.name}: {remark}")
    view = shown(prepared, quiet)
    return carry_out(
        prepared, view, read_texts(track, "--track"), _say if dashboard else None, verbose
    )


def resume(
    folder: str | Path,
    *,
    quiet: bool = False,
    track: str | Sequence[str] = (),
    dashboard: bool = False,
    **options: Any,
) -> Experiment:
    """Go on with an interrupted experiment.

    Args:
        folder: The experiment's.
        quiet: See :func:`search`.
        track: See :func:`search`.
        dashboard: See :func:`search`.
        **options: What it needs again: ``task`` and ``schedule`` (of your own), ``data_dir``,
            ``model_path``, ``address``, ``storage_path``, ``nice``; see
            :func:`tune_adaptive.protocol.resume.reopened`.

    Raises:
        InputError: It cannot be resumed.
        EnvironmentFault: Not here.
    """
    _check_switches(quiet=quiet, dashboard=dashboard)
    check_watchers(track, dashboard and "address" not in options)
    with reopened(Path(folder), **read_for_resume(options)) as prepared:
        view = shown(prepared, quiet)
        return carry_out(prepared, view, read_texts(track, "--track"), _say if dashboard else None)


def _check_switches(**switches: object) -> None:
    if wrong := [name for name, value in switches.items() if not isinstance(value, bool)]:
        told = "\n".join(f"{name} {switches[name]!r}: must be True or False" for name in wrong)
        raise InputError(told)


def _named(task: Any) -> object:
    """Return tasks or schedules as the record shows them."""
    if isinstance(task, Task):
        return f"Task {task.name}"
    if isinstance(task, str):
        return task
    if callable(task):
        return f"{task.__module__}:{getattr(task, '__qualname__', type(task).__name__)}"
    return [_named(each) for each in task] or ()


def check_watchers(track: str | Sequence[str], dashboard: bool) -> None:
    """Check that what is asked to watch can, before anything is started.

    Raises:
        InputError: There is no such tracker.
        EnvironmentFault: A package is not installed.
    """
    check_trackers(read_texts(track, "--track"))
    if dashboard:
        Dashboard.check()


def shown(prepared: Prepared, quiet: bool, console: Console | None = None) -> Shown:
    """Return the view of an experiment that suits where this runs."""
    past = prepared.past or ()
    console = terminal() if console is None else console
    if quiet:
        return nullcontext(lambda event: None)
    if console.is_jupyter:
        return NotebookProgress(prepared.plan, past)
    return Progress(prepared.plan, console, past)


def carry_out(
    prepared: Prepared,
    view: Shown,
    track: Sequence[str] = (),
    show_dashboard: Callable[[Dashboard], None] | None = None,
    verbose: bool = False,
) -> Experiment:
    """Run an experiment to its end, and write all that is made of it.

    Args:
        prepared: What ``planning.prepare`` returned or ``resuming.reopened`` gave.
        view: Hears every event.
        track: Trackers.
        show_dashboard: Is told where Ray's dashboard is; None starts none.
        verbose: Show Ray's own logs.

    Raises:
        Exception: What :func:`tune_adaptive.protocol.run.run` raises.
    """
    tracking = Tracking(track, prepared.plan, prepared.folder, prepared.past)
    with tracking, view as show:
        seen = Isolated("the view", show)

        def watch(event: Event) -> None:
            seen(event)
            tracking(event)

        run(prepared, watch, verbose, show_dashboard)
    experiment = Experiment(prepared.folder)
    experiment.write()
    return experiment


def _say(line: object) -> None:
    print(line, file=sys.stderr)


class Experiment:
    """An experiment's folder, read.

    Args:
        folder: ``results/NAME``.

    Raises:
        InputError: It holds no experiment.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.written: list[Path] = []
        """What this object wrote last."""
        self.analysis  # noqa: B018  (a folder that holds none is told now)

    @cached_property
    def analysis(self) -> Analysis:
        """All estimates, intervals and audits."""
        from tune_adaptive.analysis.estimates import Analysis  # slow to import

        return Analysis(self.folder)

    @property
    def tasks(self) -> list[str]:
        """The names of its tasks."""
        return [task.name for task in self.analysis.plan.tasks]

    def write(self) -> list[Path]:
        """Write report, tables and exports again; return their paths."""
        from tune_adaptive.report.export import export
        from tune_adaptive.report.write import write_report

        exported = export(self.analysis)
        self.written = [*write_report(self.analysis), *exported]
        return self.written

    def report(self) -> Path:
        """Return the path of ``report.html``, written if it is not there."""
        path = self.folder / "report.html"
        if not path.exists():
            self.write()
        return path

    def best(self, schedule: str | None = None, task: str | None = None) -> BestSchedule:
        """Return a schedule's best configuration on a task, ready to be built.

        Args:
            schedule: Its name; None is the studied one.
            task: Of several tasks, which.

        Raises:
            InputError: Nothing was selected of it.
        """
        schedule = schedule or self.analysis.plan.studied
        path = self.folder / "best" / file_name(self._task(task)) / f"{schedule}.toml"
        if not path.exists():
            known = sorted(path.stem for path in path.parent.glob("*.toml"))
            raise InputError(f"nothing was selected of {schedule!r}{did_you_mean(schedule, known)}")
        return load_schedule(path)

    def verdict(self, task: str | None = None) -> Verdict:
        """Return what can be said of the studied schedule on a task, in words: ``sentence``."""
        return self.analysis.verdicts[self._task(task)]

    def trials(self) -> pd.DataFrame:
        """Return a row for each trial of the search."""
        return self._table("trials")

    def runs(self) -> pd.DataFrame:
        """Return a row for each run after the search."""
        return self._table("runs")

    def epochs(self) -> pd.DataFrame:
        """Return a row for each epoch of each run."""
        return self._table("epochs")

    def _table(self, name: str) -> pd.DataFrame:
        from tune_adaptive.analysis.tables import tables

        return tables(self.analysis.history)[name].reset_index(drop=True)

    def _task(self, task: str | None) -> str:
        if task is None and len(self.tasks) == 1:
            return self.tasks[0]
        if task not in self.tasks:
            raise InputError(f"task {task!r}: one of {', '.join(self.tasks)}")
        return task

    def __repr__(self) -> str:
        return f"Experiment({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        """Show the verdicts and the figures where a notebook shows an experiment."""
        from tune_adaptive.report.figures import draw_figures

        said = "".join(
            f"<p>{html.escape(verdict.sentence)}</p>" for verdict in self.analysis.verdicts.values()
        )
        drawn = "".join(f"<figure>{figure.svg}</figure>" for figure in draw_figures(self.analysis))
        return f"<h3>{html.escape(self.analysis.plan.name)}</h3>{said}{drawn}"
