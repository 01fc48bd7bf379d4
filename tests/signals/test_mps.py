"""Whether an MPS control daemon listens, by real sockets in its place."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tune_adaptive.signals.mps import mps_pipe_directory


@contextmanager
def daemon(folder: Path, kind: int = socket.SOCK_STREAM) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(str(folder / "control"))
        if kind != socket.SOCK_DGRAM:
            server.listen()
        yield


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_a_daemon_that_listens_is_found_and_one_that_ended_is_not(
    tmp_path: Path, kind: int
) -> None:
    environ = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}
    assert mps_pipe_directory(environ) is None
    with daemon(tmp_path, kind):
        assert mps_pipe_directory(environ) == tmp_path
    assert (tmp_path / "control").exists(), "it left its socket behind"
    assert mps_pipe_directory(environ) is None


def test_the_directory_is_nvidias_unless_the_environment_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_adaptive.signals.mps.DEFAULT_PIPE_DIRECTORY", str(tmp_path))
    with daemon(tmp_path):
        for environ in ({}, {"CUDA_MPS_PIPE_DIRECTORY": ""}):
            assert mps_pipe_directory(environ) == tmp_path
        environ = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path / "another")}
        assert mps_pipe_directory(environ) is None


def test_a_folder_or_a_file_in_its_place_is_no_daemon(tmp_path: Path) -> None:
    environ = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}
    (tmp_path / "control").write_text("")
    assert mps_pipe_directory(environ) is None
    environ = {"CUDA_MPS_PIPE_DIRECTORY": "/" + "x" * 200}
    assert mps_pipe_directory(environ) is None
