"""An option is declared once: in the annotation of the field that holds it.

The command line with its ``--help``, the Python API, run files and every check read this
declaration::

    train_size: Annotated[int | None, Option(WHAT, "Training examples.", low=1)] = None
"""

import math
import numbers
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from tune_adaptive.errors import InputError, did_you_mean

WHAT, HOW_MUCH, HOW = "What", "How much", "How and where"
"""Groups of ``--help``."""

MAX_WHOLE = 2**31 - 1

KINDS: dict[type, str] = {int: "a whole number", float: "a number", bool: "True or False"}
"""What a value must be, in words; everything else is a text."""


@dataclass(frozen=True, slots=True)
class Option:
    """What there is to say of an option besides its field's type and default.

    Attributes:
        group: Of ``--help``.
        help: Its line of ``--help``.
        name: As it is given, with underscores; empty is the field's name.
        low: Least value; with ``above``, the value must be larger.
        high: Largest value.
        above: Whether ``low`` itself is out of range.
        unit: Of ``high``, as a message says it.
        choices: The texts it may be; a ``Literal`` says its own.
        read: Makes the field's value of what was given, where that takes more than its type;
            called with the value and ``--name``.
        is_repeatable: Whether it may be given several times.
        goes_with_resume: Whether a resumed experiment may need it again.
    """

    group: str
    help: str
    name: str = ""
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    unit: str = ""
    choices: tuple[str, ...] = ()
    read: Callable[[Any, str], Any] | None = None
    is_repeatable: bool = False
    goes_with_resume: bool = False


@dataclass(frozen=True, slots=True)
class Declared:
    """An option with what its field says of it.

    Attributes:
        field: The field's name.
        name: The option's name, with underscores.
        kind: The type of one value: int, float, bool, str or Path.
        choices: The texts it may be; empty where it is no choice.
        default: Where neither a person nor a preset says otherwise; MISSING where it is made.
        option: The rest.
    """

    field: str
    name: str
    kind: type
    choices: tuple[str, ...]
    default: Any
    option: Option

    @property
    def flag(self) -> str:
        """As it is typed: ``--train-size``."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def usual(self) -> str:
        """The default in words; empty where it is something else for each experiment."""
        if isinstance(self.default, tuple):
            return ", ".join(self.default)
        is_plain = isinstance(self.default, str | int | float | Path)
        is_plain = is_plain and not isinstance(self.default, bool)
        return f"{self.default}{self.option.unit}" if is_plain else ""

    def read(self, value: Any) -> Any:
        """Make the field's value of what was given: a text as it is typed, or a value.

        Raises:
            InputError: It cannot be read.
        """
        if self.option.read is not None:
            return self.option.read(value, self.flag)
        return read_plain(value, self.kind, self.flag)

    def problem(self, value: Any) -> str | None:
        """Say why the field cannot be ``value``, if so: out of range, or none of the choices."""
        if value is None:
            return None
        if self.choices and value not in self.choices:
            return (
                f"{self.flag} must be one of {', '.join(self.choices)}, got {value!r}"
                f"{did_you_mean(value, self.choices)}"
            )
        return None if self.choices else self.out_of_range(value)

    def out_of_range(self, value: Any, of: str = "") -> str | None:
        """Say that a number is out of range, if so.

        Args:
            value: A number; what is none has no range.
            of: What it is given for, where that may be several things.
        """
        low, high, above = self.option.low, self.option.high, self.option.above
        unit = self.option.unit
        if not isinstance(value, int | float) or (math.isinf(low) and math.isinf(high)):
            return None
        is_finite = above or value <= sys.float_info.max
        if (low < value if above else low <= value) and value <= high and is_finite:
            return None
        if above:
            bounds = f"> {low:g}" + ("" if math.isinf(high) else f" and at most {high:.0f}{unit}")
        else:
            bounds = f">= {low:g} and finite" if math.isinf(high) else f"in [{low:g}, {high:.0f}]"
        return f"{self.flag} {of}".rstrip() + f" must be {bounds}, got {value}"


def declared(kind: type) -> dict[str, Declared]:
    """Return the options that a dataclass declares, by name."""
    hints = get_type_hints(kind, include_extras=True)
    found = {}
    for field in fields(kind):
        for option in getattr(hints[field.name], "__metadata__", ()):
            if isinstance(option, Option):
                name = option.name or field.name
                one, choices = _kind(hints[field.name])
                choices = option.choices or choices
                found[name] = Declared(field.name, name, one, choices, field.default, option)
    return found


def _kind(hint: Any) -> tuple[type, tuple[str, ...]]:
    """Return the type of one value, and the words of a ``Literal``."""
    if get_origin(hint) is Annotated:
        return _kind(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return str, get_args(hint)
    for kind in (int, float, bool, Path):
        if hint is kind:
            return kind, ()
    parts = [part for part in get_args(hint) if part is not type(None)]
    return _kind(parts[0]) if len(parts) == 1 else (str, ())


def read_plain(value: Any, kind: type, flag: str) -> Any:
    """Make a ``kind`` of ``value``: a number of a text, a path of a text.

    Raises:
        InputError: It is something else, or empty, or a whole number of more than 64 bits.
    """
    if isinstance(value, int) and value.bit_length() > 63:  # too long to be shown, perhaps
        raise InputError(f"{flag}: must be a number of at most 64 bits")
    refused = InputError(f"{flag} {value!r}: must be {KINDS.get(kind, 'a text')}")
    is_text = isinstance(value, str | Path)
    if kind is bool or isinstance(value, bool):
        fits = isinstance(value, bool) and kind is bool
    elif kind in (int, float):
        fits = is_text or isinstance(value, numbers.Real)
    else:
        fits = is_text
    if not fits:
        raise refused
    try:
        read = kind(value)
        is_whole = kind is not int or isinstance(value, str) or read == value
    except (TypeError, ValueError, OverflowError) as error:
        raise refused from error
    if not is_whole:
        raise refused
    if kind is int and read.bit_length() > 63:
        raise InputError(f"{flag}: must be a number of at most 64 bits")
    if is_text and not str(value):
        raise InputError(f"{flag} {str(value)!r}: is empty")
    return read
