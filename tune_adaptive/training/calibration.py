"""How long an epoch takes, and in which precision, in the process that calls this."""

import itertools
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from tune_adaptive.system.own_code import persons_code
from tune_adaptive.tasks import Task
from tune_adaptive.tasks.data import Description, Examples
from tune_adaptive.tasks.feed import Split, make_feed
from tune_adaptive.training.device import BF16, claimed_device, cpu_capabilities
from tune_adaptive.training.evaluate import autocast, evaluate
from tune_adaptive.training.loop import Material


@dataclass(frozen=True, slots=True)
class Measured:
    """What a short measurement told.

    Attributes:
        device: Name of the GPU, or ``CPU``.
        precision: ``fp32`` or ``bf16``.
        epoch_s: Seconds of one epoch and its validation on one slot.
        loaded_epoch_s: The same with other slots at work beside it.
    """

    device: str
    precision: str
    epoch_s: float
    loaded_epoch_s: float


def measure_task(
    task: Task,
    description: Description,
    training: Examples,
    validation: Examples,
    *,
    precision: str,
    by_clock: bool,
    num_threads: int,
    on_gpu: bool,
    num_concurrent: int,
) -> Measured:
    """Train a few steps as a trial would: on its device, alone and beside others.

    Args:
        task: What is trained.
        description: Of its data.
        training: Its training split.
        validation: Its validation split.
        precision: ``auto``, ``fp32`` or ``bf16``.
        by_clock: Whether timings may decide anything.
        num_threads: CPU threads of a trial.
        on_gpu: Whether trials get a share of a GPU.
        num_concurrent: Trials that run concurrently on a node, >= 1.
    """
    with claimed_device(num_threads, on_gpu) as device:
        train, held_out = Split.of(training, device), Split.of(validation, device)
        material = Material(task, description, train, held_out)
        with persons_code(f"{task.name}: in {precision} precision"):
            alone = calibrate(material, precision, by_clock=by_clock)
        loaded_epoch_s = alone.epoch_s
        if by_clock and num_concurrent > 1:
            with ThreadPoolExecutor(num_concurrent) as threads:
                all_of_them = [material] * num_concurrent, [alone.precision] * num_concurrent
                others = threads.map(calibrate, *all_of_them)
                loaded_epoch_s = max(loaded_epoch_s, *(other.epoch_s for other in others))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return Measured(name, alone.precision, alone.epoch_s, loaded_epoch_s)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a short measurement on one slot decided.

    Attributes:
        precision: ``fp32`` or ``bf16``.
        epoch_s: Estimated seconds of one epoch and its validation.
    """

    precision: str
    epoch_s: float


def calibrate(
    material: Material, precision: str, by_clock: bool = True, num_pairs: int = 5
) -> Calibration:
    """Time training steps; with ``auto``, choose bf16 where the hardware has it and it pays.

    Alternates steps in both precisions on one model and compares the medians; bf16 must
    be at least 1.2 times as fast, so that noise does not decide. Without ``by_clock`` no
    timing decides anything: bf16 wherever the hardware has it.
    """
    device = material.device
    if precision == "auto":
        candidates = ["fp32", "bf16"] if _has_bf16(device) else ["fp32"]
    else:
        candidates = [precision]
    model = material.task.build(material.description).to(device)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    task = material.task
    feed = make_feed(material.description, task.augment, device, seed=0)
    batches = feed.train(material.train, task.batch_size, torch.Generator().manual_seed(0))
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for inputs, y in itertools.islice(itertools.cycle(batches), num_pairs + 2):  # two warm up
        for name, measured in seconds.items():
            start = time.perf_counter()
            with autocast(device, name):
                loss = task.loss(model(*inputs), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()  # waits for the device
            measured.append(time.perf_counter() - start)
    medians = {name: statistics.median(measured[2:]) for name, measured in seconds.items()}
    chosen = candidates[0]
    if len(candidates) == 2 and (not by_clock or medians["fp32"] > 1.2 * medians["bf16"]):
        chosen = "bf16"
    start = time.perf_counter()
    evaluate(model, task, feed, material.validation, chosen)
    eval_s = time.perf_counter() - start
    return Calibration(chosen, medians[chosen] * material.steps_per_epoch + eval_s)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(BF16 & cpu_capabilities())
