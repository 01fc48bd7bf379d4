"""Who decides what runs next: the one interface between the engine and its callers."""

from typing import Protocol

from tune_adaptive.records.runs import EpochResult, RunSpec, Status


class Jobs(Protocol):
    """A source of runs that hears how they go."""

    def next(self) -> RunSpec | None:
        """Return a run to start now, or None: nothing now."""

    @property
    def exhausted(self) -> bool:
        """Whether nothing is running and there will never be another run."""

    def heard(self, run: RunSpec, result: EpochResult) -> Status | None:
        """Hear an epoch; return how the run ends here, or None: it goes on."""

    def failed(self, run: RunSpec, message: str, transient: bool) -> None:
        """Hear that a run raised or its process died.

        Args:
            run: Which.
            message: What happened; its last line says it in short.
            transient: Whether the same run may well do better another time.
        """
