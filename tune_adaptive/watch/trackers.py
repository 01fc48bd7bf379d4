"""What the ledger tells, told to trackers that people use already: TensorBoard, MLflow, W&B.

A tracker hears every event after it is on disk, in a thread of its own: one that is slow holds
nothing up. What it raises is reported once, and the search continues without it.
"""

import hashlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tune_adaptive.errors import EnvironmentFault, InputError, did_you_mean
from tune_adaptive.records import ledger
from tune_adaptive.records.plan import Plan
from tune_adaptive.records.runs import RunSpec, Status
from tune_adaptive.system.packages import is_installed, version
from tune_adaptive.watch.stores import knock, make_writable, sqlite_url

CLOSE_S = 60.0
"""How long a tracker may take to write out what is left when the search ends [s]."""


class Tracker(Protocol):
    """Runs, several at once, told by their ids."""

    def started(self, run: RunSpec, num_epochs: int) -> None:
        """Hear that a run begins, or goes on after ``num_epochs`` epochs: later ones are void."""

    def epoch(self, run: RunSpec, epoch: int, at: float, curves: Mapping[str, float]) -> None:
        """Hear the values of an epoch that ended ``at`` [Unix time, s], by name."""

    def ended(self, run: RunSpec, status: Status) -> None:
        """Hear that a run ended."""

    def close(self) -> None:
        """Write out what is left; runs at work may be resumed later."""


def tags(run: RunSpec) -> dict[str, str]:
    """Return what a run is, beside its hyperparameters."""
    return {
        "run_id": run.id,
        "task": run.task,
        "schedule": run.configuration.schedule,
        "stage": run.stage,
        "role": run.role,
        "seed": str(run.seed),
    }


class TensorBoard:
    """Event files, a folder a run, under the experiment's ``tensorboard/``, or ``DIR/NAME``.

    ``tensorboard --logdir results/NAME/tensorboard`` shows them.
    """

    def __init__(self, plan: Plan, folder: Path, where: str) -> None:
        import tensorboardX  # noqa: F401  (one that cannot be imported is reported now)

        self._root = folder / "tensorboard"
        if where:
            self._root = Path(where).expanduser() / plan.name
            make_writable(self._root)
        self._writers: dict[str, Any] = {}

    def started(self, run: RunSpec, num_epochs: int) -> None:
        """Open its file; hyperparameters stand in the run's text."""
        from tensorboardX import SummaryWriter

        if run.id in self._writers:
            self._writers.pop(run.id).close()
        suffix = f".{time.time_ns()}"  # or two of the same second were one file
        path = str(self._root / run.id)
        writer = SummaryWriter(path, purge_step=num_epochs + 1, filename_suffix=suffix)
        self._writers[run.id] = writer
        values = tags(run) | {k: str(v) for k, v in run.configuration.values().items()}
        writer.add_text("run", "  \n".join(f"{name}: {value}" for name, value in values.items()))

    def epoch(self, run: RunSpec, epoch: int, at: float, curves: Mapping[str, float]) -> None:
        """Add a point to every curve."""
        for name, value in curves.items():
            self._writers[run.id].add_scalar(name, value, epoch, walltime=at)
        self._writers[run.id].flush()

    def ended(self, run: RunSpec, status: Status) -> None:
        """Close its file."""
        self._writers.pop(run.id).close()

    def close(self) -> None:
        """Close all files."""
        while self._writers:
            self._writers.popitem()[1].close()


