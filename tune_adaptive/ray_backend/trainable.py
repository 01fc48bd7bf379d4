"""The Trainable: one worker process that trains run after run."""

import gc
import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import ray
import torch
from ray import ObjectRef, tune

from tune_adaptive.errors import located
from tune_adaptive.ray_backend.failures import may_pass
from tune_adaptive.ray_backend.own_code import require, unpack
from tune_adaptive.ray_backend.watchdog import (
    Interrupted,
    StopSign,
    StoreKeeper,
    Watchdog,
    end_process,
    keep_freed_memory,
)
from tune_adaptive.records.runs import EpochResult, RunSpec, Signal
from tune_adaptive.signals.replay import dump_signals, parse_signals
from tune_adaptive.tasks import Task
from tune_adaptive.tasks.data import Description, Examples
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training.checkpoints import CheckpointStore
from tune_adaptive.training.device import claim_device, has_lost_gpu
from tune_adaptive.training.loop import Material, train


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
        shares: Mapping[str, tuple[float, float]],
        schedules: bytes,
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
            shares: By the task's name, the CPUs that are this process's and the share of a GPU;
                all runs it takes have the same.
            schedules: Builders that are not of this package, packed.
        """
        self._why_not = unpack(schedules)
        cpus, gpu_fraction = shares[config["run"]["task"]]
        keep_freed_memory()
        self._device = claim_device(cpus, gpu_fraction)
        self._tasks, self._descriptions, self._splits = tasks, descriptions, splits
        self._replay = replay
        self._materials: dict[str, Material] = {}
        self._store = CheckpointStore(checkpoints)
        self._keep_every_s = keep_every_s
        self._stop_sign = StopSign(self._store)
        self._watchdog = Watchdog(self._store, hang_after_s)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next run; the process stays."""
        self._run = RunSpec.from_dict(new_config["run"])
        self._epochs: Iterator[EpochResult] | None = None
        self._recording = parse_signals(new_config["heard"], "the recording it replays")
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
            trace = f"{traceback.format_exc()}{located(error)}"
            if has_lost_gpu(error):  # every run that this process took would fail
                end_process(self._store, self._run.id, trace)
            told = {"failure": trace, "transient": may_pass(error)}
        finally:
            self._watchdog.rest()
        # The error is gone, and with it the frames that held the model.
        gc.collect()  # those in reference cycles, too
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # what it had is its neighbours' to use
        return told

    def _start(self) -> Iterator[EpochResult]:
        run = self._run
        require(run.configuration.schedule, self._why_not)
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
            keeper=StoreKeeper(self._store, self._keep_every_s, self._stop_sign),
            kept=self._store.read(run),
        )

    def _fetch(self, split: ObjectRef) -> Split:
        examples: Examples = ray.get(split)
        return Split.of(examples, self._device)
