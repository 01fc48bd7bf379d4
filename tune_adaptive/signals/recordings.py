"""The recordings of an experiment: what the schedule of each of its runs heard, a file a run."""

import random
from itertools import takewhile
from pathlib import Path

from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.records.codec import read_bytes
from tune_adaptive.records.runs import RunSpec
from tune_adaptive.signals.replay import dump_signals, parse_signals, read_signals
from tune_adaptive.system.files import write_whole


class Recordings:
    """The folder ``signals/``.

    Args:
        folder: Where it is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, run: RunSpec, lines: str) -> None:
        """Add what ``run`` heard in one more epoch, as JSON lines.

        Raises:
            EnvironmentFault: The disk takes no more.
        """
        path = self._path(run.id)
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(lines)
        except OSError as error:
            raise EnvironmentFault(f"{path}: cannot be written: {error.strerror}") from error

    def cut(self, run_id: str, num_steps: int) -> None:
        """Leave what a run heard in its first ``num_steps`` steps and right after them.

        Raises:
            InputError: It holds fewer, or what is none of a run's rows.
        """
        path = self._path(run_id)
        if not num_steps and not path.exists():
            return
        text = read_bytes(path).decode(errors="replace")
        whole = text[: text.rfind("\n") + 1]  # the writer may have been cut off
        signals = parse_signals(whole, str(path))
        kept = list(takewhile(lambda s: s.step < num_steps + (s.lr is None), signals))
        if (found := sum(signal.lr is not None for signal in kept)) != num_steps:
            raise InputError(f"{path}: holds {found} of the first {num_steps} steps of its run")
        write_whole(path, dump_signals(kept))

    def heard_by(self, run: RunSpec) -> str:
        """Return what ``run`` hears of another run's recording, as JSON lines."""
        if run.hearing is None:
            return ""
        heard = read_signals(self._path(run.hearing.recording))
        heard = [signal for signal in heard if signal.lr is not None]
        if run.hearing.shuffled:
            random.Random(run.seed).shuffle(heard)
        return dump_signals(heard)

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.jsonl"
