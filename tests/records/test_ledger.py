"""The ledger: what goes in comes out, and a torn row does not."""

import errno
import os
from pathlib import Path

import pytest

from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.records import ledger
from tune_adaptive.records.runs import Configuration, EpochResult, Recipe, RunSpec

RUN = RunSpec("r", "search", "a/b", Configuration("step", Recipe(), {"gamma": 0.1 + 0.2}), 7, 3)
RESULT = EpochResult(
    *(1, 1.0, 9, 27, 0.5, float("inf"), 0.1, (0.1, 0.2), (0, 5), 0.3, 1.0, 0.1, 5.0), diverged=True
)
EVENTS: list[ledger.Event] = [
    ledger.Opened(at=0.0),
    ledger.StageStarted("search", 12.0, 0, 1.0),
    ledger.RunStarted(RUN, 2.0),
    ledger.EpochDone("r", RESULT),
    ledger.RunInterrupted("r", "WorkerDied", 2.5),
    ledger.RunResumed("r", 1, 2.75),
    ledger.TestOpened("r", 3.0),
    ledger.RunEnded("r", "completed", "", 4.0),
    ledger.Selected("a/b", RUN.configuration, 0.9, "r"),
    ledger.ArmFailed("a/b", "step"),
    ledger.Closed(1, at=5.0),
]


def write(path: Path, events: list[ledger.Event]) -> None:
    with ledger.Ledger(path) as open_ledger:
        for event in events:
            open_ledger.append(event)


def test_events_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    write(path, EVENTS)
    assert ledger.read(path) == EVENTS


def test_a_row_torn_anywhere_is_left_out_and_cut_on_open(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    write(path, EVENTS[:3])
    whole = path.read_bytes()
    last_row = len(whole.splitlines(keepends=True)[-1])
    for torn in range(1, last_row):
        path.write_bytes(whole[:-torn])
        *whole_rows, damaged = ledger.read(path)
        assert whole_rows == EVENTS[:2]
        assert isinstance(damaged, ledger.Damaged)
        assert damaged.line == 3
        write(path, EVENTS[3:4])
        assert ledger.read(path) == [*EVENTS[:2], EVENTS[3]]


def test_reading_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    write(path, EVENTS[:1])
    path.write_bytes(path.read_bytes() + b'{"event": "ru')
    before = path.read_bytes()
    ledger.read(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "row",
    [
        b"not json",
        b'{"event": "unheard of"}',
        b'{"event": "closed", "at": 1, "extra": 2}',
        b"[]",
        b'{"event": "test_opened", "run_id": [1], "at": 1}',
        b'{"event": "run_ended", "run_id": "r", "status": "fine", "message": "", "at": 1}',
        b'{"event": "closed", "num_started": null, "at": 1}',
    ],
)
def test_a_row_that_cannot_be_read_is_skipped_and_named(tmp_path: Path, row: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    write(path, EVENTS[:1])
    path.write_bytes(path.read_bytes() + row + b"\n")
    write(path, EVENTS[1:2])
    first, damaged, last = ledger.read(path)
    assert [first, last] == EVENTS[:2]
    assert isinstance(damaged, ledger.Damaged)
    assert damaged.line == 2
    assert "cannot be read" in damaged.reason


def test_a_disk_that_takes_no_more_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    with ledger.Ledger(path) as file:
        file.append(ledger.Closed(0, 0.0))
        before = path.read_bytes()
        fsync = os.fsync

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        for _ in range(2):
            with pytest.raises(EnvironmentFault, match="cannot be written: No space left"):
                file.append(ledger.Closed(1, 0.0))
            assert path.read_bytes() == before
        monkeypatch.setattr(os, "fsync", fsync)
        file.append(ledger.Closed(2, 0.0))
    assert ledger.read(path) == [ledger.Closed(0, 0.0), ledger.Closed(2, 0.0)]


def test_a_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"event": "opened", "at": 0, "version": 99, "more": 1}\n')
    with pytest.raises(InputError, match=r"version 99 of the ledger; this reads 3, 4, 5"):
        ledger.read(path)


def test_a_folder_without_a_ledger_is_not_an_experiment(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an experiment's ledger"):
        ledger.read(tmp_path / "ledger.jsonl")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plan.toml").write_text("")
    return tmp_path


def without_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)


@pytest.mark.filterwarnings("ignore:flock not supported:UserWarning")  # filelock's own fallback
@pytest.mark.parametrize(
    "number",
    [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EL2NSYNC, errno.EPERM, errno.EIO],
)
def test_a_file_system_without_locks_is_met_by_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    without_locks(monkeypatch, number)
    for _ in range(2):  # it was let go of
        with ledger.locked(folder):
            assert (folder / ledger.LOCK_FILE).is_file(), "ours, not filelock's own stand-in"
        with (
            ledger.locked(folder),
            pytest.raises(InputError, match=f"process {os.getpid()} on .* is running it"),
            ledger.locked(folder),
        ):
            raise AssertionError("it was locked twice")


def test_what_is_held_by_a_file_is_said_with_its_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_locks(monkeypatch, errno.ENOLCK)
    (folder / ledger.LOCK_FILE).write_text("1\nanother-host\n")  # its process was killed there
    with (
        pytest.raises(InputError, match=f"if it has ended, remove {folder / ledger.LOCK_FILE}"),
        ledger.locked(folder),
    ):
        raise AssertionError("it was locked")
    (folder / ledger.LOCK_FILE).unlink()
    with ledger.locked(folder):
        assert "its file system has no locks (No locks available)" in capsys.readouterr().err


def test_a_lock_that_cannot_be_written_is_one_message(folder: Path) -> None:
    (folder / "lock").mkdir()
    (folder / ledger.LOCK_FILE).mkdir()
    with pytest.raises((EnvironmentFault, InputError), match=str(folder)), ledger.locked(folder):
        raise AssertionError("it was locked")


def test_what_fails_while_it_is_locked_is_not_taken_for_the_lock(folder: Path) -> None:
    with pytest.raises(TimeoutError, match="of another"), ledger.locked(folder):
        raise TimeoutError("of another")
    with ledger.locked(folder):
        pass  # it was let go of
