"""What is said of an exception: in one line, with the place in a person's own code."""

import os
from pathlib import Path

import numpy as np
import pytest

from tune_adaptive.errors import located


def raised(code: str, path: Path | str) -> BaseException:
    """Return what ``code`` raises that is said to lie in ``path``."""
    try:
        exec(compile(code, str(path), "exec"), {"np": np, "os": os})
    except BaseException as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("1 / 0", "own.py:1: ZeroDivisionError: division by zero"),
        ("def f():\n    return {}['x']\nf()", "own.py:2: in f: KeyError: 'x'"),
        ("x = (\n1", "own.py:1: SyntaxError: '(' was never closed"),
        ("\nassert 0", "own.py:2: AssertionError"),
        ("raise ValueError('two\\n  lines')", "own.py:1: ValueError: two lines"),
        ("raise SystemExit('no')", "own.py:1: SystemExit: no"),
        ("np.zeros(2).reshape(3)", "own.py:1: ValueError: cannot reshape array"),
        ("os.makedirs('/proc/x/y')", "own.py:1: FileNotFoundError"),
        ("(lambda: [][1])()", "own.py:1: in <lambda>: IndexError"),
    ],
)
def test_the_last_line_of_a_persons_own_is_named(
    code: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert located(raised(code, tmp_path / "own.py")).startswith(told)
    elsewhere = located(raised(code, "/some/where/own.py"))
    assert elsewhere.startswith(f"/some/where/{told}")


def test_without_such_code_no_place_is_named() -> None:
    assert located(raised("1 / 0", os.__file__)) == "ZeroDivisionError: division by zero"
    assert len(located(ValueError("x" * 10_000))) < 500
