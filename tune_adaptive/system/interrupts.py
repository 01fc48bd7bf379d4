"""Signals that ask this process to end: Ctrl-C, a closed terminal, a scheduler's warning.

One reaction holds at a time, and libraries cannot replace it: Ray installs a handler of SIGTERM
that exits, and Ray Tune one of SIGUSR1 that ends its loop without a checkpoint.
"""

import atexit
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import signal as set_handler
from types import FrameType
from typing import Any

ALWAYS = ("SIGINT", "SIGTERM")
"""Answered whoever answered them before: Ray takes the second wherever it was started."""
WARNINGS = ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
"""Of a terminal that closes, and of Slurm, SGE or LSF before a job's time is over."""
LIMITS = ("SIGALRM", "SIGXCPU")
"""WARNINGS and LIMITS are answered where they would end the process; a handler of the person's
own stays. A signal that is ignored, as by ``nohup``, stays ignored."""


class _Handler:
    """A handler of ours, told from others'."""

    def __init__(self, react: Callable[[], None]) -> None:
        self._react = react

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._react()


def _raise() -> None:
    raise KeyboardInterrupt


def _answered() -> list[signal.Signals]:
    found = []
    for name in (*ALWAYS, *WARNINGS, *LIMITS):
        if (kind := getattr(signal, name, None)) is not None:  # Windows has two of them
            handler = signal.getsignal(kind)
            is_free = handler is signal.SIG_DFL or isinstance(handler, _Handler)
            is_taken = name in ALWAYS and handler not in (signal.SIG_IGN, None)
            if is_free or is_taken:  # None: set before Python began, it could not be put back
                found.append(kind)
    return found


@contextmanager
def on_interrupt(react: Callable[[], None]) -> Iterator[None]:
    """Answer the signals with ``react``; only the main thread receives signals.

    Until it ends, ``signal.signal`` leaves these signals alone, whoever calls it; what a module
    imported of it by name works again afterwards. Handlers that compiled code sets pass it by, as
    Ray's for SIGTERM does; they are replaced at the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds, handler = _answered(), _Handler(react)
    before = {kind: set_handler(kind, handler) for kind in kinds}
    set_by_others, has_ended = signal.signal, False

    def leave_alone(kind: int, other: Any) -> Any:
        is_one = callable(other) or other in (signal.SIG_DFL, signal.SIG_IGN)
        if is_one and kind in kinds and not has_ended:
            return signal.getsignal(kind)
        return set_by_others(kind, other)

    signal.signal = leave_alone  # type: ignore[assignment]
    try:
        yield
    finally:
        has_ended = True
        if signal.signal is leave_alone:  # else somebody has replaced it since, and keeps it
            signal.signal = set_by_others
        for kind, previous in before.items():
            set_handler(kind, previous)


@contextmanager
def interruptible() -> Iterator[None]:
    """Answer the signals by KeyboardInterrupt, at once."""
    with on_interrupt(_raise):
        yield


@contextmanager
def deferred() -> Iterator[None]:
    """Let the body come to its end first; a second signal interrupts at once.

    Raises:
        KeyboardInterrupt: A signal came.
    """
    num_asked = 0

    def note() -> None:
        nonlocal num_asked
        num_asked += 1
        if num_asked > 1:
            raise KeyboardInterrupt

    with on_interrupt(note):
        yield
    if num_asked:
        raise KeyboardInterrupt


@contextmanager
def withheld_from_children() -> Iterator[None]:
    """Start processes that never receive WARNINGS, which a scheduler sends to every process.

    SIGTERM still reaches them: it is how they are ended. This process receives all of them, now
    or when the body has ended, as its other threads happen to run; see :func:`deferred`.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    kinds = {getattr(signal, name) for name in WARNINGS if hasattr(signal, name)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, kinds)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_at_exit() -> None:
    """Ignore the signals while the interpreter ends: what it exits with is decided by then."""
    atexit.register(lambda: [set_handler(kind, signal.SIG_IGN) for kind in _answered()])
