"""What schedules heard, as files: one JSON row a signal, in the order it was heard."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tune_adaptive.errors import InputError
from tune_adaptive.records.codec import UNREADABLE, convert, parse_json, read_bytes, to_json
from tune_adaptive.records.runs import Signal


def dump_signals(signals: Iterable[Signal]) -> str:
    r"""Return ``signals`` as JSON lines; what was not heard is left out of a row.

    Example:
        >>> dump_signals([Signal(step=7, lr=0.1, seconds=0.25)])
        '{"step":7,"lr":0.1,"seconds":0.25}\n'
    """
    rows = (
        {name: value for name, value in asdict(signal).items() if value is not None}
        for signal in signals
    )
    return "".join(to_json(row) + "\n" for row in rows)


def read_signals(path: Path) -> list[Signal]:
    """Read what :func:`dump_signals` made of a run, every number as it was to the last bit.

    Raises:
        InputError: It cannot be read, holds no step, or its steps are not one after the other
            from the first; the message names the line.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UNREADABLE as error:
        raise InputError(f"{path}: no recording of signals: {error}") from error
    signals = parse_signals(text, str(path))
    num_steps = 0
    for number, signal in enumerate(signals, start=1):
        if signal.lr is None:
            continue
        if signal.step != num_steps:
            raise InputError(
                f"{path}: line {number}: step {signal.step} where step {num_steps} must be: "
                "rows are missing, doubled or out of order"
            )
        num_steps += 1
    if not num_steps:
        raise InputError(f"{path}: no recording of signals: it has no step")
    return signals


def parse_signals(text: str, source: str) -> list[Signal]:
    """Read the rows of :func:`dump_signals`; ``source`` names them in an error.

    Raises:
        InputError: A row is none; the message names its line.
    """
    return [
        convert(parse_json(line, where), Signal, where)
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
        for where in [f"{source}: line {number}"]
    ]
