"""What the ledger tells, told to trackers that people use already: TensorBoard, MLflow, W&B.

A tracker hears every event after it is on disk. It is a guest: what it raises is told once,
and the search goes on without it.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from tune_adaptive import ledger
from tune_adaptive.errors import EnvironmentFault, InputError, did_you_mean
from tune_adaptive.plan import Plan
from tune_adaptive.runs import EpochResult, RunSpec, Status


class Tracker(Protocol):
    """One run after the other, or several at once, told by their ids."""

    def started(self, run: RunSpec) -> None:
        """Hear that a run began, or was resumed by this process."""

    def epoch(self, run: RunSpec, result: EpochResult, curves: Mapping[str, float]) -> None:
        """Hear of an epoch; ``curves`` are the values to track of it, by name."""

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
    """Event files, a folder a run, under the experiment's ``tensorboard/``.

    ``tensorboard --logdir results/NAME/tensorboard`` shows them.
    """

    def __init__(self, plan: Plan, folder: Path, where: str) -> None:
        self._root = Path(where).expanduser() if where else folder / "tensorboard"
        self._writers: dict[str, Any] = {}

    def started(self, run: RunSpec) -> None:
        """Open its file; hyperparameters stand in the run's text."""
        from tensorboardX import SummaryWriter

        if run.id in self._writers:
            return
        writer = SummaryWriter(str(self._root / run.id), write_to_disk=True)
        self._writers[run.id] = writer
        values = tags(run) | {k: str(v) for k, v in run.configuration.values().items()}
        writer.add_text("run", "  \n".join(f"{name}: {value}" for name, value in values.items()))

    def epoch(self, run: RunSpec, result: EpochResult, curves: Mapping[str, float]) -> None:
        """Add a point to every curve."""
        for name, value in curves.items():
            self._writers[run.id].add_scalar(name, value, result.epoch, walltime=result.ended_at)
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
    ``mlflow.db`` in the experiment's folder.
    """

    STATUSES = {"completed": "FINISHED", "stopped": "KILLED"}  # noqa: RUF012

    def __init__(self, plan: Plan, folder: Path, where: str) -> None:
        import os

        from mlflow import MlflowClient

        own = f"sqlite:///{folder.absolute() / 'mlflow.db'}"
        self._client = MlflowClient(where or os.environ.get("MLFLOW_TRACKING_URI") or own)
        found = self._client.get_experiment_by_name(plan.name)
        self._experiment = (
            found.experiment_id if found else self._client.create_experiment(plan.name)
        )
        self._runs: dict[str, str] = {}  # MLflow's ids, by ours

    def started(self, run: RunSpec) -> None:
        """Create its run, or find the one that was interrupted."""
        known = self._client.search_runs(
            [self._experiment], f"tags.run_id = '{run.id}'", max_results=1
        )
        if known:
            self._runs[run.id] = known[0].info.run_id
            return
        made = self._client.create_run(self._experiment, run_name=run.id, tags=tags(run))
        self._runs[run.id] = made.info.run_id
        for name, value in run.configuration.values().items():
            self._client.log_param(made.info.run_id, name, value)

    def epoch(self, run: RunSpec, result: EpochResult, curves: Mapping[str, float]) -> None:
        """Log its metrics at the step of its epoch."""
        from mlflow.entities import Metric

        at = int(1000 * result.ended_at)
        points = [Metric(name, x, at, result.epoch) for name, x in curves.items()]
        self._client.log_batch(self._runs[run.id], metrics=points)

    def ended(self, run: RunSpec, status: Status) -> None:
        """Set its status: a trial that was stopped early is KILLED."""
        self._client.set_terminated(self._runs.pop(run.id), self.STATUSES.get(status, "FAILED"))

    def close(self) -> None:
        """Nothing is held back."""


class WandB:
    """A Weights & Biases project, a run a run; ``WANDB_MODE=offline`` writes files only.

    ``wandb:PROJECT`` names the project, else it has the experiment's name. Files are below the
    experiment's ``wandb/`` unless ``WANDB_DIR`` says otherwise.
    """

    def __init__(self, plan: Plan, folder: Path, where: str) -> None:
        import os

        import wandb

        self._wandb = wandb
        self._project = where or plan.name
        self._folder = Path(os.environ.get("WANDB_DIR") or folder)
        self._runs: dict[str, Any] = {}

    def started(self, run: RunSpec) -> None:
        """Create its run, or go on with the one that was interrupted."""
        if run.id in self._runs:
            return
        self._runs[run.id] = self._wandb.init(
            project=self._project,
            dir=str(self._folder),
            id=f"{self._project}-{run.id}"[:128],
            name=run.id,
            group=f"{run.task}:{run.configuration.schedule}",
            job_type=run.stage,
            config=tags(run) | dict(run.configuration.values()),
            resume="allow",
            reinit="create_new",
            settings=self._wandb.Settings(silent=True, console="off"),
        )

    def epoch(self, run: RunSpec, result: EpochResult, curves: Mapping[str, float]) -> None:
        """Log its metrics at the step of its epoch."""
        self._runs[run.id].log(dict(curves), step=result.epoch)

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
        InputError: There is no such tracker.
        EnvironmentFault: Its package is not installed.
    """
    for each in asked:
        name = each.partition(":")[0]
        if name not in TRACKERS:
            raise InputError(f"--track {each}: unknown{did_you_mean(name, TRACKERS)}")
        if find_spec(PACKAGES[name]) is None:
            raise EnvironmentFault(f"--track {name}: needs a package: pip install {PACKAGES[name]}")


