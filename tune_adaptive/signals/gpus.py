"""The GPUs of a node, read through NVML. What cannot be read is ``None``, never 0.

A call that fails makes its reading ``None`` and warns once; training continues. So does a module
``pynvml`` of another package than ``nvidia-ml-py``, whose calls may be missing, raise anything, or
return bytes. NVML's own window of utilisation is 1/6 to 1 s, so more than one reading a second
says nothing new.
"""

import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU, or one MIG instance, with all its tenants together.

    Attributes:
        util: Share of the last sampling window in which a kernel ran, in [0, 1]; a MIG
            instance has none.
        mem_fraction: Memory in use, in [0, 1].
    """

    util: float | None
    mem_fraction: float | None


def as_text(told: str | bytes) -> str:
    """Return text as text; older bindings return bytes."""
    return told.decode(errors="replace") if isinstance(told, bytes) else str(told)


def bare(uuid: str | bytes) -> str:
    """Return a UUID without NVML's prefix, as torch tells it."""
    return as_text(uuid).removeprefix("GPU-").removeprefix("MIG-")


class Gpus:
    """Reads the GPUs of this node.

    Args:
        nvml: What stands for the module ``pynvml``; None is the module.
    """

    def __init__(self, nvml: Any = None) -> None:
        self._warned: set[str] = set()
        self._handles: dict[str, tuple[Any, bool]] = {}  # by bare UUID; whether it is for MIG
        try:
            self._nvml = import_module("pynvml") if nvml is None else nvml
            self._nvml.nvmlInit()
        except Exception as error:
            if type(error).__name__ != "NVMLError_LibraryNotFound":  # no driver, no GPU
                self._warn("nvmlInit", error)
            return
        for index in range(self._ask("nvmlDeviceGetCount") or 0):
            handle = self._ask("nvmlDeviceGetHandleByIndex", index)
            if handle is not None:
                self._add(handle)

    def read(self) -> dict[str, GpuReading]:
        """Read each GPU once, by its bare UUID."""
        return {uuid: self._read(*found) for uuid, found in self._handles.items()}

    def pids(self, uuid: str) -> list[int] | None:
        """Return the processes that compute on a GPU; slow (ms), not for a loop."""
        handle, _ = self._handles.get(uuid, (None, False))
        if handle is None:
            return None
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses", handle)
        return None if processes is None else [process.pid for process in processes]

    def _add(self, handle: Any) -> None:
        nvml = self._nvml
        try:
            is_split = nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE
        except Exception:
            is_split = False  # a GPU, or a binding, that knows no MIG says so by an error
        handles = [handle]
        if is_split:
            slots = range(self._ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0)
            handles = [self._mig_instance(handle, slot) for slot in slots]
        for each in handles:
            uuid = None if each is None else self._ask("nvmlDeviceGetUUID", each)
            if uuid is not None:
                self._handles[bare(uuid)] = (each, is_split)

    def _mig_instance(self, handle: Any, slot: int) -> Any:
        try:
            return self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot)
        except Exception as error:
            if type(error).__name__ != "NVMLError_NotFound":  # an empty slot
                self._warn("nvmlDeviceGetMigDeviceHandleByIndex", error)
            return None

    def _read(self, handle: Any, is_mig: bool) -> GpuReading:
        rates = None if is_mig else self._ask("nvmlDeviceGetUtilizationRates", handle)
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        try:
            return GpuReading(
                util=None if rates is None else rates.gpu / 100,
                mem_fraction=memory.used / memory.total if memory and memory.total else None,
            )
        except (AttributeError, TypeError) as error:  # another binding's idea of an answer
            self._warn("what it answered", error)
            return GpuReading(util=None, mem_fraction=None)

    def _ask(self, name: str, *args: Any) -> Any:
        try:
            return getattr(self._nvml, name)(*args)
        except Exception as error:
            self._warn(name, error)
            return None

    def _warn(self, name: str, error: Exception) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                f"NVML: {name} failed ({error}): what it reports of the GPUs is recorded as not "
                "measured. Training continues.",
                RuntimeWarning,
                stacklevel=3,
            )
