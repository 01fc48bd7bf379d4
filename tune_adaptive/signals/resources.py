"""What a process uses of its machine. What cannot be read is ``None``, never 0."""

import contextlib
import os
from dataclasses import dataclass

import psutil
import torch


@dataclass(frozen=True, slots=True)
class Usage:
    """Use of resources since the last reading.

    Attributes:
        cpu_percent: CPU use of this process; 100 is one core.
        rss_bytes: Resident memory of this process.
        gpu_util: Utilisation of the GPU, all its tenants together, in [0, 1].
        gpu_mem_bytes: Peak memory this process held on the GPU.
        gpu_mem_fraction: Memory in use on the GPU, all its tenants together, in [0, 1].
    """

    cpu_percent: float | None = None
    rss_bytes: int | None = None
    gpu_util: float | None = None
    gpu_mem_bytes: int | None = None
    gpu_mem_fraction: float | None = None

    @property
    def load(self) -> float | None:
        """The larger of GPU utilisation and memory fraction; None where neither was read."""
        read = [part for part in (self.gpu_util, self.gpu_mem_fraction) if part is not None]
        return max(read, default=None)


class UsageMeter:
    """Reads this process's CPU, memory and GPU; one per worker process."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process(os.getpid())
        self._process.cpu_percent()  # the first call only sets the reference
        self._gpu = _nvml_handle(device) if device.type == "cuda" else None

    def read(self) -> Usage:
        """Read the use since the last call; reading the GPU does not synchronise it."""
        gpu_util = gpu_mem = gpu_mem_fraction = None
        if self._device.type == "cuda":
            gpu_mem = torch.cuda.max_memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        if self._gpu is not None:
            import pynvml

            with contextlib.suppress(pynvml.NVMLError):  # MIG has no utilisation
                gpu_util = pynvml.nvmlDeviceGetUtilizationRates(self._gpu).gpu / 100
            with contextlib.suppress(pynvml.NVMLError):
                memory = pynvml.nvmlDeviceGetMemoryInfo(self._gpu)
                gpu_mem_fraction = memory.used / memory.total
        return Usage(
            cpu_percent=self._process.cpu_percent(),
            rss_bytes=self._process.memory_info().rss,
            gpu_util=gpu_util,
            gpu_mem_bytes=gpu_mem,
            gpu_mem_fraction=gpu_mem_fraction,
        )


def _nvml_handle(device: torch.device) -> object | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")  # type: ignore[no-any-return]
    except (pynvml.NVMLError, AttributeError):
        return None
