"""What the doctor finds on machines that lack something."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tune_adaptive.commands import doctor
from tune_adaptive.commands.doctor import Finding
from tune_adaptive.signals.gpus import GpuReading
from tune_adaptive.signals.limits import Limits
from tune_adaptive.system.console import run_command


def one(check: Callable[[], Iterator[Finding]], what: str) -> Finding:
    return next(finding for finding in check() if finding.what == what)


def test_every_check_says_what_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    findings = doctor.examine()
    assert {"torch", "ray", "optuna", "extras", "GPUs", "CPUs", "memory", "hub"} <= {
        finding.what for finding in findings
    }
    for finding in findings:
        assert finding.found
        assert bool(finding.problem) == bool(finding.remedy), finding
    assert [f for f in findings if f.found == "unknown"] == []


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Finding]:
        raise OSError("no such thing")

    monkeypatch.setattr(doctor, "CHECKS", (broken,))
    assert doctor.examine() == [
        Finding("broken", "unknown", "OSError('no such thing')", "report this")
    ]


def test_a_package_of_another_version_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "importlib.metadata.requires", lambda name: ["ray[tune]<2.1", "no-such-package>=1"]
    )
    ray, absent = list(doctor.versions())
    assert (ray.problem, ray.remedy) == ("must be <2.1", "pip install 'ray[tune]<2.1'")
    assert absent.found == "not installed"
    assert absent.problem


class Gpus:
    """What NVML says of one GPU."""

    util: float | None = 0.5

    def read(self) -> dict[str, GpuReading]:
        return {"a": GpuReading(self.util, 0.1)}


@pytest.mark.parametrize(
    ("visible", "problem"),
    [(None, "GPUs that torch does not see"), ("", "CUDA_VISIBLE_DEVICES hides all of them")],
)
def test_gpus_that_torch_does_not_see(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, problem: str
) -> None:
    monkeypatch.setattr("tune_adaptive.signals.gpus.Gpus", Gpus)
    monkeypatch.setattr("tune_adaptive.signals.capacity.gpus_here", lambda: 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert problem in one(doctor.gpus, "GPUs").problem


@pytest.mark.parametrize(("util", "mig"), [(0.5, "off"), (None, "1 instances")])
def test_mig_and_mps_are_named(
    monkeypatch: pytest.MonkeyPatch, util: float | None, mig: str
) -> None:
    gpus = Gpus()
    gpus.util = util
    monkeypatch.setattr("tune_adaptive.signals.gpus.Gpus", lambda: gpus)
    monkeypatch.setattr("tune_adaptive.signals.capacity.gpus_here", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index: "H")
    monkeypatch.setattr(
        "torch.cuda.get_device_properties", lambda index: SimpleNamespace(uuid="GPU-a")
    )
    monkeypatch.setattr("tune_adaptive.signals.mps.mps_pipe_directory", lambda: Path("/x/mps"))
    assert mig in one(doctor.gpus, "MIG").found
    assert one(doctor.gpus, "MPS").found == "at /x/mps"
    assert one(doctor.gpus, "GPUs").problem == ""


def test_nvml_that_fails_is_no_machine_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Gpus:
        import warnings

        warnings.warn("NVML: nvmlInit failed (version mismatch)", RuntimeWarning, stacklevel=1)
        return Gpus()

    monkeypatch.setattr("tune_adaptive.signals.gpus.Gpus", broken)
    assert "version mismatch" in one(doctor.gpus, "GPUs").problem


def test_a_container_that_may_use_less_than_it_sees(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The doctor and the plan count by the same limits."""
    limits = Limits(1.5, 2**30, None)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr("tune_adaptive.signals.capacity.read_limits", lambda: limits)
    monkeypatch.setattr("tune_adaptive.signals.limits.read_limits", lambda: limits)
    found = one(doctor.cpus, "CPUs")
    assert found.found.startswith("1 of ")
    assert "the container's quota is 1.5" in found.found
    assert found.problem == ""
    assert "of 1.0 GiB" in one(doctor.memory, "memory").found
    limits = Limits(0.5, 2**30, 2**29)
    memory = one(doctor.memory, "memory")
    assert memory.found == "0.5 GiB free of 1.0 GiB"
    assert "some may be killed" in memory.problem
    assert "0.5 of a CPU" in one(doctor.cpus, "CPUs").problem
    limits = Limits(None, 2**30, 2**31)
    assert one(doctor.memory, "memory").found == "0.0 GiB free of 1.0 GiB"
    assert "quota" not in one(doctor.cpus, "CPUs").found


@pytest.mark.parametrize(
    ("owners", "found", "remedy"),
    [
        (["nvidia-ml-py3"], "is of nvidia-ml-py3", "--force-reinstall nvidia-ml-py"),
        (["nvidia-ml-py", "pynvml"], "is of nvidia-ml-py and pynvml", "pip uninstall pynvml"),
        ([], "is the file ", "rename that file"),
    ],
)
def test_who_owns_pynvml_is_told(
    monkeypatch: pytest.MonkeyPatch, owners: list[str], found: str, remedy: str
) -> None:
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: {"pynvml": owners})
    finding = one(doctor.driver, "pynvml")
    assert finding.found.startswith(found)
    assert remedy in finding.remedy
    assert not finding.stops, "the use of GPUs is not measured; a search runs"


def test_a_pynvml_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", ModuleType("pynvml"))
    assert one(doctor.driver, "NVIDIA driver").found.startswith("none (")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "cannot be imported" in one(doctor.driver, "NVIDIA driver").found


def test_a_checkout_that_was_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_adaptive.system.packages.has_metadata", lambda: False)
    finding = one(doctor.versions, "tune-adaptive")
    assert "was not installed" in finding.found
    assert finding.problem == "", "it runs"


def test_little_shared_memory_and_little_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    few = SimpleNamespace(free=64 * 2**20)
    monkeypatch.setattr("shutil.disk_usage", lambda path: few)
    monkeypatch.setattr(doctor, "DEV_SHM", Path("/"))
    assert "--shm-size" in one(doctor.shared_memory, "shared memory").remedy
    assert "little room" in one(doctor.disk, "results").problem


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written" in one(doctor.disk, "results").problem


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{closed}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    found = one(doctor.hub, "hub")
    assert "cannot be fetched" in found.problem
    assert "--data-dir" in found.remedy
    assert not found.stops, "the embedded task needs none"


def test_a_package_that_does_not_load_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        if name == "torch":
            raise OSError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(doctor, "import_module", broken)
    [found] = doctor.imports()
    assert found.problem == "libcudart.so.12: cannot open shared object file"


@pytest.mark.parametrize(
    ("findings", "code"), [([Finding("a", "b")], 0), ([Finding("a", "b", "c", "d")], 3)]
)
def test_a_problem_is_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    findings: list[Finding],
    code: int,
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda start_ray: findings)
    for arguments in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["doctor", *arguments])
        with pytest.raises(SystemExit) as end:
            run_command(doctor.main)
        assert end.value.code == code
        out = capsys.readouterr().out
        if arguments:
            assert [Finding(**each) for each in json.loads(out)] == findings
        else:
            assert ("remedy: d" in out) == (code == 3)


@pytest.mark.slow
def test_a_ray_of_our_own_starts() -> None:
    command = [sys.executable, "-m", "tune_adaptive", "doctor", "--start-ray", "--json"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    [found] = [each for each in json.loads(told.stdout) if each["what"] == "Ray"]
    assert (found["problem"], found["remedy"]) == ("", "")
    assert "a worker has torch" in found["found"]
