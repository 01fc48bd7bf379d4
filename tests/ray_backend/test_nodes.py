"""Searches on several nodes: packing, a node that dies, and machines that share no network."""

import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from tune_adaptive.analysis.estimates import Analysis

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
STORE_BYTES = 100 * 2**20
NODE = {
    "num_cpus": 2,
    "num_gpus": 2,
    "object_store_memory": STORE_BYTES,
    "node_ip_address": "127.0.0.1",
}
TIMEOUT_S = 900


@pytest.fixture
def meeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which workers leave word, known to all nodes that are started after."""
    folder = tmp_path / "meeting"
    folder.mkdir()
    monkeypatch.setenv("MEETING", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


@pytest.fixture
def three_nodes(meeting: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Three nodes of two logical GPUs and two CPUs each, on loopback."""
    monkeypatch.setenv("MEETING_SIZE", "24")
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(**NODE)
        yield cluster
    finally:
        cluster.shutdown()


def search(
    folder: Path, address: str, *options: str, within: tuple[str, ...] = ()
) -> "subprocess.Popen[str]":
    command = [
        *(*within, sys.executable, "-m", "tune_adaptive.search", "--address", address),
        *(
            "--task",
            "tests.ray_backend.meeting:task",
            "--results-dir",
            str(folder),
            "--name",
            "many",
        ),
        *("--storage-path", str(folder / "shared"), "--epochs", "6", "--final-seeds", "2"),
        *("--precision", "fp32", "--signals", "steady", *options),
    ]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended_well(process: "subprocess.Popen[str]") -> str:
    """Wait for the end of a search; return what it told."""
    try:
        told, error = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, error) == (0, "")
    return told


def wait_for(process: "subprocess.Popen[str]", condition: Callable[[], bool]) -> None:
    """Look again and again, as long as the process runs."""
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_search_on_a_cluster_is_interrupted_and_goes_on_there(
    meeting: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEETING_SIZE", "2")
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    try:
        address = cluster.address
        first = search(tmp_path, address, "--budget", "2")
        folder, events = tmp_path / "many", tmp_path / "many" / "ledger.jsonl"
        wait_for(first, lambda: events.exists() and events.read_text().count('"run_ended"') >= 3)
        first.send_signal(signal.SIGINT)
        told, error = first.communicate(timeout=TIMEOUT_S)
        assert (first.returncode, error) == (4, "interrupted\n")
        again = shlex.split(told.rpartition("to resume: ")[2])
        assert {"--resume", "--address", address, "--storage-path"} <= set(again)
        second = subprocess.Popen(
            [sys.executable, *again[1:]],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        ended_well(second)
    finally:
        cluster.shutdown()
    analysis = Analysis(folder)
    assert analysis.history.num_sessions == 2
    assert [check.finding for check in analysis.breaches] == []
    assert {run.status for run in analysis.runs} <= {"completed", "stopped"}
    kept = [path for path in (tmp_path / "shared").rglob("*") if path.is_file()]
    assert kept == [], "no checkpoint is needed any more"


# ------------------------------------------------------------------- two machines


class Machine:
    """A network and a view of the file system of its own, as long as ``stack`` is open."""

    def __init__(self, stack: ExitStack) -> None:
        hold = stack.enter_context(
            subprocess.Popen(
                ["unshare", "--net", "--mount", "sh", "-c", "echo; exec sleep infinity"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        stack.callback(hold.kill)
        assert hold.stdout is not None
        assert hold.stderr is not None
        if not hold.stdout.readline():
            pytest.skip(f"needs namespaces of its own: {hold.stderr.read().decode().strip()}")
        self.pid = hold.pid
        self.within = ("nsenter", "--target", str(hold.pid), "--net", "--mount")
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command: str) -> None:
        subprocess.run([*self.within, *command], check=True)


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Two machines and a cable between them; the cable goes with the machines."""
    with ExitStack() as stack:
        first, second = Machine(stack), Machine(stack)
        first.run(
            *("ip", "link", "add", "cable", "type", "veth"),
            *("peer", "name", "cable", "netns", str(second.pid)),
        )
        for machine, address in ((first, HEAD), (second, WORKER)):
            machine.run("ip", "address", "add", f"{address}/24", "dev", "cable")
            machine.run("ip", "link", "set", "cable", "up")
        yield first, second


HEAD, WORKER = "198.51.100.1", "198.51.100.2"  # of those kept for documents
PORT = 6379


@contextmanager
def started(machine: Machine, *options: str) -> Iterator[None]:
    """A Ray node on ``machine``, whose files no other machine sees."""
    folder = Path(tempfile.mkdtemp(prefix="r-"))  # short: sockets lie below
    machine.run("mount", "-t", "tmpfs", "tmpfs", str(folder))
    process = subprocess.Popen(
        [
            *(*machine.within, sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
            *("--num-cpus=1", f"--object-store-memory={STORE_BYTES}", f"--temp-dir={folder}"),
            *("--disable-usage-stats", *options),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        ours = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(timeout=60)
        for left in psutil.wait_procs(ours, timeout=20)[1]:
            left.kill()
        shutil.rmtree(folder, ignore_errors=True)


def test_two_machines_train_one_search(
    meeting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `ray start` in two network namespaces, with a token; only the storage is shared."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        pytest.skip("needs root, and the commands unshare, nsenter and ip")
    monkeypatch.setenv("MEETING_SIZE", "2")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with two_machines() as (first, second):
        head = (
            "--head",
            "--include-dashboard=false",
            f"--node-ip-address={HEAD}",
            f"--port={PORT}",
        )
        worker = (f"--address={HEAD}:{PORT}", f"--node-ip-address={WORKER}")
        with started(first, *head), started(second, *worker):
            wait_until_two_nodes(first)
            told = ended_well(
                search(tmp_path, f"{HEAD}:{PORT}", "--budget", "2", within=first.within)
            )
    assert "2 concurrent trials on 2 nodes of 2 CPUs and 0 GPUs" in " ".join(told.split())
    assert {run.status for run in Analysis(tmp_path / "many").runs} <= {"completed", "stopped"}
    words = [json.loads(word.read_text()) for word in meeting.iterdir()]
    assert len({word["node"] for word in words}) == 2
    assert len({word["network"] for word in words}) == 2


NODES = """
import sys, time, ray
while True:
    try:
        ray.init(address=sys.argv[1], log_to_driver=False)
    except ConnectionError:
        continue
    if len([node for node in ray.nodes() if node["Alive"]]) == 2:
        break
    ray.shutdown()
"""


def wait_until_two_nodes(machine: Machine) -> None:
    subprocess.run(
        [*machine.within, sys.executable, "-c", NODES, f"{HEAD}:{PORT}"],
        check=True,
        capture_output=True,
        timeout=120,
    )
