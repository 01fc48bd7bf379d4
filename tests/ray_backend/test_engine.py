"""The engine on a real Ray, with runs that go wrong."""

import math
import os
import re
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.training.test_loop import TASK, linear, tiny_data
from tune_adaptive.protocol.fixed_runs import FixedRuns
from tune_adaptive.ray_backend import engine
from tune_adaptive.ray_backend.engine import execute
from tune_adaptive.records.plan import Plan
from tune_adaptive.records.runs import Configuration, EpochResult, RunSpec, Status
from tune_adaptive.records.spaces import Parameter, SearchSpace
from tune_adaptive.records.task_plan import TaskPlan
from tune_adaptive.tasks import Task
from tune_adaptive.tasks.data import Description
from tune_adaptive.training.checkpoints import CheckpointStore

pytestmark = pytest.mark.usefixtures("cluster")


def plan(slots: int = 2, gpus_per_trial: float = 0.0, cpus_per_trial: float = 1.0) -> Plan:
    task = TaskPlan(
        name=TASK.name,
        num_epochs=3,
        num_train=100,
        num_validation=40,
        num_test=40,
        batch_size=TASK.batch_size,
        optimizer="adamw",
        augment="none",
        clip_norm=math.inf,
        notes={},
        data_sha256="",
        complexity=tiny_data().describe().complexity,
        precision="fp32",
        epoch_s=0.1,
        loaded_epoch_s=0.1,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
        slots=slots,
        spaces={"step": SearchSpace((Parameter("lr", "float", 1e-3, low=1e-4, high=1e-2),))},
        space_sha256={},
    )
    return Plan(
        name="tiny",
        created="",
        command="",
        seed=0,
        schedules=("step",),
        tasks=(task,),
        budget=1,
        num_controls=0,
        num_candidates=2,
        num_select_seeds=2,
        num_final_seeds=2,
        final_slots=1,
        ablations=False,
        signals="steady",
        num_gpus=1,
        num_cpus=2,
        device="CPU",
        versions={},
        hardware={},
        options={},
    )


def runs(num: int, num_epochs: int = 2, open_test: bool = False) -> list[RunSpec]:
    return [
        RunSpec(
            id=f"run-{index}",
            stage="final",
            task=TASK.name,
            configuration=Configuration("step"),
            seed=index,
            num_epochs=num_epochs,
            signals="steady",
            open_test=open_test,
        )
        for index in range(num)
    ]


class Recorder(FixedRuns):
    """Fixed runs that remember everything they were told."""

    def __init__(self, specs: list[RunSpec], slots: dict[str, int] | None = None) -> None:
        super().__init__(specs, slots=slots)
        self.results: dict[str, list[EpochResult]] = {}
        self.failures: dict[str, str] = {}
        self.transient: dict[str, bool] = {}
        self.num_started = self.num_running = self.most_running = 0

    def next(self) -> RunSpec | None:
        run = super().next()
        if run is not None:
            self.num_started += 1
            self.num_running += 1
            self.most_running = max(self.most_running, self.num_running)
        return run

    def heard(self, run: RunSpec, result: EpochResult) -> Status | None:
        self.results.setdefault(run.id, []).append(result)
        status = super().heard(run, result)
        self.num_running -= status is not None
        return status

    def failed(self, run: RunSpec, message: str, transient: bool = False) -> None:
        self.failures[run.id] = message
        self.transient[run.id] = transient
        self.num_running -= 1
        super().failed(run, message)


def go(
    jobs: Recorder,
    build: Callable[[Description], nn.Module] = linear,
    kept: Path | None = None,
    **options: float,
) -> None:
    task = Task(TASK.name, data=tiny_data, build=build, batch_size=16)
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(str(kept or folder))
        own = plan(**options)  # type: ignore[arg-type]
        execute(jobs, own, {TASK.name: task}, {TASK.name: tiny_data()}, store)


def test_every_run_trains_to_its_end_and_opens_the_test_split_once() -> None:
    jobs = Recorder(runs(5, open_test=True))
    go(jobs)
    assert jobs.exhausted
    assert jobs.failures == {}
    for results in jobs.results.values():
        assert [result.epoch for result in results] == [1, 2]
        assert [result.test_metric is not None for result in results] == [False, True]


