"""The Ray of our own: what it listens on, whom it lets in, what it leaves behind."""

import ipaddress
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import ray

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
