"""Concurrent trials, each in a process of its own, for a few seconds: what they do together.

Every process trains and validates as a trial does, on its own copy of the task. They warm up,
begin at one word and train past the end of the window, so that all of it is shared.
"""

import multiprocessing
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType

import numpy as np
import torch

from tune_adaptive.errors import EnvironmentFault, InputError, last_line, located
from tune_adaptive.records.packing import Packed, pack
from tune_adaptive.records.runs import Configuration, Recipe, RunSpec
from tune_adaptive.tasks import Dataset, Task
from tune_adaptive.tasks.data import Description, Examples
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training.calibration import calibrate
from tune_adaptive.training.device import claim_device, claimed_device, is_out_of_memory
from tune_adaptive.training.loop import Material, train

WINDOW_S = 3.0
"""How long trials are measured [s]."""
STRETCH_S = 0.25
"""Training of one trial alone between two looks at the clock [s], about."""
OPTION = "--gpus-per-trial auto"


@dataclass(frozen=True, slots=True)
class Trial:
    """What a process trains again and again, one stretch of steps after the other.

    Attributes:
        task: Without its data.
        description: Of them.
        train: The training split.
        validation: The validation split.
        precision: ``fp32`` or ``bf16``.
        num_steps: Optimizer steps of a stretch.
        num_threads: Of the CPU.
        on_gpu: Whether it trains on a GPU.
    """

    task: Task
    description: Description
    train: Examples
    validation: Examples
    precision: str
    num_steps: int
    num_threads: int
    on_gpu: bool


@dataclass(frozen=True, slots=True)
class Warm:
    """A process is ready: what it holds of its GPU [bytes], and what is free there."""

    reserved_bytes: int = 0
    free_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Rate:
    """Training examples a second that one process reached."""

    examples_per_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """What a process raised."""

    message: str
    out_of_memory: bool


def measure_packing(
    task: Task,
    datasets: Mapping[str, Dataset],
    precision: str,
    device: torch.device,
    num_gpus: int,
    most: int,
    num_threads: int,
) -> list[Packed]:
    """Measure how many trials of a task should share a GPU; see :mod:`packing`.

    On a GPU the trials of one GPU are measured. GPUs that are only declared share this machine's
    CPUs, so the trials of all of them are measured at once.

    Args:
        task: Whose trials they are.
        datasets: Of all tasks, by name: a worker keeps them all.
        precision: ``auto``, ``fp32`` or ``bf16``.
        device: What the trials train on.
        num_gpus: GPUs that the cluster has or is told it has.
        most: Most trials on one GPU, >= 1.
        num_threads: CPU threads of a trial.

    Raises:
        EnvironmentFault: Not one trial fits, or a process died.
        InputError: A task cannot be sent to another process, or fails there.
    """
    data, on_gpu = datasets[task.name], device.type == "cuda"
    trial = _trial(task, data, precision, device, num_threads)
    # Of every other task a worker keeps the data, and of its own the test split, too.
    others = sum(each.nbytes for each in datasets.values()) if on_gpu else 0
    others -= data.train.nbytes + data.validation.nbytes if on_gpu else 0
    free_bytes = torch.cuda.mem_get_info(device)[0] if on_gpu else None
    with _ConcurrentTrials(trial, free_bytes) as trials:
        measure = _measure(trials, task.name, 1 if on_gpu else num_gpus, others)
        measured = pack(measure, free_bytes, most)
    if not measured:
        raise EnvironmentFault(
            f"{OPTION}: {task.name}: not one trial fits in the GPU's free memory"
        )
    return measured


def _measure(
    trials: "_ConcurrentTrials", task: str, num_gpus: int, others_bytes: int
) -> Callable[[int], Packed | None]:
    def measure(num_trials: int) -> Packed | None:
        rate = trials.examples_per_s(num_trials * num_gpus)
        if rate is None:
            return None
        peak = trials.peak_bytes
        return Packed(task, num_trials, rate, None if peak is None else peak + others_bytes)

    return measure


def _trial(
    task: Task, data: Dataset, precision: str, device: torch.device, num_threads: int
) -> Trial:
    """Time a step alone, which decides the precision and the length of a stretch."""
    description = data.describe()
    with claimed_device(num_threads, on_gpu=device.type == "cuda"):
        train, validation = (Split.of(part, device) for part in (data.train, data.validation))
        material = Material(task, description, train, validation)
        calibration = calibrate(material, precision)
    step_s = calibration.epoch_s / material.steps_per_epoch
    num_steps = min(max(2, round(STRETCH_S / step_s)), material.steps_per_epoch)
    del train, validation, material
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return Trial(
        task.without_data(),
        description,
        data.train,
        data.validation,
        calibration.precision,
        num_steps,
        num_threads,
        on_gpu=device.type == "cuda",
    )


