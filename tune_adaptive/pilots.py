"""How long an epoch takes, and in which precision, in the process that calls this."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from tune_adaptive.tasks import Task
from tune_adaptive.tasks.data import Description, Examples
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training import Material, calibrate


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
    num_pilots: int,
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
        num_pilots: Slots at work at once on a node, >= 1.
    """
    device = torch.device("cuda" if on_gpu and torch.cuda.is_available() else "cpu")
    material = Material(task, description, Split.of(training, device), Split.of(validation, device))
    threads = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        alone = calibrate(material, precision, by_clock=by_clock)
        loaded_epoch_s = alone.epoch_s
        if by_clock and num_pilots > 1:
            with ThreadPoolExecutor(num_pilots) as pilots:
                all_of_them = [material] * num_pilots, [alone.precision] * num_pilots
                others = pilots.map(calibrate, *all_of_them)
                loaded_epoch_s = max(loaded_epoch_s, *(other.epoch_s for other in others))
    finally:
        torch.set_num_threads(threads)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return Measured(name, alone.precision, alone.epoch_s, loaded_epoch_s)
