"""Whatever is killed, hangs or fails, nothing is lost and the search goes on.

    pytest -m slow tests/chaos

prints the table of faults that stands in ``benchmarks/README.md``.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.chaos import faulty
from tests.chaos.table import ROWS, Row, duplicates, lost_epochs
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.analysis.history import Run
from tune_adaptive.records import ledger

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = [
    *("--schedule", "adaptive", "--schedule", "step"),
    *("--train-size", "1280", "--epochs", "3", "--budget", "3", "--final-seeds", "2"),
    *("--seed", "7", "--max-concurrent", "1", "--signals", "steady", "--precision", "fp32"),
    *("--checkpoint-every", "0.1s", "--name", "hurt"),
]
"""A search that is the same each time, and keeps the state of its runs all the time."""


KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Search:
    """A process that searches, and all it starts."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.folder = folder / "hurt"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tune_adaptive.search"),
                *(arguments or ("--resume", str(self.folder))),
                *(("--results-dir", str(folder)) if arguments else ()),
            ],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, num_ends: int) -> None:
        """Wait until so many runs have ended, or it has."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            num_ends -= " | " in line
            if num_ends <= 0:
                return

    def kill(self) -> None:
        """Kill it without a word, and what of Ray has not noticed soon after."""
        started = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.communicate()
        for left in psutil.wait_procs(started, timeout=1)[1]:
            left.kill()

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return its exit code and what it said."""
        told, error = self.process.communicate(timeout=600)
        return self.process.returncode, told, error


def ended(search: Search) -> None:
    code, _, error = search.end()
    assert (code, error) == (0, "")


def told(run: Run) -> object:
    losses = [(e.epoch, e.train_loss, e.val_loss, e.lrs) for e in run.epochs]
    return run.spec, run.status, losses, run.last and run.last.test_loss


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """What the small search comes to where nothing happens."""
    folder = tmp_path_factory.mktemp("whole")
    ended(Search(folder, *SMALL))
    return [told(run) for run in Analysis(folder / "hurt").runs]


def checked(folder: Path) -> Analysis:
    analysis = Analysis(folder)
    assert [check.finding for check in analysis.breaches] == []
    assert duplicates(folder) == 0
    assert list((folder / "checkpoints").iterdir()) == [], "none is needed any more"
    return analysis


def test_a_driver_killed_at_ten_random_times(tmp_path: Path, whole: list[object]) -> None:
    rng = random.Random(0)
    search = Search(tmp_path, *SMALL)
    for _ in range(10):
        search.wait_for(rng.randint(1, 3))
        try:
            search.process.wait(timeout=rng.uniform(0, 0.5))
        except subprocess.TimeoutExpired:
            search.kill()
        search = Search(tmp_path)
    ended(search)
    analysis = checked(search.folder)
    assert analysis.history.num_sessions == 11
    assert [told(run) for run in analysis.runs] == whole
    ROWS.append(Row("driver: SIGKILL at a random time", 10, 10, lost_epochs(search.folder), 0))


def test_a_search_that_is_asked_to_end_loses_nothing(tmp_path: Path, whole: list[object]) -> None:
    search = Search(tmp_path, *SMALL)
    for kind in KINDS:
        search.wait_for(3)
        started = psutil.Process(search.process.pid).children(recursive=True)
        search.process.send_signal(kind)
        code, said, error = search.end()
        assert (code, error) == (4, "interrupted\n")
        assert f"--resume {search.folder}" in said
        assert psutil.wait_procs(started, timeout=10)[1] == []
        search = Search(tmp_path)
    ended(search)
    assert [told(run) for run in checked(search.folder).runs] == whole
    assert lost_epochs(search.folder) == 0
    ROWS.extend(Row(f"driver: {kind.name}", 1, 1, 0, 0) for kind in KINDS)


def test_runs_that_go_wrong_each_in_its_way(tmp_path: Path) -> None:
    search = Search(
        tmp_path,
        *("--task", "tests.chaos.faulty:task", "--budget", "16", "--final-seeds", "2"),
        *("--schedule", "adaptive", "--schedule", "step", "--name", "hurt"),
        *("--checkpoint-every", "0.01s", "--hang-after", "15s", "--precision", "fp32"),
        CHAOS_FOLDER=str(tmp_path),
    )
    ended(search)
    analysis = checked(search.folder)
    trials = [run for run in analysis.runs if run.spec.stage == "search"]
    by_seed = {seed: [run for run in trials if run.spec.seed == seed] for seed in range(15)}
    assert all(by_seed.values()), "every fault had its trials"
    interrupted = Counter(
        event.message.splitlines()[-1]
        for event in analysis.history.events
        if isinstance(event, ledger.RunInterrupted)
    )

    for seed, what, message, retries in (
        (1, "trial: raises", "ValueError: no such layer", 0),
        (3, "trial: more memory than the CPU has", "can't allocate memory", 3),
        (5, "trial: CUDA out of memory (raised, on the CPU)", "CUDA out of memory", 3),
    ):
        assert all(run.status == "failed" and message in run.message for run in by_seed[seed])
        assert all(run.num_resumed == retries for run in by_seed[seed])
        ROWS.append(Row(what, len(by_seed[seed]), len(by_seed[seed]), 0, 0))
    for seed, epoch in faulty.NAN_EPOCHS.items():
        runs = [run for run in by_seed[seed] if run.status != "stopped"]
        assert all(run.status == "diverged" and len(run.epochs) == epoch for run in runs)
        ROWS.append(Row(f"trial: NaN in epoch {epoch} of 6", len(runs), len(runs), 0, 0))
    kills = sum(
        number for words, number in interrupted.items() if words == "WorkerDied: its process ended"
    )
    assert kills == 10
    hung = [words for words in interrupted if "HungError: no epoch ended within 15 s" in words]
    assert [interrupted[words] for words in hung] == [1]
    [passing] = [words for words in interrupted if "ConnectionError: the network is gone" in words]
    assert interrupted[passing] == 1
    went_on = [run for run in trials if run.num_resumed and run.spec.seed not in (3, 5)]
    assert {run.spec.seed for run in went_on} == {2, 4, 10, 11, 12, 13, 14}
    assert all(run.status in ("completed", "stopped") for run in went_on)
    for what, seeds, number in (
        ("trial: raises what may pass", (2,), 1),
        ("trial: hangs", (4,), 1),
        ("worker: SIGKILL", (10, 11, 12, 13, 14), kills),
    ):
        lost = sum(run.void_epochs for run in went_on if run.spec.seed in seeds)
        ROWS.append(Row(what, number, number, lost, 0))
    [dump] = [
        event.message
        for event in analysis.history.events
        if isinstance(event, ledger.RunInterrupted) and "HungError" in event.message
    ]
    assert "faulty.py" in dump and "_hang" in dump, "its stacks say where it hung"


