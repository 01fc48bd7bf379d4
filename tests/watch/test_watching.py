"""A real search, watched with the real programs: Prometheus, optuna-dashboard, Chromium."""

import json
import os
import pty
import re
import shutil
import socket
import struct
import subprocess
import sys
import termios
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--epochs", "3", "--budget", "2", "--final-seeds", "2", "--train-size", "1280")
TIMEOUT_S = 300
T = TypeVar("T")


def wait_for(condition: Callable[[], T], process: "subprocess.Popen[Any] | None" = None) -> T:
    """Ask again and again until there is an answer, as long as ``process`` runs."""
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        if found := condition():
            return found
        assert process is None or process.poll() is None, "it ended before"
        time.sleep(0.2)
    raise AssertionError("it never came")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str, **headers: str) -> str:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


@pytest.fixture
def watched(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A search with its dashboard, which stays until the test is done with it."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-u", "-m", "tune_adaptive.search", "--dashboard"),
            *("--track", "tensorboard", "--track", "mlflow", "--track", "wandb"),
            *("--name", "seen", "--results-dir", str(tmp_path), *SMALL),
        ],
        env=dict(os.environ) | {"WANDB_MODE": "offline"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.slow
def test_prometheus_scrapes_a_real_search_and_answers(
    watched: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    """By the configuration that ships, asked what Grafana asks; all of it on loopback."""
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("needs Debian's prometheus; runs in .ci/run, which installs it")
    assert watched.stdout is not None
    told = next(line for line in watched.stdout if line.startswith("dashboard: "))
    url, token = re.findall(r"(http://127.0.0.1:\d+), .* in (\S+)", told)[0]
    assert get(f"{url}/api/version") == "", "nobody is let in without the token"
    authorization = f"Bearer {Path(token).read_text()}"
    assert "2." in wait_for(lambda: get(f"{url}/api/version", Authorization=authorization))
    port = free_port()
    config = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "1s"
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    server = subprocess.Popen(
        [
            *(prometheus, f"--config.file={tmp_path / 'prometheus.yml'}"),
            *(f"--storage.tsdb.path={tmp_path / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def query(text: str) -> list[dict[str, Any]]:
        asked = urllib.parse.urlencode({"query": text})
        answer = get(f"http://127.0.0.1:{port}/api/v1/query?{asked}")
        return json.loads(answer)["data"]["result"] if answer else []

    try:
        [slots] = wait_for(lambda: query("ray_tune_adaptive_slots"), watched)
        assert slots["metric"]["experiment"] == "seen"
        assert float(slots["value"][1]) >= 1
        reached = wait_for(lambda: query("ray_tune_adaptive_val_metric"), watched)
        assert all(0 < float(series["value"][1]) <= 1 for series in reached)
        assert {s["metric"]["schedule"] for s in reached} <= {
            *("adaptive", "step", "exponential", "constant"),  # the canaries'
        }
        dashboard = json.loads((ROOT / "monitoring" / "grafana.json").read_text())
        wait_for(lambda: query("ray_tune_adaptive_arm_best_val_metric"), watched)
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                if "gpu" not in target["expr"]:
                    asked = target["expr"].replace("$experiment", "seen")
                    asked = asked.replace("$task", ".*").replace("$schedule", ".*")
                    assert wait_for(lambda asked=asked: query(asked), watched), panel["title"]
    finally:
        server.terminate()
        server.wait(timeout=30)
    watched.wait(timeout=TIMEOUT_S)
    assert watched.returncode == 0
    assert watched.stderr is not None
    assert "left out" not in watched.stderr.read()
    num_runs = len(list((tmp_path / "seen" / "signals").glob("*.jsonl")))
    assert len(list((tmp_path / "seen" / "tensorboard").glob("*/events.*"))) == num_runs
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == num_runs
    assert (tmp_path / "mlflow.db").stat().st_size > 0


@pytest.mark.slow
def test_optuna_dashboard_opens_the_studies(finished: Path, tmp_path: Path) -> None:
    """The real server, asked what its page asks."""
    shutil.copy(finished / "studies.db", tmp_path)
    port = free_port()
    server = subprocess.Popen(
        [
            *(
                Path(sys.executable).with_name("optuna-dashboard"),
                f"sqlite:///{tmp_path}/studies.db",
            ),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        api = f"http://127.0.0.1:{port}/api"
        studies = json.loads(wait_for(lambda: get(f"{api}/studies"), server))["study_summaries"]
        names = {study["study_name"] for study in studies}
        assert "fashion_mnist_mini/cnn:adaptive" in names
        for study in studies:
            told = json.loads(get(f"{api}/studies/{study['study_id']}?after=0"))
            assert told["trials"]
            for trial in told["trials"]:
                attributes = {each["key"] for each in trial["user_attrs"]}
                assert {"arm", "run_id", "seed", "epoch_equivalents"} <= attributes
                assert trial["intermediate_values"]
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.mark.browser
def test_screenshots_of_a_real_search(tmp_path: Path) -> None:
    """The dashboard while it runs, and the report, in Debian's Chromium."""
    done = subprocess.run(
        [
            *(sys.executable, "docs/screenshots.py", "--to", str(tmp_path), "--"),
            *("--epochs", "3", "--budget", "1", "--final-seeds", "1"),  # long enough to be seen
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    images = {path.stem: path.stat().st_size for path in tmp_path.glob("*.png")}
    assert set(images) == {"dashboard-actors", "dashboard-cluster", "report"}
    assert min(images.values()) > 20_000


# ------------------------------------------------------------------------ a terminal

SHOW = """
import sys, time
from pathlib import Path
from rich.console import Console
from tune_adaptive.records import ledger
from tune_adaptive.records.plan import Plan
from tune_adaptive.watch.progress import Progress
folder = Path(sys.argv[1])
events = ledger.read(folder / "ledger.jsonl")
with Progress(Plan.read(folder / "plan.toml"), Console()) as progress:
    for event in events[: len(events) // 2]:
        progress(event)
    sys.stdin.readline()
    for event in events[len(events) // 2 :]:
        progress(event)
"""


def resize(terminal: int, columns: int, rows: int) -> None:
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@pytest.mark.slow
def test_the_live_view_survives_a_narrow_terminal_and_a_resize(finished: Path) -> None:
    """In a terminal of 30 columns and 8 rows that becomes one of 120 and 40."""
    ours, theirs = pty.openpty()
    resize(ours, 30, 8)
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW, str(finished)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm-256color"},
        cwd=ROOT,
    )
    os.close(theirs)
    told, is_wide = b"", False
    try:
        while True:
            try:
                told += os.read(ours, 65536)
            except OSError:  # it has ended
                break
            if not is_wide and b"left" in told:
                narrow = told
                resize(ours, 120, 40)
                os.write(ours, b"\n")
                is_wide = True
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part.decode()) for part in (narrow, told)]
    assert all(len(line.strip("\r")) <= 30 for line in plain[0].splitlines())
    assert "Traceback" not in plain[1]
    assert "best val" in plain[1]
    assert "running" in plain[1], "a wide terminal shows all columns"