class Tracking:
    """All trackers that were asked for; call it with each event.

    Args:
        asked: ``tensorboard``, ``mlflow[:URI]`` or ``wandb[:PROJECT]``.
        plan: The experiment's.
        folder: The experiment's; it may not be there yet.
        past: What the ledger has already.
    """

    def __init__(
        self, asked: Sequence[str], plan: Plan, folder: Path, past: Sequence[ledger.Event] = ()
    ) -> None:
        self._asked = asked
        self._plan, self._folder = plan, folder
        self._num_train = {task.name: task.num_train for task in plan.tasks}
        self._runs = {e.run.id: e.run for e in past if isinstance(e, ledger.RunStarted)}
        self._trackers: dict[str, Tracker] | None = None  # begun with the first event

    def __enter__(self) -> "Tracking":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in list(self._trackers or ()):
            self._tell(name, lambda tracker: tracker.close())

    def __call__(self, event: ledger.Event) -> None:
        """Pass an event on."""
        if self._trackers is None:
            self._trackers = {}
            for each in self._asked:
                self._begin(each)
        for name in list(self._trackers):
            self._tell(name, lambda tracker: self._pass_on(event, tracker))
        if isinstance(event, ledger.RunStarted):
            self._runs[event.run.id] = event.run

    def _begin(self, asked: str) -> None:
        name, _, where = asked.partition(":")
        assert self._trackers is not None
        try:
            self._trackers[name] = TRACKERS[name](self._plan, self._folder, where)
        except Exception as error:
            raise EnvironmentFault(f"--track {asked}: {error}") from error

    def _pass_on(self, event: ledger.Event, tracker: Tracker) -> None:
        if isinstance(event, ledger.RunStarted):
            tracker.started(event.run)
        elif isinstance(event, ledger.RunResumed):
            tracker.started(self._runs[event.run_id])
        elif isinstance(event, ledger.EpochDone):
            run = self._runs[event.run_id]
            curves = event.result.curves(self._num_train[run.task])
            tracker.epoch(run, event.result, curves)
        elif isinstance(event, ledger.RunEnded):
            tracker.ended(self._runs[event.run_id], event.status)

    def _tell(self, name: str, word: Callable[[Tracker], None]) -> None:
        assert self._trackers is not None
        try:
            word(self._trackers[name])
        except Exception as error:
            del self._trackers[name]
            print(f"warning: {name} is left out from here on: {error!r}", file=sys.stderr)
