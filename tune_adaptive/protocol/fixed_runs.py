"""Runs of one kind within a stage; those that are known beforehand."""

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from tune_adaptive.records.runs import EpochResult, RunSpec, Status


class StageJobs(Protocol):
    """A part of all jobs: runs of one kind, which can be interrupted."""

    def next(self) -> RunSpec | None:
        """See :class:`~tune_adaptive.ray_backend.jobs.Jobs`."""

    @property
    def exhausted(self) -> bool:
        """See :class:`~tune_adaptive.ray_backend.jobs.Jobs`."""

    def heard(self, run: RunSpec, result: EpochResult) -> Status | None:
        """See :class:`~tune_adaptive.ray_backend.jobs.Jobs`."""

    def resumed(self, run: RunSpec, num_epochs: int) -> None:
        """Hear that a run goes on after ``num_epochs`` of the epochs it was heard to have done."""

    def failed(self, run: RunSpec, message: str) -> None:
        """Hear that a run has failed for good."""


class FixedRuns:
    """Runs known beforehand, each trained to its end.

    Args:
        runs: In the order they start.
        max_running: Most of them at once, >= 1; None leaves it to the slots.
        slots: By the task's name, most runs of it at once; None does not limit.
    """

    def __init__(
        self,
        runs: Sequence[RunSpec],
        max_running: int | None = None,
        slots: Mapping[str, int] | None = None,
    ) -> None:
        self._waiting = deque(runs)
        self._max_running = len(runs) if max_running is None else max_running
        self._slots = slots or {}
        self._running: Counter[str] = Counter()  # by task
        self._num_left = len(runs)
        self.last: dict[str, EpochResult] = {}
        """By run id, the last epoch of each run that completed."""

    def next(self) -> RunSpec | None:
        """Return the next run in the given order, unless enough of them run."""
        if not self._waiting or self._running.total() >= self._max_running:
            return None
        task = self._waiting[0].task
        if self._running[task] >= self._slots.get(task, math.inf):
            return None
        self._running[task] += 1
        return self._waiting.popleft()

    @property
    def exhausted(self) -> bool:
        """Whether every run has ended."""
        return self._num_left == 0

    def heard(self, run: RunSpec, result: EpochResult) -> Status | None:
        """End the run where its plan ends."""
        if not result.ended:
            return None
        self._end(run)
        if result.diverged:
            return "diverged"
        self.last[run.id] = result
        return "completed"

    def resumed(self, run: RunSpec, num_epochs: int) -> None:
        """Nothing changes: it is still one of those that run."""

    def failed(self, run: RunSpec, message: str) -> None:
        """Count it as ended."""
        self._end(run)

    def _end(self, run: RunSpec) -> None:
        self._running[run.task] -= 1
        self._num_left -= 1