@pytest.mark.slow
def test_quarters_of_a_gpu_run_four_at_once_and_are_kept_between_two_stages(
    tmp_path: Path,
) -> None:
    def build(data: Description) -> nn.Module:
        (tmp_path / str(os.getpid())).touch()
        return linear(data)

    class TwoStages(Recorder):
        is_first = True

        def next(self) -> RunSpec | None:
            if self.num_started == 4 and self.num_running == 0:
                self.is_first = False
            return None if self.is_first and self.num_started == 4 else super().next()

    first = runs(8)
    first[3] = replace(first[3], num_epochs=150)  # the others' workers have nothing to do
    jobs = TwoStages(first)
    go(jobs, build, slots=4, gpus_per_trial=0.25, cpus_per_trial=0.5)
    assert len(jobs.last) == 8
    assert jobs.most_running == 4
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.slow
def test_tasks_of_other_shares_have_workers_of_their_own_and_none_waits_for_ever(
    tmp_path: Path,
) -> None:
    """Halves and quarters of the one GPU: a worker that rests must make room for the others'."""

    def build(data: Description, task: str) -> nn.Module:
        (tmp_path / f"{task}-{os.getpid()}").touch()
        return linear(data)

    whole = plan()
    tasks = {
        name: Task(name, data=tiny_data, build=partial(build, task=name[0]), batch_size=16)
        for name in ("half/linear", "quarter/linear")
    }
    shared = [
        replace(whole.tasks[0], name=name, cpus_per_trial=0.5, gpus_per_trial=gpus, slots=slots)
        for name, gpus, slots in (("half/linear", 0.5, 2), ("quarter/linear", 0.25, 4))
    ]
    of_tasks = ["half/linear"] * 3 + ["quarter/linear"] * 5 + ["half/linear", "quarter/linear"]
    at_once: Counter[str] = Counter()

    class Counting(Recorder):
        def next(self) -> RunSpec | None:
            run = super().next()
            for task in {"half/linear", "quarter/linear"}:
                at_once[task] = max(at_once[task], self._running[task])
            return run

    jobs = Counting(
        [replace(run, task=task) for run, task in zip(runs(10), of_tasks, strict=True)],
        {"half/linear": 2, "quarter/linear": 4},
    )
    execute(
        jobs,
        replace(whole, tasks=tuple(shared)),
        tasks,
        {name: tiny_data() for name in tasks},
        CheckpointStore(str(tmp_path / "kept")),
    )
    assert len(jobs.last) == 10
    pids = {which: {p.name[2:] for p in tmp_path.glob(f"{which}-*")} for which in "hq"}
    assert not pids["h"] & pids["q"]
    assert at_once == {"half/linear": 2, "quarter/linear": 4}


def test_a_run_that_raises_is_told_and_its_worker_lives_on(tmp_path: Path) -> None:
    def build(data: Description) -> nn.Module:
        with (tmp_path / "pids").open("a") as file:
            file.write(f"{os.getpid()}\n")
        if torch.initial_seed() == 1:
            raise ValueError("no such layer")
        if torch.initial_seed() == 2:
            raise ConnectionError("the network is gone")
        return linear(data)

    jobs = Recorder(runs(4))
    go(jobs, build, slots=1)
    last = jobs.failures["run-1"].splitlines()[-1]
    assert re.fullmatch(r".*test_engine\.py:\d+: in \w+: ValueError: no such layer", last)
    assert jobs.transient == {"run-1": False, "run-2": True}, "a fault of the network may pass"
    assert set(jobs.last) == {"run-0", "run-3"}
    assert len(set((tmp_path / "pids").read_text().split())) == 1


def test_a_worker_that_dies_loses_its_run_only() -> None:
    def build(data: Description) -> nn.Module:
        if torch.initial_seed() == 1:
            os._exit(1)
        return linear(data)

    jobs = Recorder(runs(4))
    go(jobs, build)
    assert list(jobs.failures) == ["run-1"]
    assert jobs.failures["run-1"].splitlines()[-1] == "WorkerDied: its process ended"
    assert jobs.transient == {"run-1": True}
    assert set(jobs.last) == {"run-0", "run-2", "run-3"}


