"""One Ray Tune ``Tuner`` for all stages: warm workers, no slot idle while a run waits.

Ray's part is to place worker processes and carry results. What runs next, and what a
result means, is decided by the :class:`Jobs` it is handed.
"""

import contextlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C is ours to answer
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")  # the ledger is the record
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

import pyarrow.fs
import ray
from ray import tune
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tune_adaptive.ray_backend import failures
from tune_adaptive.ray_backend.jobs import Jobs
from tune_adaptive.ray_backend.own_code import pack
from tune_adaptive.ray_backend.trainable import Worker
from tune_adaptive.records.plan import Plan
from tune_adaptive.records.runs import EpochResult, RunSpec, Signal, Status
from tune_adaptive.schedules import SCHEDULES
from tune_adaptive.system.interrupts import on_interrupt
from tune_adaptive.tasks import Task
from tune_adaptive.tasks.data import Dataset
from tune_adaptive.training.checkpoints import CheckpointStore

# Ray would write their values into a log that everybody may read. Workers inherit them anyway.
ENV_VARS_TO_PROPAGATE.difference_update({n for n in ENV_VARS_TO_PROPAGATE if n[:4] == "AWS_"})

GRACE_S = 6.0
"""Seconds that runs have to keep their state when work is asked to stop."""


class _Interrupt(tune.Callback):
    """Lets the runs keep their state and end, when that is asked for or the driver has failed.

    Where it takes too long, it raises KeyboardInterrupt.

    It does so between two of the controller's steps. Raised wherever the signal happens to
    arrive, it is lost now and then in a callback from compiled code, which ignores exceptions.
    """

    def __init__(self, driver: "_Driver", checkpoints: CheckpointStore) -> None:
        self._driver = driver
        self._checkpoints = checkpoints
        self._num_asked = 0
        self._ends_at: float | None = None

    @property
    def was_asked(self) -> bool:
        return self._num_asked > 0

    def ask(self) -> None:
        self._num_asked += 1

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if not self._num_asked and self._driver.error is None:
            return
        if self._ends_at is None:
            self._ends_at = time.monotonic() + GRACE_S
            self._driver.is_stopping = True
            with contextlib.suppress(Exception):  # then they end without being asked
                self._checkpoints.ask_to_stop()
        if self._num_asked > 1 or time.monotonic() >= self._ends_at:
            raise KeyboardInterrupt

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its parts for a restore that we never do."""
        return {}


class _Silent(tune.ProgressReporter):
    """Reports nothing; Tune's own would clear what a notebook's cell shows."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False