class MLflow:
    """An MLflow experiment of the same name, a run a run.

    ``mlflow:URI`` is a tracking URI, else what ``MLFLOW_TRACKING_URI`` says, else an SQLite file
    ``mlflow.db`` beside the experiments' folders.
    """

    STATUSES = {"completed": "FINISHED", "stopped": "KILLED"}  # noqa: RUF012

    def __init__(self, plan: Plan, folder: Path, where: str) -> None:
        uri = where or os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            make_writable(folder.parent)
            uri = sqlite_url(folder.parent.absolute() / "mlflow.db")
        knock(uri)
        from mlflow import MlflowClient  # seconds

        self._client = MlflowClient(uri)
        found = self._client.get_experiment_by_name(plan.name)
        if found is not None and found.lifecycle_stage != "active":
            raise EnvironmentFault(
                f"the experiment {plan.name!r} there was deleted: `mlflow experiments restore -x "
                f"{found.experiment_id}`, or another --name"
            )
        self._experiment = (
            found.experiment_id if found else self._client.create_experiment(plan.name)
        )
        # A write, so that a server or a file that may only be read is noticed now.
        made_by = f"tune-adaptive {version('tune-adaptive')}"
        self._client.set_experiment_tag(self._experiment, "made_by", made_by)
        self._created = plan.created
        self._runs: dict[str, str] = {}  # MLflow's ids, by ours

    def started(self, run: RunSpec, num_epochs: int) -> None:
        """Create its run, or find the one that was interrupted."""
        from mlflow.entities import Param

        own = f"tags.run_id = '{run.id}' and tags.experiment_created = '{self._created}'"
        known = self._client.search_runs([self._experiment], own, max_results=1)
        if known:
            self._runs[run.id] = known[0].info.run_id
            return
        own_tags = tags(run) | {"experiment_created": self._created}
        made = self._client.create_run(self._experiment, run_name=run.id, tags=own_tags)
        self._runs[run.id] = made.info.run_id
        values = run.configuration.values().items()
        params = [Param(name, str(value)) for name, value in values]
        self._client.log_batch(made.info.run_id, params=params)

    def epoch(self, run: RunSpec, epoch: int, at: float, curves: Mapping[str, float]) -> None:
        """Log its metrics at the step of its epoch."""
        from mlflow.entities import Metric

        points = [Metric(name, x, int(1000 * at), epoch) for name, x in curves.items()]
        self._client.log_batch(self._runs[run.id], metrics=points)

    def ended(self, run: RunSpec, status: Status) -> None:
        """Set its status: a trial that was stopped early is KILLED."""
        self._client.set_terminated(self._runs.pop(run.id), self.STATUSES.get(status, "FAILED"))

    def close(self) -> None:
        """Nothing is held back."""


class WandB:
    """A Weights & Biases project, a run a run; ``WANDB_MODE=offline`` writes files only.

    ``wandb:[ENTITY/]PROJECT`` names the project, else it has the experiment's name. Files are in
    ``wandb/`` beside the experiments' folders unless ``WANDB_DIR`` says otherwise.
    """

    def __init__(self, plan: Plan, folder: Path, where: str) -> None:
        import wandb

        offline = os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun")
        if not offline and not wandb.login(prompt=False, verify=True):
            raise EnvironmentFault("not logged in: `wandb login`, or WANDB_MODE=offline")
        self._wandb = wandb
        entity, _, project = where.rpartition("/")
        self._entity, self._project = entity or None, project or plan.name
        self._experiment = f"{plan.name}|{plan.created}"
        self._folder = Path(os.environ.get("WANDB_DIR") or folder.parent)
        make_writable(self._folder)
        self._runs: dict[str, Any] = {}

    def started(self, run: RunSpec, num_epochs: int) -> None:
        """Create its run, or go on with the one that was interrupted."""
        if run.id in self._runs:
            return
        made = self._wandb.init(
            entity=self._entity,
            project=self._project,
            dir=str(self._folder),
            id=hashlib.sha256(f"{self._experiment}|{run.id}".encode()).hexdigest()[:16],
            name=run.id,
            group=f"{run.task}:{run.configuration.schedule}",
            job_type=run.stage,
            config=tags(run) | dict(run.configuration.values()),
            resume="allow",
            reinit="create_new",
            settings=self._wandb.Settings(silent=True, console="off", symlink=False),
        )
        made.define_metric("*", step_metric="epoch")  # W&B's own steps cannot go back
        self._runs[run.id] = made

    def epoch(self, run: RunSpec, epoch: int, at: float, curves: Mapping[str, float]) -> None:
        """Log its metrics with the epoch, which is their step."""
        self._runs[run.id].log(dict(curves) | {"epoch": epoch})

    def ended(self, run: RunSpec, status: Status) -> None:
        """Finish its run; one that completed or was stopped early has succeeded."""
        own = self._runs.pop(run.id)
        own.summary["status"] = status
        own.finish(exit_code=0 if status in ("completed", "stopped") else 1)

    def close(self) -> None:
        """Finish what is at work."""
        while self._runs:
            self._runs.popitem()[1].finish(exit_code=1)


TRACKERS: dict[str, Callable[[Plan, Path, str], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
}
"""By name; each is given the plan, the experiment's folder, and what follows a colon."""
PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}


