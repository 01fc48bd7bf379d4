"""The record of an experiment: an append-only file of events, one JSON row each.

Everything after the search (analysis, report, export, progress) reads only this and the
plan. Each row is on disk before the next is written; a row torn by a crash is cut off
when the ledger is opened again.
"""

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from tune_adaptive.errors import EnvironmentFault, InputError, did_you_mean
from tune_adaptive.records.codec import (
    Amount,
    Count,
    DecodeError,
    Finite,
    convert,
    parse_json,
    read_bytes,
    shown,
    to_json,
)
from tune_adaptive.records.runs import Configuration, EpochResult, RunSpec, Stage, Status
from tune_adaptive.system.files import refuse_links

VERSION = 5
READ = (3, 4, 5)
"""Versions that are read: 4 added a run's ``number`` and ``repeats``, 5 metrics, and
calls a random-search control so."""
ONCE = {"val_accuracy": "val_metric", "test_accuracy": "test_metric"}
"""What versions before 5 called what, where every metric was an accuracy."""
OLD_CONTROL = "witness"
"""What they called a random-search control."""
LOCK_FILE = "lock.file"
"""Stands for the lock of an experiment on a file system that has none."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The experiment was begun or resumed; ``plan_sha256`` is of its ``plan.toml`` then."""

    at: Finite
    plan_sha256: str = ""
    version: Count = VERSION


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage began.

    Attributes:
        stage: Which.
        num_epochs: What it may spend, in epoch-equivalents.
        num_started: Runs that the experiment had started before it.
        at: Unix time [s].
    """

    stage: Stage
    num_epochs: Amount
    num_started: Count
    at: Finite


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run was handed to a slot."""

    run: RunSpec
    at: Finite


@dataclass(frozen=True, slots=True)
class RunInterrupted:
    """A run came to a halt that was no fault of its own: its worker died, or hung."""

    run_id: str
    message: str
    at: Finite


@dataclass(frozen=True, slots=True)
class RunResumed:
    """A run that was interrupted was handed to a slot again.

    It goes on from a checkpoint with ``num_epochs`` whole epochs, or begins anew; its rows of
    later epochs are void.
    """

    run_id: str
    num_epochs: Count
    at: Finite


@dataclass(frozen=True, slots=True)
class EpochDone:
    """A run ended an epoch."""

    run_id: str
    result: EpochResult


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run ended: completed, stopped early, diverged or failed."""

    run_id: str
    status: Status
    message: str
    at: Finite


@dataclass(frozen=True, slots=True)
class TestOpened:
    """A final run looked at the test split, once."""

    run_id: str
    at: Finite


@dataclass(frozen=True, slots=True)
class Selected:
    """An arm's configuration was chosen by its mean over fresh seeds."""

    task: str
    configuration: Configuration
    val_metric: Finite
    trial_id: str


