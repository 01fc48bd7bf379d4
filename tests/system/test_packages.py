"""Which packages are here: a folder of the same name is none, metadata may be missing."""

import importlib
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import pytest

from tune_adaptive.errors import EnvironmentFault
from tune_adaptive.planning.prepare import versions_here
from tune_adaptive.ray_backend.cluster import Dashboard
from tune_adaptive.schedules import is_installed, require_installed
from tune_adaptive.system import packages
from tune_adaptive.watch.trackers import check_trackers


@pytest.fixture
def only_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing but folders with the names of the optional packages is on Python's path."""
    for name in ("wandb", "mlflow", "tensorboardX", "schedulefree", "prodigyopt", "opencensus"):
        (tmp_path / name / "run-1").mkdir(parents=True)
        for loaded in [each for each in sys.modules if each.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    return tmp_path


def test_a_folder_is_no_package(only_folders: Path) -> None:
    for name in ("wandb", "mlflow", "tensorboard"):
        with pytest.raises(EnvironmentFault, match=f"--track {name}: needs a package: pip install"):
            check_trackers([name])
    with pytest.raises(EnvironmentFault, match=r"--dashboard needs .*opencensus"):
        Dashboard.check()
    assert not is_installed("schedule_free")
    assert not is_installed("prodigy")


@pytest.mark.parametrize(("found", "is_met"), [("5.5.4", False), ("5.6.0", True), ("?", True)])
def test_a_schedule_says_which_version_it_needs(
    monkeypatch: pytest.MonkeyPatch, found: str, is_met: bool
) -> None:
    """Where the version is unknown, it is tried."""
    version = packages.UNKNOWN if found == "?" else found
    monkeypatch.setattr(packages, "version", lambda name: version)
    assert is_installed("greedy") is is_met
    if is_met:
        require_installed("greedy")
        return
    with pytest.raises(EnvironmentFault, match=r"pip install 'transformers>=5\.6'"):
        require_installed("greedy")


def test_a_module_with_code_is_one(only_folders: Path) -> None:
    (only_folders / "wandb" / "__init__.py").write_text("")
    (only_folders / "mlflow").rename(only_folders / "other")
    (only_folders / "mlflow.py").write_text("")
    importlib.invalidate_caches()
    check_trackers(["wandb", "mlflow"])
    assert packages.is_installed("json")
    assert not packages.is_installed("no_such_package")


def without_metadata(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    find = importlib.metadata.distribution

    def absent(name: str) -> importlib.metadata.Distribution:
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return find(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)


def test_a_checkout_that_was_not_installed_has_its_versions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same as an installed one, so that either resumes the other's experiments."""
    installed = versions_here()
    without_metadata(monkeypatch, "tune-adaptive", "scipy")
    assert versions_here() == installed
    assert any(each.startswith("torch") for each in packages.requirements())
    monkeypatch.setattr(packages, "PYPROJECT", tmp_path / "pyproject.toml")  # a copy of the folder
    assert versions_here()["tune-adaptive"] == "unknown"
    assert packages.requirements() == []


@pytest.mark.parametrize("told", [None, ""])
def test_metadata_without_a_version(monkeypatch: pytest.MonkeyPatch, told: Any) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: told)
    assert packages.version("numpy") == importlib.import_module("numpy").__version__
    assert packages.version("no_such_package") == "unknown"
