"""What a worker does for its run besides training it: keep its state, and watch that it goes on."""

import ctypes
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tune_adaptive.training.checkpoints import Checkpoint, CheckpointStore

LOOK_EVERY_S = 1.0
LAST_WORDS_S = 10.0  # that they may take
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as malloc.h has them


class Interrupted(Exception):
    """The run's state is kept and its work has ended, because that was asked for."""


def keep_freed_memory() -> None:
    """Let the C library keep what this process frees, up to 1 GiB, for what it takes next.

    Validation frees and takes the same large blocks again and again; given back to the system in
    between, each of their pages is a fault. In glibc only; elsewhere nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the most it takes; it grows no more by itself
        mallopt(M_TRIM_THRESHOLD, 2**30)


class StopSign:
    """Whether work is asked to stop; a thread looks once a second, so that no step waits for it."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self.is_up = False
        threading.Thread(target=self._watch, daemon=True, name="stop sign").start()

    def _watch(self) -> None:
        while True:
            self.look()
            time.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """Look once; a storage that does not answer says nothing new."""
        with suppress(Exception):
            self.is_up = self._store.is_asked_to_stop()


class StoreKeeper:
    """Keeps a run's state every so often, and once more when work is asked to stop."""

    def __init__(self, store: CheckpointStore, every_s: float, stop: StopSign) -> None:
        self._store = store
        self._every_s = every_s
        self._next_keep = time.monotonic() + every_s
        self._stop = stop

    def is_due(self) -> bool:
        """Whether the state should be kept now."""
        return self._stop.is_up or time.monotonic() >= self._next_keep

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep it, if it can be written.

        Raises:
            Interrupted: Work was asked to stop.
        """
        try:
            self._store.write(checkpoint)
        except OSError as error:  # the run is well, and may have luck the next time
            print(f"{checkpoint.run.id}: its state is not kept: {error}", file=sys.stderr)
        if self._stop.is_up:
            raise Interrupted
        self._next_keep = time.monotonic() + self._every_s


class FairClock:
    """A clock that stands still while this process is kept waiting for a CPU.

    It passes by the time since the look before, less the longest that one of the threads was
    ready to run and did not, as Linux counts it in ``/proc``: a deadlock, which wants no CPU,
    and an endless loop, which gets one, are on the clock; starving beside others is not. A look
    that comes late by itself, of a process that was stopped, counts as one in time.

    Args:
        every_s: Seconds between two looks, about.
        waited_s: Gives by thread how long it has waited for a CPU so far [s].
    """

    def __init__(
        self, every_s: float, waited_s: Callable[[], Mapping[int, float]] | None = None
    ) -> None:
        self._every_s = every_s
        self._waited_s = waits_of_threads if waited_s is None else waited_s
        self._looked_at = time.monotonic()
        self._waits = self._waited_s()
        self.now_s = 0.0

    def look(self) -> float:
        """Return the seconds on the clock, as of now."""
        now, waits = time.monotonic(), self._waited_s()
        longest = max(
            (s - self._waits.get(thread, 0.0) for thread, s in waits.items()), default=0.0
        )
        passed_s = now - self._looked_at - max(0.0, longest)
        self.now_s += min(max(0.0, passed_s), 2 * self._every_s)
        self._looked_at, self._waits = now, waits
        return self.now_s


def waits_of_threads() -> dict[int, float]:
    """Return by thread how long it was ready to run and had no CPU [s]; empty off Linux."""
    waits = {}
    for thread in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # the thread has just ended
            waits[int(thread.parent.name)] = int(thread.read_text().split()[1]) / 1e9
    return waits


class Watchdog:
    """Ends this process where an epoch hangs, and leaves word of what its threads were doing.

    It is a thread, and needs the interpreter's lock now and then. What is spent waiting for a
    CPU does not count.
    """

    def __init__(
        self, store: CheckpointStore, limit_s: float, clock: FairClock | None = None
    ) -> None:
        self._store = store
        self._limit_s = limit_s
        self._every_s = min(1.0, limit_s / 4)
        self._clock = FairClock(self._every_s) if clock is None else clock
        self._watched: tuple[str, float] | None = None  # a run, and when it must be done
        threading.Thread(target=self._look, daemon=True, name="watchdog").start()

    def watch(self, run_id: str) -> None:
        """Begin to watch a run's next epoch."""
        self._watched = run_id, self._clock.now_s + self._every_s + self._limit_s

    def rest(self) -> None:
        """Watch nothing."""
        self._watched = None

    def _look(self) -> None:
        while True:
            time.sleep(self._every_s)
            now_s, watched = self._clock.look(), self._watched
            if watched is not None and now_s > watched[1]:
                break
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        stacks = "".join(
            f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
            for ident, frame in sys._current_frames().items()
            if ident != threading.get_ident()
        )
        told = f"{stacks}HungError: no epoch ended within {self._limit_s:g} s"
        end_process(self._store, watched[0], told)


def end_process(store: CheckpointStore, run_id: str, words: str) -> None:
    """End this process at once; its run is tried again in another, and ``words`` say why."""
    timer = threading.Timer(LAST_WORDS_S, os._exit, (1,))  # what hangs may be the store
    timer.start()
    try:
        store.leave_last_words(run_id, words)
    finally:
        timer.cancel()
        os._exit(1)
