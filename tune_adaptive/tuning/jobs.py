"""Who decides what runs next: the one interface between the engine and its callers."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from tune_adaptive.runs import EpochResult, RunSpec, Status


class Jobs(Protocol):
    """A source of runs that hears how they go."""

    def next(self) -> RunSpec | None:
        """Return a run to start now, or None: nothing now."""

    @property
    def exhausted(self) -> bool:
        """Whether nothing is running and there will never be another run."""

    def heard(self, run: RunSpec, result: EpochResult) -> Status | None:
        """Hear an epoch; return how the run ends here, or None: it goes on."""

    def failed(self, run: RunSpec, message: str) -> None:
        """Hear that a run raised or its process died."""


class FixedRuns:
    """Runs known beforehand, each trained to its end."""

    def __init__(self, runs: Sequence[RunSpec]) -> None:
        self._waiting: Iterator[RunSpec] = iter(runs)
        self._num_left = len(runs)
        self.last: dict[str, EpochResult] = {}
        """By run id, the last epoch of each run that completed."""

    def next(self) -> RunSpec | None:
        """Return the next run in the given order."""
        return next(self._waiting, None)

    @property
    def exhausted(self) -> bool:
        """Whether every run has ended."""
        return self._num_left == 0

    def heard(self, run: RunSpec, result: EpochResult) -> Status | None:
        """End the run where its plan ends."""
        if not result.ended:
            return None
        self._num_left -= 1
        if result.diverged:
            return "diverged"
        self.last[run.id] = result
        return "completed"

    def failed(self, run: RunSpec, message: str) -> None:
        """Count it as ended."""
        self._num_left -= 1