def test_five_that_fail_alike_stop_the_search(tmp_path: Path) -> None:
    search = Search(
        tmp_path,
        *("--task", "tests.chaos.faulty:hopeless", "--name", "hurt", "--schedule", "step"),
    )
    code, _, error = search.end()
    assert code == 5
    assert "5 runs failed alike, one after the other: ValueError: no such layer" in error
    events = ledger.read(search.folder / "ledger.jsonl")
    assert len([event for event in events if isinstance(event, ledger.RunEnded)]) == 5
    ROWS.append(Row("trial: all raise, the search stops with the reason", 1, 1, 0, 0))


def test_a_disk_that_is_full_in_the_middle(tmp_path: Path) -> None:
    """In a mount namespace of its own, on a file system that something else fills."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, of util-linux")
    search = f"{sys.executable} -m tune_adaptive.search"
    script = f"""
        set -e
        mount -t tmpfs -o size=300m tmpfs {folder}
        ( until grep -q run_ended {folder}/hurt/ledger.jsonl; do sleep 0.05; done
          head -c 400m /dev/zero > {folder}/filling ) 2> /dev/null &
        code=0
        {search} --results-dir {folder} {" ".join(SMALL)} 2> {tmp_path}/error || code=$?
        echo $code > {tmp_path}/code
        test $code != 0 || exit 75  # it had ended before the disk was full
        cp {folder}/hurt/ledger.jsonl {tmp_path}/
        rm {folder}/filling
        {search} --resume {folder}/hurt
        cp -r {folder}/hurt {tmp_path}/
    """
    allowed = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if allowed.returncode:
        pytest.skip(f"needs to mount in a user namespace: {allowed.stderr.strip()}")
    for _ in range(3):
        done = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "bash", "-c", script],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode != 75:
            break
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "code").read_text().strip() == "3"
    assert "No space left on device" in (tmp_path / "error").read_text()
    before = (tmp_path / "ledger.jsonl").read_bytes()
    assert before.endswith(b"\n"), "no row is torn"
    assert (tmp_path / "hurt" / "ledger.jsonl").read_bytes().startswith(before)
    checked(tmp_path / "hurt")
    lost = lost_epochs(tmp_path / "hurt")
    ROWS.append(Row("disk: full in the middle", 1, 1, lost, 0))


def test_a_torn_checkpoint_is_no_checkpoint(tmp_path: Path, whole: list[object]) -> None:
    search = Search(tmp_path, *SMALL)
    while not (kept := list((search.folder / "checkpoints").glob("*.safetensors"))):
        assert search.process.poll() is None
    search.kill()
    [torn] = kept
    torn.write_bytes(torn.read_bytes()[:-1])
    search = Search(tmp_path)
    ended(search)
    assert [told(run) for run in checked(search.folder).runs] == whole
    ROWS.append(Row("checkpoint: torn", 1, 1, lost_epochs(search.folder), 0))


def test_a_ledger_torn_at_every_byte(tmp_path: Path) -> None:
    search = Search(tmp_path, *SMALL)
    search.wait_for(1)
    search.kill()
    path = search.folder / "ledger.jsonl"
    content = path.read_bytes()
    whole_rows = ledger.read(path)
    for size in range(len(content)):
        path.write_bytes(content[:size])
        rows = ledger.read(path)
        num_whole = content[:size].count(b"\n")
        assert rows[:num_whole] == whole_rows[:num_whole]
        assert all(isinstance(row, ledger.Damaged) and row.torn for row in rows[num_whole:])
        ledger.cut_torn_tail(path)
        assert path.read_bytes() == b"".join(content[:size].splitlines(keepends=True)[:num_whole])
    ROWS.append(Row("ledger: torn at every byte", len(content), len(content), 0, 0))


def test_two_at_once_are_one_too_many(tmp_path: Path) -> None:
    first = Search(tmp_path, *SMALL)
    first.wait_for(1)
    code, _, error = Search(tmp_path).end()
    assert code == 2
    assert f"process {first.process.pid} on " in error
    first.process.send_signal(signal.SIGTERM)
    assert first.end()[0] == 4, "it went on, and could be interrupted"
    ROWS.append(Row("two searches on one name", 1, 1, lost_epochs(first.folder), 0))
