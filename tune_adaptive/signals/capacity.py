"""What there is to train on, node by node, and how many trials fit on it at once."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tune_adaptive.signals.limits import read_limits

RAY_UNITS = 10_000
"""Ray counts shares of a CPU or a GPU in ten-thousandths, and rounds."""


@dataclass(frozen=True, slots=True)
class NodeCapacity:
    """What one node has for trials.

    Attributes:
        cpus: As Ray counts them, >= 0.
        gpus: As Ray counts them, >= 0.
        object_store_bytes: What its shared memory holds; None: sized for the data when it starts.
    """

    cpus: int
    gpus: int
    object_store_bytes: int | None = None

    def fits(self, cpus_per_trial: float, gpus_per_trial: float) -> int:
        """Return how many trials it holds at once. None of them is cut in two by a GPU's edge."""
        on_cpus = math.floor(self.cpus / cpus_per_trial + 1e-9)
        if gpus_per_trial == 0:
            return on_cpus
        return min(on_cpus, self.gpus * math.floor(1 / gpus_per_trial + 1e-9))


@dataclass(frozen=True, slots=True)
class Capacity:
    """What all nodes have.

    Attributes:
        nodes: One or more.
        is_joined: Whether it is a cluster that runs already, not a Ray of our own.
    """

    nodes: Sequence[NodeCapacity]
    is_joined: bool = False

    @property
    def cpus(self) -> int:
        """Of all nodes."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> int:
        """Of all nodes."""
        return sum(node.gpus for node in self.nodes)

    def fits(self, cpus_per_trial: float, gpus_per_trial: float) -> int:
        """Return how many trials run at once: each node's own count, added up."""
        return sum(node.fits(cpus_per_trial, gpus_per_trial) for node in self.nodes)

    def most_on_a_node(self, cpus_per_trial: float, gpus_per_trial: float) -> int:
        """Return how many trials the fullest node runs at once."""
        return max(node.fits(cpus_per_trial, gpus_per_trial) for node in self.nodes)

    def usual_cpus_per_trial(self, gpus_per_trial: float) -> float:
        """Return 1, or less where that lets as many trials run at once as share the GPUs."""
        if gpus_per_trial == 0:
            return 1.0
        on_a_gpu = math.floor(1 / gpus_per_trial + 1e-9)
        shares = [node.cpus / (node.gpus * on_a_gpu) for node in self.nodes if node.gpus]
        share = math.floor(min(shares) * RAY_UNITS + 1e-9) / RAY_UNITS
        return min(1.0, max(share, 1 / RAY_UNITS))

    def object_store_bytes(self, cpus_per_trial: float, gpus_per_trial: float) -> int | None:
        """Return the smallest object store of a node that holds trials, where it is given."""
        given = [
            node.object_store_bytes
            for node in self.nodes
            if node.object_store_bytes is not None and node.fits(cpus_per_trial, gpus_per_trial)
        ]
        return min(given, default=None)


def gpus_here() -> int:
    """Return the GPUs that torch sees in this process."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def cpus_here() -> int:
    """Return the CPUs that this process may use: its affinity, and its container's quota.

    A quota of 2.5 CPUs holds 2 trials at full speed; one below 1 holds one, which is slower.
    """
    has_affinity = hasattr(os, "sched_getaffinity")  # Linux: what a job may use of its machine
    cpus = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    quota = read_limits().cpus
    return cpus if quota is None else max(1, min(cpus, math.floor(quota + 1e-9)))


def this_machine(num_gpus: int | None = None) -> Capacity:
    """Return what a Ray of our own has: this machine's CPUs, and its GPUs or those declared."""
    return Capacity([NodeCapacity(cpus_here(), gpus_here() if num_gpus is None else num_gpus)])