@contextlib.contextmanager
def quiet(verbose: bool) -> Iterator[None]:
    """Keep Ray and Optuna from logging anything but errors, unless ``verbose``.

    Tune's own errors are of runs whose worker died, and the ledger has them.
    """
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train", "optuna")]
    levels = [logger.level for logger in loggers]
    if not verbose:
        for logger in loggers:
            is_tunes = logger.name == "ray.tune"
            logger.setLevel(logging.CRITICAL if is_tunes else logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def execute(
    jobs: Jobs,
    plan: Plan,
    tasks: Mapping[str, Task],
    datasets: Mapping[str, Dataset],
    checkpoints: CheckpointStore,
    replay: Sequence[Signal] = (),
    record: Callable[[RunSpec, str], None] = lambda run, signals: None,
    recording: Callable[[RunSpec], str] = lambda run: "",
    foreign_cpus: Callable[[float, float], float | None] = lambda start, end: None,
) -> None:
    """Run ``jobs`` on the present cluster until they are exhausted.

    Args:
        jobs: What to run.
        plan: On how many slots, of what size.
        tasks: By name.
        datasets: By the task's name.
        checkpoints: Where runs keep their state.
        replay: What runs hear whose signals are ``replay``.
        record: Takes what a run's schedule heard, as JSON lines, before the epoch's result.
        recording: Gives the recording that a run hears instead of its own training.
        foreign_cpus: Gives the CPUs that others used from one Unix time to another, where the
            runs' workers are on this machine.

    Raises:
        Exception: Whatever ``jobs`` raised; the workers are stopped first.
        KeyboardInterrupt: A signal asked it to stop, or Tune ended with runs left.
    """
    driver = _Driver(jobs, checkpoints, record, recording, foreign_cpus)
    interrupt = _Interrupt(driver, checkpoints)
    storage = tempfile.mkdtemp(prefix="tune-adaptive-")
    try:
        tuner = tune.Tuner(
            _trainable(plan, tasks, datasets, checkpoints, replay),
            tune_config=tune.TuneConfig(
                search_alg=_Suggest(driver),
                scheduler=_Decide(driver, plan.slots if plan.is_shared_alike else 0),
                num_samples=-1,
                max_concurrent_trials=plan.slots,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=storage,
                storage_filesystem=pyarrow.fs.LocalFileSystem(),  # or it is taken for a URL
                verbose=0,
                callbacks=[interrupt],
                progress_reporter=_Silent(),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        with on_interrupt(interrupt.ask), contextlib.suppress(KeyboardInterrupt):
            tuner.fit()
    finally:
        shutil.rmtree(storage, ignore_errors=True)
    if driver.error is not None:
        raise driver.error
    if interrupt.was_asked or not jobs.exhausted:  # the second whatever made Tune return
        raise KeyboardInterrupt


def _trainable(
    plan: Plan,
    tasks: Mapping[str, Task],
    datasets: Mapping[str, Dataset],
    checkpoints: CheckpointStore,
    replay: Sequence[Signal],
) -> Any:
    """Return the worker with what all its runs need, and what a run of each task takes."""
    splits = {
        name: (ray.put(data.train), ray.put(data.validation), ray.put(data.test))
        for name, data in datasets.items()
    }
    shares = {task.name: (task.cpus_per_trial, task.gpus_per_trial) for task in plan.tasks}

    def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        cpus, gpus = shares[config["run"]["task"]]
        return tune.PlacementGroupFactory([{"CPU": cpus, "GPU": gpus}])

    return tune.with_resources(
        tune.with_parameters(
            Worker,
            # The workers take the splits from the store, not from their tasks.
            tasks={name: task.without_data() for name, task in tasks.items()},
            descriptions={name: data.describe() for name, data in datasets.items()},
            splits=splits,
            replay=list(replay),
            checkpoints=checkpoints.root,
            keep_every_s=plan.keep_every_s,
            hang_after_s=plan.hang_after_s,
            shares=shares,
            schedules=pack(SCHEDULES.outside(plan.schedules)),
        ),
        resources,
    )


class _Driver:
    """Passes Ray's calls on to the jobs; what they raise ends the search, not a trial."""

    def __init__(
        self,
        jobs: Jobs,
        checkpoints: CheckpointStore,
        record: Callable[[RunSpec, str], None],
        recording: Callable[[RunSpec], str],
        foreign_cpus: Callable[[float, float], float | None],
    ) -> None:
        self._jobs = jobs
        self._checkpoints = checkpoints
        self._record = record
        self._recording = recording
        self._foreign_cpus = foreign_cpus
        self._runs: dict[str, RunSpec] = {}  # under way, by Ray's trial id
        self.error: BaseException | None = None
        self.is_stopping = False

    @property
    def is_done(self) -> bool:
        """Whether no run will be started any more."""
        return self.is_stopping or self.error is not None or self._jobs.exhausted

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.is_stopping:
            return Searcher.FINISHED
        with self._catching():
            run = None if self.error else self._jobs.next()
            if run is not None:
                self._runs[trial_id] = run
                return {"run": run.to_dict(), "heard": self._recording(run)}
        return Searcher.FINISHED if self.is_done else None

    def heard(self, trial_id: str, result: dict[str, Any]) -> str:
        if self.error:
            return TrialScheduler.STOP
        status: Status | None = None
        with self._catching():
            run = self._runs[trial_id]
            if "interrupted" in result and self.is_stopping:
                del self._runs[trial_id]
                return TrialScheduler.STOP
            if "interrupted" in result:
                self._jobs.failed(run, "Interrupted: who asked it to stop is unknown", True)
                status = "failed"
            elif "failure" in result:
                self._jobs.failed(run, result["failure"], result["transient"])
                status = "failed"
            else:
                self._record(run, result["signals"])
                epoch = EpochResult.from_dict(json.loads(result["epoch"]))
                began_at = epoch.ended_at - epoch.train_s - epoch.eval_s
                foreign_cpus = self._foreign_cpus(began_at, epoch.ended_at)
                status = self._jobs.heard(run, replace(epoch, foreign_cpus=foreign_cpus))
            if status is not None:
                del self._runs[trial_id]
        if self.error or status is not None:
            return TrialScheduler.STOP
        return TrialScheduler.CONTINUE

    def died(self, trial_id: str, message: str) -> None:
        if self.error:
            return
        with self._catching():
            run = self._runs.pop(trial_id, None)
            if run is not None:
                last_words = self._checkpoints.take_last_words(run.id)
                self._jobs.failed(run, last_words or message, transient=True)

    @contextlib.contextmanager
    def _catching(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = self.error or error


class _Suggest(Searcher):
    def __init__(self, driver: _Driver) -> None:
        super().__init__()
        self._driver = driver

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        return self._driver.suggest(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The jobs have heard it from the scheduler."""

    def save(self, checkpoint_path: str) -> None:
        """The ledger is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """The ledger is the record."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its parts for a restore that we never do."""
        return {}


class _Decide(FIFOScheduler):
    """Passes on what trials report, and keeps the workers between two stages.

    Where no trial waits, as at the end of a stage, Tune would end all idle workers but one, and
    the next stage would wait for new ones to start. Its cache of workers is private: a version
    of Tune without it only loses that time.

    Args:
        driver: Hears them.
        slots: How many workers are kept; 0 where those of one task are of no use to another, and
            hold what its own need.
    """

    def __init__(self, driver: _Driver, slots: int) -> None:
        super().__init__()
        self._driver = driver
        self._slots = slots
        self._kept: Any = None  # the resources of the workers that are kept

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if self._slots and self._kept is None:
            self._kept = trial.placement_group_factory
            self._keep(tune_controller, "increase_max")

    def _keep(self, tune_controller: Any, change: str) -> None:
        cache = getattr(tune_controller, "_actor_cache", None)
        if hasattr(cache, change):
            getattr(cache, change)(self._kept, by=self._slots)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = self._driver.heard(trial.trial_id, result)
        if self._slots and self._driver.is_done:
            self._keep(tune_controller, "decrease_max")
            self._slots = 0
        return decision

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        told = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
        self._driver.died(trial.trial_id, failures.of_worker(told))

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its parts for a restore that we never do."""
        return {}
