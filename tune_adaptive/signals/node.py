"""One sampler a node: it reads the machine once a second, every process of ours hears it.

The first process that asks takes the node's lock and samples in a thread; the others read
the file it writes. Should it end, the next process that finds the file stale takes over. On a
file system without locks each process that finds the file stale samples.
"""

import json
import os
import threading
import time
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from tune_adaptive.signals.gpus import GpuReading, Gpus
from tune_adaptive.system.user import is_own, own_folder

INTERVAL_S = 1.0
STALE_S = 3.5
"""Age at which a sample counts as not measured."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one look at the node found.

    Attributes:
        at: Unix time [s].
        cpu_percent: CPU use of the whole node since the look before; 100 is all its cores.
        mem_fraction: Memory of the node in use, in [0, 1].
        gpus: By bare UUID.
    """

    at: float
    cpu_percent: float | None = None
    mem_fraction: float | None = None
    gpus: dict[str, GpuReading] = field(default_factory=dict)


class Node:
    """Hears the node's sampler, and is it where there is none.

    Args:
        folder: Where the lock and the sample lie; None is one of this user's own.
        gpus: Made when this process begins to sample.
    """

    def __init__(self, folder: Path | None = None, gpus: type[Gpus] = Gpus) -> None:
        if folder is None:
            folder = own_folder()
        self._path = folder / "node.json"
        self._lock = FileLock(folder / "node.lock", timeout=0)
        self._make_gpus = gpus
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._sample: Sample | None = None
        self._looked_at = -float("inf")
        self._is_usable = is_own(folder)

    def latest(self) -> Sample | None:
        """Return the latest sample, or None: nobody samples this node."""
        now = time.monotonic()
        if now - self._looked_at >= INTERVAL_S and self._is_usable:
            self._looked_at = now
            self._sample = self._read()
            if self._sample is None and self._thread is None:
                self._begin()
        return self._sample

    def close(self) -> None:
        """Stop sampling, if this process did."""
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._thread = None
            self._path.unlink(missing_ok=True)
            self._lock.release()

    def _begin(self) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            return  # another process has just begun
        except OSError:
            pass  # no locks here (ENOLCK and its like): two samplers do no harm
        self._stopped.clear()
        gpus = self._make_gpus()
        psutil.cpu_percent()  # the first call only sets the reference
        self._look(gpus)
        self._thread = threading.Thread(
            target=self._run, args=(gpus,), name="node-sampler", daemon=True
        )
        self._thread.start()
        self._sample = self._read()

    def _run(self, gpus: Gpus) -> None:
        while not self._stopped.wait(INTERVAL_S):
            self._look(gpus)

    def _look(self, gpus: Gpus) -> None:
        sample = Sample(
            at=time.time(),
            cpu_percent=psutil.cpu_percent(),
            mem_fraction=psutil.virtual_memory().percent / 100,
            gpus=gpus.read(),
        )
        draft = self._path.with_suffix(f".{os.getpid()}.draft")  # there may be two of us
        try:
            draft.write_text(json.dumps(asdict(sample)))
            draft.replace(self._path)
        except OSError as error:  # a full disk must not end a training
            warnings.warn(f"{self._path}: {error}", RuntimeWarning, stacklevel=1)
            self._stopped.set()

    def _read(self) -> Sample | None:
        try:
            row = json.loads(self._path.read_text())
            row["gpus"] = {uuid: GpuReading(**gpu) for uuid, gpu in row["gpus"].items()}
            sample = Sample(**(row | {"at": float(row["at"])}))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return sample if abs(time.time() - sample.at) < STALE_S else None
