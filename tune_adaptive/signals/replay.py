"""What schedules heard, as files: one JSON row a signal, in the order it was heard."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tune_adaptive.errors import InputError
from tune_adaptive.runs import Signal


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
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


def read_signals(path: Path) -> list[Signal]:
    """Read what :func:`dump_signals` made, every number as it was to the last bit.

    Raises:
        InputError: It cannot be read, or holds no step; the message names the line.
    """
    try:
        signals = parse_signals(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no recording of signals: {error}") from error
    if not any(signal.lr is not None for signal in signals):
        raise InputError(f"{path}: no recording of signals: it tells of no step")
    return signals


def parse_signals(text: str, source: str) -> list[Signal]:
    """Read the rows of :func:`dump_signals`; ``source`` names them in an error."""
    signals = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            signal = Signal(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise InputError(f"{source}: line {number} is no signal: {error}") from error
        for name, value in asdict(signal).items():
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float)
            ):
                raise InputError(f"{source}: line {number}: {name} must be a number, got {value!r}")
        signals.append(signal)
    return signals
