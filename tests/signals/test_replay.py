"""Recordings as files."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_adaptive.errors import InputError
from tune_adaptive.records.runs import Signal
from tune_adaptive.signals.replay import dump_signals, read_signals

number = st.none() | st.floats(allow_nan=False)


rows = st.builds(
    Signal,
    *(st.just(0), st.floats(0, 10), number, st.none() | st.floats(0, 1e9), number, number),
    st.none() | st.floats(0, 1),
)


@given(st.lists(rows, min_size=1))
def test_every_number_comes_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, signals: list[Signal]
) -> None:
    file = tmp_path_factory.getbasetemp() / "signals.jsonl"
    signals = [replace(signal, step=step) for step, signal in enumerate(signals)]
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
        ("", "it has no step"),
        ('{"step":0,"val_loss":1.0}\n', "it has no step"),
        ('{"step":0,"lr":0.1}\n{"step":1,"lr"', "line 2: not JSON"),
        ('{"step":0,"lr":0.1,"speed":3}\n', "line 1: speed: unknown key"),
        ('{"lr":0.1}\n', "line 1: step: is missing"),
        ('{"step":0,"lr":"fast"}\n', "line 1: lr = 'fast': must be a number"),
        ('{"step":0,"lr":true}\n', "line 1: lr = True: must be a number"),
        ("[1]\n", "line 1: [1]: must be a table"),
        ('{"step":0,"lr":0.1,"seconds":-1}\n', "seconds = -1: must be a finite number >= 0"),
        ('{"step":0,"lr":0.1,"seconds":NaN}\n', "seconds = nan: must be a finite number >= 0"),
        ('{"step":0,"lr":0.1,"load":2}\n', "load = 2: must be a number in [0, 1]"),
        ('{"step":0,"lr":0.1}\n{"step":2,"lr":0.1}\n', "line 2: step 2 where step 1 must be"),
        ('{"step":0,"lr":0.1}\n{"step":0,"lr":0.1}\n', "line 2: step 0 where step 1 must be"),
        ('{"step":1,"lr":0.1}\n{"step":0,"lr":0.1}\n', "line 1: step 1 where step 0 must be"),
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
