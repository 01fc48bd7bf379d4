"""Our own Ray: what it listens on, whom it lets in. Others: joined when asked, and only then."""

import contextlib
import ipaddress
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import ray

from tests.conftest import run_search
from tune_adaptive.errors import EnvironmentFault
from tune_adaptive.ray_backend.cluster import asks_for_token, joined
from tune_adaptive.signals.capacity import Capacity, NodeCapacity

QUICK = ("--epochs", "1", "--budget", "1", "--final-seeds", "1", "--precision", "fp32")
STRANGER = """
import sys
from ray._raylet import GcsClient
client = GcsClient(address=sys.argv[1])
print(client.internal_kv_keys(b"", None))
"""


def ask(**environment: str) -> "subprocess.CompletedProcess[str]":
    """Ask the session's Ray for its keys, as another process would."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    return subprocess.run(
        [sys.executable, "-c", STRANGER, ray.get_runtime_context().gcs_address],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_nothing_that_a_search_starts_listens_beyond_this_machine(cluster: None) -> None:
    assert ray.get(ray.remote(lambda: os.getpid()).remote()) != os.getpid(), "a worker is there"
    listening = {}
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        for each in process.net_connections("inet"):
            if each.status == psutil.CONN_LISTEN or each.type == socket.SOCK_DGRAM:
                listening[process.name(), each.laddr.port] = ipaddress.ip_address(each.laddr.ip)
    names = {name for name, _ in listening}
    assert {"gcs_server", "raylet"} <= names
    for who, address in listening.items():
        mapped = getattr(address, "ipv4_mapped", None) or address
        assert mapped.is_loopback, f"{who} listens on {address}"


@pytest.mark.skipif(not asks_for_token(), reason="an old Ray asks for none")
def test_who_has_not_the_token_is_refused(cluster: None) -> None:
    path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_text() not in os.environ.values(), "only its path is handed on"
    let_in = ask(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(path))
    assert "session_name" in let_in.stdout, let_in.stderr
    for environment in (
        {"RAY_AUTH_MODE": "disabled"},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
    ):
        refused = ask(**environment)
        assert refused.returncode != 0
        assert "Unauthenticated" in refused.stderr
        assert "session_name" not in refused.stdout


OWN = """
import os, ray
from pathlib import Path
from tune_adaptive.ray_backend.cluster import own_ray
with own_ray(1, 0, 100 * 2**20):
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    print(ray.get_runtime_context().gcs_address, token.is_file())
print(token.exists(), token.parent.exists(), os.environ.get("RAY_AUTH_MODE"))
"""


@pytest.mark.slow
def test_a_ray_of_our_own_joins_none_and_leaves_nothing_behind(
    cluster: None, tmp_path: Path
) -> None:
    """Whatever RAY_ADDRESS says, and though another runs here; no token is left at home."""
    other = ray.get_runtime_context().gcs_address
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", OWN],
        env=kept | {"RAY_ADDRESS": other, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    own, was_there, *after = done.stdout.split()
    assert own.startswith("127.0.0.1:")
    assert own != other
    assert (was_there, after) == ("True", ["False", "False", "None"])
    assert list(tmp_path.iterdir()) == []


def plan_on(address: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Plan a search on the cluster at ``address``, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tune_adaptive.search", "--plan", "--address", address, *QUICK],
        env=dict(os.environ) | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_a_plan_says_what_the_cluster_has(cluster: None) -> None:
    """One logical GPU and 2 CPUs, whatever this machine has."""
    planned = plan_on(ray.get_runtime_context().gcs_address)
    assert (planned.returncode, planned.stderr) == (0, "")
    assert "1 concurrent trials on logical GPUs, trained on CPU" in planned.stdout


@pytest.mark.slow
def test_a_cluster_that_wants_another_token_is_told(cluster: None) -> None:
    refused = plan_on(ray.get_runtime_context().gcs_address, RAY_AUTH_MODE="disabled")
    assert refused.returncode == 3
    assert "it does not let us in. Set RAY_AUTH_MODE=token" in refused.stderr
    assert "Traceback" not in refused.stderr


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_address_where_nothing_answers_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    address = f"127.0.0.1:{closed_port()}"
    assert run_search("--results-dir", str(out), "--address", address, *QUICK) == 3
    assert f"--address {address}: nothing answers there" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("stale", ["127.0.0.1:{port}", "127.0.0.1:99999999"])
def test_a_stale_ray_address_is_told_at_once(monkeypatch: pytest.MonkeyPatch, stale: str) -> None:
    """Ray would ask it for a minute, and then blame its token."""
    address = stale.format(port=closed_port())
    monkeypatch.setenv("RAY_ADDRESS", address)
    expected = rf"--address auto \(RAY_ADDRESS={address}\): nothing answers there"
    with pytest.raises(EnvironmentFault, match=expected), joined("auto"):
        raise AssertionError("it was joined")


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (RuntimeError("Version mismatch: The cluster was started with: Ray: 2.9"), "Ray: 2.9"),
        (RuntimeError("No node info found matching attributes: ''"), "none of its nodes"),
        (SystemExit(15), "does not let us in"),
    ],
)
def test_what_ray_raises_is_one_message(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, message: str
) -> None:
    def refuse(**options: object) -> None:
        raise raised

    monkeypatch.setattr("ray.init", refuse)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        expected = pytest.raises(EnvironmentFault, match=f"--address {address}: .*{message}")
        with expected, joined(address):
            raise AssertionError("it was not joined")


def pretend(monkeypatch: pytest.MonkeyPatch, *nodes: NodeCapacity) -> None:
    """Let planning see a cluster of these nodes, and end where it would measure on one."""
    monkeypatch.setattr(
        "tune_adaptive.planning.prepare.joined", lambda address: contextlib.nullcontext()
    )
    monkeypatch.setattr(
        "tune_adaptive.planning.prepare.joined_capacity", lambda: Capacity(nodes, True)
    )


@pytest.mark.parametrize(
    ("nodes", "options", "code", "message"),
    [
        ([NodeCapacity(2, 0, 2**30)] * 2, [], 2, "--storage-path is needed: the cluster has 2"),
        ([NodeCapacity(2, 0, 2**20)], [], 3, "the smallest object store of the cluster's"),
        ([NodeCapacity(2, 0, 2**30)], ["--gpus-per-trial", "1"], 3, "no node of the cluster has"),
        ([NodeCapacity(2, 1), NodeCapacity(8, 0)], ["--cpus-per-trial", "4"], 3, "beside a GPU"),
        ([NodeCapacity(2, 1)], ["--num-gpus", "1"], 2, "a cluster reports its own"),
    ],
)
def test_what_the_nodes_cannot_do_is_told_beforehand(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[NodeCapacity],
    options: list[str],
    code: int,
    message: str,
) -> None:
    pretend(monkeypatch, *nodes)
    out = tmp_path / "out"
    assert run_search("--results-dir", str(out), "--address", "auto", *options, *QUICK) == code
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("address", ["here", "ray://head:10001", "head:", ":6379", "head:70000"])
def test_what_is_no_address(capsys: pytest.CaptureFixture[str], address: str) -> None:
    assert run_search("--plan", "--address", address, *QUICK) == 2
    assert "must be HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["file", "file/below", "nosuch://bucket/x"])
def test_storage_that_cannot_be_written_is_told_before_anything_is_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "out"
    storage = place if "://" in place else str(tmp_path / place)
    code = run_search(
        *("--results-dir", str(out), "--name", "x", "--storage-path", storage, *QUICK)
    )
    assert code == 3
    assert f"{storage}: cannot be written" in capsys.readouterr().err
    assert not out.exists()
