"""Errors a person reads, and the exit code each one means."""

import difflib
from collections.abc import Iterable


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
