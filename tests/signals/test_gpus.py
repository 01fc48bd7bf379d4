"""NVML, sound and failing."""

import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from tests.signals.fake_nvml import FakeNvml
from tune_adaptive.signals.gpus import GpuReading, Gpus

CALLS = [
    "nvmlInit",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetComputeRunningProcesses",
]
ERRORS = [
    pynvml.NVMLError_LibRmVersionMismatch(),
    pynvml.NVMLError_GpuIsLost(),
    pynvml.NVMLError_NotSupported(),
    pynvml.NVMLError_FunctionNotFound(),
    pynvml.NVMLError_Unknown(),
]


def test_every_gpu_is_read() -> None:
    gpus = Gpus(FakeNvml())
    assert gpus.read() == {
        "uuid0": GpuReading(util=0.75, mem_fraction=0.25),
        "uuid1": GpuReading(util=0.75, mem_fraction=0.25),
    }
    assert gpus.pids("uuid1") == [11, 12]
    assert gpus.pids("another") is None


def test_handles_are_got_once() -> None:
    nvml = FakeNvml()
    gpus = Gpus(nvml)
    nvml.calls.clear()
    for _ in range(3):
        gpus.read()
    assert set(nvml.calls) == {"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo"}


def test_without_a_driver_there_is_no_gpu_and_nothing_to_warn_of() -> None:
    gpus = Gpus(FakeNvml({"nvmlInit": pynvml.NVMLError_LibraryNotFound()}))
    assert gpus.read() == {}


def test_a_mig_instance_has_memory_and_no_utilisation() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Gpus(FakeNvml(split=frozenset({1}))).read() == {
            "uuid0": GpuReading(util=0.75, mem_fraction=0.25),
            "uuid1/0": GpuReading(util=None, mem_fraction=0.25),
        }


@pytest.mark.parametrize("since", [0, 1, 3])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", CALLS)
def test_whichever_call_fails_readings_are_none_with_one_warning(
    call: str, error: Exception, since: int
) -> None:
    """``since`` lets it fail from the start, for the second GPU only, or mid-run."""
    nvml = FakeNvml({call: error}, since=since, split=frozenset({1}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gpus = Gpus(nvml)
        for _ in range(5):
            for reading in gpus.read().values():
                assert reading.util in (None, 0.75)
                assert reading.mem_fraction in (None, 0.25)
            assert gpus.pids("uuid0") in (None, [11, 12])
    failed = nvml.calls.count(call) > since
    asked_anyway = call == "nvmlDeviceGetMigMode"  # how a GPU without MIG answers
    assert len(caught) == (failed and not asked_anyway)
    if caught:
        assert call in str(caught[0].message)
        assert caught[0].category is RuntimeWarning


def test_a_gpu_lost_mid_run_reads_none_from_then_on() -> None:
    nvml = FakeNvml()
    gpus = Gpus(nvml)
    assert gpus.read()["uuid0"].util == 0.75
    lost: dict[str, Any] = dict.fromkeys(CALLS[-3:], pynvml.NVMLError_GpuIsLost())
    nvml.failing = lost
    with pytest.warns(RuntimeWarning, match="not measured. Training continues"):
        assert gpus.read()["uuid0"] == GpuReading(None, None)
    assert gpus.read()["uuid0"] == GpuReading(None, None)


class Older(FakeNvml):
    """A binding of years ago: texts are bytes, MIG is not known."""

    def __getattr__(self, name: str) -> Any:
        if "Mig" in name:
            raise AttributeError(f"module 'pynvml' has no attribute {name!r}")
        return super().__getattr__(name)

    def _nvmlDeviceGetUUID(self, handle: str) -> Any:
        return super()._nvmlDeviceGetUUID(handle).encode()


def test_an_older_binding_is_read_like_a_new_one() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Gpus(Older()).read() == Gpus(FakeNvml()).read()


class Strange(FakeNvml):
    """A binding whose answers have another shape."""

    def _nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return {"used": 20, "total": 80}

    def _nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        return "75 %"


@pytest.mark.parametrize("nvml", [ModuleType("pynvml"), SimpleNamespace(nvmlInit=1), Strange()])
def test_a_module_of_another_package_is_one_warning(nvml: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        readings = Gpus(nvml).read()
    assert set(readings.values()) <= {GpuReading(None, None)}
    [warning] = caught
    assert "recorded as not measured. Training continues." in str(warning.message)


@pytest.mark.parametrize(
    "source", [None, "raise OSError('libcuda')", "import no_such_module", "def f(:"]
)
def test_a_module_that_cannot_be_imported_is_one_warning(
    source: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source is not None:
        (tmp_path / "pynvml.py").write_text(source)
    monkeypatch.delitem(sys.modules, "pynvml")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.warns(RuntimeWarning, match="nvmlInit failed") as caught:
        assert Gpus().read() == {}
    assert len(caught) == 1


@pytest.mark.gpu
def test_on_real_hardware_every_gpu_torch_sees_is_read() -> None:
    readings = Gpus().read()
    for index in range(torch.cuda.device_count()):
        uuid = str(torch.cuda.get_device_properties(index).uuid)
        fraction = readings[uuid].mem_fraction
        assert fraction is not None
        assert 0 < fraction <= 1
