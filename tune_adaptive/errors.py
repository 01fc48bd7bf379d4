"""Errors a person reads, and the exit code each one means."""

import difflib
import os
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """The person asked for something that cannot be (exit code 2)."""

    exit_code = 2


class EnvironmentFault(RuntimeError):
    """The machine lacks what was asked of it (exit code 3)."""

    exit_code = 3


class NoSuccessfulTrial(RuntimeError):
    """An arm has no configuration that trained to the end (exit code 5)."""

    exit_code = 5


class SearchStopped(NoSuccessfulTrial):
    """Whatever was tried failed in the same way, so nothing more was tried (exit code 5)."""


EXIT_INTERRUPTED = 4


MAX_SHOWN = 400
"""Letters of an exception's own words that a message repeats."""

NOT_A_PERSONS = (
    str(Path(__file__).parent),
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    "<frozen",  # the import system
)
"""Where code lies that is no person's own: this package, Python, what was installed beside it."""


def located(error: BaseException) -> str:
    """Say in one line what was raised, after the place in a person's own code it came from.

    ``tasks/own.py:12: in build: ValueError: no such layer``; without a place where no such code
    was at work.
    """
    words = " ".join(str(error).split())
    said = type(error).__name__ + (f": {_shortened(words)}" if words else "")
    if isinstance(error, SyntaxError) and error.filename is not None:
        said = f"{type(error).__name__}: {error.msg}"
        if not error.filename.startswith(NOT_A_PERSONS):
            return f"{_shown(error.filename)}:{error.lineno}: {said}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(NOT_A_PERSONS):
            where = "" if frame.name == "<module>" else f"in {frame.name}: "
            return f"{_shown(frame.filename)}:{frame.lineno}: {where}{said}"
    return said


def _shortened(words: str) -> str:
    return words if len(words) <= MAX_SHOWN else f"{words[:MAX_SHOWN]}..."


def _shown(path: str) -> str:
    """Return ``path`` as seen from the working directory, where it lies there."""
    here = os.getcwd() + os.sep
    return path.removeprefix(here)


def last_line(message: str) -> str:
    """Return the line of a traceback that says what happened."""
    lines = message.strip().splitlines()
    return lines[-1] if lines else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` where one of ``known`` is close, else what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(known)}" if known else ""