class _ConcurrentTrials:
    """Processes that train the same side by side, started as more of them are asked for."""

    def __init__(self, trial: Trial, free_bytes: int | None) -> None:
        self._trial = trial
        self._free_bytes = free_bytes
        self._processes: list[tuple[BaseProcess, Connection]] = []
        self._num_warm = 0
        self.peak_bytes: int | None = None
        """Most memory of the GPU that one of them held so far, its context included."""

    def examples_per_s(self, num_processes: int) -> float | None:
        """Return what ``num_processes`` do together; None where they ran out of memory."""
        for _ in range(len(self._processes), num_processes):
            self._start()
        told: list[Warm | Rate | Failure] = []
        for process, connection in self._processes[self._num_warm :]:
            told.append(self._hear(process, connection))
            self._num_warm += 1
        if not any(isinstance(each, Failure) for each in told):
            self._note_peak([each for each in told if isinstance(each, Warm)])
            for _, connection in self._processes[:num_processes]:
                connection.send(True)
            told = [self._hear(*each) for each in self._processes[:num_processes]]
        failures = [each for each in told if isinstance(each, Failure)]
        if any(failure.out_of_memory for failure in failures):
            return None
        if failures:
            raise InputError(f"{OPTION}: {self._trial.task.name}: {last_line(failures[0].message)}")
        return sum(each.examples_per_s for each in told if isinstance(each, Rate))

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA cannot be forked
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._trial), daemon=True)
        try:
            process.start()
        except (AttributeError, TypeError, ValueError, ImportError) as error:
            raise InputError(
                f"{OPTION}: {self._trial.task.name} cannot be sent to another process ({error}). "
                "Define its functions at the top of their module, or give the share as a number."
            ) from error
        finally:
            theirs.close()
        self._processes.append((process, ours))

    def _hear(self, process: BaseProcess, connection: Connection) -> Warm | Rate | Failure:
        try:
            told: Warm | Rate | Failure = connection.recv()
        except (EOFError, OSError) as error:
            process.join()
            raise EnvironmentFault(
                f"{OPTION}: {self._trial.task.name}: a process that trained it died "
                f"(exit code {process.exitcode})"
            ) from error
        return told

    def _note_peak(self, warm: list[Warm]) -> None:
        if self._free_bytes is None or not warm:
            return
        reserved = max(each.reserved_bytes for each in warm)
        if self.peak_bytes is None:  # the first is alone: what is no longer free is its own
            self.peak_bytes = max(reserved, self._free_bytes - warm[0].free_bytes)
        self.peak_bytes = max(self.peak_bytes, reserved)

    def __enter__(self) -> "_ConcurrentTrials":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process, connection in self._processes:
            connection.close()  # which ends it
            if kind is not None:
                process.terminate()
        for process, _ in self._processes:
            process.join()


# ------------------------------------------------------------ in the processes


def _work(connection: Connection, trial: Trial) -> None:
    """Warm up, then train for a window whenever the parent says so, until it hangs up."""
    try:
        device = claim_device(trial.num_threads, 1.0 if trial.on_gpu else 0.0)
        # The whole training split lies on the GPU, too, as a trial has it there.
        whole, validation = (Split.of(part, device) for part in (trial.train, trial.validation))
        hardest = Material(
            trial.task, trial.description, Split.of(_longest(trial), device), validation
        )
        next(train(_run(trial, num_epochs=1), hardest))
        usual = replace(
            hardest,
            train=Split.of(_first(trial.train, _stretch(trial)), device),
            validation=Split.of(_first(trial.validation, _validated(trial)), device),
        )
        next(train(_run(trial, num_epochs=1), usual))
        warm = Warm()
        if trial.on_gpu:
            warm = Warm(torch.cuda.memory_reserved(device), torch.cuda.mem_get_info(device)[0])
        connection.send(warm)
        while connection.recv():
            connection.send(_train_for_a_window(trial, usual))
        del whole
    except (EOFError, KeyboardInterrupt):
        return  # the parent hung up
    except Exception as error:
        message = f"{traceback.format_exc()}{located(error)}"
        connection.send(Failure(message, is_out_of_memory(error)))


def _train_for_a_window(trial: Trial, material: Material) -> Rate:
    start, num_examples, counted_s = time.perf_counter(), 0, 0.0
    while True:
        for _ in train(_run(trial, num_epochs=10_000), material):
            passed_s = time.perf_counter() - start
            if num_examples == 0 or passed_s <= WINDOW_S:
                num_examples += len(material.train)
                counted_s = passed_s
            if passed_s > WINDOW_S:
                return Rate(num_examples / counted_s)


def _run(trial: Trial, num_epochs: int) -> RunSpec:
    return RunSpec(
        id="packing",
        stage="search",
        task=trial.task.name,
        configuration=Configuration("constant", Recipe(lr=1e-6)),
        seed=0,
        num_epochs=num_epochs,
        precision=trial.precision,
        signals="steady",
    )


def _stretch(trial: Trial) -> int:
    return min(len(trial.train), trial.num_steps * trial.task.batch_size)


def _validated(trial: Trial) -> int:
    """As large a part of the validation split as a stretch is of the training split."""
    return max(1, len(trial.validation) * _stretch(trial) // len(trial.train))


def _longest(trial: Trial) -> Examples:
    """Return the examples of a stretch that take most memory: of texts, the longest."""
    if trial.train.lengths is None:
        return _first(trial.train, _stretch(trial))
    rows = np.argsort(-trial.train.lengths.astype(np.int64), kind="stable")[: _stretch(trial)]
    return trial.train.take(rows)


def _first(examples: Examples, num_examples: int) -> Examples:
    return examples.take(np.arange(num_examples))
