"""What a trial of each task gets of the nodes' CPUs and GPUs, and how many run at once."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tune_adaptive.errors import EnvironmentFault, InputError, did_you_mean
from tune_adaptive.planning.options import Request
from tune_adaptive.records.packing import MAX_TRIALS_ON_A_GPU
from tune_adaptive.signals.capacity import Capacity, gpus_here


@dataclass(frozen=True, slots=True)
class Share:
    """Of a trial.

    Attributes:
        cpus: CPUs it gets, > 0.
        gpus: Share of a GPU it gets, in [0, 1]; 0 trains on the CPU.
        slots: How many such trials run at once where no others do, >= 1.
    """

    cpus: float
    gpus: float
    slots: int


def share_out(
    request: Request,
    tasks: Iterable[str],
    capacity: Capacity,
    measured: Mapping[str, int] | None = None,
) -> dict[str, Share]:
    """Return the share of each task.

    Args:
        request: What was asked for, of all tasks and of single ones.
        tasks: Names of all tasks.
        capacity: Of the nodes.
        measured: With ``auto``, how many trials of a task share a GPU; None until that is known.

    Raises:
        InputError: A share is asked for a task that there is not.
        EnvironmentFault: No node has as much.
    """
    names = list(tasks)
    for option, shares in (
        ("--gpus-per-trial", request.gpus_per_trial),
        ("--cpus-per-trial", request.cpus_per_trial),
    ):
        for name in shares.of_tasks:
            if name not in names:
                raise InputError(
                    f"{option} {name}: there is no such task here{did_you_mean(name, names)}"
                )
    if not capacity.is_joined and capacity.gpus > gpus_here() > 0:
        raise EnvironmentFault(f"--num-gpus {capacity.gpus}: this machine has {gpus_here()}")
    return {name: _share(request, name, capacity, (measured or {}).get(name, 1)) for name in names}


def _share(request: Request, task: str, capacity: Capacity, on_a_gpu: int) -> Share:
    gpus, is_measured = request.gpus_per_trial.of(task), request.gpus_per_trial.is_measured
    if (gpus is not None or is_measured) and capacity.gpus == 0:
        raise EnvironmentFault(
            f"--gpus-per-trial {'auto' if gpus is None else gpus}: "
            + (
                "no node of the cluster has a GPU. Leave the option out to train on CPUs."
                if capacity.is_joined
                else "there is no GPU here (torch sees none). Leave the option out to train on "
                "the CPU, or rehearse the packing with --num-gpus N."
            )
        )
    if gpus is None and is_measured:
        gpus = 1 / on_a_gpu
    elif gpus is None:
        gpus = 1.0 if capacity.gpus else 0.0
    cpus = request.cpus_per_trial.of(task)
    if cpus is None:
        cpus = capacity.usual_cpus_per_trial(gpus)
    slots = capacity.fits(cpus, gpus)
    if slots == 0:
        where = "no node of the cluster" if capacity.is_joined else "this machine"
        most = max(node.cpus for node in capacity.nodes)
        raise EnvironmentFault(
            f"--cpus-per-trial {cpus:g}: {where} has "
            + (f"as many beside a GPU; {most} at most" if capacity.is_joined else f"{most} CPUs")
        )
    return Share(cpus, gpus, min(slots, request.max_concurrent or slots))


def most_on_a_gpu(request: Request, task: str, capacity: Capacity) -> int:
    """Return how many of a task's trials on each GPU what else was asked for allows."""
    slots = request.max_concurrent or math.inf
    cpus = request.cpus_per_trial.of(task)
    if cpus is not None:
        slots = min(slots, capacity.cpus / cpus)
    return max(1, math.floor(min(slots / capacity.gpus, MAX_TRIALS_ON_A_GPU)))
