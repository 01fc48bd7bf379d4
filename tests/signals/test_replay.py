"""Recordings as files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_adaptive.errors import InputError
from tune_adaptive.runs import Signal
from tune_adaptive.signals.replay import dump_signals, read_signals

number = st.none() | st.floats(allow_nan=False)


@given(st.lists(st.builds(Signal, st.integers(0), st.floats(0, 10), *[number] * 5), min_size=1))
def test_every_number_comes_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, signals: list[Signal]
) -> None:
    file = tmp_path_factory.getbasetemp() / "signals.jsonl"
    file.write_text(dump_signals(signals))
    assert read_signals(file) == signals


def test_a_loss_that_is_no_number_comes_back_as_one(tmp_path: Path) -> None:
    file = tmp_path / "signals.jsonl"
    file.write_text(dump_signals([Signal(0, lr=0.1, loss=float("nan"))]))
    (signal,) = read_signals(file)
    assert signal.loss is not None
    assert signal.loss != signal.loss


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "tells of no step"),
        ('{"step":0,"val_loss":1.0}\n', "tells of no step"),
        ('{"step":0,"lr":0.1}\n{"step":1,"lr"', "line 2 is no signal"),
        ('{"step":0,"lr":0.1,"speed":3}\n', "unexpected keyword argument 'speed'"),
        ('{"lr":0.1}\n', "line 1 is no signal"),
        ('{"step":0,"lr":"fast"}\n', "lr must be a number, got 'fast'"),
        ('{"step":0,"lr":true}\n', "lr must be a number, got True"),
        ("[1]\n", "line 1 is no signal"),
    ],
)
def test_what_is_no_recording_is_refused_by_its_line(
    content: str, problem: str, tmp_path: Path
) -> None:
    file = tmp_path / "signals.jsonl"
    file.write_text(content)
    with pytest.raises(InputError, match=r"signals\.jsonl") as error:
        read_signals(file)
    assert problem in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl"):
        read_signals(tmp_path / "none.jsonl")
