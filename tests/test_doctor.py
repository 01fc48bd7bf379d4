"""What the doctor finds on machines that lack something."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tune_adaptive import doctor
from tune_adaptive.cli import run_command
from tune_adaptive.doctor import Finding
from tune_adaptive.signals.gpus import GpuReading


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
    assert [f for f in findings if f.found == "cannot be told"] == []


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Finding]:
        raise OSError("no such thing")

    monkeypatch.setattr(doctor, "CHECKS", (broken,))
    assert doctor.examine() == [
        Finding("broken", "cannot be told", "OSError('no such thing')", "report this")
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
    monkeypatch.setattr("tune_adaptive.capacity.gpus_here", lambda: 0)
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
    monkeypatch.setattr("tune_adaptive.capacity.gpus_here", lambda: 1)
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
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    monkeypatch.setattr(doctor, "CGROUP", tmp_path)
    monkeypatch.setattr("tune_adaptive.capacity.cpus_here", lambda: 8)
    found = one(doctor.cpus, "CPUs")
    assert "may use 1.5 of them" in found.problem
    assert found.remedy == "--max-concurrent 1"
    (tmp_path / "memory.current").write_text(f"{2**29}\n")
    memory = one(doctor.memory, "memory")
    assert memory.found == "0.5 GiB free of 1.0 GiB"
    assert "some may be killed" in memory.problem
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert one(doctor.cpus, "CPUs").problem == ""


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
    command = [sys.executable, "-m", "tune_adaptive.doctor", "--start-ray", "--json"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    [found] = [each for each in json.loads(told.stdout) if each["what"] == "Ray"]
    assert (found["problem"], found["remedy"]) == ("", "")
    assert "a worker has torch" in found["found"]
