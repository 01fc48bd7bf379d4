"""A person's own code: found by ``package.module:name``, and called with care."""

import importlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tune_adaptive.errors import EnvironmentFault, InputError, located

NAMED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
"""``package.module:name``."""


@contextmanager
def persons_code(what: str) -> Iterator[None]:
    """Turn what a person's own code raises into a message with its file and line.

    Args:
        what: Of which part it is, for the message.

    Raises:
        InputError: It raised something, or would have ended the process.
        EnvironmentFault: It ran out of a GPU's memory.
    """
    try:
        yield
    except (InputError, EnvironmentFault, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's
            raise EnvironmentFault(f"{what}: {located(error)}") from error
        raise InputError(f"{what}: {located(error)}") from error


def misspelt(name: str, usual: str) -> str | None:
    """Say how code of one's own is named, by the example of what ``name`` may have meant.

    Args:
        name: What was given.
        usual: What is meant where no variable is named.

    Returns:
        None if ``name`` may name some.
    """
    if NAMED.fullmatch(name):
        return None
    path, _, variable = name.partition(":")
    module = ".".join(part for part in path.removesuffix(".py").split("/") if part.strip("."))
    meant = f"{module}:{variable or usual}"
    told = "must be package.module:variable, as Python imports it"
    return told + (f"; did you mean {meant!r}?" if NAMED.fullmatch(meant) else "")


def imported(name: str, option: str) -> Any:
    """Import what ``package.module:name`` names, also from the working directory.

    Raises:
        InputError: Importing it raised something, or there is no such thing, and where.
    """
    module_name, _, variable = name.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)  # as `python -m` has it, and workers inherit it
    with persons_code(f"{option} {name}"):
        found: Any = importlib.import_module(module_name)
        for part in variable.split("."):
            found = getattr(found, part)
    return found
