"""The recordings of an experiment: what the schedule of each of its runs heard, a file a run."""

import json
import random
from pathlib import Path

from tune_adaptive.errors import EnvironmentFault
from tune_adaptive.folder import write_whole
from tune_adaptive.runs import RunSpec
from tune_adaptive.signals.replay import dump_signals, read_signals


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
        """Leave what a run heard in its first ``num_steps`` steps and right after them."""
        path = self._path(run_id)
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            row = json.loads(line) if line.endswith("\n") else None
            if row is None or row["step"] >= num_steps + ("lr" not in row):
                break
            kept.append(line)
        write_whole(path, "".join(kept))

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
