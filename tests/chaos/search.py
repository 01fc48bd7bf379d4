"""A search as a process, which a test hurts."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from tests.chaos.table import duplicates
from tune_adaptive.analysis.estimates import Analysis

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = [
    *("--schedule", "adaptive", "--schedule", "step"),
    *("--train-size", "1280", "--epochs", "3", "--budget", "3", "--final-seeds", "2"),
    *("--seed", "7", "--max-concurrent", "1", "--signals", "steady", "--precision", "fp32"),
    *("--checkpoint-every", "0.1s", "--name", "hurt"),
]
"""A search that is the same each time, and keeps the state of its runs all the time."""


class Search:
    """A process that searches, and all it starts."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.folder = folder / "hurt"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tune_adaptive.search"),
                *(arguments or ("--resume", str(self.folder))),
                *(("--results-dir", str(folder)) if arguments else ()),
            ],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, num_ends: int) -> None:
        """Wait until so many runs have ended, or it has."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            num_ends -= " | " in line
            if num_ends <= 0:
                return

    def kill(self) -> None:
        """Kill it without a word, and what of Ray has not noticed soon after."""
        started = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.communicate()
        for left in psutil.wait_procs(started, timeout=1)[1]:
            left.kill()

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return its exit code and what it said."""
        told, error = self.process.communicate(timeout=1200)
        return self.process.returncode, told, error


def ended(search: Search) -> None:
    code, _, error = search.end()
    assert (code, error) == (0, "")


def checked(folder: Path) -> Analysis:
    analysis = Analysis(folder)
    assert [check.finding for check in analysis.breaches] == []
    assert duplicates(folder) == 0
    assert list((folder / "checkpoints").iterdir()) == [], "none is needed any more"
    return analysis
