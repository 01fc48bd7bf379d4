"""Whatever is read ends in data that are what their types say, or in an error that says why."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_adaptive.records.codec import (
    Count,
    DecodeError,
    Finite,
    Proportion,
    convert,
    parse_json,
    parse_toml,
    read_bytes,
    to_json,
    without_nan,
)
from tune_adaptive.records.runs import Configuration, Hearing, RunSpec, Slowdown


@dataclass(frozen=True, slots=True)
class Inner:
    share: Proportion
    note: str = ""


@dataclass(frozen=True, slots=True)
class Outer:
    count: Count
    inner: Inner
    rest: tuple[Inner, ...] = ()
    at: Finite | None = None
    words: Mapping[str, int] | None = None


def problems(value: object) -> list[str]:
    with pytest.raises(DecodeError) as error:
        convert(value, Outer, "it")
    return list(error.value.problems)


GOOD: dict[str, Any] = {"count": 1, "inner": {"share": 0.5}}


def test_what_is_right_is_read_and_defaults_may_be_missing() -> None:
    assert convert(GOOD, Outer, "it") == Outer(1, Inner(0.5))
    more = {"rest": [{"share": 1}], "at": 2, "words": {"a": 1}}
    assert convert(GOOD | more, Outer, "it") == Outer(1, Inner(0.5), (Inner(1.0),), 2.0, {"a": 1})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"count": -1}, "it: count = -1: must be a whole number >= 0, of 64 bits"),
        ({"count": 1.0}, "it: count = 1.0: must be a whole number >= 0, of 64 bits"),
        ({"count": True}, "it: count = True: must be a whole number >= 0, of 64 bits"),
        ({"count": 10**400}, "it: count = a number of 1329 bits: must be a whole number >= 0"),
        ({"inner": {"share": 1.5}}, "it: inner.share = 1.5: must be a number in [0, 1]"),
        ({"inner": {"share": math.nan}}, "it: inner.share = nan: must be a number in [0, 1]"),
        ({"inner": {"share": 10**400}}, "it: inner.share = a number of 1329 bits: must be"),
        ({"inner": {}}, "it: inner.share: is missing"),
        ({"inner": [1]}, "it: inner = [1]: must be a table"),
        ({"inner": {"share": 0.5, "nota": ""}}, "it: inner.nota: unknown key; did you mean 'note'"),
        ({"rest": [{"share": 1}, {"share": "1"}]}, "it: rest[1].share = '1': must be a number in"),
        ({"rest": [{"share": 1, "x": 1}]}, "it: rest[0].x: unknown key"),
        ({"at": math.inf}, "it: at = inf: must be a finite number"),
        ({"words": {"a": "b"}}, "it: words = {'a': 'b'}: must be a table"),
        ({"cuont": 1}, "it: cuont: unknown key; did you mean 'count'?"),
    ],
)
def test_a_problem_names_the_key_the_value_and_what_is_allowed(
    change: dict[str, Any], expected: str
) -> None:
    [problem] = problems(GOOD | change)
    assert problem.startswith(expected)


def test_all_problems_are_told_at_once() -> None:
    assert len(problems({"count": "1", "inner": {"share": 7}, "x": 1, "rest": [{}]})) == 4


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("parse", [parse_json, parse_toml])
@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe",
        b"\x00\x00",
        b"x =",
        DEEP.encode(),
        b"x = " + DEEP.encode(),
        b"x = " + b"9" * 9999,
    ],
    ids=["not UTF-8", "NUL", "torn", "deep", "deep value", "digits"],
)
def test_what_is_no_document_is_refused_by_its_source(
    parse: Callable[[bytes, str], Any], data: bytes
) -> None:
    with pytest.raises(DecodeError, match=r"^it: not (JSON|TOML): "):
        parse(data, "it")


def test_halves_of_surrogate_pairs_become_question_marks() -> None:
    text = r'{"a": "x\ud800y", "\udc00": "\ud83d\ude00"}'
    assert parse_json(text, "it") == {"a": "x?y", "?": "\U0001f600"}


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", Path("a\0b")):
        with pytest.raises(DecodeError, match="cannot be read"):
            read_bytes(path)


@given(st.floats(), st.floats(0, 1), st.integers(0, 2**63 - 1))
def test_a_run_survives_json(rate: float, share: float, seed: int) -> None:
    configuration = Configuration("step", parameters={"gamma": 0.1, "on": True, "n": 3, "s": "x"})
    hearing = Hearing("final-0", ("lr", "loss"), shuffled=True)
    slowdown = Slowdown(1.5 + share, 0.9 * share)
    run = RunSpec("r", "final", "a/b", configuration, seed, 3, hearing=hearing, slowdown=slowdown)
    assert RunSpec.from_dict(parse_json(to_json(asdict(run)), "it")) == run


def test_json_for_others_has_null_for_what_is_not_finite() -> None:
    held = {"a": [1.0, math.nan], "b": (math.inf, "x", None, True)}
    assert json.dumps(without_nan(held), allow_nan=False) == (
        '{"a": [1.0, null], "b": [null, "x", null, true]}'
    )


def test_what_is_wrong_inside_a_tuple_is_named_as_in_a_list() -> None:
    """A plan is checked before it is written, as ``asdict`` gives it."""
    for kind in (list, tuple):
        with pytest.raises(DecodeError, match=r"^it: \[1\] = 'x': must be a whole number >= 0"):
            convert(kind([1, "x"]), tuple[Count, ...], "it")
