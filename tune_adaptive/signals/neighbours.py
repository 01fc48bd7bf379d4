"""How much of this machine's CPUs other people's processes use.

What the CPUs did, less what this process and all that it started did. It tells a search that is
slow from one that is starved.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import psutil

INTERVAL_S = 2.0
KEPT = 3600  # samples: two hours
SATURATED = 0.9
"""Share of the CPUs in use from which they are taken as fully used."""


@dataclass(frozen=True, slots=True)
class CpuSample:
    """What the CPUs did between two looks.

    Attributes:
        at: Unix time of the later look [s].
        busy: CPUs in use, of ``num_cpus``.
        foreign: CPUs that others used.
        num_cpus: CPUs that this process may use.
    """

    at: float
    busy: float
    foreign: float
    num_cpus: int

    def __str__(self) -> str:
        return f"other processes use {self.foreign:.1f} of {self.num_cpus} CPUs"


class Neighbours:
    """Samples the CPUs once every two seconds in a thread of its own, once it is started.

    Args:
        cpus: Gives CPU seconds that were idle and not idle so far, of each CPU that this process
            may use.
        ours: Gives CPU seconds by process, of this one and all it started.
        clock: Gives Unix time [s].
    """

    def __init__(
        self,
        cpus: Callable[[], list[tuple[float, float]]] | None = None,
        ours: Callable[[], Mapping[int, float]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cpus = _cpus if cpus is None else cpus
        self._ours = _ours if ours is None else ours
        self._clock = clock
        self._before: tuple[float, float, Mapping[int, float]] | None = None
        self._samples: deque[CpuSample] = deque(maxlen=KEPT)
        self._thread: threading.Thread | None = None

    def start(self) -> "Neighbours":
        """Sample from now on, until this process ends."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="neighbours", daemon=True)
            self._thread.start()
        return self

    def _run(self) -> None:
        while self.look():
            time.sleep(INTERVAL_S)

    def look(self) -> bool:
        """Look once; return whether anything can be read here."""
        try:
            cpus, ours, now = self._cpus(), self._ours(), self._clock()
        except (psutil.Error, OSError, NotImplementedError):
            return False
        idle, busy = (sum(kind) for kind in zip(*cpus, strict=True))
        if self._before is not None:
            idle_before, busy_before, ours_before = self._before
            passed = idle + busy - idle_before - busy_before  # of all CPUs together
            if passed > 0:
                # A process that is new has done all it did since the look before.
                own = sum(max(0.0, s - ours_before.get(pid, 0.0)) for pid, s in ours.items())
                num_busy = len(cpus) * max(0.0, busy - busy_before) / passed
                foreign = max(0.0, num_busy - len(cpus) * own / passed)
                self._samples.append(CpuSample(now, num_busy, foreign, len(cpus)))
        self._before = idle, busy, ours
        return True

    def between(self, start: float, end: float) -> float | None:
        """Return the CPUs that others used on average from ``start`` to ``end`` (Unix times).

        Of a time between two looks it is the look after it, or the last. None: not measured.
        """
        samples = list(self._samples)
        inside = [each.foreign for each in samples if start <= each.at <= end]
        after = [each.foreign for each in samples if each.at > end]
        inside = inside or after[:1] or [each.foreign for each in samples[-1:]]
        return sum(inside) / len(inside) if inside else None

    def pressing(self) -> CpuSample | None:
        """Return the last sample if the CPUs are fully used, and by others for a good part."""
        samples = list(self._samples)
        if not samples or samples[-1].at < self._clock() - 5 * INTERVAL_S:
            return None
        last = samples[-1]
        is_full = last.busy >= SATURATED * last.num_cpus
        return last if is_full and last.foreign >= (1 - SATURATED) * last.num_cpus else None


@cache
def neighbours() -> Neighbours:
    """Return this process's view of the others on its machine."""
    return Neighbours()


def visible_cpus() -> set[int]:
    """Return the CPUs that this process may be run on; a quota may allow it less time on them."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _cpus() -> list[tuple[float, float]]:
    each = enumerate(psutil.cpu_times(percpu=True))
    visible = visible_cpus()
    return [_idle_and_busy(times) for number, times in each if number in visible]


def _idle_and_busy(times: Any) -> tuple[float, float]:
    named = times._asdict()
    idle = named.pop("idle") + named.pop("iowait", 0.0)
    for part in ("guest", "guest_nice"):  # in user and nice already
        named.pop(part, None)
    return idle, sum(named.values())


def _ours() -> dict[int, float]:
    this, seconds = psutil.Process(), {}
    for process in (this, *this.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:  # it has just ended
            continue
        seconds[process.pid] = times.user + times.system
    return seconds
