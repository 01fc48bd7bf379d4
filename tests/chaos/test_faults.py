"""Runs that go wrong, a full disk, a torn ledger: what is hurt is lost, and nothing else."""

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos import faulty
from tests.chaos.search import ROOT, SMALL, Search, checked, ended
from tests.chaos.table import Record, Row, lost_epochs
from tune_adaptive.records import ledger

pytestmark = pytest.mark.slow


def test_runs_that_go_wrong_each_in_its_way(tmp_path: Path, record: Record) -> None:
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
        record(Row(what, len(by_seed[seed]), len(by_seed[seed]), 0, 0))
    for seed, epoch in faulty.NAN_EPOCHS.items():
        runs = [run for run in by_seed[seed] if run.status != "stopped"]
        assert all(run.status == "diverged" and len(run.epochs) == epoch for run in runs)
        record(Row(f"trial: NaN in epoch {epoch} of 6", len(runs), len(runs), 0, 0))
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
        record(Row(what, number, number, lost, 0))
    [dump] = [
        event.message
        for event in analysis.history.events
        if isinstance(event, ledger.RunInterrupted) and "HungError" in event.message
    ]
    assert "faulty.py" in dump and "_hang" in dump, "its stacks say where it hung"


def test_five_that_fail_alike_stop_the_search(tmp_path: Path, record: Record) -> None:
    search = Search(
        tmp_path,
        *("--task", "tests.chaos.faulty:hopeless", "--name", "hurt", "--schedule", "step"),
    )
    code, _, error = search.end()
    assert code == 5
    assert re.search("5 runs failed alike, one after the other: .*ValueError: no such layer", error)
    events = ledger.read(search.folder / "ledger.jsonl")
    assert len([event for event in events if isinstance(event, ledger.RunEnded)]) == 5
    record(Row("trial: all raise, the search stops with the reason", 1, 1, 0, 0))


def test_a_disk_that_is_full_in_the_middle(tmp_path: Path, record: Record) -> None:
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
            timeout=600,
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
    record(Row("disk: full in the middle", 1, 1, lost, 0))


def test_a_ledger_torn_at_every_byte(tmp_path: Path, record: Record) -> None:
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
    record(Row("ledger: torn at every byte", len(content), len(content), 0, 0))


def test_two_at_once_are_one_too_many(tmp_path: Path, record: Record) -> None:
    first = Search(tmp_path, *SMALL)
    first.wait_for(1)
    code, _, error = Search(tmp_path).end()
    assert code == 2
    assert f"process {first.process.pid} on " in error
    first.process.send_signal(signal.SIGTERM)
    assert first.end()[0] == 4, "it went on, and could be interrupted"
    record(Row("two searches on one name", 1, 1, lost_epochs(first.folder), 0))