@dataclass(frozen=True, slots=True)
class ArmFailed:
    """No configuration of an arm trained to the end."""

    task: str
    schedule: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The experiment ran to its end, and had started ``num_started`` runs."""

    num_started: Count
    at: Finite


@dataclass(frozen=True, slots=True)
class Damaged:
    """A row that could not be read; it stands in what is read, never in the file."""

    line: int
    reason: str
    torn: bool = False  # the last row, which the next writer cuts off


def is_torn(event: object) -> bool:
    """Whether it is a last row that the writer has not finished; the next writer cuts it off."""
    return isinstance(event, Damaged) and event.torn


Event = (
    Opened
    | StageStarted
    | RunStarted
    | RunInterrupted
    | RunResumed
    | EpochDone
    | RunEnded
    | TestOpened
    | Selected
    | ArmFailed
    | Closed
    | Damaged
)
_TYPES: dict[str, Any] = {
    "opened": Opened,
    "stage_started": StageStarted,
    "run_started": RunStarted,
    "run_interrupted": RunInterrupted,
    "run_resumed": RunResumed,
    "epoch": EpochDone,
    "run_ended": RunEnded,
    "test_opened": TestOpened,
    "selected": Selected,
    "arm_failed": ArmFailed,
    "closed": Closed,
}
_NAMES = {type_: name for name, type_ in _TYPES.items()}


class Ledger:
    """An open ledger; the only writer of its file."""

    def __init__(self, path: Path) -> None:
        cut_torn_tail(path)
        self._path = path
        self._file = path.open("ab", buffering=0)  # nothing is written later than it is asked for

    def append(self, event: Event) -> None:
        """Write one row and wait until it is on disk.

        Raises:
            EnvironmentFault: The disk takes no more. The file is as it was.
        """
        line = to_json({"event": _NAMES[type(event)], **asdict(event)}).encode() + b"\n"
        size = self._file.tell()
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(size)
            self._file.seek(size)
            raise EnvironmentFault(f"{self._path}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only process that works on an experiment; the lock ends with it, however it ends.

    On a file system without locks (Lustre mounted without ``flock``, NFS without its daemon) a
    file stands for the lock; it stays where a process is killed.

    Raises:
        InputError: Another process does, or there is no experiment, or there are links in it.
        EnvironmentFault: Nothing can be written there.
    """
    if not (folder / "plan.toml").is_file():
        raise InputError(f"{folder}: not an experiment: no plan.toml there")
    refuse_links(folder)
    owner = folder / "lock.owner"
    lock: BaseFileLock = FileLock(folder / "lock", timeout=0)
    try:
        try:
            with (folder / "plan.toml").open("rb") as file:  # filelock's own stand-in is no lock:
                fcntl.flock(file, fcntl.LOCK_SH)  # the next one that comes may remove it
            lock.acquire()
        except Timeout:
            raise
        except OSError as error:  # ENOLCK, EOPNOTSUPP, EPERM: each file system has its own
            lock = SoftFileLock(folder / LOCK_FILE, timeout=0)
            lock.acquire()
            _warn_of_soft_lock(folder, error)
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    except Timeout as error:
        who = owner.read_text(encoding="utf-8") if owner.is_file() else "another process"
        remedy = f"; if it has ended, remove {folder / LOCK_FILE}"
        raise InputError(
            f"{folder}: {who} is running it" + remedy * isinstance(lock, SoftFileLock)
        ) from error
    except OSError as error:
        lock.release()
        raise EnvironmentFault(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def _warn_of_soft_lock(folder: Path, error: OSError) -> None:
    print(
        f"warning: {folder}: its file system has no locks ({error.strerror}); the file {LOCK_FILE} "
        "stands for one: should this process be killed, remove it before --resume",
        file=sys.stderr,
    )


def cut_torn_tail(path: Path) -> None:
    """Cut ``path`` after its last newline, so that no row is glued to half of another."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


def read(path: Path) -> list[Event]:
    """Read every row of a ledger; one that is torn or corrupt comes back as :class:`Damaged`.

    Raises:
        InputError: There is no ledger, or it is of another version.
    """
    try:
        content = read_bytes(path)
    except DecodeError as error:
        raise InputError(f"{error}: not an experiment's ledger") from error
    return list(_parse(content.split(b"\n"), path))


def has_ended(folder: Path) -> bool:
    """Whether the experiment in ``folder`` ran to its end, by the last row of its ledger."""
    path = folder / "ledger.jsonl"
    return path.exists() and any(isinstance(event, Closed) for event in read(path)[-1:])


def _parse(lines: Sequence[bytes], path: Path) -> Iterator[Event]:
    """Parse ``lines``; what follows the last newline is torn, if it is anything."""
    for number, line in enumerate(lines, start=1):
        if number == len(lines):
            if line:
                yield Damaged(number, "torn: the writer was cut off", torn=True)
            return
        try:
            row = parse_json(line, "cannot be read")
            version = _version(row)
            if version is None:
                yield _event(row)
        except DecodeError as error:
            yield Damaged(number, "; ".join(error.problems))
            continue
        if version is not None:
            raise InputError(
                f"{path}: line {number}: version {shown(version)} of the ledger; "
                f"this reads {', '.join(map(str, READ))}"
            )


def _version(row: Any) -> Any:
    """Return the version that a row says the ledger is of, if it is none that is read here."""
    if isinstance(row, dict) and row.get("event") == "opened" and "version" in row:
        return None if row["version"] in READ else row["version"]
    return None


def _event(row: Any) -> Event:
    name = row.pop("event", None) if isinstance(row, dict) else None
    if not isinstance(name, str) or name not in _TYPES:
        hint = did_you_mean(name, _TYPES) if isinstance(name, str) else ""
        raise DecodeError([f"cannot be read: event = {shown(name)}: no such event{hint}"])
    if name == "epoch" and isinstance(row.get("result"), dict):
        row["result"] = _renamed(row["result"])
    run = row.get("run")
    if isinstance(run, dict) and run.get("role") == OLD_CONTROL:
        row["run"] = run | {"role": "control"}
    event: Event = convert(_renamed(row), _TYPES[name], f"cannot be read: {name}")
    return event


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    return {ONCE.get(name, name): value for name, value in row.items()}
