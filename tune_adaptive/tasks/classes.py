"""Labels of files to classes 0 to K - 1. What the classes are, the training split decides."""

import re
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tune_adaptive.errors import InputError, did_you_mean
from tune_adaptive.tasks.data import Labels
from tune_adaptive.tasks.tables import Table

MAX_TOLD = 5
"""Rows of a file that are named; of more, their number."""
_WHOLE = re.compile(r"[+-]?[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a data set.

    Attributes:
        num: K.
        names: In the order of their numbers; empty where nothing names them.
        are_labels: Whether the labels are these names, not numbers.
    """

    num: int
    names: tuple[str, ...]
    are_labels: bool

    @classmethod
    def of(cls, train: Sequence[Table], num: int | None, dataset: str) -> "Classes":
        """Return the classes that the training split has.

        Names are numbered in their alphabetical order; whole numbers, also in digits, are
        numbers of classes already, and the file may say what they stand for.

        Args:
            train: The training split's files.
            num: K that the data set declares; None is as many as there are names.
            dataset: Its name, for messages.

        Raises:
            InputError: The names are not K.
        """
        labels = [label for table in train for label in table.labels]
        if any(table.is_named for table in train):
            names = tuple(sorted(set(labels), key=_in_order))
        else:
            names = tuple(sorted({label for label in labels if _is_name(label)}))
        num = len(names) if num is None else num
        if not names:
            return cls(num, next((t.class_names for t in train if t.class_names), ()), False)
        if len(names) != num:
            raise InputError(
                f"{train[0].path}: {len(names)} classes: {_listed(names)}; {dataset} has {num}"
            )
        return cls(num, names, True)

    def number(self, table: Table) -> Labels:
        """Return the class of each row, (N,), in [0, K).

        Raises:
            InputError: Every label that is none of train's, as far as there are not many.
        """
        numbers: list[int] = []

        def problems() -> Iterator[str]:
            for row, label in enumerate(table.labels):
                number, problem = self._number(table, label)
                numbers.append(number)
                if problem:
                    yield f"{table.at(row)}: {problem}"

        raise_all(problems())
        return np.asarray(numbers, dtype=np.int64)

    def _number(self, table: Table, label: object) -> tuple[int, str]:
        """Return a label's class, and why it has none."""
        number = None if table.is_named else _number(label)
        if not self.are_labels and number is not None:
            if not 0 <= number < self.num:
                return -1, f"label {reprlib.repr(label)}; must be an integer in [0, {self.num - 1}]"
            if table.class_names == self.names or not (table.class_names and self.names):
                return number, ""
            # The number has another name there, perhaps.
            label = table.class_names[number] if number < len(table.class_names) else number
        if isinstance(label, str) and label in self.names:
            return self.names.index(label), ""
        if label in ("", None):
            return -1, "the label is missing"
        shown = reprlib.repr(label)
        if _is_name(label) and self.names:
            return -1, f"class {shown} is not in train{did_you_mean(str(label), self.names)}"
        if self.are_labels:
            return -1, f"label {shown}; must be one of train's, {_listed(self.names)}"
        return -1, f"label {shown}; must be an integer in [0, {self.num - 1}]"


def named(table: Table) -> Table:
    """Return a table whose labels are names, whatever they are: whole numbers in any range, too.

    Raises:
        InputError: They are numbers that are not whole, or other than texts and numbers.
    """
    if table.is_named:
        return table
    names: list[str] = []

    def problems() -> Iterator[str]:
        for row, label in enumerate(table.labels):
            if isinstance(label, int) and table.class_names:
                if not 0 <= label < len(table.class_names):
                    yield f"{table.at(row)}: label {label} has no name in the file"
                else:
                    label = table.class_names[label]
            names.append(str(label))
            if label in ("", None):
                yield f"{table.at(row)}: the label is missing"
            elif not isinstance(label, str | int):
                yield (
                    f"{table.at(row)}: label {reprlib.repr(label)}; must be a text or a whole "
                    "number (numbers to predict need a Task of your own)"
                )

    raise_all(problems())
    return replace(table, labels=names, is_named=True)


def _in_order(name: str) -> tuple[bool, int, str]:
    """Sort names as numbers where they are whole numbers, else by the alphabet after them."""
    number = _number(name)
    return number is None, number or 0, name


def raise_all(problems: Iterable[str]) -> None:
    """Raise what was found, the first lines of it and the number of the rest.

    Raises:
        InputError: Anything was found.
    """
    found = list(problems)
    more = [f"and {len(found) - MAX_TOLD} more like these"] if len(found) > MAX_TOLD else []
    if found:
        raise InputError("\n".join(found[:MAX_TOLD] + more))


def _number(label: object) -> int | None:
    """Return a label that is a whole number, also one in digits; else None."""
    if isinstance(label, int):
        return int(label)  # of a truth value, 0 or 1
    return int(label) if isinstance(label, str) and _WHOLE.fullmatch(label) else None


def _is_name(label: object) -> bool:
    """Whether a label is a text that is no number, nor what stands for a missing one."""
    if not isinstance(label, str) or not label.strip():
        return False
    try:
        float(label)
    except ValueError:
        return True
    return False


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
