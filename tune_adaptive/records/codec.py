"""Text from outside -> typed, checked data: the one way in which files are read.

A file may come from a stranger, an earlier version or a disk that failed. Whatever is in it,
reading ends in data that are what their types say, or in a :class:`DecodeError` that names the
source, the key, the value seen and what is allowed; all problems of a document at once.

Types are dataclasses whose fields say their ranges, ``Annotated[float, Meta(ge=0, le=1)]``.
Unknown keys are refused: what is misspelled is not what was meant, and what a later version
adds comes with a version of its own. A field with a default may be missing, so documents of
earlier versions are read.

JSON here knows NaN and infinity, as Python writes them: the loss of a run that diverged.
"""

import json
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from tune_adaptive.errors import InputError, did_you_mean

T = TypeVar("T")

LARGEST = 1e150
"""Of a measured number: its square is finite, and so is a sum of many."""

Count = Annotated[int, Meta(ge=0, le=2**63 - 1, description="a whole number >= 0, of 64 bits")]
Positive = Annotated[int, Meta(ge=1, le=2**63 - 1, description="a whole number >= 1, of 64 bits")]
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, description="a whole number of 64 bits")]
Proportion = Annotated[float, Meta(ge=0, le=1, description="a number in [0, 1]")]
Finite = Annotated[float, Meta(ge=-LARGEST, le=LARGEST, description="a finite number")]
Amount = Annotated[float, Meta(ge=0, le=LARGEST, description="a finite number >= 0")]
PositiveAmount = Annotated[float, Meta(gt=0, le=LARGEST, description="a finite number > 0")]


def one_of(*words: str) -> Meta:
    """Return what makes a string's type that of some words."""
    return Meta(pattern=f"^({'|'.join(words)})$", description=f"one of {', '.join(words)}")


UNREADABLE = (ValueError, RecursionError, OverflowError, MemoryError)
"""What the parsers of JSON and TOML raise: of bad text, of depth, of numbers, of size."""


MISFITS = (msgspec.ValidationError, RecursionError, OverflowError, SystemError)
"""What msgspec raises; before 0.20 a SystemError, of a whole number too large for a float."""


class DecodeError(InputError):
    """What was read is not what it must be; every problem a line."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        DecodeError: It is not there, is no file, or cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError, MemoryError) as error:  # ValueError: NUL in its name
        reason = getattr(error, "strerror", None) or repr(error)
        raise DecodeError([f"{path}: cannot be read: {reason}"]) from error


def parse_toml(data: bytes, source: str) -> dict[str, Any]:
    """Parse TOML; a byte order mark is passed over.

    Raises:
        DecodeError: It is none, or nested too deep.
    """
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UNREADABLE as error:
        raise DecodeError([f"{source}: not TOML: {_reason(error)}"]) from error


def parse_json(data: str | bytes, source: str) -> Any:
    """Parse a JSON document; halves of surrogate pairs, which no file can hold, become ``?``.

    Raises:
        DecodeError: It is none, or nested too deep.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        value = json.loads(text)
        if "\\u" in text:
            whole = json.dumps(value, ensure_ascii=False)
            value = json.loads(whole.encode("utf-8", "replace"))
        return value
    except UNREADABLE as error:
        raise DecodeError([f"{source}: not JSON: {_reason(error)}"]) from error


def convert(value: object, kind: type[T], source: str) -> T:
    """Return plain ``value`` as ``kind``: of its types, in their ranges, no key unknown.

    Args:
        value: Of dicts, lists, strings and numbers, as a parser returned it.
        kind: A dataclass, or another type that msgspec knows.
        source: Names it in an error.

    Raises:
        DecodeError: It is not, with every problem.
    """
    try:
        found = msgspec.convert(value, kind)
    except MISFITS as error:
        problems = [*_problems(value, kind, "")] or [str(error)]
        raise DecodeError(f"{source}: {text}" for text in problems) from error
    if unknown := [*_unknown(value, found, "")]:
        raise DecodeError(f"{source}: {text}" for text in unknown)
    return found


