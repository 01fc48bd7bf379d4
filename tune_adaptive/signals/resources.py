"""What a run uses of its machine. What cannot be read is ``None``, never 0."""

import os
import warnings
from dataclasses import dataclass
from functools import cache

import psutil
import torch

from tune_adaptive.signals.gpus import GpuReading, Gpus, bare
from tune_adaptive.signals.node import Node


@dataclass(frozen=True, slots=True)
class Usage:
    """Use of resources, as of the last reading or since the one before.

    Attributes:
        cpu_percent: CPU use of this process since the last reading; 100 is one core.
        rss_bytes: Resident memory of this process.
        gpu_util: Utilisation of the GPU, all its tenants together, in [0, 1]: the mean of
            what was heard since the last reading.
        gpu_mem_bytes: Peak memory this process held on the GPU since the last reading.
        gpu_mem_fraction: Memory in use on the GPU, all its tenants together, in [0, 1].
        node_cpu_percent: CPU use of the whole node; 100 is all its cores.
        node_mem_fraction: Memory in use on the node, in [0, 1].
    """

    cpu_percent: float | None = None
    rss_bytes: int | None = None
    gpu_util: float | None = None
    gpu_mem_bytes: int | None = None
    gpu_mem_fraction: float | None = None
    node_cpu_percent: float | None = None
    node_mem_fraction: float | None = None


class UsageMeter:
    """Reads what this process uses, and hears what its node's sampler says.

    Args:
        device: What the process trains on.
        node: The node; None is this process's own view of it.
        gpus: Asked for the processes on the GPU; None asks NVML.
    """

    def __init__(
        self, device: torch.device, node: Node | None = None, gpus: Gpus | None = None
    ) -> None:
        self._device = device
        self._node = this_node() if node is None else node
        self._gpus = gpus
        self._process = psutil.Process(os.getpid())
        self._process.cpu_percent()  # the first call only sets the reference
        self._uuid = _uuid_of(device) if device.type == "cuda" else None
        self._utils: list[float] = []
        self._has_warned = False

    def load(self) -> float | None:
        """Return the larger of the GPU's utilisation and memory fraction; fit for a loop.

        None where there is no GPU or neither is known. It changes once a second.
        """
        gpu = self._gpu()
        if gpu is None:
            return None
        if gpu.util is not None:
            self._utils.append(gpu.util)
        read = [part for part in (gpu.util, gpu.mem_fraction) if part is not None]
        return max(read, default=None)

    def read(self) -> Usage:
        """Read the use since the last call; reading the GPU does not synchronise it."""
        gpu_mem = None
        if self._device.type == "cuda":
            gpu_mem = torch.cuda.max_memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        gpu, sample = self._gpu(), self._node.latest()
        utils, self._utils = self._utils, []
        if not utils and gpu is not None and gpu.util is not None:
            utils = [gpu.util]
        return Usage(
            cpu_percent=self._process.cpu_percent(),
            rss_bytes=self._process.memory_info().rss,
            gpu_util=sum(utils) / len(utils) if utils else None,
            gpu_mem_bytes=gpu_mem,
            gpu_mem_fraction=None if gpu is None else gpu.mem_fraction,
            node_cpu_percent=None if sample is None else sample.cpu_percent,
            node_mem_fraction=None if sample is None else sample.mem_fraction,
        )

    def num_cotenants(self) -> int | None:
        """Count the processes on the GPU that are not of this experiment; slow (ms).

        Of this experiment are this process and those its parent started. None where there
        is no GPU, or where NVML counts processes by other numbers than we do, as it does
        from inside a container.
        """
        if self._uuid is None:
            return None
        pids = (self._gpus or _these_gpus()).pids(self._uuid)
        if pids is None or os.getpid() not in pids:
            return None
        parent = self._process.parent()
        ours = {child.pid for child in parent.children()} if parent is not None else set()
        return len(set(pids) - ours - {os.getpid()})

    def _gpu(self) -> GpuReading | None:
        if self._uuid is None:
            return None
        sample = self._node.latest()
        if sample is None:
            return None
        gpu = sample.gpus.get(self._uuid)
        if gpu is None and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"torch trains on GPU {self._uuid}; NVML sees "
                f"{', '.join(sample.gpus) or 'none'} (CUDA_VISIBLE_DEVICES = "
                f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}): its utilisation is "
                "recorded as not measured. Training continues.",
                RuntimeWarning,
                stacklevel=2,
            )
        return gpu


@cache
def this_node() -> Node:
    """Return this process's view of its node."""
    return Node()


@cache
def _these_gpus() -> Gpus:
    return Gpus()


def _uuid_of(device: torch.device) -> str | None:
    try:
        return bare(str(torch.cuda.get_device_properties(device).uuid))
    except (AttributeError, RuntimeError):
        return None
