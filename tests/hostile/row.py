"""One row of the table of hostile inputs: what is handed in, and what must come of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest


def nothing(folder: Path) -> None:
    """Hand in nothing but the command line."""


def as_it_is(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Leave the machine as it is."""


@dataclass(frozen=True, slots=True)
class Row:
    """A hostile input, the command that meets it, and how that must end.

    Attributes:
        name: The input in a few words; unique in the table.
        command: After ``tune-adaptive``; ``{here}`` is the row's own folder, ``{finished}`` a
            copy of a small finished experiment, made where it is named. It runs in ``{here}``.
        code: Exit code: 0, 2, 3, 4 or 5.
        message: What the first line of the message says, ``error: `` left out, as a pattern of
            ``re``, from its start; where the code is 0, what is said anywhere.
        given: Makes the input in the row's folder before the command runs.
        patch: Makes this process's machine what it is for the row, after it went to ``{here}``.
        environment: Variables; where there are any, the command runs in a process of its own.
        slow: Whether it takes too long for the default tests.
        signal: Name of a signal that is sent to the command. ``SIGUSR1 to all`` sends it to all
            processes that the command started, too, as Slurm does.
        during: When: at the first call of this function, ``package.module.function``, in whose
            module it is looked up. In a process of its own: after the first line that this
            pattern is found in.
    """

    name: str
    command: str
    code: int
    message: str
    given: Callable[[Path], None] = nothing
    patch: Callable[[pytest.MonkeyPatch, Path], None] = as_it_is
    environment: Mapping[str, str] = field(default_factory=dict)
    slow: bool = False
    signal: str = ""
    during: str = ""
