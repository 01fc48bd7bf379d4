"""The protocol, carried out: one experiment on one Ray, every event in its ledger.

What the stages do is a function of what they hear, in the order they hear it. So an
interrupted experiment is resumed by letting them hear its ledger again: the same arms, rungs,
studies and stages come of it, to the bit, and what was at work goes on from its checkpoint.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import fields

from tune_adaptive.errors import (
    EnvironmentFault,
    InputError,
    NoSuccessfulTrial,
    SearchStopped,
    last_line,
)
from tune_adaptive.planning.prepare import Prepared
from tune_adaptive.protocol.stages import Stages
from tune_adaptive.ray_backend.cluster import Dashboard, cluster
from tune_adaptive.ray_backend.engine import execute, quiet
from tune_adaptive.ray_backend.metrics import Gauges
from tune_adaptive.records import ledger as record
from tune_adaptive.records.ledger import Ledger, locked
from tune_adaptive.records.plan import hash_file
from tune_adaptive.records.runs import RunSpec
from tune_adaptive.signals.neighbours import neighbours, visible_cpus
from tune_adaptive.signals.node import Node
from tune_adaptive.signals.recordings import Recordings
from tune_adaptive.signals.replay import dump_signals
from tune_adaptive.system.interrupts import deferred, interruptible
from tune_adaptive.training.checkpoints import CheckpointStore
from tune_adaptive.watch.isolated import Isolated
from tune_adaptive.watch.monitor import Monitor

Watch = Callable[[record.Event], None]


def run(
    experiment: Prepared,
    watch: Watch = lambda event: None,
    verbose: bool = False,
    show_dashboard: Callable[[Dashboard], None] | None = None,
) -> None:
    """Run an experiment, new or interrupted, to its end, as its only writer.

    Args:
        experiment: What ``planning.prepare`` returned or ``resuming.reopened`` gave.
        watch: Hears every new event after it is on disk.
        verbose: Show Ray's own logs.
        show_dashboard: Is told where Ray's dashboard is, once it is up; None starts none, and
            sets no metrics.

    Raises:
        NoSuccessfulTrial: No arm has a configuration that trained to its end.
        EnvironmentFault: The folder or the storage cannot be written, or Ray be reached.
        InputError: What the ledger tells is not what this plan does here.
        KeyboardInterrupt: A signal asked for it. Once the folder is there, it can be resumed.
    """
    with interruptible():
        if experiment.plan.storage_path is not None:  # before anything is written elsewhere
            CheckpointStore(experiment.plan.storage_path).open()
        if experiment.past is not None:  # its lock is held
            _run(experiment, watch, verbose, show_dashboard)
            return
        # A Ray that does not start must not take the experiment's name.
        with quiet(verbose), _ray(experiment, verbose, show_dashboard):
            with deferred():  # a folder without a whole plan could neither be resumed nor reused
                _make_folder(experiment)
            with locked(experiment.folder):
                _run(experiment, watch, verbose, show_dashboard)


def _ray(
    experiment: Prepared, verbose: bool, show_dashboard: Callable[[Dashboard], None] | None
) -> AbstractContextManager[None]:
    """Start or join the Ray that it runs on, unless that has been done."""
    data_bytes = sum(data.nbytes for data in experiment.datasets.values())
    data_bytes += sum(task.nbytes for task in experiment.tasks.values())
    plan = experiment.plan
    return cluster(
        experiment.address,
        plan.num_cpus,
        plan.num_gpus,
        data_bytes,
        verbose,
        show_dashboard,
        experiment.nice,
    )


def _store(experiment: Prepared) -> CheckpointStore:
    """Return where its checkpoints are; each plan that ever was has a folder where all share."""
    plan, folder = experiment.plan, experiment.folder.resolve()
    if plan.storage_path is None:
        return CheckpointStore(str(folder / "checkpoints"))
    sha256 = hash_file(folder / "plan.toml")
    return CheckpointStore(f"{plan.storage_path}/{plan.name}-{sha256[:12]}")


def _run(
    experiment: Prepared,
    watch: Watch,
    verbose: bool,
    show_dashboard: Callable[[Dashboard], None] | None,
) -> None:
    plan, checkpoints = experiment.plan, _store(experiment)
    recordings = Recordings(experiment.folder / "signals")
    studies = experiment.folder / "studies.db"
    checkpoints.open()
    steps_per_epoch = {
        task.name: math.ceil(task.num_train / task.batch_size) for task in plan.tasks
    }
    with Ledger(experiment.folder / "ledger.jsonl") as ledger:

        def write(event: record.Event) -> None:
            if isinstance(event, record.RunResumed):
                num_steps = event.num_epochs * steps_per_epoch[stages.at_work[event.run_id].task]
                recordings.cut(event.run_id, num_steps)
            ledger.append(event)
            if isinstance(event, record.RunEnded):
                checkpoints.remove(event.run_id)
            watch(event)
            if monitor is not None:
                monitor(event)

        with quiet(verbose), closing(Node()) as node, ExitStack() as stack:
            monitor = None
            if show_dashboard is not None:
                gauges = stack.enter_context(Gauges())
                monitor = Isolated("metrics", Monitor(plan, gauges, experiment.past or ()))
            node.latest()  # this process is the node's sampler, as long as the experiment runs
            beside = neighbours()
            # On a cluster it would take our workers for others', and under a quota others' CPUs.
            if experiment.address is None and plan.num_cpus >= len(visible_cpus()):
                beside.start()
            past = experiment.past or ()
            notes = Notes(past, write)
            stages = Stages(plan, notes, lambda *run: notes.kept(checkpoints, *run))
            hear_again(past, stages, notes)
            write(record.Opened(time.time(), hash_file(experiment.folder / "plan.toml")))
            try:
                if stages.has_work():
                    with _ray(experiment, verbose, show_dashboard):
                        execute(
                            stages,
                            plan,
                            experiment.tasks,
                            experiment.datasets,
                            checkpoints,
                            experiment.replay,
                            recordings.add,
                            recordings.heard_by,
                            beside.between,
                        )
            except BaseException:
                with suppress(EnvironmentFault):  # what happened first is what is told
                    stages.save_studies(studies)
                raise
            stages.save_studies(studies)
        if not stages.selected or stages.nothing_to_compare:
            what = "all final runs failed" if stages.selected else "no trial trained to its end"
            raise NoSuccessfulTrial(
                f"{experiment.folder}: {what}"
                + (f"; the last failure: {last_line(stages.failure)}" if stages.failure else "")
            )
        write(record.Closed(stages.num_started, at=time.time()))


def _make_folder(experiment: Prepared) -> None:
    try:
        signals = experiment.folder / "signals"
        signals.mkdir(parents=True)
        experiment.plan.write(experiment.folder / "plan.toml")
        if experiment.replay:
            (signals / "replayed.jsonl").write_text(dump_signals(experiment.replay))
    except FileExistsError as error:
        raise InputError(f"{experiment.folder}: exists already; choose another --name") from error
    except OSError as error:
        raise EnvironmentFault(f"{experiment.folder}: cannot be written: {error}") from error


# ------------------------------------------------------------- hearing it again


class Notes:
    """Takes what the stages note; what the ledger has already is compared, not written twice.

    Args:
        past: What the ledger has.
        write: Takes what is new.
    """

    def __init__(self, past: Sequence[record.Event], write: Watch) -> None:
        of_sessions = (record.Opened, record.Closed)  # no stage notes them
        self.expected = deque(event for event in past if not isinstance(event, of_sessions))
        self._write = write

    def __call__(self, event: record.Event) -> None:
        """Take one event.

        Raises:
            InputError: The ledger has another one in its place.
        """
        if not self.expected:
            self._write(event)
            return
        recorded = self.expected.popleft()
        if _without_time(event) != _without_time(recorded):
            raise InputError(
                "the experiment cannot be resumed: its plan was edited, or these versions do "
                "otherwise than those it was begun with. Its ledger has\n"
                f"{recorded}\nand now it would be\n{event}"
            )

    def kept(self, checkpoints: CheckpointStore, run: RunSpec, num_epochs: int) -> int:
        """Return the epochs after which ``run`` can go on, of ``num_epochs`` it was heard of.

        While the ledger is heard again, that is what it has; then, what the checkpoint has. One
        that is not whole, or that the ledger does not reach, is removed.
        """
        if self.expected:
            recorded = self.expected[0]
            return recorded.num_epochs if isinstance(recorded, record.RunResumed) else 0
        checkpoints.take_last_words(run.id)  # of a process that nobody heard end
        checkpoint = checkpoints.read(run)
        if checkpoint is not None and checkpoint.num_epochs <= num_epochs:
            return checkpoint.num_epochs
        checkpoints.remove(run.id)
        return 0


def _without_time(event: record.Event) -> dict[str, object]:
    return {"event": type(event)} | {
        field.name: getattr(event, field.name) for field in fields(event) if field.name != "at"
    }


def hear_again(past: Sequence[record.Event], stages: Stages, notes: Notes) -> None:
    """Take new ``stages`` to where ``past`` ended, and interrupt what was at work there.

    Raises:
        InputError: The stages do otherwise than ``past`` tells.
    """
    runs = {event.run.id: event.run for event in past if isinstance(event, record.RunStarted)}
    for event in past:
        if isinstance(event, record.Opened):
            stages.interrupt()
        elif not notes.expected or notes.expected[0] is not event:
            continue  # it followed from one before, and has been compared
        elif isinstance(event, record.EpochDone) and event.run_id in stages.at_work:
            stages.heard(runs[event.run_id], event.result)
        elif isinstance(event, record.RunInterrupted) and event.run_id in stages.at_work:
            stages.failed(runs[event.run_id], event.message, transient=True)
        elif isinstance(event, record.RunEnded) and event.run_id in stages.at_work:
            with suppress(SearchStopped):  # the session ended there; this one may do better
                stages.failed(runs[event.run_id], event.message)
        else:
            stages.next()
    if notes.expected:
        raise InputError(f"the experiment cannot be resumed: nothing leads to {notes.expected[0]}")
    stages.interrupt()
