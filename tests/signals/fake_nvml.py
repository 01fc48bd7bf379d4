"""An NVML whose every call can be made to fail."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml


@dataclass
class FakeNvml:
    """Two GPUs, of which those in ``split`` are in MIG mode with one instance of seven.

    ``failing`` maps the name of a call to the error it raises, from call ``since`` on.
    """

    failing: dict[str, Exception] = field(default_factory=dict)
    since: int = 0
    split: frozenset[int] = frozenset()
    calls: list[str] = field(default_factory=list)

    NVMLError = pynvml.NVMLError
    NVMLError_LibraryNotFound = pynvml.NVMLError_LibraryNotFound
    NVMLError_NotFound = pynvml.NVMLError_NotFound
    NVML_DEVICE_MIG_ENABLE = pynvml.NVML_DEVICE_MIG_ENABLE

    def __getattr__(self, name: str) -> Any:
        answer = object.__getattribute__(self, f"_{name}")

        def call(*args: Any) -> Any:
            self.calls.append(name)
            if name in self.failing and self.calls.count(name) > self.since:
                raise self.failing[name]
            return answer(*args)

        return call

    def _nvmlInit(self) -> None:
        pass

    def _nvmlDeviceGetCount(self) -> int:
        return 2

    def _nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"{index}"

    def _nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        return [int(int(handle) in self.split), 0]

    def _nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:
        return 7

    def _nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, index: int) -> str:
        if index:
            raise pynvml.NVMLError_NotFound
        return f"{handle}/{index}"

    def _nvmlDeviceGetUUID(self, handle: str) -> str:
        return f"{'MIG' if '/' in handle else 'GPU'}-uuid{handle}"

    def _nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        if "/" in handle:
            raise pynvml.NVMLError_NotSupported
        return SimpleNamespace(gpu=75, memory=10)

    def _nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(used=20, total=80)

    def _nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in (11, 12)]