def to_json(value: Any) -> str:
    """Return plain data as one line of JSON that :func:`parse_json` reads."""
    return json.dumps(value, separators=(",", ":"))


def without_nan(value: Any) -> Any:
    """Return plain data for readers whose JSON knows no NaN: such a number is null there."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return value


# --------------------------------------------------------------- what is wrong


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    if isinstance(error, MemoryError):
        return "too large for the memory"
    return str(error)


def _unknown(value: Any, found: Any, path: str) -> Iterator[str]:
    """Name the keys of ``value`` that ``found``, which was made of it, has no field for."""
    if is_dataclass(found) and not isinstance(found, type):
        known = _names(type(found))
        if not value.keys() <= known:
            for name in value.keys() - known:
                yield f"{_key(path, name)}: unknown key{did_you_mean(name, known)}"
        for name in value.keys() & _nested(type(found)):
            yield from _unknown(value[name], getattr(found, name), _key(path, name))
    elif isinstance(found, tuple):
        for index, (each, made) in enumerate(zip(value, found, strict=True)):
            yield from _unknown(each, made, f"{path}[{index}]")


@cache
def _names(kind: type) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind))


@cache
def _nested(kind: type) -> frozenset[str]:
    """Return the names of the fields that hold dataclasses."""
    hints = get_type_hints(kind, include_extras=True)
    return frozenset(name for name, hint in hints.items() if _dataclass_in(hint))


def _dataclass_in(hint: Any) -> Any:
    """Return the dataclass that a field's type is, may be, or is a tuple of; None if none."""
    if is_dataclass(hint):
        return hint
    return next((held for each in get_args(hint) if (held := _dataclass_in(each))), None)


def _problems(value: Any, kind: Any, path: str) -> Iterator[str]:
    """Say of each part of ``value`` that is not of its type what it is and must be."""
    inner = _dataclass_in(kind)
    if get_origin(kind) is Mapping and isinstance(value, Mapping):
        for name, each in value.items():
            yield from _problems(each, get_args(kind)[1], _key(path, name))
    elif inner is not None and isinstance(value, Mapping):
        yield from _problems_of_fields(value, inner, path)
    elif get_origin(kind) is tuple and isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _problems(each, get_args(kind)[0], f"{path}[{index}]")
    else:
        try:
            msgspec.convert(value, kind)
        except MISFITS:
            yield f"{path + ' = ' if path else ''}{shown(value)}: must be {_allowed(kind)}"


def _problems_of_fields(value: Mapping[str, Any], kind: Any, path: str) -> Iterator[str]:
    hints = get_type_hints(kind, include_extras=True)
    found: list[str] = []
    for field in fields(kind):
        if field.name in value:
            found += _problems(value[field.name], hints[field.name], _key(path, field.name))
        elif field.default is MISSING and field.default_factory is MISSING:
            found.append(f"{_key(path, field.name)}: is missing")
    for name in value:
        if name not in hints:
            found.append(f"{_key(path, name)}: unknown key{did_you_mean(str(name), hints)}")
    if not found:  # each by itself is right: they may not fit each other
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            found.append(f"{path}: {error}" if path else str(error))
    yield from found


def _key(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def shown(value: object) -> str:
    """Show a value in a message, however large it is."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, dict | list) and len(value) > 4:
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


WORDS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}


def _allowed(kind: Any) -> str:
    """Say what a field's type takes."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_allowed(each) for each in get_args(kind) if each is not type(None))
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is Annotated:
        told = [each.description for each in kind.__metadata__ if isinstance(each, Meta)]
        return str(told[0]) if told else _allowed(get_args(kind)[0])
    if get_origin(kind) is tuple:
        return "a list"
    return WORDS.get(kind, "a table")
