"""Schedules by name: this package's, those of installed packages, and a person's own.

A package offers schedules by the entry point group ``tune_adaptive.schedules``; a person names a
builder, ``package.module:builder``. Either brings its search space: a table ``builder.space``, or
a file ``NAME.toml`` beside its module. A builder without hyperparameters of its own needs none.
"""

import importlib.metadata
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from tune_adaptive.errors import InputError
from tune_adaptive.records.plan import NAME
from tune_adaptive.system.own_code import imported, misspelt, persons_code

GROUP = "tune_adaptive.schedules"

Schedule = Callable[..., LRScheduler]


class Schedules(Mapping[str, Schedule]):
    """Builders by name.

    Args:
        own: Those of this package.
    """

    def __init__(self, own: Mapping[str, Schedule]) -> None:
        self._own = dict(own)
        self._given: dict[str, Schedule] = {}
        self._entry_points: dict[str, importlib.metadata.EntryPoint] | None = None

    @property
    def installed(self) -> Mapping[str, importlib.metadata.EntryPoint]:
        """Entry points of installed packages; none hides a schedule of this package."""
        if self._entry_points is None:
            found = importlib.metadata.entry_points(group=GROUP)
            self._entry_points = {
                each.name: each
                for each in found
                if each.name not in self._own and NAME.fullmatch(each.name)
            }
        return self._entry_points

    def __getitem__(self, name: str) -> Schedule:
        """Return a builder; one that is installed is imported now.

        Raises:
            KeyError: There is none of that name.
            InputError: Importing it raised something.
        """
        if name in self._own:
            return self._own[name]
        if name not in self._given:
            entry = self.installed[name]
            with persons_code(f"schedule {name!r} ({self.origin(name)})"):
                self._given[name] = _checked(entry.load(), name)
        return self._given[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is one of that name; imports nothing."""
        return name in self._own or name in self._given or name in self.installed

    def __iter__(self) -> Iterator[str]:
        """Yield the names, this package's first."""
        return iter(dict.fromkeys((*self._own, *self.installed, *self._given)))

    def __len__(self) -> int:
        """Return how many there are."""
        return sum(1 for _ in self)

    def take(self, given: str | Schedule) -> str:
        """Take in ``package.module:builder``, or a builder, and return its name.

        Raises:
            InputError: There is none, or there is another of its name.
        """
        builder: Any = given
        if isinstance(given, str):
            if (problem := misspelt(given, "builder")) is not None:
                raise InputError(f"--schedule {given}: {problem}")
            builder = imported(given, "--schedule")
        name = str(getattr(builder, "__name__", type(builder).__name__))
        _checked(builder, name)
        is_hidden = name in self._own or name in self.installed
        if is_hidden or self._given.get(name, builder).__module__ != builder.__module__:
            raise InputError(
                f"--schedule {given}: there is a schedule {name!r} already ({self.origin(name)})"
            )
        self._given[name] = builder  # of a notebook's cell that is run again, the new one
        return name

    def outside(self, names: Iterable[str]) -> dict[str, Schedule]:
        """Return those of ``names`` that another process must be handed."""
        return {name: self[name] for name in names if name not in self._own}

    def restore(self, builders: Mapping[str, Schedule]) -> None:
        """Take in what :meth:`outside` returned in another process."""
        self._given |= builders

    @property
    def offered(self) -> tuple[str, ...]:
        """Those of this package and of installed ones."""
        return (*self._own, *self.installed)

    def is_own(self, name: str) -> bool:
        """Whether it is one of this package."""
        return name in self._own

    def origin(self, name: str) -> str:
        """Say where a schedule is from; imports nothing."""
        if name in self._own:
            return "tune_adaptive"
        if (entry := self.installed.get(name)) is not None:
            package = entry.dist
            return f"{entry.value} of {package.name} {package.version}" if package else entry.value
        builder = self._given[name]
        return f"{builder.__module__}:{getattr(builder, '__qualname__', name)}"

    def space(self, name: str) -> tuple[Mapping[str, Any] | Path, str] | None:
        """Return the space that a schedule from elsewhere brings, and where it stands.

        Returns:
            A table as in a space file, or the path of one; None: it brings none.

        Raises:
            InputError: It brings something else.
        """
        if name in self._own:
            return None
        builder, where = self[name], f"{self.origin(name)}.space"
        if (table := getattr(builder, "space", None)) is not None:
            if not isinstance(table, Mapping):
                raise InputError(f"{where}: must be a table, as in a space file, is {table!r}")
            return table, where
        try:
            path = Path(inspect.getfile(builder)).parent / f"{name}.toml"
        except (TypeError, OSError):  # of an interactive session
            return {}, where
        return (path, str(path)) if path.is_file() else ({}, where)


def _checked(builder: Any, name: str) -> Schedule:
    """Return what can be called as a builder is.

    Raises:
        InputError: It cannot, and why.
    """
    if not callable(builder):
        raise InputError(
            f"schedule {name!r} must be a function of an optimizer and a Horizon, is "
            f"{type(builder).__name__}"
        )
    if not NAME.fullmatch(name):
        raise InputError(f"schedule {name!r}: a name of letters, digits, _ . and - is needed")
    try:
        inspect.signature(builder).bind(None, None)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"schedule {name!r}: is called with an optimizer and a Horizon, all else must have "
            f"defaults: {error}"
        ) from error
    return builder  # type: ignore[no-any-return]  # called with care
