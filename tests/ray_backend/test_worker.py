"""The worker process, in this process."""

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training.test_checkpoints import state
from tune_adaptive.ray_backend import watchdog as care
from tune_adaptive.ray_backend.failures import may_pass
from tune_adaptive.ray_backend.trainable import Worker
from tune_adaptive.ray_backend.watchdog import Interrupted, StopSign, StoreKeeper, Watchdog
from tune_adaptive.records.runs import EpochResult
from tune_adaptive.training.checkpoints import CheckpointStore


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    store = CheckpointStore(str(tmp_path / "checkpoints"))
    store.open()
    return store


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="is about glibc")
def test_what_was_freed_is_taken_again_without_faults() -> None:
    """In a process of its own: it stays as it is set."""
    script = """
import resource, sys
import torch
from tune_adaptive.ray_backend.watchdog import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def churn():
    for _ in range(20):
        blocks = [torch.zeros(6 * 2**20, dtype=torch.uint8) for _ in range(20)]
        del blocks
churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    # What glibc decides by itself depends on where blocks happen to lie; told so, it gives back.
    gives_back = dict(os.environ) | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    faults = {
        how: int(
            subprocess.check_output([sys.executable, "-c", script, how], env=gives_back, text=True)
        )
        for how in ("kept", "as it is")
    }
    assert faults["kept"] < faults["as it is"] / 10


class Sign(StopSign):
    """One that looks when it is told to."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store, self.is_up = store, False


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_a_state_is_kept_every_so_often(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(care, "time", clock := Clock())
    keeper = StoreKeeper(store, 50.0, Sign(store))
    assert not keeper.is_due()
    clock.now += 49.9
    assert not keeper.is_due()
    clock.now += 0.2
    assert keeper.is_due()
    keeper.keep(state())
    assert store.read(state().run) is not None
    assert not keeper.is_due()
    clock.now += 50.0
    assert keeper.is_due()


def test_a_state_is_kept_when_work_is_asked_to_stop(store: CheckpointStore) -> None:
    keeper = StoreKeeper(store, 50.0, sign := Sign(store))
    sign.look()
    assert not keeper.is_due()
    store.ask_to_stop()
    sign.look()
    assert keeper.is_due()
    with pytest.raises(Interrupted):
        keeper.keep(state())
    assert store.read(state().run) is not None


def test_a_storage_that_does_not_answer_says_nothing_new(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> bool:
        raise ConnectionError

    sign = Sign(store)
    sign.is_up = True
    monkeypatch.setattr(store, "is_asked_to_stop", gone)
    sign.look()
    assert sign.is_up


def test_the_sign_is_looked_at_beside_the_training(store: CheckpointStore) -> None:
    seen = threading.Event()

    class Seen(StopSign):
        def look(self) -> None:
            super().look()
            if self.is_up:
                seen.set()

    Seen(store)
    store.ask_to_stop()
    assert seen.wait(timeout=60)


def test_a_state_that_cannot_be_written_does_not_end_its_run(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(care, "time", clock := Clock())
    keeper = StoreKeeper(store, 50.0, Sign(store))
    keeper.keep(state())
    monkeypatch.setattr(os, "fsync", full)
    keeper.keep(state())
    assert "its state is not kept: [Errno 28]" in capsys.readouterr().err
    assert [path.name for path in Path(store.root).iterdir()] == ["r.safetensors"]
    assert not keeper.is_due()
    clock.now += 50.0
    assert keeper.is_due(), "the next time it may have luck"


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionError(), True),
        (OSError(5, "Input/output error"), True),
        (MemoryError(), True),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (ValueError(), False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_what_may_pass_is_told_from_what_would_be_raised_again(
    error: Exception, passes: bool
) -> None:
    assert may_pass(error) is passes


class Threads:
    """A process of two threads, on a clock that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waited = {1: 7.0, 2: 0.0}

    def monotonic(self) -> float:
        return self.now

    def waits(self) -> dict[int, float]:
        return dict(self.waited)

    def passes(self, seconds: float, **waiting: float) -> None:
        """Let time pass, of which threads spend a share waiting for a CPU."""
        self.now += seconds
        for thread, share in waiting.items():
            self.waited[int(thread[1:])] += share * seconds


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    monkeypatch.setattr(care, "time", threads := Threads())
    return threads


@pytest.mark.parametrize(
    ("waiting", "counted"),
    [
        ({}, 100.0),  # a deadlock, or an endless loop on a CPU of its own
        ({"t1": 0.96}, 4.0),  # starving: 4% of a core
        ({"t2": 0.96}, 4.0),  # the thread that others wait for
        ({"t1": 0.5, "t2": 0.1}, 50.0),
        ({"t1": 1.5}, 0.0),  # the counters are not read at the same instant
    ],
)
def test_waiting_for_a_cpu_is_not_hanging(
    threads: Threads, waiting: dict[str, float], counted: float
) -> None:
    clock = care.FairClock(1.0, threads.waits)
    for _ in range(100):
        threads.passes(1.0, **waiting)
        clock.look()
    assert clock.now_s == pytest.approx(counted)


def test_a_process_that_was_stopped_for_an_hour_has_not_hung(threads: Threads) -> None:
    clock = care.FairClock(1.0, threads.waits)
    threads.passes(3600.0)
    assert clock.look() <= 2.0


def test_where_waits_are_not_counted_all_time_is(threads: Threads) -> None:
    clock = care.FairClock(1.0, lambda: {})
    threads.passes(1.0)
    assert clock.look() == 1.0


def test_a_thread_that_is_new_has_waited_since_it_was_begun(threads: Threads) -> None:
    clock = care.FairClock(1.0, threads.waits)
    threads.waited[3] = 0.0
    threads.passes(1.0, t3=0.75)
    assert clock.look() == 0.25


@pytest.mark.skipif(sys.platform != "linux", reason="is about /proc")
def test_this_process_has_threads_and_what_they_waited() -> None:
    waits = care.waits_of_threads()
    assert threading.get_native_id() in waits or not Path("/proc/self/schedstat").exists()
    assert all(seconds >= 0 for seconds in waits.values())


@pytest.fixture
def worker(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """One at work on a run, without Ray."""
    worker = Worker.__new__(Worker)
    worker._run = state().run
    worker._epochs = None
    worker._store = store
    worker._watchdog = Watchdog(store, limit_s=600.0)
    worker._device = torch.device("cpu")
    return worker


def test_memory_is_freed_before_a_run_is_tried_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the run held, though it stood in a cycle of references as schedules do."""
    held: list[weakref.ref[torch.nn.Module]] = []

    def start() -> Iterator[EpochResult]:
        model = torch.nn.Linear(1, 1)
        model.itself = [model]
        held.append(weakref.ref(model))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(worker, "_start", start)
    gc.disable()
    try:
        told = worker.step()
    finally:
        gc.enable()
    assert told["transient"]
    assert held[0]() is None


@pytest.mark.parametrize("lost", [True, False])
def test_a_process_that_lost_its_gpu_ends_and_says_why(
    worker: Worker, store: CheckpointStore, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """Every run that it took afterwards would fail."""
    words = "CUDA error: unspecified launch failure" if lost else "no such layer"

    def start() -> Iterator[EpochResult]:
        raise RuntimeError(words)

    ends: list[int] = []
    monkeypatch.setattr(care.os, "_exit", ends.append)
    monkeypatch.setattr(worker, "_start", start)
    worker.step()
    assert ends == [1] * lost
    last_words = store.take_last_words(worker._run.id)
    assert last_words.strip().endswith(f"RuntimeError: {words}" if lost else "")
    assert bool(last_words) == lost


def test_an_epoch_that_hangs_is_ended_though_it_cannot_say_so(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def gone(run_id: str, words: str) -> None:
        raise OSError("the file system is gone")

    monkeypatch.setattr(care.os, "_exit", lambda code: ended.set())
    monkeypatch.setattr(store, "leave_last_words", gone)
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    Watchdog(store, limit_s=0.05).watch("slow")
    assert ended.wait(30)


def test_an_epoch_that_hangs_ends_its_process_and_says_where(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(care.os, "_exit", lambda code: ended.set())

    def hangs() -> None:
        assert ended.wait(30)

    watchdog = Watchdog(store, limit_s=0.05)
    watchdog.watch("quick")
    watchdog.rest()
    watchdog.watch("slow")
    hangs()
    assert store.take_last_words("quick") == ""
    words = store.take_last_words("slow")
    assert "in hangs" in words
    assert words.splitlines()[-1] == "HungError: no epoch ended within 0.05 s"
    assert store.take_last_words("slow") == "", "they are taken once"