def test_asked_to_stop_it_keeps_the_state_of_every_run_at_work(tmp_path: Path) -> None:
    class Asking(Recorder):
        def heard(self, run: RunSpec, result: EpochResult) -> Status | None:
            status = super().heard(run, result)
            if len(self.results) == 2 and result.epoch == 1:  # both are at work
                os.kill(os.getpid(), signal.SIGINT)
            return status

    jobs = Asking(runs(3, num_epochs=100_000))
    with pytest.raises(KeyboardInterrupt):
        go(jobs, kept=tmp_path)
    store = CheckpointStore(str(tmp_path))
    for run in runs(2, num_epochs=100_000):
        kept = store.read(run)
        assert kept is not None
        assert kept.num_epochs <= len(jobs.results[run.id]) <= kept.num_epochs + 1
    assert jobs.failures == {}


def test_asked_to_stop_by_the_last_result_it_says_that_it_was() -> None:
    class Asking(Recorder):
        def heard(self, run: RunSpec, result: EpochResult) -> Status | None:
            status = super().heard(run, result)
            if self.exhausted:
                os.kill(os.getpid(), signal.SIGTERM)
            return status

    jobs = Asking(runs(1))
    with pytest.raises(KeyboardInterrupt):
        go(jobs, slots=1)
    assert jobs.exhausted


def test_what_the_jobs_raise_ends_the_search() -> None:
    class Broken(Recorder):
        def heard(self, run: RunSpec, result: EpochResult) -> Status | None:
            self.results.setdefault(run.id, []).append(result)
            if result.epoch == 2:
                raise RuntimeError("the ledger is full")
            return None

    with pytest.raises(RuntimeError, match="the ledger is full"):
        go(Broken(runs(50, num_epochs=100_000)), slots=1)


def test_a_run_that_a_stranger_interrupted_is_told_as_one_that_may_pass(tmp_path: Path) -> None:
    class Impatient(Recorder):
        def next(self) -> RunSpec | None:
            if not self.num_started:
                CheckpointStore(str(tmp_path)).ask_to_stop()
            return super().next()

    jobs = Impatient(runs(1, num_epochs=100_000))
    go(jobs, kept=tmp_path, slots=1)
    assert jobs.transient == {"run-0": True}


def test_a_stopped_run_stops_at_once_and_its_slot_goes_on() -> None:
    class Impatient(Recorder):
        def heard(self, run: RunSpec, result: EpochResult) -> Status | None:
            if run.id == "run-0":
                self.results.setdefault(run.id, []).append(result)
                self._num_left -= 1
                return "stopped"
            return super().heard(run, result)

    jobs = Impatient(runs(3))
    go(jobs, slots=1)
    assert len(jobs.results["run-0"]) == 1
    assert set(jobs.last) == {"run-1", "run-2"}


class Cache:
    def __init__(self) -> None:
        self.changes: list[tuple[str, int]] = []

    def increase_max(self, kept: object, by: int) -> None:
        self.changes.append(("more", by))

    def decrease_max(self, kept: object, by: int) -> None:
        self.changes.append(("fewer", by))


class Ended:
    is_done = True

    def heard(self, trial_id: str, result: dict[str, object]) -> str:
        return "STOP"


@pytest.mark.parametrize("cache", [None, object(), Cache()])
def test_workers_are_kept_between_stages_where_tune_has_its_private_cache(cache: object) -> None:
    controller = SimpleNamespace(**({} if cache is None else {"_actor_cache": cache}))
    trial = SimpleNamespace(trial_id="a", placement_group_factory="resources")
    decide = engine._Decide(Ended(), slots=2)  # type: ignore[arg-type]
    decide.on_trial_add(controller, trial)
    decide.on_trial_add(controller, trial)
    assert decide.on_trial_result(controller, trial, {}) == "STOP"
    assert decide.on_trial_result(controller, trial, {}) == "STOP"
    if isinstance(cache, Cache):
        assert cache.changes == [("more", 2), ("fewer", 2)]
