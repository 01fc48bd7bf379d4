"""Where Ray keeps its sessions, and what is said where it cannot."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from tests.conftest import run_search
from tune_adaptive.commands import doctor
from tune_adaptive.errors import EnvironmentFault
from tune_adaptive.ray_backend import sessions
from tune_adaptive.ray_backend.cluster import own_ray
from tune_adaptive.ray_backend.sessions import LONGEST_SOCKET, SOCKET_BYTES, session_folder

LONG = "x" * 80


@pytest.fixture(autouse=True)
def _no_place_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")
def test_the_kernel_takes_a_path_of_that_length_and_none_longer() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        longest = Path(folder) / ("s" * (SOCKET_BYTES - len(folder) - 1))
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(longest))
        with socket.socket(socket.AF_UNIX) as server, pytest.raises(OSError, match="too long"):
            server.bind(f"{longest}s")


def test_ray_makes_the_socket_that_was_counted(cluster: None) -> None:
    from ray._private.worker import global_worker

    node = global_worker.node
    folder = node.temp_dir if hasattr(node, "temp_dir") else node.get_temp_dir_path()
    made = str(node.plasma_store_socket_name).removeprefix(str(folder))
    assert len(made) <= len(LONGEST_SOCKET)


@pytest.mark.parametrize("variable", ["TMPDIR", "HOME"])
def test_a_place_that_is_too_deep_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    deep = tmp_path / LONG
    deep.mkdir()
    monkeypatch.setenv(variable, str(deep))
    assert session_folder() == Path("/tmp/ray")


def test_a_place_of_another_user_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever used Ray first on this machine owns ``/tmp/ray``."""
    is_writable = os.access
    monkeypatch.setattr(
        "os.access", lambda path, mode: str(path) != "/tmp/ray" and is_writable(path, mode)
    )
    Path("/tmp/ray").mkdir(exist_ok=True)
    assert session_folder() == Path(f"/tmp/tune-adaptive-{os.getuid()}/ray")


def without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)


def too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/{LONG}")


def below_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/dev/null/x")


def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (too_long, r"RAY_TMPDIR=/tmp/x+: too long by \d+ bytes.* Unset it, or name a short path"),
        (below_a_file, "RAY_TMPDIR=/dev/null/x: /dev/null is no folder"),
        (without_room, "Ray has no folder for its sessions: /tmp/ray: .* cannot be written"),
        (nowhere, "No usable temporary directory found .*: set TMPDIR"),
    ],
)
def test_no_place_is_one_message_before_the_name_is_taken_and_the_doctors(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: "object",
    message: str,
) -> None:
    with monkeypatch.context() as patch:
        given(patch)  # type: ignore[operator]
        with pytest.raises(EnvironmentFault, match=message) as told:
            session_folder()
        assert run_search("--results-dir", str(tmp_path / "results")) == 3
        [finding] = doctor.sessions()
    assert str(told.value) in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
    assert finding.stops
    assert finding.problem in str(told.value)
    assert finding.remedy in str(told.value)


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (OSError(98, "Address already in use"), "Address already in use"),
        (ValueError("The configured object store size\nexceeds /dev/shm"), "exceeds /dev/shm"),
        (SystemExit(1), r"SystemExit\(1\)|1"),
    ],
)
def test_a_ray_that_does_not_start_is_one_message(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, message: str
) -> None:
    def refuse(**options: object) -> None:
        raise raised

    monkeypatch.setattr("ray.init", refuse)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    with (
        pytest.raises(EnvironmentFault, match=f"Ray does not start: .*({message})"),
        own_ray(1, 0, 2**28),
    ):
        raise AssertionError("it started")


def test_a_ray_that_does_not_start_takes_no_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**options: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", refuse)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    results = ("--results-dir", str(tmp_path / "results"), "--name", "x", "--train-size", "640")
    quick = ("--precision", "fp32", "--signals", "steady", "--epochs", "1", "--budget", "1")
    assert run_search(*results, *quick) == 3
    assert "error: Ray does not start: [Errno 98] Address" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_without_shared_memory_the_object_store_is_beside_the_sessions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert sessions.store_folder(tmp_path) is None
    monkeypatch.setattr(sessions, "SHARED_MEMORY", tmp_path / "none")
    assert sessions.store_folder(tmp_path) == str(tmp_path)
