"""Options that take more than a type to read: durations, shares, a simulated slowdown, names."""

import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tune_adaptive.errors import InputError
from tune_adaptive.records.declared import read_plain
from tune_adaptive.records.runs import Slowdown
from tune_adaptive.schedules import SCHEDULES
from tune_adaptive.tasks import Task

MAX_FACTOR = 1000
DURATION = r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?"


@dataclass(frozen=True, slots=True)
class Shares:
    """What trials get of something: all alike, but for tasks that are named.

    Attributes:
        of_all: None leaves it to what there is.
        of_tasks: By the task's name.
        is_measured: Whether ``of_all`` is what measuring finds best.
    """

    of_all: float | None = None
    of_tasks: Mapping[str, float] = field(default_factory=dict)
    is_measured: bool = False

    def of(self, task: str) -> float | None:
        """Return what was asked for a task's trials."""
        return self.of_tasks.get(task, self.of_all)


def read_tasks(value: Any, option: str) -> tuple[str | Task, ...]:
    """Return the tasks given: one or several, by name or as they are.

    Raises:
        InputError: It is something else.
    """
    if isinstance(value, Task):
        return (value,)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return tuple(each if isinstance(each, Task) else str(each) for each in value)
    return tuple(read_texts(value, option))


def read_schedules(value: Any, option: str) -> tuple[str, ...]:
    """Return the names of schedules; ``all`` is every one there is.

    A builder of one's own, ``package.module:builder`` or as it is, is taken in by its name.

    Raises:
        InputError: It is something else, or ``all`` has company.
    """
    if callable(value):
        value = [value]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        given = list(value)
    else:
        given = read_texts(value, option)
    names = [
        SCHEDULES.take(each) if callable(each) or ":" in str(each) else str(each) for each in given
    ]
    if "all" in names and len(names) > 1:
        raise InputError(f"{option} all: every schedule there is; leave the others out")
    return SCHEDULES.offered if names == ["all"] else tuple(names)


def read_texts(value: Any, option: str) -> list[str]:
    """Return what may be one or several, or given by task, as it would be typed.

    Raises:
        InputError: It is neither.
    """
    if isinstance(value, Mapping):
        return [f"{name}={each}" for name, each in value.items()]
    if isinstance(value, str | numbers.Real):
        return [str(value)]
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise InputError(f"{option} {value!r}: must be a text, a number, or several in a list")
    return [str(each) for each in value]


def read_duration(value: object, option: str) -> float:
    """Read ``8h``, ``1h30m``, ``90m`` or ``45s``, or a number of seconds [s].

    Raises:
        InputError: It is none of these.
    """
    found = re.fullmatch(DURATION, value, re.ASCII) if isinstance(value, str) and value else None
    if found is None:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise InputError(f"{option} {value!r}: must be like 8h, 1h30m, 90m or 45s")
        return float(value)
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def read_shares(value: Any, option: str) -> Shares:
    """Read what all tasks get, like ``0.25``, and what single ones get, like ``imdb/bert=0.5``.

    Raises:
        InputError: One is neither, or is given twice.
    """
    of_all: float | None = None
    of_tasks: dict[str, float] = {}
    for text in read_texts(value, option):
        task, equals, number = text.rpartition("=")
        try:
            share = float(number)
        except ValueError as error:
            raise InputError(f"{option} {text}: must be a number or TASK=NUMBER") from error
        if task in of_tasks or (not equals and of_all is not None):
            raise InputError(f"{option} {text}: {task or 'a number for all'} is given twice")
        if equals:
            of_tasks[task] = share
        else:
            of_all = share
    return Shares(of_all, of_tasks)


def read_shares_or_auto(value: Any, option: str) -> Shares:
    """Read what :func:`read_shares` reads, or ``auto`` for all tasks that are not named.

    Raises:
        InputError: One is neither, or is given twice.
    """
    texts = read_texts(value, option)
    given = [text for text in texts if text != "auto"]
    shares = read_shares(given, option)
    if len(given) == len(texts):
        return shares
    if shares.of_all is not None:
        raise InputError(f"{option}: auto and {shares.of_all:g}: give one of them")
    return Shares(None, shares.of_tasks, is_measured=True)


def read_slowdown(value: Any, option: str) -> Slowdown:
    """Read ``2x@40%``: from 40% of the run on, every step takes twice as long.

    Raises:
        InputError: It is not of that form, the factor not above 1 and at most 1,000, or the share
            not below 100%.
    """
    text = read_plain(value, str, option)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)x@(\d+(?:\.\d+)?)%", text, re.ASCII)
    if found is None or not 1 < float(found[1]) <= MAX_FACTOR or float(found[2]) >= 100:
        raise InputError(
            f"{option} {value!r}: must be like 2x@40%, the factor above 1 and at most "
            f"{MAX_FACTOR}, the share below 100%"
        )
    return Slowdown(float(found[1]), float(found[2]) / 100)