def check_trackers(asked: Sequence[str]) -> None:
    """Check the names, before anything is started.

    Raises:
        InputError: There is no such tracker, or it is told a secret that would be written down.
        EnvironmentFault: Its package is not installed.
    """
    for each in asked:
        name, _, where = each.partition(":")
        if name not in TRACKERS:
            raise InputError(f"--track {name}: unknown{did_you_mean(name, TRACKERS)}")
        if "@" in where.partition("://")[2]:
            raise InputError(
                f"--track {name}: credentials would be written down with the command; leave them "
                "to the environment (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD)"
            )
        if not is_installed(PACKAGES[name]):
            raise EnvironmentFault(f"--track {name}: needs a package: pip install {PACKAGES[name]}")


class _Isolated:
    """A tracker in a thread of its own, as long as it does not fail."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name, self._tracker = name, tracker
        self._words: queue.SimpleQueue[Callable[[Tracker], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._listen, daemon=True, name=name)
        self._thread.start()

    def tell(self, word: Callable[[Tracker], None]) -> None:
        self._words.put(word)

    def close(self) -> None:
        self._words.put(lambda tracker: tracker.close())
        self._words.put(None)
        self._thread.join(timeout=CLOSE_S)
        if self._thread.is_alive():
            print(
                f"warning: {self._name} has not written all within {CLOSE_S:.0f} s", file=sys.stderr
            )

    def _listen(self) -> None:
        while (word := self._words.get()) is not None:
            try:
                word(self._tracker)
            except Exception as error:
                print(f"warning: {self._name} is left out from here on: {error!r}", file=sys.stderr)
                return


class Tracking:
    """All trackers that were asked for; call it with each event.

    Args:
        asked: ``tensorboard[:DIR]``, ``mlflow[:URI]`` or ``wandb[:[ENTITY/]PROJECT]``.
        plan: The experiment's.
        folder: The experiment's; it may not be there yet.
        past: What the ledger has already; None for a new experiment.

    Raises:
        EnvironmentFault: On entering: one cannot begin, and the experiment is new. One that is
            resumed goes on without it.
    """

    def __init__(
        self,
        asked: Sequence[str],
        plan: Plan,
        folder: Path,
        past: Sequence[ledger.Event] | None = None,
    ) -> None:
        self._asked = asked
        self._plan, self._folder = plan, folder
        self._tasks = {task.name: task for task in plan.tasks}
        self._is_new = past is None
        self._runs = {e.run.id: e.run for e in past or () if isinstance(e, ledger.RunStarted)}
        self._begun: set[str] = set()
        self._trackers: list[_Isolated] = []

    def __enter__(self) -> "Tracking":
        for each in self._asked:
            name, _, where = each.partition(":")
            try:
                self._trackers.append(
                    _Isolated(name, TRACKERS[name](self._plan, self._folder, where))
                )
            except Exception as error:
                if self._is_new:
                    self._close()
                    raise EnvironmentFault(f"--track {name}: {error}") from error
                print(f"warning: {name} is left out: {error}", file=sys.stderr)
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def _close(self) -> None:
        for each in self._trackers:
            each.close()

    def __call__(self, event: ledger.Event) -> None:
        """Pass an event on."""
        if isinstance(event, ledger.RunStarted):
            self._runs[event.run.id] = event.run
            self._start(event.run, 0)
        elif isinstance(event, ledger.RunResumed):
            self._start(self._runs[event.run_id], event.num_epochs)
        elif isinstance(event, ledger.EpochDone):
            run, result = self._runs[event.run_id], event.result
            task = self._tasks[run.task]
            curves = result.curves(task.num_train, task.metric.name)
            self._tell(
                run, lambda tracker: tracker.epoch(run, result.epoch, result.ended_at, curves)
            )
        elif isinstance(event, ledger.RunEnded):
            run, status = self._runs[event.run_id], event.status
            self._tell(run, lambda tracker: tracker.ended(run, status))

    def _start(self, run: RunSpec, num_epochs: int) -> None:
        self._begun.add(run.id)
        for each in self._trackers:
            each.tell(lambda tracker: tracker.started(run, num_epochs))

    def _tell(self, run: RunSpec, word: Callable[[Tracker], None]) -> None:
        if run.id not in self._begun:  # it was decided by what an earlier session wrote
            self._start(run, run.num_epochs)
        for each in self._trackers:
            each.tell(word)
