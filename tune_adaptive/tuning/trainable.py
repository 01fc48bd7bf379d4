"""The Trainable: one worker process that trains run after run."""

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import ray
import torch
from ray import ObjectRef, tune

from tune_adaptive.checkpoints import Checkpoint, CheckpointStore
from tune_adaptive.runs import EpochResult, RunSpec, Signal
from tune_adaptive.signals.replay import dump_signals, parse_signals
from tune_adaptive.tasks import Task
from tune_adaptive.tasks.data import Description, Examples
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training import Material, train

LOOK_EVERY_S = 1.0  # whether work should stop
TRANSIENT = (OSError, MemoryError)
"""What may well not happen another time; whatever else a run raises, it would raise again."""


class Interrupted(Exception):
    """The run's state is kept and its work has ended, because that was asked for."""


class Worker(tune.Trainable):
    """Trains one epoch a ``step``; reused across trials, so data and torch stay warm."""

    def setup(
        self,
        config: dict[str, Any],
        *,
        tasks: Mapping[str, Task],
        descriptions: Mapping[str, Description],
        splits: Mapping[str, tuple[ObjectRef, ObjectRef, ObjectRef]],
        replay: Sequence[Signal],
        checkpoints: str,
        keep_every_s: float,
        hang_after_s: float,
        num_threads: int,
        gpu_fraction: float,
    ) -> None:
        """Prepare the process once.

        Args:
            config: ``{"run": RunSpec.to_dict(), "heard": the recording it hears, as JSON lines}``.
            tasks: By name.
            descriptions: By the task's name.
            splits: By the task's name, references to (train, validation, test); test is
                fetched only at the end of a run that opens it.
            replay: What runs hear whose signals are ``replay``.
            checkpoints: Where runs keep their state.
            keep_every_s: Seconds between two checkpoints of a run.
            hang_after_s: Seconds after which an epoch that has not ended is taken to hang.
            num_threads: CPU threads torch may use.
            gpu_fraction: Share of the GPU this process may fill; 0 trains on the CPU.
        """
        torch.set_num_threads(num_threads)
        self._device = claim_device(gpu_fraction)
        self._tasks, self._descriptions, self._splits = tasks, descriptions, splits
        self._replay = replay
        self._materials: dict[str, Material] = {}
        self._store = CheckpointStore(checkpoints)
        self._keep_every_s = keep_every_s
        self._watchdog = Watchdog(self._store, hang_after_s)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next run; the process stays."""
        self._run = RunSpec.from_dict(new_config["run"])
        self._epochs: Iterator[EpochResult] | None = None
        self._recording = parse_signals(new_config["heard"], "the recording it hears")
        self._heard: list[Signal] = []
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch; what the run raises is a result, so that the process survives."""
        self._watchdog.watch(self._run.id)
        try:
            if self._epochs is None:
                self._epochs = self._start()
            result = next(self._epochs)
            signals, self._heard[:] = dump_signals(self._heard), []
            return {"epoch": json.dumps(asdict(result)), "signals": signals}
        except Interrupted:
            self._epochs = None
            return {"interrupted": True}
        except Exception as error:
            self._epochs = None
            told = {"failure": traceback.format_exc(), "transient": isinstance(error, TRANSIENT)}
            del error  # and with it the frames that hold the model
            if self._device.type == "cuda":
                torch.cuda.empty_cache()  # what it had is its neighbours' to use
            return told
        finally:
            self._watchdog.rest()

    def _start(self) -> Iterator[EpochResult]:
        run = self._run
        if run.task not in self._materials:
            training, validation, _ = self._splits[run.task]
            self._materials[run.task] = Material(
                task=self._tasks[run.task],
                description=self._descriptions[run.task],
                train=self._fetch(training),
                validation=self._fetch(validation),
            )
        test = self._splits[run.task][2]
        open_test = (lambda: self._fetch(test)) if run.open_test else None
        return train(
            run,
            self._materials[run.task],
            open_test,
            record=self._heard.extend,
            heard=self._recording or self._replay,
            keeper=StoreKeeper(self._store, self._keep_every_s),
            kept=self._store.read(run),
        )

    def _fetch(self, split: ObjectRef) -> Split:
        examples: Examples = ray.get(split)
        return Split.of(examples, self._device)


class StoreKeeper:
    """Keeps a run's state every so often, and once more when work is asked to stop."""

    def __init__(self, store: CheckpointStore, every_s: float) -> None:
        self._store = store
        self._every_s = every_s
        self._next_look = time.monotonic()
        self._next_keep = self._next_look + every_s
        self._is_asked = False

    def is_due(self) -> bool:
        """Whether the state should be kept now."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_EVERY_S
            self._is_asked = self._store.is_asked_to_stop()
        return self._is_asked or now >= self._next_keep

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep it.

        Raises:
            Interrupted: Work was asked to stop.
        """
        self._store.write(checkpoint)
        if self._is_asked:
            raise Interrupted
        self._next_keep = time.monotonic() + self._every_s


class Watchdog:
    """Ends this process where an epoch hangs, and leaves word of what its threads were doing.

    It is a thread, and needs the interpreter's lock now and then.
    """

    def __init__(self, store: CheckpointStore, limit_s: float) -> None:
        self._store = store
        self._limit_s = limit_s
        self._watched: tuple[str, float] | None = None  # a run, and when it must be done
        threading.Thread(target=self._look, daemon=True, name="watchdog").start()

    def watch(self, run_id: str) -> None:
        """Begin to watch a run's next epoch."""
        self._watched = run_id, time.monotonic() + self._limit_s

    def rest(self) -> None:
        """Watch nothing."""
        self._watched = None

    def _look(self) -> None:
        while True:
            time.sleep(min(1.0, self._limit_s / 4))
            watched = self._watched
            if watched is not None and time.monotonic() > watched[1]:
                break
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        stacks = "".join(
            f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
            for ident, frame in sys._current_frames().items()
            if ident != threading.get_ident()
        )
        told = f"{stacks}HungError: no epoch ended within {self._limit_s:g} s"
        self._store.leave_last_words(watched[0], told)
        os._exit(1)


def claim_device(gpu_fraction: float) -> torch.device:
    """Return the device of this process, its memory capped to its share of the GPU.

    On a GPU only algorithms are used that repeat themselves, wherever torch has one, so that
    the same seed gives the same metrics; torch warns where it has none.
    """
    if gpu_fraction > 0 and torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.use_deterministic_algorithms(True, warn_only=True)
        if gpu_fraction < 1:
            torch.cuda.set_per_process_memory_fraction(gpu_fraction)
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
